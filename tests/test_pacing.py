# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.pacing."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.pacing import Pacer


class TurnClock(Clock):
    """A clock whose calls run a turn at a time, as a reactor's do."""

    def turn(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call.func(*call.args, **call.kw)


class PacerTests(SynchronousTestCase):
    """A turn's time is bounded, and nobody is forgotten."""

    def setUp(self) -> None:
        self.clock = TurnClock()
        self.pacer = Pacer(self.clock, 1.0)
        self.begun: list[int] = []

    def work(self, number: int, seconds: float) -> None:
        """Ask for a turn, and then work for so long."""

        def begin(_: None) -> None:
            self.begun.append(number)
            self.clock.rightNow += seconds

        self.pacer.turn().addCallback(begin)

    def test_a_little_work_begins_at_once(self) -> None:
        for number in range(3):
            self.work(number, 0.3)
        self.assertEqual(self.begun, [0, 1, 2])

    def test_what_a_turn_has_no_time_for_waits_for_the_next(self) -> None:
        for number in range(5):
            self.work(number, 0.6)
        self.assertEqual(self.begun, [0, 1])
        self.clock.turn()
        self.assertEqual(self.begun, [0, 1, 2, 3])
        self.clock.turn()
        self.assertEqual(self.begun, [0, 1, 2, 3, 4])

    def test_work_that_comes_later_does_not_overtake(self) -> None:
        for number in range(3):
            self.work(number, 2)
        self.clock.turn()
        self.work(3, 0)
        self.assertEqual(self.begun, [0, 1])
        self.clock.turn()
        self.clock.turn()
        self.clock.turn()
        self.assertEqual(self.begun, [0, 1, 2, 3])

    def test_nothing_is_left_in_the_clock_when_all_is_done(self) -> None:
        self.work(0, 2)
        self.work(1, 0)
        for _ in range(3):
            self.clock.turn()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.begun, [0, 1])
