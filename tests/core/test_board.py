# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.core.board."""

from __future__ import annotations

import contextlib

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.board import BOARD_CELLS, CELL_BYTES, SEATS, Board, Field
from smtpmailer.errors import ControlError


class BoardTests(SynchronousTestCase):
    """Each process writes on its seat; everybody reads all."""

    def setUp(self) -> None:
        self.locks = 0
        memory = memoryview(bytearray(BOARD_CELLS * CELL_BYTES)).cast("q")
        self.board = Board(memory, self.lock())
        self.other = Board(memory, contextlib.nullcontext())

    def lock(self) -> contextlib.AbstractContextManager[object]:
        """Give a lock that counts, as often as it is taken."""
        case = self

        class Lock(contextlib.AbstractContextManager[None]):
            def __exit__(self, *_: object) -> None:
                case.locks += 1

        return Lock()

    def test_what_one_writes_all_read(self) -> None:
        first, second = self.board.give(100), self.board.give(200)
        self.board.seat(first)[Field.CONNECTIONS] = 3
        self.other.seat(second).add(Field.CONNECTIONS, 2)
        self.other.seat(second).add(Field.SENT)
        rows = {row.seat: row for row in self.other.rows()}
        self.assertEqual(rows.keys(), {first, second})
        self.assertEqual(
            [rows[first][field] for field in (Field.PROCESS, Field.CONNECTIONS, Field.SENT)],
            [100, 3, 0],
        )
        self.assertEqual(self.board.total(Field.CONNECTIONS), 5)
        self.assertEqual(self.board.column(Field.CONNECTIONS), (3, 2))
        self.assertEqual(self.board.seat(second)[Field.SENT], 1)

    def test_no_two_fields_or_seats_share_a_cell(self) -> None:
        seats = [self.board.seat(self.board.give(1)) for _ in range(SEATS)]
        value = 0
        for seat in seats:
            for field in Field:
                value += 1
                seat[field] = value
        found = [cell for row in self.board.rows() for cell in row.fields]
        self.assertEqual(found, list(range(1, value + 1)))
        self.assertEqual(self.board.total(Field.SENT), sum(seat[Field.SENT] for seat in seats))

    def test_what_a_process_counted_stays_when_it_is_gone_and_nothing_else(self) -> None:
        number = self.board.give(100)
        seat = self.board.seat(number)
        for field in Field:
            seat[field] = 7
        self.board.free(number)
        lasting = {Field.REQUESTS, Field.SENT, Field.FAILED}
        for field in set(Field) - {Field.PROCESS}:
            self.assertEqual(self.board.total(field), 7 if field in lasting else 0, field)
        self.assertEqual(list(self.board.rows()), [])

    def test_a_seat_is_given_again_once_it_is_free(self) -> None:
        numbers = [self.board.give(1) for _ in range(SEATS)]
        self.assertEqual(len(set(numbers)), SEATS)
        self.assertRaises(ControlError, self.board.give, 2)
        self.board.free(17)
        self.assertEqual(self.board.give(2), 17)

    def test_sums_are_moved_and_read_under_the_lock(self) -> None:
        self.board.free(self.board.give(1))
        self.board.total(Field.SENT)
        self.assertEqual(self.locks, 2)
