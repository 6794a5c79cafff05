# SPDX-License-Identifier: MIT
"""One route: its sessions, and the mails that wait for one."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from smtpmailer.core.model import Outcome, RecipientOutcome, Route
from smtpmailer.delivery.carrier import Carrier
from smtpmailer.delivery.connecting import Link
from smtpmailer.delivery.dispatching import Listener
from smtpmailer.delivery.errand import Errand
from smtpmailer.delivery.limits import PoolLimits
from smtpmailer.delivery.line import Line
from smtpmailer.delivery.outcome import Verdict, verdict_of_error
from smtpmailer.delivery.session import Session
from smtpmailer.errors import RemoteError, SmtpConnectError, TlsConfigError

__all__ = ["HOLD", "Lane", "Owner"]

#: Seconds without new connections after one failed while others work: the server has enough.
HOLD: Final = 10.0


class Owner(Listener, Protocol):
    """What a lane needs of the pool."""

    clock: IReactorTime
    limits: PoolLimits
    draining: bool

    def connect(self, route: Route) -> Link:
        """Give a connection that is to be opened."""

    def allows(self, lane: Lane) -> bool:
        """Whether a lane may open a connection more; it counts from then on."""

    def freed(self) -> None:
        """Hear that a connection less is open."""

    def claims(self, lane: Lane, carrier: Carrier) -> bool:
        """Whether other lanes need this session's place more."""

    def failed_in_groups(self, route: Route) -> None:
        """Hear that a server takes mails in lock-step only, whatever it offers."""

    def emptied(self, lane: Lane) -> None:
        """Hear that a lane has neither sessions nor mails."""


class Lane:
    """Brings the mails of one route and its sessions together.

    A session takes the next mail by itself when it has room; connections are opened for mails
    that would have to wait, up to the limits. When none can be had, all mails fail that waited
    while it was tried.
    """

    _log = Logger()

    def __init__(self, route: Route, owner: Owner, plain_until: float) -> None:
        """Begin without sessions; up to ``plain_until`` mails are handed over in lock-step."""
        self.route = route
        self.plain_until = plain_until
        self._owner = owner
        self._limits = owner.limits
        self._line = Line()
        self._fresh: deque[Errand] = deque()
        #: All connections, and those of them that are not ready yet.
        self._links: set[Link] = set()
        self._openings: set[Link] = set()
        self._carriers: dict[Link, Carrier] = {}
        self._idle: list[Carrier] = []
        self._held_until = 0.0

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
        self._line.add(errand)
        # With more of them nothing has changed: whoever has room has taken its mails.
        if self._idle or self._surplus() == 1 or self._wants_session():
            self.serve()

    def serve(self) -> None:
        """Give mails to sessions that have room, and open sessions for what is left."""
        while self._idle and self._line.count:
            self._idle.pop().kick()
        while self._wants_session() and self._owner.allows(self):
            self._open()
        for carrier in tuple(self._carriers.values()):
            if self._surplus() <= 0:
                break
            if carrier.in_flight and carrier.has_room:
                carrier.kick()

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
        if not self._line.count or (carrier.in_flight and self._surplus() <= 0):
            return None
        if self._owner.claims(self, carrier) or self._needs_place():
            return None
        return self._line.pop()

    def ended(
        self, errand: Errand, verdict: Verdict, refused: Mapping[str, RecipientOutcome]
    ) -> None:
        """Pass on what became of a mail; see Dispatcher."""
        if errand.lock_step and verdict.outcome is Outcome.DELIVERED:
            self._owner.failed_in_groups(self.route)
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
        ):
            carrier.leave()
        else:
            self._idle.append(carrier)
            carrier.rest(self._limits.idle_seconds)

    # Holder: a mail that waits here.

    def give_up(self, errand: Errand, error: RemoteError) -> None:
        """End the delivery of a mail that waits; see Holder."""
        if errand in self._fresh:
            self._fresh.remove(errand)
        elif not self._line.remove(errand):
            return
        if not self._is_reached():
            error = SmtpConnectError(str(error))
        self._end(errand, error)
        if not self.waiting:
            for link in tuple(self._openings):
                self._openings.discard(link)
                link.cancel()
        self._check_empty()

    # Connections

    def _surplus(self) -> int:
        """How many mails wait that no connection is being opened for."""
        return self._line.count - len(self._openings)

    def _wants_session(self) -> bool:
        return (
            len(self._links) < self._limits.connections
            and self.waiting > len(self._openings)
            and not self._is_held()
        )

    def _needs_place(self) -> bool:
        """Whether a session has to end for a mail that needs a new one, and none does yet."""
        return (
            bool(self._fresh)
            and not self._openings
            and len(self._links) >= self._limits.connections
            and not any(carrier.over for carrier in self._carriers.values())
        )

    def _is_held(self) -> bool:
        """Whether the sessions there are have to do for a while."""
        if not self._links or (self._fresh and not self._openings):
            return False
        return self._held_until > self._owner.clock.seconds()

    def _is_reached(self) -> bool:
        return any(not carrier.over for carrier in self._carriers.values())

    def _open(self) -> None:
        first = self._fresh[0] if self._fresh else self._line.first()
        link = self._owner.connect(first.route)
        self._links.add(link)
        self._openings.add(link)
        link.ready.addCallbacks(self._opened, self._failed, (link,), {}, (link,))
        link.closed.addCallback(self._closed, link)
        link.open()

    def _opened(self, session: Session, link: Link) -> None:
        self._openings.discard(link)
        carrier = Carrier(session, self._owner.clock, self._limits, self)
        self._carriers[link] = carrier
        carrier.kick()

    def _failed(self, failure: Failure, link: Link) -> None:
        if link not in self._openings:
            return  # It was not wanted any more.
        self._openings.discard(link)
        reached = self._is_reached()
        if self._openings or reached:
            self._held_until = self._owner.clock.seconds() + HOLD
        else:
            self._held_until = 0.0
        hopeless: list[Errand] = []
        if not self._openings:
            hopeless, self._fresh = list(self._fresh), deque()
            if not reached:
                hopeless += self._line.pop_until(link.began)
        for errand in hopeless:
            if isinstance(failure.value, RemoteError | TlsConfigError):
                self._end(errand, failure.value)
            else:
                self._owner.broke(errand, failure)

    def _closed(self, _: None, link: Link) -> None:
        """Forget a connection, and go on without it."""
        self._links.discard(link)
        carrier = self._carriers.pop(link, None)
        if carrier in self._idle:
            self._idle.remove(carrier)
        self._owner.freed()
        self.serve()
        self._check_empty()

    def _end(self, errand: Errand, error: RemoteError | TlsConfigError) -> None:
        verdict = verdict_of_error(error, in_transaction=False, past_dot=False)
        self._owner.ended(errand, verdict, {})

    def _check_empty(self) -> None:
        if not self._links and not self.waiting:
            self._owner.emptied(self)
