# SPDX-License-Identifier: MIT
"""How values are shown to people: tables, times, and texts that somebody else wrote."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

__all__ = ["ago", "clean", "clean_lines", "local_time", "table"]

_UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Give the lines of a table; None is an empty cell."""
    cells = [[clean("" if cell is None else str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (heads, *cells)
    ]


def clean(text: str) -> str:
    """Make a text fit for one line of a terminal: what is not printable can't give it orders."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def clean_lines(text: str) -> str:
    """Do the same to each line of a text; tabs become blanks."""
    return "\n".join(clean(line.expandtabs()) for line in text.splitlines())


def local_time(seconds: float | None) -> str:
    """Give Unix seconds as local time; empty for None."""
    if seconds is None:
        return ""
    try:
        moment = datetime.fromtimestamp(seconds).astimezone()
    except (OverflowError, OSError, ValueError):
        return f"{seconds:.0f}"
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def ago(seconds: float) -> str:
    """Give a length of time in its largest unit that fits: ``3 h``."""
    for unit, size in _UNITS:
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return "0 s"
