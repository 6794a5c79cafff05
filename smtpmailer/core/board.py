# SPDX-License-Identifier: MIT
"""The numbers that the processes of one service keep for each other, in memory they share.

Each process has a seat, and writes only there; everybody reads everything. So nobody waits for
anybody, and what a process had counted is still there when it was killed. What several processes
write (the rows of ``core.tallies``) is written under a lock.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Final

import attrs

from smtpmailer.errors import ControlError

__all__ = ["BOARD_CELLS", "CELL_BYTES", "SEATS", "Board", "Field", "Row", "Seat"]

#: Processes that a service can have at a time, with those that are being replaced.
SEATS: Final = 128
#: A cell is a signed number of eight bytes: what the machine writes in one go.
CELL_BYTES: Final = 8


class Field(enum.IntEnum):
    """The cells of a seat.

    Times are milliseconds of the machine's monotonic clock, which all processes share.
    """

    #: The process, and 0 while nobody sits there.
    PROCESS = 0
    #: When it last said that it turns.
    BEAT = enum.auto()
    #: Whether it takes connections, 0 or 1.
    ACCEPTING = enum.auto()
    #: Its connections, but for those that were refused.
    CONNECTIONS = enum.auto()
    #: Requests that it has answered.
    REQUESTS = enum.auto()
    #: Requests that it has not answered yet.
    IN_FLIGHT = enum.auto()
    #: Mails that it is handing to a server.
    DELIVERIES = enum.auto()
    #: Mails that it has sent, and mails that failed.
    SENT = enum.auto()
    FAILED = enum.auto()
    #: Bytes of memory that are its own.
    MEMORY = enum.auto()


#: What is still counted when a process is gone.
_LASTING: Final = (Field.REQUESTS, Field.SENT, Field.FAILED)
_ROW: Final = len(Field)

#: Cells of a whole board. The first row is that of all processes that are gone; where the others
#: have their process it has the number of seats that were ever taken.
BOARD_CELLS: Final = (1 + SEATS) * _ROW
_TAKEN: Final = Field.PROCESS


@attrs.frozen(kw_only=True)
class Row:
    """What stands on the board about one process; ``fields`` are its cells."""

    seat: int
    fields: tuple[int, ...]

    def __getitem__(self, field: Field) -> int:
        """Give a cell."""
        return self.fields[field]


class Seat:
    """One process's cells."""

    def __init__(self, cells: memoryview, number: int) -> None:
        """Write into this row of ``cells``."""
        self.number = number
        start = (1 + number) * _ROW
        self._cells = cells[start : start + _ROW]

    def __getitem__(self, field: Field) -> int:
        """Give a cell."""
        value: int = self._cells[field]
        return value

    def __setitem__(self, field: Field, value: int) -> None:
        """Set a cell."""
        self._cells[field] = value

    def add(self, field: Field, number: int = 1) -> None:
        """Add to a cell."""
        self._cells[field] += number


class Board:
    """The seats of a service.

    ``cells`` is memory for at least BOARD_CELLS numbers (format ``q``), all 0 in the beginning.
    ``lock`` keeps out other processes while sums are moved.
    """

    def __init__(self, cells: memoryview, lock: AbstractContextManager[object]) -> None:
        """Look at the memory; change nothing."""
        self._cells = cells
        self._lock = lock

    def seat(self, number: int) -> Seat:
        """Give a seat to write on."""
        return Seat(self._cells, number)

    def rows(self) -> Iterator[Row]:
        """Give what stands about each process."""
        for number in range(self._cells[_TAKEN]):
            row = self._row(1 + number)
            if row[Field.PROCESS]:
                yield Row(seat=number, fields=row)

    def column(self, field: Field) -> tuple[int, ...]:
        """Give a field of all seats that were ever taken."""
        end = (1 + self._cells[_TAKEN]) * _ROW
        return tuple(self._cells[_ROW + field : end : _ROW])

    def total(self, field: Field) -> int:
        """Sum a field over all processes, those that are gone included."""
        with self._lock:
            gone: int = self._cells[field]
            return gone + sum(self.column(field))

    def give(self, process: int) -> int:
        """Give a free seat's number to a process; only one process may do so.

        Raises ControlError when all are taken.
        """
        for number in range(SEATS):
            seat = self.seat(number)
            if not seat[Field.PROCESS]:
                seat[Field.PROCESS] = process
                self._cells[_TAKEN] = max(self._cells[_TAKEN], number + 1)
                return number
        raise ControlError(f"a service has at most {SEATS} processes")

    def free(self, number: int) -> None:
        """Clear the seat of a process that is gone; what it counted stays in the totals."""
        with self._lock:
            seat = self.seat(number)
            for field in _LASTING:
                self._cells[field] += seat[field]
            for field in Field:
                seat[field] = 0

    def _row(self, index: int) -> tuple[int, ...]:
        return tuple(self._cells[index * _ROW : (index + 1) * _ROW])
