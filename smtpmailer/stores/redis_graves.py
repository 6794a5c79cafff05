# SPDX-License-Identifier: MIT
"""Mails in Redis that are not to be sent: dead letters, or what could not be read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Final

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from smtpmailer.core.names import is_name
from smtpmailer.core.queued import Buried, MailDocument, Page
from smtpmailer.core.queuestate import FRESH, MailState, revived, state_from_json
from smtpmailer.core.redisvalues import RedisScript, Word
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import MailExistsError, NoSuchMailError
from smtpmailer.interfaces import IDeadLetters, IRedis
from smtpmailer.stores.content import read_object
from smtpmailer.stores.redis_index import RedisIndex
from smtpmailer.stores.redis_keys import Graves, QueueKeys, member
from smtpmailer.stores.redis_lua import CLOCK, SCORE, SET_STATE
from smtpmailer.stores.redis_mails import Due, due_when, encoded, state_text, stored_mail

__all__ = ["RedisDeadLetters", "RedisGraves", "read_buried"]

#: How often a mail is tried to be revived while its record changes.
_TRIES: Final = 10

#: Put a mail back into the queue. Keys: the grave, its index, queue:NAME, claimed:NAME, index, due,
#: states. Words: name, member, the record that it must have, content (empty: as it is), state, due,
#: moved, wall clock. Gives ``ok``, ``gone``, ``taken``, or ``changed`` when the record is another.
_UNBURY: Final = RedisScript(
    f"""{CLOCK}{SCORE}{SET_STATE}
local grave, graves, queue, claimed, index, due, states = unpack(KEYS)
local name, member, record, content, state = unpack(ARGV)
local present = call('HGET', grave, 'mail')
if not present then return 'gone' end
if (call('HGET', grave, 'record') or '') ~= record then return 'changed' end
if call('EXISTS', queue, claimed) > 0 then return 'taken' end
call('SET', queue, content == '' and present or content)
call('ZADD', index, 0, member)
call('ZADD', due, score(ARGV[6], ARGV[7], ARGV[8]), name)
set_state(states, name, state)
call('DEL', grave)
call('ZREM', graves, member)
return 'ok'
"""
)

#: Remove mails for good. Keys: the index, then the grave of each. Words: members. Gives the number
#: of mails removed.
_REMOVE: Final = RedisScript(
    """
local count = 0
for place, member in ipairs(ARGV) do
  count = count + redis.call('DEL', KEYS[place + 1])
  redis.call('ZREM', KEYS[1], member)
end
return count
"""
)

#: Add a mail as another store had it. Keys: the grave, its index. Words: member, content, record.
#: Gives ``ok``, also when just this is there, or ``taken``.
_ADD: Final = RedisScript(
    """
