# SPDX-License-Identifier: MIT
"""What an attempt and its server said to each other, as lines that are kept and shown.

A line begins with ``C: `` (a command), ``S: `` (a reply, its lines put into one), or ``-- `` (what
happened besides). None holds a password or the text of a mail.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = ["MAX_CHARACTERS", "MAX_LINES", "bounded", "command", "happened", "reply"]

#: So many lines are kept of an attempt, of so many characters together: its last ones.
MAX_LINES: Final = 60
MAX_CHARACTERS: Final = 4096

#: So many characters of a line.
_LONGEST: Final = 512


def command(text: str) -> str:
    """Give the line of a command."""
    return f"C: {text}"


def reply(code: int, text: str) -> str:
    """Give the line of a reply, whose text is clean."""
    return f"S: {code} {text}".rstrip()


def happened(text: str) -> str:
    """Give the line of something else than a command or a reply."""
    return f"-- {text}"


def bounded(lines: Iterable[str]) -> tuple[str, ...]:
    """Give the last lines, as many as are kept; the first one then tells how many are not."""
    every = [line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..." for line in lines]
    kept: list[str] = []
    left = MAX_CHARACTERS
    for line in reversed(every):
        left -= len(line)
        if left < 0 or len(kept) == MAX_LINES:
            kept[-1] = happened(f"{len(every) - len(kept) + 1} lines before are not kept")
            break
        kept.append(line)
    return tuple(reversed(kept))
