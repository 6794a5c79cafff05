# SPDX-License-Identifier: MIT
"""The counters of mails sent and failed, in Redis."""

from __future__ import annotations

import contextlib
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import RedisAwayError, RedisError, StoreError
from smtpmailer.interfaces import ICounters, IRedis

__all__ = ["RedisCounters"]

#: Seconds that a mail's answer waits at most for its being counted.
_PATIENCE: Final = 1.0


class _Counter:
    """One of the two, and what is still to be added to it."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.pending = 0


@implementer(ICounters)
class RedisCounters:
    """Counters that all services share which use the same Redis and prefix.

    What can't be counted now is counted once Redis is back. What was under way when the
    connection broke is not counted again: it may have been. Compat: the keys are the
    predecessor's, and so is that every service which starts may set them to 0.
    """

    _log = Logger()

    def __init__(self, redis: IRedis, prefix: str, clock: IReactorTime, *, reset: bool) -> None:
        """``reset`` sets both to 0 the first time that Redis can be used."""
        self._redis = redis
        self._clock = clock
        self._reset = reset
        self._begun = False
        self._busy = False
        self._refusal = ""
        self._sent = _Counter(f"{prefix}sent:success")
        self._failed = _Counter(f"{prefix}sent:failed")
        self._waiting: list[Deferred[None]] = []

    def start(self) -> None:
        """Begin as soon as Redis can be used."""
        self._redis.watch(self._hand_over)
        self._hand_over()

    def stop(self) -> Deferred[None]:
        """Fire when what was counted is handed over, or can't be."""
        return self._handed_over()

    def add_sent(self) -> Deferred[None]:
        """Count one mail as sent; fires when it is counted, or will be later."""
        self._sent.pending += 1
        return self._handed_over()

    def add_failed(self) -> Deferred[None]:
        """Count one mail as failed; fires when it is counted, or will be later."""
        self._failed.pending += 1
        return self._handed_over()

    @returns_deferred
    async def read(self) -> tuple[int, int]:
        """Fire with (sent, failed) of all services; fails with StoreError."""
        await self._handed_over()
        counters = (self._sent, self._failed)
        values = await self._redis.call("MGET", *(counter.key for counter in counters))
        sent, failed = map(_number, counters, values)
        return sent, failed

    @returns_deferred
    async def _handed_over(self) -> None:
        """Wait, but not for long, until Redis has what is counted so far."""
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        self._hand_over()
        with contextlib.suppress(DeferredTimeoutError):
            await waiting.addTimeout(_PATIENCE, self._clock)

    def _hand_over(self) -> None:
        if not self._busy:
            self._busy = True
            self._hand_over_all().addErrback(
                lambda failure: self._log.failure("counting broke down", failure)
            )

    @returns_deferred
    async def _hand_over_all(self) -> None:
        """Bring Redis up to date, for as long as there is something new and Redis is there."""
        try:
            while self._has_work():
                waiting, self._waiting = self._waiting, []
                worked = await self._hand_over_once()
                for deferred in waiting:
                    deferred.callback(None)
                if not worked:
                    break
        finally:
            self._busy = False

    def _has_work(self) -> bool:
        pending = self._sent.pending or self._failed.pending
        return bool(self._waiting or pending or not self._begun)

    async def _hand_over_once(self) -> bool:
        """Tell Redis what is counted so far; give whether that worked."""
        try:
            await self._begin()
            for counter in (self._sent, self._failed):
                await self._add(counter)
        except RedisAwayError:
            return False  # the link has logged it
        except RedisError as error:
            if str(error) != self._refusal:
                self._log.error("mails can't be counted: {why}", why=str(error))
            self._refusal = str(error)
            return False
        self._refusal = ""
        return True

    async def _begin(self) -> None:
        if self._begun:
            return
        for counter in (self._sent, self._failed):
            await self._redis.call("SET", counter.key, 0, *(() if self._reset else ("NX",)))
        self._begun = True

    async def _add(self, counter: _Counter) -> None:
        count, counter.pending = counter.pending, 0
        if not count:
            return
        try:
            await self._redis.call("INCRBY", counter.key, count)
        except RedisError as error:
            if not (isinstance(error, RedisAwayError) and error.sent):
                counter.pending += count
            raise


def _number(counter: _Counter, value: bytes | None) -> int:
    """Read a counter; the mails that it does not know yet are counted too."""
    try:
        return int(value or 0) + counter.pending
    except ValueError:
        raise StoreError(f"Redis holds no number in {counter.key}") from None
