# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.census."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.census import Census, OwnTally, ServiceTally, Tally
from smtpmailer.core.board import Field
from smtpmailer.core.limits import ProtocolLimits
from smtpmailer.processes.sharing import alone


class CensusTests(SynchronousTestCase):
    """Two processes with a tally each, or one that they share."""

    def setUp(self) -> None:
        shared = alone()
        self.seats = [shared.board.seat(shared.board.give(1)) for _ in range(2)]
        self.tallies: list[Tally] = [
            ServiceTally(shared.board, seat, shared.tally) for seat in self.seats
        ]

    def census(self, tally: Tally) -> Census[str]:
        return Census(ProtocolLimits(max_connections=3, max_connections_per_peer=2), tally)

    def check(self, first: Census[str], second: Census[str]) -> None:
        """Let connections come and go, some here and some there."""
        first.add("one", "a", served=True)
        self.assertIsNone(second.refusal("a"))
        second.add("two", "a", served=True)
        for census in (first, second):
            self.assertIn("PER_PEER", str(census.refusal("a")))
            self.assertIsNone(census.refusal("b"))
        second.add("three", "b", served=True)
        self.assertIn("(MAILER_MAX_CONNECTIONS)", str(first.refusal("c")))
        first.add("four", "c", served=False)
        second.remove("two", "a", served=True)
        first.remove("four", "c", served=False)
        for census in (first, second):
            self.assertIsNone(census.refusal("a"))

    def test_the_limits_hold_for_one_process(self) -> None:
        census = self.census(OwnTally())
        self.check(census, census)
        self.assertEqual((census.served, census.everyone), (2, {"one", "three"}))

    def test_the_limits_hold_for_all_processes_together(self) -> None:
        first, second = map(self.census, self.tallies)
        self.check(first, second)
        self.assertEqual((first.served, second.served), (1, 1))
        self.assertEqual([seat[Field.CONNECTIONS] for seat in self.seats], [1, 1])
