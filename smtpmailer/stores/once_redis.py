# SPDX-License-Identifier: MIT
"""Remembers requests in Redis, for all nodes that use it.

    once:PLACE         hash    ``note`` and, once there is one, ``answer``
    once:PLACE:lease   text    there while somebody works on it

Both expire by themselves, but not while somebody works on it. A lease that has run out says no more
than that its node is gone, or has not reached Redis for a while: the place stays taken, and nobody
begins the request anew. Who finds another note there changes nothing: the place is not its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from smtpmailer.core.once import Kept
from smtpmailer.core.queued import MailDocument
from smtpmailer.core.redisvalues import RedisScript, Word
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import RedisError, RedisUnreplicatedError, StoreError
from smtpmailer.interfaces import IOnceStore, IRedis

__all__ = ["LEASE", "RedisOnceStore"]

#: Seconds for which a place counts as worked on without a word from its node.
LEASE: Final = 60
_RENEWED: Final = LEASE / 3

# In all of them: KEYS[1] the record, KEYS[2] its lease; ARGV[1] the note.
#: Words: seconds for which the record, and the lease, are kept. Gives nothing when the place is
#: ours, which it is already when the answer to an earlier call was lost.
_CLAIM: Final = RedisScript("""
local found = redis.call('HMGET', KEYS[1], 'note', 'answer')
if found[1] and (found[1] ~= ARGV[1] or found[2]) then
  return {found[1], found[2] or '', redis.call('EXISTS', KEYS[2])}
end
redis.call('HSET', KEYS[1], 'note', ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('SET', KEYS[2], '1', 'EX', ARGV[3])
return {}
""")
#: Words: the answer; seconds for which the record is kept. Gives 0 when the place is another's.
_ANSWER: Final = RedisScript("""
local note = redis.call('HGET', KEYS[1], 'note')
if note and note ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'note', ARGV[1])
redis.call('HSET', KEYS[1], 'answer', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('DEL', KEYS[2])
return 1
""")
_RELEASE: Final = RedisScript("""
if redis.call('HGET', KEYS[1], 'note') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1], KEYS[2])
""")
#: Words: seconds for which the record, and the lease, are kept. The request may be over by the time
#: this comes: then it brings nothing back.
_RENEW: Final = RedisScript("""
local found = redis.call('HMGET', KEYS[1], 'note', 'answer')
if found[1] ~= ARGV[1] or found[2] then return 0 end
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('SET', KEYS[2], '1', 'EX', ARGV[3])
return 1
""")
_LEAVE: Final = RedisScript("""
if redis.call('HGET', KEYS[1], 'note') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[2])
""")


@implementer(IOnceStore)
class RedisOnceStore:
    """Records that Redis forgets by itself after ``keep`` seconds."""

    _log = Logger()

    def __init__(self, redis: IRedis, prefix: str, *, keep: int, clock: IReactorTime) -> None:
        """Use the keys under ``prefix``; nothing is asked yet."""
        self._redis = redis
        self._prefix = prefix
        self._keep = keep
        self._clock = clock
        # The notes of places that are ours.
        self._held: dict[str, bytes] = {}
        self._timer: IDelayedCall | None = None

    @returns_deferred
    async def claim(self, place: str, note: Mapping[str, Any]) -> Kept | None:
        """Take a place; see IOnceStore."""
        text = orjson.dumps(note)
        try:
            found = await self._run(_CLAIM, place, text, self._keep, LEASE)
        except RedisUnreplicatedError:
            await self._take_back(place, text)
            raise
        if found:
            return _kept(*found)
        self._held[place] = text
        self._renew_later()
        return None

    @returns_deferred
    async def answer(self, place: str, note: Mapping[str, Any], answer: MailDocument) -> None:
        """Keep an answer; see IOnceStore."""
        kept = await self._run(_ANSWER, place, orjson.dumps(note), orjson.dumps(answer), self._keep)
        if not kept:
            raise StoreError("another request has the key by now")
        self._held.pop(place, None)

    @returns_deferred
    async def release(self, place: str) -> None:
        """Let go of a place; see IOnceStore."""
        note = self._held.get(place)
        if note is not None:
            await self._run(_RELEASE, place, note)
            # Its lease is gone as well, and soon perhaps another's.
            self._held.pop(place, None)

    def leave(self, place: str) -> None:
        """Give its lease up; see IOnceStore."""
        note = self._held.pop(place, None)
        if note is not None:
            self._tell(_LEAVE, place, note)

    def stop(self) -> Deferred[None]:
        """Renew nothing any more; see IOnceStore."""
        for place in tuple(self._held):
            self.leave(place)
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        return succeed(None)

    async def _take_back(self, place: str, note: bytes) -> None:
        """Let go of a place that too few replicas know to be taken."""
        try:
            await self._run(_RELEASE, place, note)
        except RedisError as fault:
            self._log.warn("a request was refused, and its key stays taken: {why}", why=str(fault))

    def _run(self, script: RedisScript, place: str, *words: Word) -> Deferred[Any]:
        keys = (self._record(place), self._lease(place))
        return self._redis.run(script, keys, words, replicated=True)

    def _tell(self, script: RedisScript, place: str, *words: Word) -> None:
        """Have a script carried out; where that fails, leases run out by themselves."""
        keys = (self._record(place), self._lease(place))
        self._redis.run(script, keys, words).addErrback(lambda _: None)

    def _renew_later(self) -> None:
        if self._timer is None or not self._timer.active():
            self._timer = self._clock.callLater(_RENEWED, self._renew)

    def _renew(self) -> None:
        for place, note in self._held.items():
            self._tell(_RENEW, place, note, self._keep, LEASE)
        if self._held:
            self._renew_later()

    def _record(self, place: str) -> str:
        return f"{self._prefix}once:{place}"

    def _lease(self, place: str) -> str:
        return f"{self._prefix}once:{place}:lease"


def _kept(note: bytes, answer: bytes, alive: int) -> Kept:
    known = orjson.loads(note)
    return Kept(note=known, answer=orjson.loads(answer) if answer else None, alive=bool(alive))
