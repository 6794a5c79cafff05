# SPDX-License-Identifier: MIT
"""How soon a process that died is replaced, and when one that lives has to be."""

from __future__ import annotations

from typing import Final

import attrs

__all__ = ["Limits", "Patience", "Usage", "why_replace"]

#: A process that lived so long (seconds) did not die of its beginning.
_LONG_LIFE: Final = 60.0
#: Seconds before the second quick replacement; doubled for each further one up to the ceiling.
_FIRST_DELAY: Final = 0.25
_CEILING: Final = 30.0
#: A process is not replaced for its memory before it has lived so long (seconds).
_MEMORY_AGE: Final = 60.0


@attrs.define
class Patience:
    """Counts the deaths of one process and of those in its place."""

    _quick: int = 0

    def delay(self, lived: float) -> float:
        """Give the seconds until the next start, after a death at the age of ``lived`` seconds.

        0, as long as processes do not die one after another soon after their start.
        """
        self._quick = 1 if lived >= _LONG_LIFE else self._quick + 1
        doublings = min(self._quick - 2, 20)
        return 0.0 if doublings < 0 else min(_CEILING, _FIRST_DELAY * 2.0**doublings)


@attrs.frozen(kw_only=True)
class Limits:
    """What a process may use before it is replaced; 0 requests are no limit."""

    memory_bytes: int
    requests: int = 0


@attrs.frozen(kw_only=True)
class Usage:
    """What a process has used.

    ``first_memory_bytes`` is what it took at its beginning, ``age`` is in seconds. It is ``idle``
    when it is doing nothing.
    """

    memory_bytes: int
    first_memory_bytes: int
    requests: int
    age: float
    idle: bool


def why_replace(usage: Usage, limits: Limits) -> str:
    """Say for the log why a process has to be replaced; empty when it has not.

    A limit of memory that is passed in the beginning would replace every process for ever: it
    does not count.
    """
    if 0 < limits.requests <= usage.requests:
        return f"it has answered {usage.requests} requests (MAILER_MAX_REQUEST)"
    limit = limits.memory_bytes
    grown = usage.first_memory_bytes < limit < usage.memory_bytes
    if grown and usage.idle and usage.age >= _MEMORY_AGE:
        return f"it takes {usage.memory_bytes // 2**20} MB of memory (MAILER_MAX_MEMORY)"
    return ""
