# SPDX-License-Identifier: MIT
"""A timer for a deadline that moves often: moving it later costs nothing."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Alarm"]


def _nothing() -> None:
    """Do nothing."""


class Alarm:
    """Calls ``expire`` when the deadline has passed.

    ``deadline`` gives the time in the clock's seconds, or None while there is none; then it is
    asked again after ``recheck`` seconds. Call ``arm`` whenever the deadline may have come nearer.
    """

    def __init__(
        self,
        clock: IReactorTime,
        deadline: Callable[[], float | None],
        expire: Callable[[], None],
        recheck: float,
    ) -> None:
        """Sleep until the first ``arm``."""
        self._clock = clock
        self._deadline = deadline
        self._expire = expire
        self._recheck = recheck
        self._timer: IDelayedCall | None = None
        self._cancelled = False

    def arm(self) -> None:
        """Fire no later than the deadline; a call that comes too early looks again."""
        if self._cancelled:
            return
        deadline, timer = self._deadline(), self._timer
        if timer is not None and timer.active():
            if deadline is None or deadline >= timer.getTime():
                return
            # Moving a timer forward takes Twisted time in proportion to all timers there are.
            timer.cancel()
        wait = self._recheck if deadline is None else max(0.0, deadline - self._clock.seconds())
        self._timer = self._clock.callLater(wait, self._wake)

    def cancel(self) -> None:
        """Fire never again."""
        self._cancelled = True
        # Whose alarm it is need not wait for the garbage collector to find the circle.
        self._deadline = self._expire = _nothing
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _wake(self) -> None:
        deadline = self._deadline()
        if deadline is not None and deadline <= self._clock.seconds():
            self._expire()
        self.arm()
