# SPDX-License-Identifier: MIT
"""What each account may be burdened with now: its limits, and how far its server lowered them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from smtpmailer.core.adaptive import Lowered, Meter, Pace
from smtpmailer.core.bucket import ENOUGH
from smtpmailer.core.model import Outcome, RecipientOutcome, Route, RouteLimits
from smtpmailer.core.rates import Rate
from smtpmailer.core.slowdown import asks_for_less
from smtpmailer.core.tallies import SharedRates, own_rates
from smtpmailer.delivery.limits import PoolLimits
from smtpmailer.delivery.outcome import Verdict

__all__ = ["OTHER", "RECHECK", "AccountPace", "Paces", "account_name"]

#: Seconds after which somebody who waits for lowered limits to grow looks again.
RECHECK: Final = 5.0

#: So many accounts that clients name are remembered: they may name any.
_MOST: Final = 1000
#: So many accounts are counted by themselves, and what all further ones are called.
_COUNTED: Final = 20
OTHER: Final = "other"
#: Of the mails that a rate allows in a second, one of so many parts may go out at once.
_BURST_PARTS: Final = 10

#: What tells accounts apart: host, port, user, name.
_Key = tuple[str, int, str, str]


def account_name(route: Route) -> str:
    """Name an account for people, logs and figures, without telling its user.

    That is the name that it was given, else its server and something that stands for its user.
    """
    if route.account:
        return route.account
    server = f"{route.host}:{route.port}"
    if not route.user:
        return server
    return f"{server}/{hashlib.sha256(route.user.encode('utf-8', 'replace')).hexdigest()[:8]}"


class AccountPace:
    """The pace of one account; lanes of the same account share it.

    ``free``: there is nothing that would hold a mail back, besides the configured number of
    connections. ``server`` is its host and port. ``lanes``: so many use it now.
    """

    _log = Logger()

    def __init__(self, route: Route, clock: IReactorTime, rates: SharedRates, board: Paces) -> None:
        """Begin without limits; call ``use``."""
        self.name = name = account_name(route)
        self.server = f"{route.host}:{route.port}"
        self.free = True
        self.lanes = 0
        self._clock = clock
        self._rates = rates
        self._board = board
        self._key = f"account {name}"
        self._pace = Pace(1, None)
        self._burst = 1
        self._meter = Meter()
        self._lowered = False
        self._own = RouteLimits()

    def use(self, limits: PoolLimits, own: RouteLimits | None = None) -> None:
        """Let these limits count where the account has no ``own``, which stay if none are given."""
        self._own = own or self._own
        rate = self._own.rate or limits.rate
        self._pace.connections = self._own.connections or limits.connections
        self._pace.rate = None if rate is None else rate.per_second
        self._burst = 1 if rate is None else rate.burst
        self._look()

    def count_in(self, rates: SharedRates) -> None:
        """Count mails in this table from now on."""
        self._rates = rates

    # What may go

    @property
    def connections(self) -> int:
        """How many connections there may be."""
        if not self._lowered:
            return self._pace.connections
        return self._pace.connections_at(self._clock.seconds())

    @property
    def rate(self) -> float | None:
        """How many mails a second may go out; None: there is no limit."""
        return self._pace.rate_at(self._clock.seconds())

    def take(self) -> bool:
        """Count a mail that is to go out now; False when none may."""
        rate = self.rate
        if rate is None:
            self._look()
            return True
        now = self._clock.seconds()
        return not self._rates.draw(self._key, self._size(rate), rate, now)

    def ready(self) -> float:
        """Give how many mails could go out now."""
        rate = self.rate
        if rate is None:
            self._look()
            return math.inf
        left = self._rates.look(self._key, self._size(rate), rate, self._clock.seconds())
        return math.floor(left + 1 - ENOUGH)

    def wait(self, ahead: int = 0) -> float:
        """Give the seconds until one more could go than ``ahead`` that wait before it."""
        rate = self.rate
        if rate is None:
            return 0.0
        left = self._rates.look(self._key, self._size(rate), rate, self._clock.seconds())
        return max(0.0, (1 + ahead - left) / rate)

    # What the server said

    def delivered(self) -> None:
        """Count a mail that the server took."""
        self._meter.add(self._clock.seconds())

    def hear(
        self, verdict: Verdict, refused: Mapping[str, RecipientOutcome], sessions: int
    ) -> bool:
        """Look at what a mail was answered with ``sessions`` in use; True when limits are lower."""
        if verdict.outcome is not Outcome.DELIVERED and self.asks_for_less(
            verdict.code, verdict.enhanced, verdict.reply
        ):
            return self.slow_down(sessions, f"{verdict.code} {verdict.reply}")
        for outcome in refused.values():
            if asks_for_less(outcome.code, outcome.enhanced, outcome.reply, about_recipient=True):
                return self.slow_down(sessions, f"{outcome.code} {outcome.reply}")
        return False

    @staticmethod
    def asks_for_less(code: int, enhanced: str, text: str) -> bool:
        """Whether an answer that is about no recipient asks for less mail."""
        return asks_for_less(code, enhanced, text, about_recipient=False)

    def slow_down(self, sessions: int, why: str) -> bool:
        """Lower the limits; False when that was done just now."""
        now = self._clock.seconds()
        self._board.count(self.name)
        measured = self._meter.rate(now)
        return self._note(self._pace.slow_down(now, sessions=sessions, measured=measured), why)

    def crowd(self, sessions: int, why: str) -> bool:
        """Be content with the connections there are: the server refused one more."""
        self._board.count(self.name)
        return self._note(self._pace.crowd(self._clock.seconds(), sessions=sessions), why)

    # Over restarts

    def remember(self) -> Lowered:
        """Give what is to be known after a restart."""
        return self._pace.remember(self._clock.seconds())

    def recall(self, lowered: Lowered) -> None:
        """Go on with what was remembered."""
        self._pace.recall(lowered, self._clock.seconds())
        self._look()

    @property
    def lowered(self) -> bool:
        """Whether less is allowed than what is configured."""
        self._look()
        return self._lowered

    def _size(self, rate: float) -> float:
        """Give how many mails may go out at once at this rate."""
        if self._pace.rate is None:
            return max(1.0, rate / _BURST_PARTS)
        return max(1.0, self._burst * rate / self._pace.rate)

    def _note(self, fresh: bool, why: str) -> bool:  # noqa: FBT001 - what the pace said
        if fresh:
            self._look()
            rate = self.rate
            self._log.warn(
                "{account} is to get less mail: at most {connections} connections{rate} for now, "
                "as its server said: {why}",
                account=self.name,
                connections=self.connections,
                rate="" if rate is None else f" and {rate:.3g} mails a second",
                why=why,
            )
            self._board.changed()
        return fresh

    def _look(self) -> None:
        """Note whether limits are lowered, and say when they are no more."""
        before, self._lowered = self._lowered, self._pace.is_lowered(self._clock.seconds())
        self.free = self._pace.rate is None and not self._lowered
        if before and not self._lowered:
            self._log.info("{account} has its full limits again", account=self.name, notice=True)
            self._board.changed()


class Paces:
    """The paces of all accounts, and what was remembered of those not seen yet.

    ``slow_downs`` counts the answers that asked for less mail, by account. ``changed`` is called
    when limits were lowered, or are full again.

    Accounts that are configured stay for good. Of those that clients name, which could be any
    number, some that no lane uses are forgotten; and their mails are counted in a table of their
    own, so that they push out none that is configured.
    """

    def __init__(
        self, clock: IReactorTime, limits: PoolLimits, rates: SharedRates | None = None
    ) -> None:
        """Count mails in ``rates``, which other processes may share."""
        self.changed: Callable[[], None] = _nothing
        self.slow_downs: dict[str, int] = {}
        self._clock = clock
        self._limits = limits
        self._rates = own_rates() if rates is None else rates
        self._foreign_rates = self._rates.aside()
        self._paces: dict[_Key, AccountPace] = {}
        self._foreign: dict[_Key, AccountPace] = {}
        self._recalled: dict[str, tuple[Lowered, float]] = {}

    def of(self, route: Route) -> AccountPace:
        """Give the pace of a route's account; its limits count from now on."""
        key = _key(route)
        foreign = route.foreign and key not in self._paces
        pace = self._paces.pop(key, None) or self._foreign.pop(key, None)
        if pace is None:
            pace = self._make(route, foreign=foreign)
        pace.count_in(self._foreign_rates if foreign else self._rates)
        (self._foreign if foreign else self._paces)[key] = pace
        pace.use(self._limits, route.limits)
        return pace

    def enter(self, route: Route) -> AccountPace:
        """Give the pace of a route's account to a lane that uses it until ``leave``."""
        pace = self.of(route)
        pace.lanes += 1
        return pace

    def leave(self, route: Route) -> None:
        """Hear that a lane of this route is no more."""
        key = _key(route)
        (self._paces.get(key) or self._foreign[key]).lanes -= 1

    def use_rate(self, rate: Rate | None) -> None:
        """Let accounts without a rate of their own get so many mails from now on."""
        self._limits = attrs.evolve(self._limits, rate=rate)
        for pace in self:
            pace.use(self._limits)

    def __iter__(self) -> Iterator[AccountPace]:
        """Give all, those that are configured and the one asked for last at the end."""
        return iter((*self._foreign.values(), *self._paces.values()))

    def remember(self) -> dict[str, Lowered]:
        """Give what is to be known after a restart, by account; full limits need no note."""
        now = self._clock.seconds()
        notes = {name: _aged(lowered, now - at) for name, (lowered, at) in self._recalled.items()}
        notes.update((pace.name, pace.remember()) for pace in self)
        return {name: lowered for name, lowered in notes.items() if not lowered.is_over}

    def recall(self, notes: Mapping[str, Lowered]) -> None:
        """Go on with what was remembered."""
        now = self._clock.seconds()
        self._recalled = {name: (lowered, now) for name, lowered in notes.items()}

    def count(self, name: str) -> None:
        """Count an answer that asked for less mail; accounts that come late count together."""
        if name not in self.slow_downs and len(self.slow_downs) >= _COUNTED:
            name = OTHER
        self.slow_downs[name] = self.slow_downs.get(name, 0) + 1

    def names(self) -> Iterable[str]:
        """Give the accounts that ``remember`` knows."""
        return [pace.name for pace in self]

    def _make(self, route: Route, *, foreign: bool) -> AccountPace:
        if foreign:
            self._make_room()
        pace = AccountPace(route, self._clock, self._rates, self)
        lowered, at = self._recalled.pop(pace.name, (None, 0.0))
        if lowered is not None:
            pace.recall(_aged(lowered, self._clock.seconds() - at))
        return pace

    def _make_room(self) -> None:
        """Forget accounts that clients named and nobody uses, those with full limits first."""
        while len(self._foreign) >= _MOST:
            quiet = [key for key, pace in self._foreign.items() if not pace.lanes]
            if not quiet:
                break  # They are no more than the mails that wait.
            full = (key for key in quiet if not self._foreign[key].lowered)
            del self._foreign[next(full, quiet[0])]


def _key(route: Route) -> _Key:
    return route.host, route.port, route.user, route.account


def _aged(lowered: Lowered, seconds: float) -> Lowered:
    return attrs.evolve(lowered, age=lowered.age + seconds)


def _nothing() -> None:
    """Do nothing."""