local member, content, record = unpack(ARGV)
local present = redis.call('HMGET', KEYS[1], 'mail', 'record')
if present[1] and (present[1] ~= content or present[2] ~= record) then return 'taken' end
redis.call('HSET', KEYS[1], 'mail', content, 'record', record)
redis.call('ZADD', KEYS[2], 0, member)
return 'ok'
"""
)


class RedisGraves:
    """The steps on such mails. Every Deferred may fail with StoreError."""

    def __init__(
        self, redis: IRedis, keys: QueueKeys, graves: Graves, now: Callable[[], float]
    ) -> None:
        """``now`` gives Unix seconds by the node's clock."""
        self._redis = redis
        self._keys = keys
        self._graves = graves
        self._index = RedisIndex(redis, graves.index)
        self._now = now

    @returns_deferred
    async def page(self, limit: int, page: int) -> Page:
        """Fire with a zero-based page of names, ascending."""
        return await self._index.page(limit, page)

    @returns_deferred
    async def get(self, name: str) -> Buried:
        """Fire with a mail and its record; fails with NoSuchMailError."""
        return read_buried(name, *await self.read(name))

    @returns_deferred
    async def read(self, name: str) -> tuple[bytes, bytes]:
        """Fire with a mail's value and its record as they are; fails with NoSuchMailError."""
        if not is_name(name):
            raise NoSuchMailError(name)
        key = self._graves.mail(name)
        content, record = await self._redis.call("HMGET", key, "mail", "record")
        if content is None:
            raise NoSuchMailError(name)
        return content, record or b""

    @returns_deferred
    async def unbury(
        self,
        name: str,
        document: MailDocument | None,
        revive: Callable[[MailState], MailState],
    ) -> Due:
        """Put a mail back into the queue, in the state that ``revive`` makes of its own.

        With None its content stays. Fires with when it is due; fails with NoSuchMailError.
        """
        content = b"" if document is None else encoded(document)
        for _ in range(_TRIES):
            old, record = await self.read(name)
            state = revive(read_buried(name, old, record).mail.state)
            due = due_when(name, state)
            words = (record, content, state_text(state), *due.words(self._now()))
            answer = await self._put_back(name, words)
            if answer == b"gone":
                break
            if answer == b"taken":
                raise MailExistsError(name)
            if answer == b"ok":
                return due
        raise NoSuchMailError(name)

    async def _put_back(self, name: str, words: tuple[Word, ...]) -> bytes:
        keys, graves = self._keys, self._graves
        answer: bytes = await self._redis.run(
            _UNBURY,
            (
                *(graves.mail(name), graves.index, keys.queue(name), keys.claimed(name)),
                *(keys.index, keys.due, keys.states),
            ),
            (name, member(name), *words),
            replicated=True,
        )
        return answer

    @returns_deferred
    async def add(self, name: str, content: bytes, record: bytes) -> None:
        """Add a mail as another store had it; the same one may be added again.

        Fails with MailExistsError when another one has that name.
        """
        keys = (self._graves.mail(name), self._graves.index)
        words = (member(name), content, record)
        if await self._redis.run(_ADD, keys, words, replicated=True) != b"ok":
            raise MailExistsError(name)

    @returns_deferred
    async def remove(self, name: str) -> None:
        """Remove a mail for good; fails with NoSuchMailError."""
        if not is_name(name) or not await self._remove((name,)):
            raise NoSuchMailError(name)

    @returns_deferred
    async def clear(self) -> int:
        """Remove as many mails as there are now, a part at a time."""
        return await self._index.clear(self._remove)

    async def _remove(self, names: Sequence[str]) -> int:
        keys = (self._graves.index, *map(self._graves.mail, names))
        members = [*map(member, names)]
        removed: int = await self._redis.run(_REMOVE, keys, members, replicated=True)
        return removed


@implementer(IDeadLetters)
class RedisDeadLetters:
    """The dead letters of all nodes. ``waits`` is told of each mail that waits again."""

    def __init__(self, graves: RedisGraves, waits: Callable[[str, Due], None]) -> None:
        """Use these graves."""
        self._graves = graves
        self._waits = waits

    def page_failed(self, limit: int, page: int) -> Deferred[Page]:
        """Fire with a page of names."""
        return self._graves.page(limit, page)

    def get_failed(self, name: str) -> Deferred[Buried]:
        """Read a dead letter and its record."""
        return self._graves.get(name)

    @returns_deferred
    async def retry_failed(self, name: str, document: MailDocument) -> None:
        """Put a dead letter back into the queue."""
        self._waits(name, await self._graves.unbury(name, document, revived))

    def remove_failed(self, name: str) -> Deferred[None]:
        """Remove a dead letter."""
        return self._graves.remove(name)

    def clear_failed(self) -> Deferred[int]:
        """Remove all that are there now."""
        return self._graves.clear()


def read_buried(name: str, content: bytes, text: bytes) -> Buried:
    """Read a mail that is not to be sent, and its record, as far as they can be read."""
    record = read_object(text)
    state = FRESH
    with contextlib.suppress(KeyError, TypeError, ValueError):
        state = state_from_json(record["state"])
    mail = stored_mail(name, content, None)
    return Buried(mail=attrs.evolve(mail, state=state), record=record)
