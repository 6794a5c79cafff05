# SPDX-License-Identifier: MIT
"""Tests of the alarm: it fires at the deadline, wherever that has moved."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.alarm import Alarm


class AlarmTests(SynchronousTestCase):
    """A deadline may move both ways."""

    def setUp(self) -> None:
        """Set the alarm to ten seconds."""
        self.clock = Clock()
        self.deadline: float | None = 10.0
        self.fired: list[float] = []
        self.alarm = Alarm(self.clock, lambda: self.deadline, self._expire, 5.0)
        self.alarm.arm()

    def _expire(self) -> None:
        self.fired.append(self.clock.seconds())
        self.deadline = None

    def test_it_fires_at_the_deadline_once(self) -> None:
        self.clock.pump([1] * 30)
        self.assertEqual(self.fired, [10])

    def test_a_later_deadline_needs_no_word(self) -> None:
        self.deadline = 20
        self.clock.pump([1] * 30)
        self.assertEqual(self.fired, [20])

    def test_a_nearer_deadline_counts_from_arm_on(self) -> None:
        self.deadline = 3
        self.alarm.arm()
        self.clock.pump([1] * 30)
        self.assertEqual(self.fired, [3])

    def test_a_deadline_that_comes_up_is_found_at_the_next_look(self) -> None:
        self.deadline = None
        self.clock.advance(10)
        self.deadline = 12
        self.clock.pump([1] * 30)
        self.assertEqual(self.fired, [15])

    def test_once_cancelled_it_stays_silent(self) -> None:
        self.alarm.cancel()
        self.alarm.cancel()
        self.alarm.arm()
        self.assertEqual(self.clock.getDelayedCalls(), [])
