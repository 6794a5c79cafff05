# SPDX-License-Identifier: MIT
"""Is the service alive, and how many mails has it sent."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from smtpmailer.core.redisvalues import RedisState
from smtpmailer.core.replies import Reply, error, success
from smtpmailer.core.requests import Arguments
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import StoreError
from smtpmailer.interfaces import ICounters, IQueue, IRedis

__all__ = ["PONG", "StatusService"]

PONG: Final = success(None, "pong")


class StatusService:
    """Answers ``ping`` and ``status``."""

    _log = Logger()

    def __init__(
        self,
        counters: ICounters,
        queue: IQueue | None = None,
        redis: IRedis | None = None,
        once_keep: int = 0,
    ) -> None:
        """Report these counters, and this queue and Redis if there are any.

        A request's key (``once``) is remembered for ``once_keep`` seconds; 0 where it is not.
        """
        self._counters = counters
        self._queue = queue
        self._redis = redis
        self._once = {"once": once_keep} if once_keep else {}

    def ping(self, arguments: Arguments) -> Deferred[Reply]:
        """Answer ``pong``, whatever the argument; under ``detail`` what the service can do.

        A client has to know of ``once`` before it relies on that: an older service ignores it.
        """
        wanted = arguments.wants_detail and self._once
        return succeed(success(None, "pong", self._once) if wanted else PONG)

    @returns_deferred
    async def status(self, arguments: Arguments) -> Reply:
        """Answer the counts of mails sent and failed; under ``detail`` how queue and Redis are."""
        detail = await self._detail() if arguments.wants_detail else None
        try:
            sent, failed = await self._counters.read()
        except StoreError as fault:
            self._log.warn("unable to get status: {why}", why=str(fault))
            return error(None, "unable to get status", detail)
        return success({"sent": sent, "failed": failed}, detail=detail)

    async def _detail(self) -> dict[str, Any]:
        detail = await self._queue_detail(self._queue)
        if self._redis is not None:
            detail["redis"] = _redis_detail(self._redis.state())
        return detail

    async def _queue_detail(self, queue: IQueue | None) -> dict[str, Any]:
        if queue is None:
            return {"queue": None}
        try:
            page = await queue.page(1, 0)
            return {"queue": {"waiting": page.total, "runner": await queue.runner() or None}}
        except StoreError as fault:
            return {"queue": {"error": str(fault)}}


def _redis_detail(state: RedisState) -> dict[str, Any]:
    """Describe whether Redis can be used; ``since`` is in Unix seconds."""
    return {
        "up": state.up,
        "since": round(state.since, 3),
        "reason": state.reason or None,
        "appendOnly": state.append_only,
    }
