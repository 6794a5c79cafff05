# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.processes.turns."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.board import Field, Seat
from smtpmailer.processes.sharing import alone
from smtpmailer.processes.turns import Turns


class TurnTests(SynchronousTestCase):
    """Three processes; ours is the first."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        board = alone().board
        self.seats = [board.seat(board.give(100 + number)) for number in range(3)]
        self.turns = Turns(board, self.seats[0], self.clock)
        self.story: list[str] = []
        self.waiting = self.turns.waiting(
            lambda: self.story.append("pause"), lambda: self.story.append("resume")
        )

    def say(self, *connections: int) -> list[Seat]:
        """Let all take connections, turn, and have so many."""
        for seat, number in zip(self.seats, connections, strict=True):
            seat[Field.CONNECTIONS] = number
            seat[Field.ACCEPTING] = 1
            seat[Field.BEAT] = int(self.clock.seconds() * 1000)
        return self.seats

    def test_it_is_ours_when_nobody_has_fewer(self) -> None:
        for counts, ours in (((0, 0, 0), True), ((2, 2, 3), True), ((3, 2, 9), False)):
            self.say(*counts)
            self.assertIs(self.turns.is_ours(), ours, counts)

    def test_who_takes_none_does_not_count(self) -> None:
        self.say(3, 2, 9)[1][Field.ACCEPTING] = 0
        self.assertTrue(self.turns.is_ours())

    def test_nor_does_who_does_not_turn(self) -> None:
        self.say(3, 2, 9)
        self.clock.advance(3)
        self.assertFalse(self.turns.is_ours())
        self.clock.advance(0.1)
        self.assertTrue(self.turns.is_ours())

    def test_what_is_not_ours_is_left_to_the_others_for_a_moment(self) -> None:
        self.say(3, 2, 9)
        self.assertFalse(self.waiting.may_take())
        self.assertEqual(self.story, ["pause"])
        self.clock.advance(0.005)
        self.assertEqual(self.story, ["pause", "resume"])
        self.assertTrue(self.waiting.may_take())
        self.assertFalse(self.waiting.may_take())

    def test_what_is_ours_is_taken(self) -> None:
        self.say(2, 2, 9)
        self.assertTrue(self.waiting.may_take())
        self.assertEqual(self.story, [])

    def test_after_the_end_nothing_is_resumed(self) -> None:
        self.say(3, 2, 9)
        self.waiting.may_take()
        self.waiting.stop()
        self.clock.advance(1)
        self.assertEqual(self.story, ["pause"])
