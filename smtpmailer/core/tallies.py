# SPDX-License-Identifier: MIT
"""Tables in shared memory: connections per client address, mails per key, over all processes.

A row belongs to a name, and is found by the name's hash: in one of a few places, so that a table
never has to be cleaned up. When all of these are taken the name has none.
"""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from smtpmailer.core.board import CELL_BYTES, SEATS
from smtpmailer.core.bucket import ENOUGH

__all__ = ["RATES_CELLS", "TALLY_CELLS", "SharedRates", "SharedTally", "own_rates"]

#: Groups of rows, and the rows of a group: a name's row is one of the group.
_GROUPS: Final = 256
_WAYS: Final = 8
#: So many groups at the end are set aside, see SharedRates.aside.
_ASIDE: Final = 64
#: A row begins with the name's hash, 0 while it is free. Then the sum, and a count for each seat.
_TALLY_ROW: Final = 2 + SEATS
_SUM: Final = 1
_COUNTS: Final = 2
TALLY_CELLS: Final = _GROUPS * _WAYS * _TALLY_ROW
#: The hash, the tokens that are left, the time at which they were.
_RATE_ROW: Final = 3
RATES_CELLS: Final = _GROUPS * _WAYS * _RATE_ROW
_LEFT: Final = 1
_AT: Final = 2


def _hash(name: str) -> int:
    """Give a number that is never 0, the same in every process."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True) or 1


class _Table:
    """Rows of ``width`` cells that begin with a hash, in these groups."""

    def __init__(self, cells: memoryview, width: int, groups: range = range(_GROUPS)) -> None:
        self._cells = cells
        self._width = width
        self._groups = groups

    def find(self, key: int) -> int | None:
        """Give where a key's row begins, or None."""
        cells = self._cells
        for row in self._rows(key):
            if cells[row] == key:
                return row
        return None

    def candidates(self, key: int) -> range:
        """Give where the rows begin that could become a key's."""
        return self._rows(key)

    def _rows(self, key: int) -> range:
        start = self._groups[key % len(self._groups)] * _WAYS * self._width
        return range(start, start + _WAYS * self._width, self._width)


class SharedTally:
    """Counts per name, each process in its own column.

    ``cells`` is memory for TALLY_CELLS numbers (format ``q``).
    """

    def __init__(self, cells: memoryview, lock: AbstractContextManager[object]) -> None:
        """Look at the memory; change nothing."""
        self._cells = cells
        self._lock = lock
        self._table = _Table(cells, _TALLY_ROW)

    def add(self, name: str, seat: int, number: int) -> None:
        """Add to a name's count of the process on this seat; does nothing when there is no row."""
        key = _hash(name)
        with self._lock:
            row = self._table.find(key)
            if row is None:
                row = self._make(key)
            if row is not None:
                count = self._cells[row + _COUNTS + seat]
                number = max(-count, number)
                self._cells[row + _COUNTS + seat] = count + number
                self._cells[row + _SUM] += number

    def total(self, name: str) -> int:
        """Sum a name's counts; what others are about to count may be missing."""
        row = self._table.find(_hash(name))
        return 0 if row is None else self._cells[row + _SUM]

    def clear(self, seat: int) -> None:
        """Forget all counts of a process that is gone."""
        with self._lock:
            for row in range(0, TALLY_CELLS, _TALLY_ROW):
                if self._cells[row]:
                    self._cells[row + _SUM] -= self._cells[row + _COUNTS + seat]
                    self._cells[row + _COUNTS + seat] = 0

    def _make(self, key: int) -> int | None:
        """Take a row that is free, or counts nothing."""
        for row in self._table.candidates(key):
            if not self._cells[row] or not self._cells[row + _SUM]:
                self._cells[row] = key
                return row
        return None


class SharedRates:
    """How many more mails each key may send now, and each account take: a token bucket for each.

    ``cells`` is memory for RATES_CELLS numbers (format ``q``), of which some are read as fractions
    through ``fractions``, the same memory in the format ``d``.
    """

    def __init__(
        self,
        cells: memoryview,
        fractions: memoryview[float],
        lock: AbstractContextManager[object],
    ) -> None:
        """Look at the memory; change nothing."""
        self._cells = cells
        self._fractions = fractions
        self._lock = lock
        self._table = _Table(cells, _RATE_ROW, range(_GROUPS - _ASIDE))

    def aside(self) -> SharedRates:
        """Give a part of the memory for names that anybody makes up.

        However many there are, they push out none of the others.
        """
        rates = SharedRates(self._cells, self._fractions, self._lock)
        rates._table = _Table(self._cells, _RATE_ROW, range(_GROUPS - _ASIDE, _GROUPS))
        return rates

    def take(self, name: str, per_minute: int, now: float) -> bool:
        """Take one of a key's ``per_minute`` mails; False when there is none left.

        ``now`` is the machine's monotonic clock (seconds).
        """
        return not self.draw(name, per_minute, per_minute / 60, now)

    def draw(self, name: str, size: float, per_second: float, now: float) -> float:
        """Take a token of a bucket of this size; gives 0, or the seconds until there is one.

        The bucket begins full, and gets ``per_second`` tokens back; ``size`` is 1 at least. The
        callers' ideas of both may differ: then it fills as whoever comes says.
        """
        key = _hash(name)
        with self._lock:
            row = self._table.find(key)
            if row is None:
                row = self._make(key, size, now)
            left = self._left(row, size, per_second, now)
            allowed = left >= ENOUGH
            self._fractions[row + _LEFT] = left - 1 if allowed else left
            self._fractions[row + _AT] = now
        return 0.0 if allowed else (1 - left) / per_second

    def look(self, name: str, size: float, per_second: float, now: float) -> float:
        """Give how many tokens there are, which others may take meanwhile."""
        row = self._table.find(_hash(name))
        return size if row is None else self._left(row, size, per_second, now)

    def _left(self, row: int, size: float, per_second: float, now: float) -> float:
        left, at = self._fractions[row + _LEFT], self._fractions[row + _AT]
        return min(size, left + max(0.0, now - at) * per_second)

    def _make(self, key: int, size: float, now: float) -> int:
        """Take a free row, or that of the key which has been quiet for the longest time."""
        fractions = self._fractions
        rows = self._table.candidates(key)
        row = min(rows, key=lambda each: fractions[each + _AT] if self._cells[each] else -1.0)
        self._cells[row] = key
        fractions[row + _LEFT] = float(size)
        fractions[row + _AT] = now
        return row


def own_rates() -> SharedRates:
    """Give rates that nobody shares."""
    memory = memoryview(bytearray(RATES_CELLS * CELL_BYTES))
    return SharedRates(memory.cast("q"), memory.cast("d"), nullcontext())
