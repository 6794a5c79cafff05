# SPDX-License-Identifier: MIT
"""Finds a mail wherever a queue in Redis has it."""

from __future__ import annotations

from typing import Final

from zope.interface import implementer

from smtpmailer.core.lookup import Wanted
from smtpmailer.core.queued import FoundMail, MailPlace
from smtpmailer.core.redisvalues import RedisScript
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import NoSuchMailError
from smtpmailer.interfaces import IMailSearch, IRedis
from smtpmailer.stores.redis_graves import read_buried
from smtpmailer.stores.redis_keys import QueueKeys, member, names_of
from smtpmailer.stores.redis_mails import stored_mail

__all__ = ["RedisSearch"]

#: So many names Redis looks at in one step.
_COUNT: Final = 1000

#: A mail may move while its name is looked for, and be missed in both places.
_TRIES: Final = 3

#: Read a mail where it lies. Keys: queue:NAME, claimed:NAME, dead:NAME, quarantine:NAME, states.
#: Word: name. Gives the place, the mail, its history or record; nothing when it is gone.
_READ: Final = RedisScript(
    """
local queue, claimed, dead, quarantine, states = unpack(KEYS)
local function state() return redis.call('HGET', states, ARGV[1]) or '' end
local mail = redis.call('GET', queue)
if mail then return {'waiting', mail, state()} end
mail = redis.call('GET', claimed)
if mail then return {'sending', mail, state()} end
for place, grave in pairs({dead = dead, quarantine = quarantine}) do
  mail = redis.call('HGET', grave, 'mail')
  if mail then return {place, mail, redis.call('HGET', grave, 'record') or ''} end
end
return {}
"""
)


@implementer(IMailSearch)
class RedisSearch:
    """Looks through the indexes, a part at a time: others go on meanwhile."""

    def __init__(self, redis: IRedis, keys: QueueKeys) -> None:
        """Nothing is asked yet; nothing is ever changed."""
        self._redis = redis
        self._keys = keys

    @returns_deferred
    async def find(self, wanted: Wanted) -> FoundMail:
        """Find it; see IMailSearch."""
        for _ in range(_TRIES):
            for name in (wanted.name,) if wanted.name else await self._names(wanted.unique):
                found = await self._read(name)
                if found is not None:
                    return found
        raise NoSuchMailError(wanted.name or wanted.unique)

    async def _read(self, name: str) -> FoundMail | None:
        keys = self._keys
        where = (keys.queue(name), keys.claimed(name), keys.dead.mail(name))
        reply = await self._redis.run(
            _READ, (*where, keys.quarantine.mail(name), keys.states), (name,)
        )
        if not reply:
            return None
        text, content, known = reply
        place = MailPlace(text.decode())
        if place in (MailPlace.WAITING, MailPlace.SENDING):
            return FoundMail(place=place, mail=stored_mail(name, content, known))
        buried = read_buried(name, content, known)
        return FoundMail(place=place, mail=buried.mail, record=buried.record)

    async def _names(self, unique: str) -> tuple[str, ...]:
        """Give the names with this id, from all indexes."""
        keys = self._keys
        found: list[bytes] = []
        for index in (keys.index, keys.dead.index, keys.quarantine.index):
            found += await self._scan(index, member(f"*_{unique}"))
        # Claimed mails are in no list but that of the leases, whose members are plain.
        claimed = await self._scan(keys.leases, f"*_{unique}")
        names = (*names_of(found), *names_of(b'"%b"' % name for name in claimed))
        return tuple(dict.fromkeys(names))

    async def _scan(self, index: str, pattern: str) -> list[bytes]:
        found: list[bytes] = []
        cursor: bytes = b"0"
        while True:
            words = ("ZSCAN", index, cursor, "MATCH", pattern, "COUNT", _COUNT)
            cursor, pairs = await self._redis.call(*words)
            found += pairs[::2]
            if cursor == b"0":
                return found
