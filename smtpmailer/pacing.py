# SPDX-License-Identifier: MIT
"""Spread bursts of work over turns of the reactor, so that small requests get in between."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

__all__ = ["Pacer", "paced"]

_A = TypeVar("_A")
_T = TypeVar("_T")


def paced(
    pace: Callable[[], Deferred[None] | None], work: Callable[[_A], Deferred[_T]]
) -> Callable[[_A], Deferred[_T]]:
    """Make a function that does ``work`` when ``pace`` lets it; see ``Pacer.wait``."""

    def begin(argument: _A) -> Deferred[_T]:
        waiting = pace()
        return waiting.addCallback(lambda _: work(argument)) if waiting else work(argument)

    return begin


class Pacer:
    """Lets work begin for so many seconds in each turn of the reactor, in the order it came."""

    def __init__(self, clock: IReactorTime, slice_seconds: float = 0.004) -> None:
        """Measure on this clock."""
        self._clock = clock
        self._slice = slice_seconds
        self._waiting: deque[Deferred[None]] = deque()
        self._turn_began: float | None = None

    def wait(self) -> Deferred[None] | None:
        """Give what fires when work may begin; None when that is now, which costs no Deferred."""
        self._begin_turn()
        return None if not self._waiting and self._has_time() else self._queue()

    def later(self) -> Deferred[None]:
        """Fire when work may begin that need not be done at once, though there were time.

        First comes what others wait for: all that has come in is read, and what it lets go is sent.
        """
        self._begin_turn()
        return self._queue()

    def _begin_turn(self) -> None:
        if self._turn_began is None:
            self._turn_began = self._clock.seconds()
            self._clock.callLater(0, self._next_turn)

    def _queue(self) -> Deferred[None]:
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
