# SPDX-License-Identifier: MIT
"""How soon a process that died is replaced, and when one that lives has to be."""

from __future__ import annotations

from typing import Final

import attrs

__all__ = ["Growth", "Limits", "Patience", "Usage", "why_replace"]

#: A process that lived so long (seconds) did not die of its beginning.
_LONG_LIFE: Final = 60.0
#: Seconds before the second quick replacement; doubled for each further one up to the ceiling.
_FIRST_DELAY: Final = 0.25
_CEILING: Final = 30.0
#: A process is not replaced for its memory before it has lived so long (seconds); twice as long
#: after each one that did not live for two of the longest times, up to the longest.
_MEMORY_AGE: Final = 2.0
_LONGEST_MEMORY_AGE: Final = 60.0


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


@attrs.define
class Growth:
    """Counts the processes that one after another were soon replaced, in the place of one.

    With a limit that is hardly above what they begin with they pass it at once, for ever. They are
    then replaced once a minute, not every second.
    """

    _quick: int = 0

    def least_age(self) -> float:
        """Give the age (seconds) from which on the present process's memory counts."""
        return min(_LONGEST_MEMORY_AGE, _MEMORY_AGE * 2.0 ** min(self._quick, 20))

    def replaced(self, lived: float) -> None:
        """Count one that was replaced at the age of ``lived`` seconds, for whatever it had used."""
        self._quick = 0 if lived >= 2 * _LONGEST_MEMORY_AGE else self._quick + 1


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


def why_replace(usage: Usage, limits: Limits, memory_age: float) -> str:
    """Say for the log why a process has to be replaced; empty when it has not.

    Its memory counts from ``memory_age`` seconds on (see Growth). A limit of memory that is passed
    in the beginning would replace every process for ever: it does not count.
    """
    if 0 < limits.requests <= usage.requests:
        return f"it has answered {usage.requests} requests (MAILER_MAX_REQUEST)"
    limit = limits.memory_bytes
    grown = usage.first_memory_bytes < limit < usage.memory_bytes
    if grown and usage.idle and usage.age >= memory_age:
        return f"it takes {usage.memory_bytes // 2**20} MB of memory (MAILER_MAX_MEMORY)"
    return ""
