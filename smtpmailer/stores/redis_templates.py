# SPDX-License-Identifier: MIT
"""The templates in Redis."""

from __future__ import annotations

import json
from typing import Final

from twisted.internet.defer import Deferred
from zope.interface import implementer

from smtpmailer.core.queued import Page
from smtpmailer.core.redisvalues import RedisScript, compatible_json
from smtpmailer.core.templating import is_template_name
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import BadTemplateError, NoSuchTemplateError, TemplateExistsError
from smtpmailer.interfaces import IRedis, ITemplateStore
from smtpmailer.stores.template_folder import encode_template
from smtpmailer.stores.templates import page_of_names

__all__ = ["RedisTemplateStore"]

# In all of them: KEYS[1] the index, then the templates' keys; ARGV[1] the name as the index holds
# it, ARGV[2] the text. Whether a template exists is what its key says: a name that the
# predecessor's steps left in the index alone is none.
_ADD: Final = RedisScript("""
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
redis.call('ZADD', KEYS[1], 0, ARGV[1])
return 1
""")
_UPDATE: Final = RedisScript("""
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
redis.call('ZADD', KEYS[1], 0, ARGV[1])
return 1
""")
_REMOVE: Final = RedisScript("""
redis.call('ZREM', KEYS[1], ARGV[1])
return redis.call('DEL', KEYS[2])
""")
#: Here ARGV holds as many names as there are templates' keys, then names without one.
_CLEAR: Final = RedisScript("""
local removed = 0
for i = 2, #KEYS do removed = removed + redis.call('DEL', KEYS[i]) end
for i = 1, #ARGV do redis.call('ZREM', KEYS[1], ARGV[i]) end
return removed
""")
_EXISTING: Final = RedisScript("""
local found = {}
for i = 1, #KEYS do found[i] = redis.call('EXISTS', KEYS[i]) end
return found
""")


@implementer(ITemplateStore)
class RedisTemplateStore:
    """Templates that all services share which use the same Redis and prefix.

    Compat: keys, texts and index are the predecessor's, byte by byte. Each change is one step.
    """

    def __init__(self, redis: IRedis, prefix: str, *, limit_bytes: int) -> None:
        """Use the keys under ``prefix``; no template is larger than the limit."""
        self._redis = redis
        self._prefix = prefix
        self._index = f"{prefix}index:template"
        self._limit_bytes = limit_bytes

    @returns_deferred
    async def page(self, limit: int, page: int) -> Page:
        """Fire with a page of names; see ITemplateStore."""
        names = [*filter(None, map(_name, await self._members()))]
        # The index is in the order of JSON texts: "a b" before "a", \u00e9 before b.
        existing = await self._redis.run(_EXISTING, [self._key(name) for name in names])
        there = sorted(name for name, exists in zip(names, existing, strict=True) if exists)
        return page_of_names(there, limit, page)

    @returns_deferred
    async def get(self, name: str) -> str:
        """Fire with a template's text; see ITemplateStore."""
        value = await self._redis.call("GET", self._checked(name))
        if value is None:
            raise NoSuchTemplateError(name)
        try:
            text = json.loads(value)
        except ValueError:
            text = None
        if not isinstance(text, str):
            raise BadTemplateError(name, "what Redis holds is no text in JSON")
        encode_template(name, text, self._limit_bytes)
        return text

    @returns_deferred
    async def add(self, name: str, text: str) -> None:
        """Add a template; see ITemplateStore."""
        if not await self._change(_ADD, name, self._value(name, text)):
            raise TemplateExistsError

    @returns_deferred
    async def update(self, name: str, text: str) -> None:
        """Replace a template's text; see ITemplateStore."""
        if not await self._change(_UPDATE, name, self._value(name, text)):
            raise NoSuchTemplateError(name)

    @returns_deferred
    async def remove(self, name: str) -> None:
        """Remove a template; see ITemplateStore."""
        if not await self._change(_REMOVE, name):
            raise NoSuchTemplateError(name)

    @returns_deferred
    async def clear(self) -> int:
        """Remove all templates, and names that stand for none; see ITemplateStore."""
        members = await self._members()
        names = filter(None, map(_name, members))
        keys = [self._index, *map(self._key, names)]
        removed: int = await self._redis.run(_CLEAR, keys, members, replicated=True)
        return removed

    def _change(self, script: RedisScript, name: str, *value: str) -> Deferred[int]:
        """Carry out a change of one template; fires with 0 when it could not be made."""
        keys = [self._index, self._checked(name)]
        return self._redis.run(script, keys, [compatible_json(name), *value], replicated=True)

    def _members(self) -> Deferred[list[bytes]]:
        return self._redis.call("ZRANGE", self._index, 0, -1)

    def _value(self, name: str, text: str) -> str:
        self._checked(name)
        encode_template(name, text, self._limit_bytes)
        return compatible_json(text)

    def _checked(self, name: str) -> str:
        """Give the key of a template; raise NoSuchTemplateError for what is no name."""
        if not is_template_name(name):
            raise NoSuchTemplateError(name)
        return self._key(name)

    def _key(self, name: str) -> str:
        return f"{self._prefix}template:{name}"


def _name(member: bytes) -> str | None:
    """Read a name out of the index; None when it is none."""
    try:
        name = json.loads(member)
    except ValueError:
        return None
    return name if isinstance(name, str) and is_template_name(name) else None
