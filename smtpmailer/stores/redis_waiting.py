# SPDX-License-Identifier: MIT
"""The mails that wait in Redis: put, listed, read, changed, removed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from twisted.logger import Logger

from smtpmailer.core.names import is_name, make_name
from smtpmailer.core.queued import MailDocument, Page, StoredMail
from smtpmailer.core.queuestate import MailState, updated
from smtpmailer.core.redisvalues import Word
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import (
    MailExistsError,
    NoSuchMailError,
    RedisError,
    RedisUnreplicatedError,
    StoreError,
)
from smtpmailer.interfaces import IRedis
from smtpmailer.stores.redis_index import RedisIndex
from smtpmailer.stores.redis_keys import QueueKeys, member
from smtpmailer.stores.redis_lookout import Lookout
from smtpmailer.stores.redis_mails import (
    Due,
    due_when,
    encoded,
    read_state,
    state_text,
    stored_mail,
)
from smtpmailer.stores.redis_scripts import PUT, READ, REMOVE, REPLACE, TAKE_BACK

__all__ = ["RedisWaitingMails"]

#: How often a change is tried against mails that change meanwhile.
_TRIES: Final = 10

#: What scripts give for a step that was made.
_OK: Final = b"ok"


class RedisWaitingMails:
    """The part of a queue in Redis that needs no claims."""

    _log = Logger()

    def __init__(
        self, redis: IRedis, keys: QueueKeys, lookout: Lookout, now: Callable[[], float]
    ) -> None:
        """``now`` gives Unix seconds by the node's clock; ``lookout`` hears of what is put."""
        self._redis = redis
        self._keys = keys
        self._index = RedisIndex(redis, keys.index)
        self._lookout = lookout
        self._now = now

    def make_name(self, due: float, unique: str) -> str:
        """Make a name as the predecessor does."""
        seconds = math.floor(due)
        return make_name(seconds, int((due - seconds) * 1e8), unique)

    def is_name(self, text: str) -> bool:
        """Whether a text has the form of a name in Redis."""
        return is_name(text)

    @returns_deferred
    async def put(self, name: str, document: MailDocument, state: MailState) -> None:
        """Add a mail; the same one may be put again when the answer was lost.

        Fires when enough replicas have it (REDIS_WAIT_REPLICAS); when they are too few it is taken
        back.
        """
        content, due = encoded(document), due_when(name, state)
        keys = self._keys
        try:
            answer = await self._redis.run(
                PUT,
                (keys.queue(name), keys.claimed(name), keys.index, keys.due, keys.states),
                (name, member(name), content, state_text(state), *due.words(self._now())),
                replicated=True,
            )
        except RedisUnreplicatedError:
            await self._take_back(name, content)
            raise
        if answer != _OK:
            raise MailExistsError(name)
        self.waits(name, due)

    async def _take_back(self, name: str, content: bytes) -> None:
        keys = self._keys
        names = (keys.queue(name), keys.index, keys.due, keys.states)
        try:
            count = await self._redis.run(TAKE_BACK, names, (name, member(name), content))
        except RedisError:
            count = 0
        if not count:
            self._log.warn("mail {name} was refused, and may be sent all the same", name=name)

    @returns_deferred
    async def page(self, limit: int, page: int) -> Page:
        """Fire with a page of the index."""
        return await self._index.page(limit, page)

    @returns_deferred
    async def get(self, name: str) -> StoredMail:
        """Read a waiting mail."""
        return stored_mail(name, *await self._read(name))

    async def _read(self, name: str) -> tuple[bytes, bytes | None]:
        if not is_name(name):
            raise NoSuchMailError(name)
        keys = (self._keys.queue(name), self._keys.states)
        content, state = await self._redis.run(READ, keys, (name,))
        if content is None:
            raise NoSuchMailError(name)
        return content, state

    @returns_deferred
    async def replace(self, name: str, new_name: str, document: MailDocument) -> None:
        """Give a waiting mail new content and a new name."""
        for _ in range(_TRIES):
            _, raw = await self._read(name)
            state = updated(read_state(raw))
            due = due_when(new_name, state)
            words = (encoded(document), state_text(state), *due.words(self._now()))
            answer = await self._replace((name, raw or b""), new_name, words)
            if answer == b"gone":
                raise NoSuchMailError(name)
            if answer == b"taken":
                raise MailExistsError(new_name)
            if answer == _OK:
                self.waits(new_name, due)
                return
        raise StoreError(f"{name} changes all the time")

    async def _replace(self, old: tuple[str, bytes], new: str, words: tuple[Word, ...]) -> bytes:
        name, state = old
        keys = self._keys
        mails = (keys.queue(name), keys.queue(new), keys.claimed(new))
        answer: bytes = await self._redis.run(
            REPLACE,
            (*mails, keys.index, keys.due, keys.states, keys.missing),
            (name, member(name), state, new, member(new), *words),
            replicated=True,
        )
        return answer

    @returns_deferred
    async def remove(self, name: str) -> None:
        """Remove a waiting mail."""
        if not is_name(name) or not await self._remove((name,)):
            raise NoSuchMailError(name)

    @returns_deferred
    async def clear(self) -> int:
        """Remove as many mails as there are now, a part at a time; each is removed whole."""
        return await self._index.clear(self._remove)

    async def _remove(self, names: Sequence[str]) -> int:
        keys = self._keys
        words: list[Word] = []
        for name in names:
            words += (name, member(name))
        removed: int = await self._redis.run(
            REMOVE,
            (keys.index, keys.due, keys.states, keys.missing, *map(keys.queue, names)),
            words,
            replicated=True,
        )
        return removed

    def waits(self, name: str, due: Due) -> None:
        """Hear of a mail that waits now, from this node."""
        del name
        self._lookout.expect(due.ever)

    def watch(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever a mail of any node may have become due."""
        self._lookout.listen(changed)
