# SPDX-License-Identifier: MIT
"""One route: its sessions, and the mails that wait for one."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from smtpmailer.core.model import RecipientOutcome, Route
from smtpmailer.delivery.carrier import Carrier
from smtpmailer.delivery.connecting import Link
from smtpmailer.delivery.errand import Errand
from smtpmailer.delivery.line import Line
from smtpmailer.delivery.outcome import DELIVERED, Verdict, verdict_of_error
from smtpmailer.delivery.owner import Owner
from smtpmailer.delivery.paces import RECHECK, AccountPace
from smtpmailer.delivery.session import Session
from smtpmailer.delivery.untried import out_of_reach, overdue, postponed, too_late
from smtpmailer.errors import RemoteError, SmtpConnectError, TlsConfigError

__all__ = ["HOLD", "Lane"]

#: Seconds without new connections after one failed while others work: the server has enough.
HOLD: Final = 10.0

_REFUSED: Final = 400
#: The shortest wait for a turn (seconds).
_SOON: Final = 0.001


class Lane:
    """Brings the mails of one route and its sessions together.

    A session takes the next mail by itself when it has room; connections are opened for mails
    that would have to wait, up to the limits. When none can be had, all mails fail that waited
    while it was tried.
    """

    _log = Logger()

    def __init__(self, route: Route, owner: Owner, pace: AccountPace, plain_until: float) -> None:
        """Begin without sessions; up to ``plain_until`` mails are handed over in lock-step."""
        self.route = route
        self.plain_until = plain_until
        self._owner = owner
        self._pace = pace
        self._limits = owner.limits
        self._line = Line()
        self._fresh: deque[Errand] = deque()
        #: All connections, and those of them that are not ready yet.
        self._links: set[Link] = set()
        self._openings: set[Link] = set()
        self._carriers: dict[Link, Carrier] = {}
        self._idle: list[Carrier] = []
        self._opened_in_all = 0
        self._held_until = 0.0
        # Why a connection was refused while others were being made.
        self._turned_away = ""
        # One of its mails is to find out whether the server is there again, and has not yet.
        self._probing = False
        self._timer: IDelayedCall | None = None

    # What the pool uses.

    @property
    def size(self) -> int:
        """How many connections it has, those on their way and at their end included."""
        return len(self._links)

    @property
    def waiting(self) -> int:
        """How many mails wait for a session."""
        return self._line.count + len(self._fresh)

    @property
    def oldest(self) -> float:
        """Since when the mail waits whose turn it is; there has to be one."""
        return (self._fresh[0] if self._fresh else self._line.first()).since

    def add(self, errand: Errand) -> None:
        """Let a mail wait for its turn, which may be now."""
        errand.holder = self
        if not self._admits(errand):
            self._check_empty()
            return
        self._line.add(errand)
        # With more of them nothing has changed: whoever has room has taken its mails.
        if self._idle or self._surplus() == 1 or self._wants_session():
            self.serve()

    def serve(self) -> None:
        """Give mails to sessions that have room, and open sessions for what is left."""
        for _ in range(len(self._idle)):
            if not (self._idle and self._line.count and self._goes_on()):
                break
            self._idle.pop().kick()
        while self._wants_session() and self._owner.allows(self):
            self._open()
        for carrier in tuple(self._carriers.values()):
            if self._surplus() <= 0:
                break
            if carrier.in_flight and carrier.has_room:
                carrier.kick()
        if self._line.count and not self._pace.free:
            self._look_again()

    def hurry(self) -> None:
        """End the wait of mails whose turn does not come within the owner's patience."""
        if self._pace.free:
            return
        for errand in self._line.pop_patient():
            self._tell(errand, postponed(self._pace.name))
        soon = 0
        while soon < self._line.urgent and self._pace.wait(soon) <= self._owner.patience:
            soon += 1
        for place, errand in enumerate(self._line.pop_urgent_behind(soon), soon):
            self._tell(errand, too_late(self._pace.wait(place)))
        self._check_empty()

    def spare_one(self) -> bool:
        """Close the session that has lain idle longest; False when none does."""
        if self._idle:
            self._idle.pop(0).leave()
            return True
        return False

    def drain(self) -> None:
        """Close the sessions that lie idle."""
        while self.spare_one():
            pass

    # Dispatcher: what its sessions use.

    @property
    def lock_step(self) -> bool:
        """Whether the server is known to fail at what it offers."""
        return self.plain_until > 0 and self.plain_until > self._owner.clock.seconds()

    def take(self, carrier: Carrier) -> Errand | None:
        """Give the next mail; see Dispatcher."""
        if not carrier.carried and self._fresh:
            return self._fresh.popleft()
        if not self._line.count or (self._openings and carrier.in_flight and self._surplus() <= 0):
            return None
        if self._owner.claims(self, carrier) or (self._fresh and self._needs_place()):
            return None
        if not self._pace.free and (self._is_crowded() or not self._pace.take()):
            self._look_again()
            return None
        return self._line.pop()

    def ended(
        self, errand: Errand, verdict: Verdict, refused: Mapping[str, RecipientOutcome]
    ) -> None:
        """Pass on what became of a mail; see Dispatcher."""
        if verdict.outcome is DELIVERED:
            self._pace.delivered()
            if errand.lock_step:
                self._owner.failed_in_groups(self.route)
        if refused or verdict.code >= _REFUSED:
            self._hear(verdict, refused)
        self._owner.ended(errand, verdict, refused)

    def broke(self, errand: Errand, failure: Failure) -> None:
        """Pass on a fault; see Dispatcher."""
        self._owner.broke(errand, failure)

    def returned(self, errand: Errand) -> None:
        """Let a mail wait for a session that has carried nothing; see Dispatcher."""
        self._log.debug(
            "mail {mail_id} goes to a new session with {host}:{port}{how}",
            mail_id=errand.mail.mail_id,
            host=self.route.host,
            port=self.route.port,
            how=", in lock-step" if errand.lock_step else "",
        )
        errand.holder = self
        self._fresh.append(errand)
        self.serve()

    def rests(self, carrier: Carrier) -> None:
        """Keep a session for later, or close it; see Dispatcher."""
        if (
            carrier.spent
            or self._needs_place()
            or self._owner.draining
            or self._limits.idle_seconds <= 0
            or self._owner.claims(self, carrier)
            or self._is_crowded()
        ):
            carrier.leave()
        else:
            self._idle.append(carrier)
            carrier.rest(self._limits.idle_seconds)

    # Holder: a mail that waits here.

    def give_up(self, errand: Errand, error: RemoteError) -> None:
        """End the delivery of a mail that waits; see Holder."""
        fresh = errand in self._fresh
        if fresh:
            self._fresh.remove(errand)
        elif not self._line.remove(errand):
            return
        # One that comes from a session had its turn: it was tried, and may have been marked.
        if not (fresh or self._openings or self._goes_on()):
            urgent = errand.mail.urgent
            self._tell(errand, overdue(error) if urgent else postponed(self._pace.name))
        else:
            self._end(errand, error if self._is_reached() else SmtpConnectError(str(error)))
        if not self.waiting:
            for link in tuple(self._openings):
                self._openings.discard(link)
                link.cancel()
        self._check_empty()

    # Whether mails may go

    def _admits(self, errand: Errand) -> bool:
        """Whether a mail may wait here; one that may not is told of."""
        # Reach comes last: whom it lets through is the one that tries.
        refusal = self._refusal_of_pace(errand) or self._refusal_of_reach(errand)
        if refusal is not None:
            self._tell(errand, refusal)
        return refusal is None

    def _refusal_of_pace(self, errand: Errand) -> Verdict | None:
        pace = self._pace
        if pace.free:
            return None
        if errand.mail.urgent:
            wait = pace.wait(self._line.urgent)
            return too_late(wait) if wait > self._owner.patience else None
        return postponed(pace.name) if self._owner.hurried else None

    def _refusal_of_reach(self, errand: Errand) -> Verdict | None:
        reach = self._owner.reach
        if reach.calm or self._is_reached():
            return None
        refusal = reach.refusal(self.route)
        self._probing |= refusal is None
        return None if refusal is None else out_of_reach(refusal, urgent=errand.mail.urgent)

    def _goes_on(self) -> bool:
        """Whether a mail that waits may go now, as far as the account's pace is concerned."""
        return self._pace.free or self._pace.ready() > 0

    def _is_crowded(self) -> bool:
        """Whether there are more sessions than the account may have now."""
        return not self._pace.free and self._live > self._pace.connections

    def _look_again(self) -> None:
        """Go on when the next mail may go, or lowered limits may have grown."""
        wait = self._pace.wait()
        if self._pace.lowered:
            wait = min(wait or RECHECK, RECHECK)
        elif not wait:
            return  # Sessions ask for it when they have room.
        clock, timer = self._owner.clock, self._timer
        if timer is None or not timer.active():
            self._timer = clock.callLater(max(wait, _SOON), self.serve)
        elif timer.getTime() > clock.seconds() + max(wait, _SOON):
            timer.reset(max(wait, _SOON))

    def _hear(self, verdict: Verdict, refused: Mapping[str, RecipientOutcome]) -> None:
        """Go slower where the server asks for that."""
        if self._pace.hear(verdict, refused, self._live):
            while self._is_crowded() and self.spare_one():
                pass

    # Connections

    def _surplus(self) -> int:
        """How many mails wait that no connection is being opened for."""
        return self._line.count - len(self._openings)

    def _wants_session(self) -> bool:
        openings = len(self._openings)
        return (
            len(self._links) < self._pace.connections
            and self.waiting > openings
            and not self._is_held()
            and (self._pace.free or len(self._fresh) + self._pace.ready() > openings)
        )

    def _needs_place(self) -> bool:
        """Whether a session has to end for a mail that needs a new one, and none does yet."""
        return (
            bool(self._fresh)
            and not self._openings
            and len(self._links) >= self._pace.connections
            and not any(carrier.over for carrier in self._carriers.values())
        )

    def _is_held(self) -> bool:
        """Whether the sessions there are have to do for a while."""
        if not self._links or (self._fresh and not self._openings):
            return False
        return self._held_until > self._owner.clock.seconds()

    def _is_reached(self) -> bool:
        return any(not carrier.over for carrier in self._carriers.values())

    @property
    def _live(self) -> int:
        """How many sessions take mails."""
        return sum(not carrier.over for carrier in self._carriers.values())

    def _open(self) -> None:
        first = self._fresh[0] if self._fresh else self._line.first()
        link = self._owner.connect(first.route)
        self._links.add(link)
        self._openings.add(link)
        link.ready.addCallbacks(self._opened, self._failed, (link,), {}, (link, first.route))
        link.closed.addCallback(self._closed, link)
        link.open()

    def _opened(self, session: Session, link: Link) -> None:
        self._openings.discard(link)
        self._probing = False
        self._owner.reach.succeeded(self.route)
        limits = self._limits.of_session(self._opened_in_all)
        self._opened_in_all += 1
        session.hasten(self._owner.departures)
        carrier = Carrier(session, self._owner.clock, limits, self)
        self._carriers[link] = carrier
        self._count_places()
        carrier.kick()

    def _failed(self, failure: Failure, link: Link, route: Route) -> None:
        if link not in self._openings:
            return  # It was not wanted any more.
        self._openings.discard(link)
        error: BaseException | None = failure.value
        reached = self._is_reached()
        if self._openings or reached:
            self._held_until = self._owner.clock.seconds() + HOLD
        else:
            self._held_until = 0.0
            self._probing = False
            self._owner.reach.failed(route, error, self._owner.clock.seconds() - link.began)
        if isinstance(error, RemoteError):
            self._turn_away(error)
        hopeless: list[Errand] = []
        if not self._openings:
            hopeless, self._fresh = list(self._fresh), deque()
            if not reached:
                hopeless += self._line.pop_until(link.began)
        for errand in hopeless:
            if isinstance(error, RemoteError | TlsConfigError):
                self._end(errand, error)
            else:
                self._owner.broke(errand, failure)

    def _turn_away(self, error: RemoteError) -> None:
        """Look whether a server that gave no session wants fewer of them, or less mail."""
        code, enhanced = getattr(error, "code", 0), getattr(error, "enhanced", "")
        if self._pace.asks_for_less(code, enhanced, str(error)):
            self._turned_away = str(error)
        self._count_places()

    def _count_places(self) -> None:
        """Draw the lesson from a session that was refused, once it is known what others got."""
        if self._turned_away and not self._openings:
            why, self._turned_away = self._turned_away, ""
            if self._is_reached():
                self._pace.crowd(self._live, why)
            else:
                self._pace.slow_down(1, why)

    def _closed(self, _: None, link: Link) -> None:
        """Forget a connection, and go on without it."""
        self._links.discard(link)
        carrier = self._carriers.pop(link, None)
        if carrier in self._idle:
            self._idle.remove(carrier)
        self._owner.freed(self)
        self.serve()
        self._check_empty()

    def _end(self, errand: Errand, error: RemoteError | TlsConfigError) -> None:
        self._tell(errand, verdict_of_error(error, in_transaction=False, past_dot=False))

    def _tell(self, errand: Errand, verdict: Verdict) -> None:
        self._owner.ended(errand, verdict, {})

    def _check_empty(self) -> None:
        if not self._links and not self.waiting:
            if self._timer is not None and self._timer.active():
                self._timer.cancel()
            if self._probing:
                self._probing = False
                self._owner.reach.untold(self.route)
            self._owner.emptied(self)
