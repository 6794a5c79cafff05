# SPDX-License-Identifier: MIT
"""The index of waiting mails: by name for lists, by due time for the scan.

Adding and removing cost logarithmic time, a page or what is due its own length besides.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from sortedcontainers import SortedList

from smtpmailer.core.names import due_of

__all__ = ["DueIndex"]


class DueIndex:
    """Names of waiting mails, each with the time (Unix seconds) from which it is due.

    A name is due at the time it holds unless ``add`` is told another; infinity is never.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        """Begin with these names, each due at its own time."""
        # When each is due: to look a name up in a dictionary takes a tenth of the time.
        self._at = {name: due_of(name) for name in names}
        self._names: SortedList = SortedList(self._at)
        self._due: SortedList = SortedList((at, name) for name, at in self._at.items())

    def __len__(self) -> int:
        """Count the waiting mails."""
        return len(self._at)

    def __contains__(self, name: object) -> bool:
        """Whether a name waits."""
        return name in self._at

    def __iter__(self) -> Iterator[str]:
        """Give all names in ascending order."""
        return iter(self._names)

    def add(self, name: str, due: float | None = None) -> None:
        """Let a name wait until ``due``; one that waits already is moved there."""
        before = self._at.get(name)
        if before is None:
            self._names.add(name)
        else:
            self._due.remove((before, name))
        self._at[name] = at = due_of(name) if due is None else due
        self._due.add((at, name))

    def hasten(self, name: str, due: float) -> bool:
        """Let a name be due at ``due`` if it is not before; tells whether it waits for any time."""
        at = self._at.get(name, math.inf)
        if at == math.inf:
            return False
        if due < at:
            self.add(name, due)
        return True

    def discard(self, name: str) -> bool:
        """Take a name out; tells whether it was in."""
        at = self._at.pop(name, None)
        if at is None:
            return False
        self._names.remove(name)
        self._due.remove((at, name))
        return True

    def due_at(self, name: str) -> float:
        """Give the time at which a name is due, or would be."""
        at = self._at.get(name)
        return due_of(name) if at is None else at

    def page(self, limit: int, page: int) -> list[str]:
        """Give a zero-based page of names in ascending order."""
        start = page * limit
        return list(self._names.islice(start, start + limit)) if start < len(self) else []

    def due(self, now: float, limit: int) -> list[str]:
        """Give at most ``limit`` names that are due at ``now``, longest due first."""
        names: list[str] = []
        for due, name in self._due:
            if due > now or len(names) >= limit:
                break
            names.append(name)
        return names

    def next_due(self) -> float | None:
        """Give the time at which the first of all is due; None when none ever is."""
        first = self._due[0][0] if self._due else math.inf
        return None if first == math.inf else first
