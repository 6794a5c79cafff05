# SPDX-License-Identifier: MIT
"""Mails that the predecessor stranded in Redis: found, and taken into the queue when asked to.

Compat: it left them under ``temp:`` (a crash, a failed requeue), under ``queue:`` without a name in
the index (a crash between two steps), and under names with a negative time.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

import attrs

from smtpmailer.core.names import is_name, make_name
from smtpmailer.core.queued import MailDocument
from smtpmailer.core.queuestate import MailState, updated
from smtpmailer.core.redisvalues import RedisScript
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import MailExistsError, NoSuchMailError, RedisRefusedError, SmtpMailerError
from smtpmailer.interfaces import IRedis
from smtpmailer.stores.content import decode, read_object
from smtpmailer.stores.redis_graves import RedisGraves
from smtpmailer.stores.redis_keys import QueueKeys, member
from smtpmailer.stores.rescue import Found

__all__ = ["RedisRescuer"]

#: So many keys are looked at in one step.
_COUNT: Final = 1000

#: A time of which only the sign is wrong.
_NEGATIVE: Final = re.compile(r"0*-[0-9]+\.[0-9]+_([a-z0-9]+)")

#: Of these names give those that the index does not hold. Keys: the index. Words: members.
_UNLISTED: Final = RedisScript(
    """
local found = {}
for place, member in ipairs(ARGV) do
  if not redis.call('ZSCORE', KEYS[1], member) then found[#found + 1] = place end
end
return found
"""
)

#: Take a mail in. Keys: where it lies, queue:NAME, claimed:NAME, index, due. Words: its old member,
#: name, member. Gives ``ok``, ``gone``, or ``taken`` when another has the name.
_TAKE: Final = RedisScript(
    """
local call = redis.call
local source, queue, claimed, index, due = unpack(KEYS)
local old_member, name, member = unpack(ARGV)
local content = call('GET', source)
if not content then return 'gone' end
if source ~= queue then
  if call('EXISTS', claimed) == 1 then return 'taken' end
  local present = call('GET', queue)
  if present and present ~= content then return 'taken' end
  call('RENAME', source, queue)
end
if old_member ~= member then call('ZREM', index, old_member) end
call('ZADD', index, 0, member)
call('ZADD', due, 0, name)
return 'ok'
"""
)


class RedisRescuer:
    """Finds such mails in Redis, and takes them into the queue, where they are due at once."""

    def __init__(
        self,
        redis: IRedis,
        keys: QueueKeys,
        quarantine: RedisGraves,
        *,
        open_document: Callable[[MailDocument], Mapping[str, Any]],
        judge: Callable[[Mapping[str, Any]], object],
        now: Callable[[], float],
    ) -> None:
        """``open_document`` and ``judge`` are those of ``stores.rescue.Rescuer``.

        ``now`` gives Unix seconds.
        """
        self._redis = redis
        self._keys = keys
        self._quarantine = quarantine
        self._open_document = open_document
        self._judge = judge
        self._now = now

    @returns_deferred
    async def find(self) -> list[Found]:
        """Fire with all of them, in order of their names; looks at every key that Redis holds."""
        found: list[Found] = []
        async for name in self._names(self._keys.temp("")):
            found += await self._look_at(self._keys.temp(name), name, "was being sent")
        async for name in self._unlisted():
            why = "is in the queue, but not in its index"
            found += await self._look_at(self._keys.queue(name), name, why)
        return sorted(found, key=lambda each: each.name)

    @returns_deferred
    async def find_quarantined(self) -> list[Found]:
        """Fire with what lies in quarantine, in order of the names."""
        found: list[Found] = []
        number = 0
        while names := (await self._quarantine.page(_COUNT, number)).names:
            for name in names:
                found += await self._look_at_grave(name)
            number += 1
        return found

    @returns_deferred
    async def take(self, found: Found) -> None:
        """Take a mail into the queue.

        A quarantined one keeps its history: who has the mail gets no second copy. Fails with
        NoSuchMailError when it is gone, MailExistsError when another has its name.
        """
        if found.quarantined:
            await self._quarantine.unbury(found.name, None, _revived)
            return
        keys = self._keys
        name = found.name
        old = found.path.removeprefix(keys.queue("")).removeprefix(keys.temp(""))
        names = (found.path, keys.queue(name), keys.claimed(name), keys.index, keys.due)
        answer = await self._redis.run(_TAKE, names, (member(old), name, member(name)))
        if answer == b"gone":
            raise NoSuchMailError(found.path)
        if answer != b"ok":
            raise MailExistsError(name)

    async def _names(self, start: str) -> AsyncIterator[str]:
        """Give the rest of all keys that begin so; one may come twice."""
        cursor = b"0"
        pattern = re.sub(r"([\\*?\[\]])", r"\\\1", start) + "*"
        seen: set[bytes] = set()
        while True:
            cursor, keys = await self._redis.call("SCAN", cursor, "MATCH", pattern, "COUNT", _COUNT)
            for key in set(keys) - seen:
                yield key.decode("utf-8", "replace").removeprefix(start)
            seen |= set(keys)
            if cursor == b"0":
                return

    async def _unlisted(self) -> AsyncIterator[str]:
        """Give the names of mails that the index does not hold, or holds with a negative time."""
        chunk: list[str] = []
        async for name in self._names(self._keys.queue("")):
            if not is_name(name):
                yield name
                continue
            chunk.append(name)
            if len(chunk) == _COUNT:
                for place in await self._outside(chunk):
                    yield place
                chunk.clear()
        for place in await self._outside(chunk):
            yield place

    async def _outside(self, names: list[str]) -> list[str]:
        places = await self._redis.run(_UNLISTED, (self._keys.index,), [*map(member, names)])
        return [names[place - 1] for place in places]

    async def _look_at(self, key: str, name: str, why: str) -> list[Found]:
        """Give what lies under a key; nothing when it is no mail, or gone."""
        written_at = await self._written_at(key)
        if not is_name(name):
            match = _NEGATIVE.fullmatch(name)
            if match is None:
                return []
            name, why = make_name(int(written_at), 0, match[1]), "is named after a negative time"
        content = await self._redis.call("GET", key)
        if content is None:
            return []
        found = Found(path=key, why=why, name=name, written_at=written_at)
        return [self._read(found, content)]

    async def _look_at_grave(self, name: str) -> list[Found]:
        try:
            content, text = await self._quarantine.read(name)
        except NoSuchMailError:
            return []
        record = read_object(text)
        at = record.get("at")
        found = Found(
            path=self._keys.quarantine.mail(name),
            why=f"in quarantine: {record.get('why') or 'nobody knows why'}",
            name=name,
            written_at=float(at) if isinstance(at, (int, float)) else self._now(),
            quarantined=True,
        )
        return [self._read(found, content)]

    async def _written_at(self, key: str) -> float:
        """Tell when a mail was touched last, as far as Redis knows."""
        try:
            idle: int | None = await self._redis.call("OBJECT", "IDLETIME", key)
        except RedisRefusedError:
            # It counts something else (maxmemory-policy allkeys-lfu).
            idle = None
        return self._now() - (idle or 0)

    def _read(self, found: Found, content: bytes) -> Found:
        """Read a mail as far as that works."""
        mail, fault = None, ""
        try:
            mail = self._open_document(decode(content))
            self._judge(mail)
        except (SmtpMailerError, ValueError) as error:
            fault = str(error)
        return attrs.evolve(found, mail=mail, fault=fault)


def _revived(state: MailState) -> MailState:
    return attrs.evolve(updated(state), crashes=0)
