# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.sweeping."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.sweeping import Sweeping


class SweepingTests(SynchronousTestCase):
    """It sweeps at intervals, whatever happens, and not beside itself."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.sweeps: list[Deferred[int]] = []
        self.sweeping = Sweeping(self.sweep, self.clock, 10.0)
        self.sweeping.startService()

    def sweep(self) -> Deferred[int]:
        self.sweeps.append(Deferred())
        return self.sweeps[-1]

    def test_the_first_sweep_comes_after_an_interval(self) -> None:
        self.clock.advance(9)
        self.assertEqual(self.sweeps, [])
        self.clock.advance(1)
        self.assertEqual(len(self.sweeps), 1)

    def test_the_first_sweep_comes_within_a_minute_however_long_the_interval(self) -> None:
        clock = Clock()
        sweeping = Sweeping(self.sweep, clock, 3600.0)
        sweeping.startService()
        clock.advance(59)
        self.assertEqual(self.sweeps, [])
        clock.advance(1)
        self.sweeps[0].callback(0)
        clock.advance(3599)
        self.assertEqual(len(self.sweeps), 1)
        clock.advance(1)
        self.assertEqual(len(self.sweeps), 2)

    def test_the_next_one_comes_an_interval_after_the_last(self) -> None:
        self.clock.advance(10)
        self.clock.advance(100)
        self.assertEqual(len(self.sweeps), 1)
        self.sweeps[0].callback(5)
        self.clock.advance(9)
        self.assertEqual(len(self.sweeps), 1)
        self.clock.advance(1)
        self.assertEqual(len(self.sweeps), 2)

    def test_what_fails_is_logged_and_tried_again(self) -> None:
        self.clock.advance(10)
        self.sweeps[0].errback(OSError("disk"))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.clock.advance(10)
        self.assertEqual(len(self.sweeps), 2)

    def test_a_stop_waits_for_the_sweep_and_begins_no_other(self) -> None:
        self.clock.advance(10)
        stopped = self.sweeping.stopService()
        self.assertNoResult(stopped)
        self.sweeps[0].callback(0)
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_stop_in_between_is_done_at_once(self) -> None:
        self.successResultOf(self.sweeping.stopService())
        self.assertEqual(self.clock.getDelayedCalls(), [])
