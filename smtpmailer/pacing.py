# SPDX-License-Identifier: MIT
"""Spread bursts of work over turns of the reactor, so that small requests get in between."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

__all__ = ["Pacer", "paced"]

_A = TypeVar("_A")
_T = TypeVar("_T")


def paced(
    pace: Callable[[], Deferred[None]], work: Callable[[_A], Deferred[_T]]
) -> Callable[[_A], Deferred[_T]]:
    """Make a function that waits for ``pace`` before it does ``work``."""

    def begin(argument: _A) -> Deferred[_T]:
        return pace().addCallback(lambda _: work(argument))

    return begin


class Pacer:
    """Lets work begin for so many seconds in each turn of the reactor, in the order it came."""

    def __init__(self, clock: IReactorTime, slice_seconds: float = 0.004) -> None:
        """Measure on this clock."""
        self._clock = clock
        self._slice = slice_seconds
        self._waiting: deque[Deferred[None]] = deque()
        self._turn_began: float | None = None

    def turn(self) -> Deferred[None]:
        """Fire when work may begin: at once unless this turn has done much already."""
        if self._turn_began is None:
            self._turn_began = self._clock.seconds()
            self._clock.callLater(0, self._next_turn)
        if not self._waiting and self._has_time():
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def _has_time(self) -> bool:
        assert self._turn_began is not None
        return self._clock.seconds() - self._turn_began < self._slice

    def _next_turn(self) -> None:
        self._turn_began = None
        if not self._waiting:
            return
        self._turn_began = self._clock.seconds()
        self._clock.callLater(0, self._next_turn)
        while self._waiting and self._has_time():
            self._waiting.popleft().callback(None)
