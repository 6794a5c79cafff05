# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.pacing."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.pacing import Pacer, paced


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

        (self.pacer.wait() or succeed(None)).addCallback(begin)

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

    def test_work_that_begins_more_work_lets_those_who_wait_go_first(self) -> None:
        self.clock.rightNow = 0.0
        self.pacer.later().addCallback(lambda _: self.work(2, 0))
        self.work(1, 0)
        self.clock.turn()
        self.assertEqual(self.begun, [1, 2])

    def test_what_can_wait_begins_in_the_next_turn_in_the_order_of_all_work(self) -> None:
        self.pacer.later().addCallback(lambda _: self.begun.append(0))
        self.pacer.later().addCallback(lambda _: self.begun.append(1))
        self.work(2, 0)
        self.assertEqual(self.begun, [])
        self.clock.turn()
        self.assertEqual(self.begun, [0, 1, 2])
        self.clock.turn()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        alone = self.pacer.later()
        self.clock.turn()
        self.successResultOf(alone)

    def test_what_need_not_wait_is_given_nothing_to_wait_for(self) -> None:
        self.assertIsNone(self.pacer.wait())
        self.clock.rightNow += 1
        waiting = self.pacer.wait()
        assert waiting is not None
        self.assertNoResult(waiting)
        self.clock.turn()
        self.successResultOf(waiting)

    def test_paced_work_is_done_when_its_turn_comes(self) -> None:
        def work(number: int) -> Deferred[int]:
            self.begun.append(number)
            self.clock.rightNow += 1
            return succeed(number * 10)

        paced_work = paced(self.pacer.wait, work)
        answers = [paced_work(number) for number in range(3)]
        self.assertEqual(self.begun, [0])
        self.assertEqual(self.successResultOf(answers[0]), 0)
        self.clock.turn()
        self.assertEqual(self.begun, [0, 1])
        self.clock.turn()
        self.assertEqual([self.successResultOf(answer) for answer in answers[1:]], [10, 20])

    def test_nothing_is_left_in_the_clock_when_all_is_done(self) -> None:
        self.work(0, 2)
        self.work(1, 0)
        for _ in range(3):
            self.clock.turn()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.begun, [0, 1])
