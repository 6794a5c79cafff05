# SPDX-License-Identifier: MIT
"""Services that start in order and stop in reverse order, one after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from smtpmailer.coroutines import returns_deferred

__all__ = ["OrderedService", "Part"]

#: Seconds that a child has to stop when the others took all the time.
_MOMENT: Final = 1.0


def _nothing() -> None:
    """Do nothing."""


class OrderedService(MultiService):
    """A MultiService that stops its children one by one, last started first.

    Twisted's own stops all at once. Together they have ``stop_limit`` seconds, or any time when it
    is None; one that fails or takes longer is logged and the next one's turn comes all the same,
    for a moment at least. ``stopService`` fires when all have had their turn and may be called
    again meanwhile.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, stop_limit: float | None) -> None:
        """Make it without children; add them in the order in which they are to start."""
        super().__init__()
        self._clock = clock
        self.stop_limit = stop_limit
        self._stopping: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []

    def stopService(self) -> Deferred[None]:
        """Stop all children; fires when the last one's turn is over."""
        Service.stopService(self)
        waiter: Deferred[None] = Deferred()
        self._waiting.append(waiter)
        if self._stopping is None:
            self._stopping = self._stop_all()
            self._stopping.addBoth(self._stopped)
        return waiter

    def _stopped(self, _result: Any) -> None:
        self._stopping = None
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)

    @returns_deferred
    async def _stop_all(self) -> None:
        begun_at = self._clock.seconds()
        for child in reversed(list(self)):
            left = None
            if self.stop_limit is not None:
                left = max(_MOMENT, begun_at + self.stop_limit - self._clock.seconds())
            await self._stop_one(child, left)

    async def _stop_one(self, child: IService, limit: float | None) -> None:
        try:
            stopped = maybeDeferred(child.stopService)
            if limit is not None:
                stopped.addTimeout(limit, self._clock)
            await stopped
        except Exception:  # noqa: BLE001 - the next child's turn comes all the same
            self._log.failure("{child} did not stop as it should", child=child)


class Part(Service):
    """A service made of a part's own way to start and to stop."""

    def __init__(
        self,
        name: str,
        *,
        start: Callable[[], object] = _nothing,
        stop: Callable[[], Any] = _nothing,
    ) -> None:
        """``stop`` may return a Deferred, which is waited for."""
        self.setName(name)
        self._start = start
        self._stop = stop

    def startService(self) -> None:
        """Start the part."""
        super().startService()
        self._start()

    def stopService(self) -> Any:
        """Stop the part; a Deferred that fires when it has stopped, or None."""
        super().stopService()
        return self._stop()
