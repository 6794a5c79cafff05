# SPDX-License-Identifier: MIT
"""The values that Redis and what is kept in it need."""

from __future__ import annotations

import hashlib
import json
from typing import Any, TypeAlias

import attrs

__all__ = ["RedisScript", "RedisState", "Word", "compatible_json"]

#: A word of a command; a text goes out as UTF-8.
Word: TypeAlias = bytes | str | int | float


@attrs.frozen
class RedisScript:
    """A Lua script, and the SHA-1 in hexadecimal by which Redis knows it."""

    text: str = attrs.field(repr=False)
    sha1: str = attrs.field(init=False)

    @sha1.default
    def _digest(self) -> str:
        return hashlib.sha1(self.text.encode("utf-8"), usedforsecurity=False).hexdigest()


@attrs.frozen(kw_only=True)
class RedisState:
    """Whether Redis can be used, since when (Unix seconds), and why not (empty when it can).

    ``append_only`` is whether it writes changes to a file of its own, None when that is not known.
    """

    up: bool
    since: float
    reason: str = ""
    append_only: bool | None = None


def compatible_json(value: Any) -> str:
    r"""Write JSON as the predecessor does: all ASCII, with ``/``, ``<`` and ``>`` escaped.

    Compat: its deletes find a member of an index only when it is equal byte by byte. (U+007F is
    written as ``\u007f`` here, raw there; no name holds it.)
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    # Outside of strings JSON has none of the three, and inside dumps leaves them as they are.
    return text.replace("/", "\\/").replace("<", "\\u003C").replace(">", "\\u003E")
