# SPDX-License-Identifier: MIT
"""ISender on Twisted: every mail gets an answer, in time, whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import takewhile
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure
from zope.interface import implementer

from smtpmailer.alarm import Alarm
from smtpmailer.core.model import DeliveryResult, OutgoingMail, RecipientOutcome, Route
from smtpmailer.core.rates import Rate
from smtpmailer.core.tallies import SharedRates
from smtpmailer.delivery.connecting import Link
from smtpmailer.delivery.errand import Errand
from smtpmailer.delivery.limits import PoolLimits
from smtpmailer.delivery.outcome import Verdict, build_result
from smtpmailer.delivery.paces import Paces
from smtpmailer.delivery.pool import Pool
from smtpmailer.delivery.reach import Reach
from smtpmailer.delivery.tls import ClientTls
from smtpmailer.errors import SmtpLostError
from smtpmailer.interfaces import ISender

__all__ = ["Sender"]

_RECHECK = 60.0


@implementer(ISender)
class Sender:
    """Hands mails to SMTP servers over sessions that are kept.

    ``reactor`` connects, resolves names and runs timeouts; ``limit`` (seconds) bounds a whole
    delivery, waiting for a session included. Cancelling a Deferred that ``send`` gave ends the
    delivery at once; it still fires with the result: temporary, or uncertain after the final dot.
    ``pace`` is asked, and what it gives waited for, before a result is worked on: so many answers
    at once hold nobody up. ``rates`` count each account's mails, with those of other processes
    where they share them. ``paces`` are the limits of all accounts. ``connect`` makes connections;
    without it none that needs an access token.
    """

    def __init__(
        self,
        reactor: Any,
        limit: float,
        limits: PoolLimits | None = None,
        *,
        connect: Callable[[Route], Link] | None = None,
        pace: Callable[[], Deferred[None]] | None = None,
        rates: SharedRates | None = None,
    ) -> None:
        """Open nothing yet."""
        self._reactor = reactor
        self._limit = limit
        self._pace = pace
        limits = attrs.evolve(limits or PoolLimits(), patience=limit)
        self.paces = Paces(reactor, limits, rates)
        if connect is None:
            tls = ClientTls()

            def connect(route: Route) -> Link:
                return Link(reactor, route, tls)

        self._pool = Pool(connect, reactor, limits, self, self.paces)
        # In the order in which they came, which is that of their deadlines.
        self._under_way: dict[Errand, Deferred[DeliveryResult]] = {}
        self._alarm: Alarm | None = None
        # The ends of those whose time began with another server.
        self._ends: dict[Errand, IDelayedCall] = {}
        self._is_cut = False
        # What waits for its turn to be told.
        self._results: dict[Errand, Callable[[], None]] = {}

    def send(self, mail: OutgoingMail, route: Route) -> Deferred[DeliveryResult]:
        """Deliver ``mail`` over the next session of ``route`` that is free; see ISender."""
        errand = Errand(mail, route, self._reactor.seconds())
        result: Deferred[DeliveryResult] = Deferred(lambda _: self._cancel(errand))
        self._under_way[errand] = result
        if self._alarm is None:
            self._alarm = Alarm(self._reactor, self._deadline, self._too_late, _RECHECK)
            self._alarm.arm()
        if mail.spent:
            left = max(0.0, self._limit - mail.spent)
            self._ends[errand] = self._reactor.callLater(left, self._end, errand)
        self._pool.submit(errand)
        if self._is_cut:
            self._cut(errand)
        return result

    @property
    def sessions(self) -> int:
        """How many connections to servers are open, being opened or being closed."""
        return self._pool.connections

    @property
    def reach(self) -> Reach:
        """Which routes lead nowhere."""
        return self._pool.reach

    def use_rate(self, rate: Rate | None) -> None:
        """Let accounts without a rate of their own get so many mails from now on."""
        self._pool.use_rate(rate)

    def hurry(self) -> None:
        """Give mails of the queue back from now on, where they would wait for their turn."""
        self._pool.hurry()

    def drain(self) -> Deferred[None]:
        """Close sessions as they run out of mails; fires when no mail and no session is left."""
        return self._pool.drain()

    def cut(self) -> None:
        """End every delivery now, and those that still come, as there is no time for them.

        A mail of the queue that its server certainly has not taken comes back untried.
        """
        self._is_cut = True
        for errand in tuple(self._under_way):
            self._cut(errand)

    # Listener: what the pool tells.

    def ended(
        self, errand: Errand, verdict: Verdict, refused: Mapping[str, RecipientOutcome]
    ) -> None:
        """Tell what became of a mail; see Listener."""
        result = self._take(errand)
        if self._pace is None or errand.given_up:
            self._tell(errand, verdict, refused, result)
        else:
            self._results[errand] = partial(self._tell, errand, verdict, refused, result)
            self._pace().addCallback(lambda _: self._take_turn(errand))

    def broke(self, errand: Errand, failure: Failure) -> None:
        """Pass a fault of our own to whoever sent the mail; see Listener."""
        self._take(errand).errback(failure)

    def _take_turn(self, errand: Errand) -> None:
        tell = self._results.pop(errand, None)
        if tell is not None:
            tell()

    def _cancel(self, errand: Errand) -> None:
        if errand in self._under_way:
            self._give_up(errand, "the delivery was cancelled")
        else:
            self._take_turn(errand)

    def _cut(self, errand: Errand) -> None:
        if errand in self._under_way:
            self._give_up(errand, "cut short, as the service stopped")

    def _take(self, errand: Errand) -> Deferred[DeliveryResult]:
        result = self._under_way.pop(errand)
        end = self._ends.pop(errand, None)
        if end is not None and end.active():
            end.cancel()
        if not self._under_way and self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        return result

    def _deadline(self) -> float | None:
        oldest = next(iter(self._under_way), None)
        return None if oldest is None else oldest.since + self._limit

    def _too_late(self) -> None:
        now = self._reactor.seconds()
        late = takewhile(lambda errand: errand.since + self._limit <= now, self._under_way)
        for errand in tuple(late):
            if errand in self._under_way:
                self._end(errand)

    def _end(self, errand: Errand) -> None:
        self._give_up(errand, f"the delivery took longer than {self._limit:g} s")

    def _give_up(self, errand: Errand, why: str) -> None:
        errand.given_up = True
        self._pool.give_up(errand, SmtpLostError(why))

    def _tell(
        self,
        errand: Errand,
        verdict: Verdict,
        refused: Mapping[str, RecipientOutcome],
        deferred: Deferred[DeliveryResult],
    ) -> None:
        route, seconds = errand.route, self._reactor.seconds() - errand.since
        result = build_result(
            errand.mail.envelope.recipients,
            refused,
            verdict,
            server=f"{route.host}:{route.port}",
            seconds=seconds,
            earlier=errand.dialogue,
        )
        over = errand.given_up or seconds + errand.mail.spent >= self._limit
        if over and result.untaken:
            again_in = 0.0 if self._is_cut and not errand.mail.urgent else result.again_in
            # There is no time for another server.
            result = attrs.evolve(result, untaken=False, again_in=again_in)
        deferred.callback(result)
