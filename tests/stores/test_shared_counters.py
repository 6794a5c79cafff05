# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.stores.shared_counters."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from smtpmailer.interfaces import ICounters
from smtpmailer.processes.sharing import alone
from smtpmailer.stores.shared_counters import SharedCounters


class SharedCountersTests(SynchronousTestCase):
    """Two processes count; one goes, and another takes its seat."""

    def test_all_know_what_all_have_counted_the_gone_ones_included(self) -> None:
        board = alone().board
        seats = [board.seat(board.give(number)) for number in (1, 2)]
        first, second = (SharedCounters(board, seat) for seat in seats)
        self.assertTrue(verifyObject(ICounters, first))
        self.assertEqual(self.successResultOf(first.read()), (0, 0))
        for counters in (first, second, second):
            self.successResultOf(counters.add_sent())
        self.successResultOf(second.add_failed())
        board.free(seats[1].number)
        third = SharedCounters(board, board.seat(board.give(3)))
        self.successResultOf(third.add_failed())
        for counters in (first, third):
            self.assertEqual(self.successResultOf(counters.read()), (3, 2))
