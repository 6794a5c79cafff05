# SPDX-License-Identifier: MIT
"""Looks after a queue that another process runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import StoreError
from smtpmailer.interfaces import IQueueRun

__all__ = ["Lookout"]

#: Seconds between looks.
_INTERVAL: Final = 2.0


class Lookout(Service):
    """Lets the store notice what other processes did, where it is not told of that.

    In the process that runs the queue QueueRunner does this.
    """

    _log = Logger()

    def __init__(
        self,
        queue: IQueueRun,
        ready: Callable[[], Deferred[None]],
        *,
        clock: IReactorTime,
        now: Callable[[], float],
    ) -> None:
        """``ready`` fires when the store has started; ``now`` gives Unix seconds."""
        self.setName("queue lookout")
        self._queue = queue
        self._ready = ready
        self._now = now
        self._loop = LoopingCall(self._look)
        self._loop.clock = clock

    def startService(self) -> None:
        """Begin when the store has started."""
        super().startService()
        # The listener logs why the queue can't be used.
        self._ready().addCallbacks(self._begin, lambda _: None)

    def stopService(self) -> None:
        """Look no more."""
        super().stopService()
        if self._loop.running:
            self._loop.stop()

    def _begin(self, _result: object) -> None:
        if self.running:
            self._loop.start(_INTERVAL, now=False)

    @returns_deferred
    async def _look(self) -> None:
        try:
            await self._queue.look_around(self._now())
        except StoreError as error:
            self._log.error("the queue can't be looked through: {why}", why=str(error))
        except Exception:  # noqa: BLE001 - the loop has to go on
            self._log.failure("the queue can't be looked through")
