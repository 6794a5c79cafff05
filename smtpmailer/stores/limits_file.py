# SPDX-License-Identifier: MIT
"""What is remembered over restarts of how far servers lowered the limits of accounts."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import orjson

from smtpmailer.core.adaptive import LEAST, Lowered
from smtpmailer.errors import StoreError
from smtpmailer.stores.atomic import (
    make_directory,
    open_new,
    read_regular,
    sync_directory,
    unlink,
    write_all,
)

__all__ = ["LimitsFile"]

#: So many accounts are remembered, and no larger file is read.
_MOST: Final = 1000
_LARGEST: Final = 1024 * 1024
#: So many numbers an entry has.
_NUMBERS: Final = 4


class LimitsFile:
    """A JSON file: an object with an object for each account that has not its full limits.

    It holds no users and no passwords (see ``delivery.paces.account_name``). ``now`` gives Unix
    seconds: the file holds when limits were lowered, so that they have grown back when it is read.
    """

    def __init__(self, path: str, now: Callable[[], float]) -> None:
        """Use this absolute path; touch nothing."""
        self.path = path
        self._now = now

    def read(self) -> dict[str, Lowered]:
        """Give what it holds; what makes no sense is left out, and a file that is none is empty."""
        try:
            content = read_regular(self.path)
            document = orjson.loads(content) if len(content) <= _LARGEST else None
        except (OSError, StoreError, ValueError):
            return {}
        if not isinstance(document, dict):
            return {}
        now = self._now()
        entries = [(name, _read(entry, now)) for name, entry in document.items()]
        found = {name: lowered for name, lowered in entries if lowered and not lowered.is_over}
        return dict(list(found.items())[:_MOST])

    def write(self, notes: Mapping[str, Lowered], known: Iterable[str]) -> None:
        """Hold these notes, and of the accounts that are not ``known`` what it held before.

        So processes that send through different accounts can write the same file. All of it or
        nothing is written. Raises OSError.
        """
        mine = set(known)
        others = {name: lowered for name, lowered in self.read().items() if name not in mine}
        notes = {**others, **notes}
        if not notes and not os.path.lexists(self.path):
            return
        now = self._now()
        document = {name: _entry(lowered, now) for name, lowered in list(notes.items())[-_MOST:]}
        self._replace(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))

    def _replace(self, content: bytes) -> None:
        directory, name = os.path.split(self.path)
        make_directory(directory)
        temporary = os.path.join(directory, f".{name}.{os.getpid()}.tmp")
        unlink(temporary)
        handle = open_new(temporary)
        try:
            try:
                write_all(handle, content)
                os.fsync(handle)
            finally:
                os.close(handle)
            os.rename(temporary, self.path)
        except OSError:
            with contextlib.suppress(OSError):
                unlink(temporary)
            raise
        sync_directory(directory)


def _entry(lowered: Lowered, now: float) -> dict[str, float]:
    return {
        "connections": round(lowered.connections, 4),
        "rate": round(lowered.rate, 4),
        "measured": round(lowered.measured, 3),
        "since": round(now - lowered.age, 1),
    }


def _read(entry: Any, now: float) -> Lowered | None:
    """Read an account's entry; None when it is none. A time that lies ahead is now."""
    if not isinstance(entry, dict):
        return None
    values = [entry.get(key) for key in ("connections", "rate", "measured", "since")]
    numbers = [
        float(value)
        for value in values
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    ]
    if len(numbers) != _NUMBERS:
        return None
    connections, rate, measured, since = numbers
    return Lowered(
        connections=min(1.0, max(LEAST, connections)),
        rate=min(1.0, max(LEAST, rate)),
        measured=max(0.0, measured),
        age=max(0.0, now - since),
    )
