# SPDX-License-Identifier: MIT
"""Services that start in order and stop in reverse order, one after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from smtpmailer.coroutines import returns_deferred

__all__ = ["OrderedService", "Part"]


def _nothing() -> None:
    """Do nothing."""


class OrderedService(MultiService):
    """A MultiService that stops its children one by one, last started first.

    Twisted's own stops all at once. Each child has ``stop_limit`` seconds; one that fails or
    takes longer is logged and the next one's turn comes all the same. ``stopService`` fires when
    all have had their turn and may be called again meanwhile.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, stop_limit: float) -> None:
        """Make it without children; add them in the order in which they are to start."""
        super().__init__()
        self._clock = clock
        self._stop_limit = stop_limit
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
        for child in reversed(list(self)):
            await self._stop_one(child)

    async def _stop_one(self, child: IService) -> None:
        try:
            stopped = maybeDeferred(child.stopService)
            await stopped.addTimeout(self._stop_limit, self._clock)
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
