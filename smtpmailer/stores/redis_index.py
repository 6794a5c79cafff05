# SPDX-License-Identifier: MIT
"""An index of mails in Redis, read and cleared a part at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from smtpmailer.core.queued import Page
from smtpmailer.interfaces import IRedis
from smtpmailer.stores.redis_keys import names_of
from smtpmailer.stores.redis_scripts import PAGE

__all__ = ["RedisIndex"]

#: So many mails are removed in one step: Redis does nothing else meanwhile.
_CHUNK: Final = 500


class RedisIndex:
    """The index at one key; a member that is no name is passed over."""

    def __init__(self, redis: IRedis, key: str) -> None:
        """Read this key."""
        self._redis = redis
        self._key = key

    async def page(self, limit: int, page: int) -> Page:
        """Give a zero-based page of names, ascending."""
        total, members = await self._members(limit * page, limit)
        return Page(names=names_of(members), total=total)

    async def clear(self, remove: Callable[[Sequence[str]], Awaitable[int]]) -> int:
        """Let ``remove`` take away as many mails as there are now; gives how many it removed."""
        total, _ = await self._members(0, 1)
        removed = kept = 0
        for _ in range(0, total, _CHUNK):
            _, members = await self._members(kept, _CHUNK)
            names = names_of(members)
            kept += len(members) - len(names)
            removed += await remove(names)
        return removed

    async def _members(self, start: int, count: int) -> tuple[int, list[bytes]]:
        words = (start, start + count - 1)
        total, members = await self._redis.run(PAGE, (self._key,), words)
        return total, members
