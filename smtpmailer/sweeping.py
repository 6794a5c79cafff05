# SPDX-License-Identifier: MIT
"""Forgets at intervals what was kept for long enough."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

__all__ = ["Sweeping"]

#: Seconds from the start to the first time, at most.
_FIRST: Final = 60.0


class Sweeping(Service):
    """Calls ``sweep``, whose Deferred fires with how much was removed, each ``interval`` seconds.

    The first time comes a minute after the start, or an interval if that is less: many a process
    lives for no interval. The next one comes an interval after the last ended. What fails is
    logged, and tried again then.
    """

    _log = Logger()

    def __init__(
        self, sweep: Callable[[], Deferred[int]], clock: IReactorTime, interval: float
    ) -> None:
        """Do nothing before the start."""
        self.setName("sweeping")
        self._sweep = sweep
        self._clock = clock
        self._interval = interval
        self._timer: IDelayedCall | None = None
        self._under_way: Deferred[None] = succeed(None)

    def startService(self) -> None:
        """Wait for the first time."""
        super().startService()
        self._wait(min(self._interval, _FIRST))

    def stopService(self) -> Deferred[None]:
        """Begin no other; fires when the one under way has ended."""
        super().stopService()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        ended: Deferred[None] = Deferred()
        self._under_way.addCallback(lambda _: ended.callback(None))
        return ended

    def _wait(self, seconds: float) -> None:
        self._timer = self._clock.callLater(seconds, self._begin)

    def _begin(self) -> None:
        self._under_way = self._sweep().addCallbacks(self._ended, self._failed)

    def _ended(self, removed: int) -> None:
        if removed:
            self._log.info("{n} keys of requests are forgotten", n=removed)
        self._go_on()

    def _failed(self, failure: Failure) -> None:
        self._log.failure("keys of requests can't be swept", failure)
        self._go_on()

    def _go_on(self) -> None:
        if self.running:
            self._wait(self._interval)
