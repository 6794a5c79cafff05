# SPDX-License-Identifier: MIT
"""How much of its limits an account may use, after its server asked to go slower.

What a server counts nobody knows, so the limits are found by trying, as TCP finds the capacity of
a path (RFC 5681 section 3.1): each time that the server says it is too much they become a fraction
of what was used, and grow back by a fixed amount with the time in which it does not say so. Time
and not mails, as servers count what comes in a span of time: an hour later it is forgotten there.
"""

from __future__ import annotations

import math
from typing import Final

import attrs

__all__ = ["GROWTH", "LEAST", "REACTION", "Lowered", "Meter", "Pace"]

#: What is left of a limit when the server asks to go slower.
_FRACTION: Final = 0.5
#: The least that is ever left of a limit.
LEAST: Final = 1 / 64
#: So much of its full value a limit gets back in a second: a tenth in half a minute.
GROWTH: Final = 0.1 / 30
#: Answers within so many seconds are about the same excess: many mails are under way at a time.
REACTION: Final = 5.0
#: Mails a second that count as the rate at least, where fewer were measured.
_SLOWEST: Final = 1.0
#: Seconds over which a rate is measured.
_SPAN: Final = 10.0


@attrs.frozen(kw_only=True)
class Lowered:
    """How far limits were lowered, and how long ago that was (seconds).

    ``connections`` and ``rate`` are shares of the full values, up to 1. ``measured`` is the full
    rate (mails a second) where none is configured; 0 where nothing was measured.
    """

    connections: float = 1.0
    rate: float = 1.0
    measured: float = 0.0
    age: float = 0.0

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left of it."""
        return min(self.connections, self.rate) + self.age * GROWTH >= 1


@attrs.define
class Meter:
    """Measures how many mails a second a server takes."""

    _count: int = attrs.field(default=0, init=False)
    _began: float = attrs.field(default=-math.inf, init=False)
    _before: float = attrs.field(default=0.0, init=False)

    def add(self, now: float) -> None:
        """Count a mail at ``now`` (seconds of a clock that never goes back)."""
        if now - self._began >= _SPAN:
            self._before = self._of_span(now)
            self._count, self._began = 0, now
        self._count += 1

    def rate(self, now: float) -> float:
        """Give mails a second, lately."""
        passed = now - self._began
        if passed >= _SPAN:
            return self._of_span(now)
        return max(self._before, self._count / max(1.0, passed))

    def _of_span(self, now: float) -> float:
        """Give the rate of the span that has ended; of one long ago nothing is left."""
        return self._count / _SPAN if now - self._began < 2 * _SPAN else 0.0


@attrs.define
class Pace:
    """The limits of an account as they are now; times are seconds of a clock that never goes back.

    ``connections`` is the configured limit, ``rate`` too (mails a second; None: there is none).
    """

    connections: int
    rate: float | None
    _lowered: Lowered = attrs.field(factory=Lowered, init=False)
    _since: float = attrs.field(default=0.0, init=False)
    _slowed_at: float = attrs.field(default=-math.inf, init=False)

    def is_lowered(self, now: float) -> bool:
        """Whether less is allowed than what is configured."""
        return not attrs.evolve(self._lowered, age=now - self._since).is_over

    def connections_at(self, now: float) -> int:
        """Give how many connections there may be; one at least."""
        share = self._grown(self._lowered.connections, now)
        return max(1, math.floor(self.connections * share + 1e-9))

    def rate_at(self, now: float) -> float | None:
        """Give how many mails a second may go out; None: as many as can."""
        share = self._grown(self._lowered.rate, now)
        if self.rate is not None:
            return self.rate * share
        return None if share >= 1 else (self._lowered.measured or _SLOWEST) * share

    def slow_down(self, now: float, *, sessions: int, measured: float) -> bool:
        """Lower both limits; False when that was done for the same excess just now.

        ``sessions`` are in use, and ``measured`` mails a second went out lately: limits that
        nobody came near to would be lowered for nothing.
        """
        fresh = now - self._slowed_at >= REACTION
        if fresh:
            self._slowed_at = now
            full = self.rate if self.rate is not None else self._measured(now, measured)
            limit = self.rate_at(now) or full
            # Mails that come seldom are no measure of what is too much.
            used = min(limit, max(measured, _SLOWEST))
            used_sessions = min(self.connections_at(now), max(1, sessions))
            self._lower(
                now,
                connections=_FRACTION * used_sessions / self.connections,
                rate=_FRACTION * used / full,
                measured=0.0 if self.rate is not None else full,
            )
        return fresh

    def crowd(self, now: float, *, sessions: int) -> bool:
        """Lower the limit of connections to those there are: the server refused one more.

        False when it is as low already.
        """
        sessions = max(1, sessions)
        fresh = sessions < self.connections_at(now)
        if fresh:
            lowered = self._lowered
            share = sessions / self.connections
            rate = self._grown(lowered.rate, now)
            self._lower(now, connections=share, rate=rate, measured=lowered.measured)
        return fresh

    def remember(self, now: float) -> Lowered:
        """Give what is to be known after a restart."""
        return attrs.evolve(self._lowered, age=max(0.0, now - self._since))

    def recall(self, lowered: Lowered, now: float) -> None:
        """Go on with what was remembered."""
        self._lowered = attrs.evolve(lowered, age=0.0)
        self._since = now - lowered.age

    def _grown(self, share: float, now: float) -> float:
        return min(1.0, share + max(0.0, now - self._since) * GROWTH)

    def _measured(self, now: float, measured: float) -> float:
        """Give what counts as the full rate where none is configured."""
        if self._grown(self._lowered.rate, now) < 1:
            return self._lowered.measured or _SLOWEST
        return max(measured, _SLOWEST)

    def _lower(self, now: float, *, connections: float, rate: float, measured: float) -> None:
        self._lowered = Lowered(
            connections=max(LEAST, connections),
            rate=max(LEAST, rate),
            measured=measured,
        )
        self._since = now
