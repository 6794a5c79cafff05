# SPDX-License-Identifier: MIT
"""Is the service alive, and how many mails has it sent."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed

from smtpmailer.core.replies import Reply, success
from smtpmailer.core.requests import Arguments
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import StoreError
from smtpmailer.interfaces import ICounters, IQueue

__all__ = ["StatusService"]


class StatusService:
    """Answers ``ping`` and ``status``."""

    def __init__(self, counters: ICounters, queue: IQueue | None = None) -> None:
        """Report these counters, and this queue if there is one."""
        self._counters = counters
        self._queue = queue

    def ping(self, _arguments: Arguments) -> Deferred[Reply]:
        """Answer ``pong``, whatever the argument."""
        return succeed(success(message="pong"))

    @returns_deferred
    async def status(self, arguments: Arguments) -> Reply:
        """Answer the counts of mails sent and failed; under ``detail`` the queue's state."""
        sent, failed = await self._counters.read()
        detail = await self._queue_detail(self._queue) if arguments.wants_detail else None
        return success({"sent": sent, "failed": failed}, detail=detail)

    async def _queue_detail(self, queue: IQueue | None) -> dict[str, Any]:
        if queue is None:
            return {"queue": None}
        try:
            page = await queue.page(1, 0)
            return {"queue": {"waiting": page.total, "runner": await queue.runner() or None}}
        except StoreError as error:
            return {"queue": {"error": str(error)}}
