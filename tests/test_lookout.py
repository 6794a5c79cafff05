# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.lookout."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.errors import StoreError
from smtpmailer.lookout import Lookout


class LookoutTests(SynchronousTestCase):
    """A store that is looked after."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.looks: list[float] = []
        self.trouble: Exception | None = None
        self.ready: Deferred[None] = Deferred()
        store: Any = self
        self.lookout = Lookout(
            store, lambda: self.ready, clock=self.clock, now=lambda: self.clock.seconds() + 1000
        )
        self.lookout.startService()

    def look_around(self, now: float) -> Deferred[None]:
        self.looks.append(now)
        return succeed(None) if self.trouble is None else fail(self.trouble)

    def test_it_looks_every_two_seconds_once_the_store_has_started(self) -> None:
        self.clock.pump([1.0] * 6)
        self.assertEqual(self.looks, [])
        self.ready.callback(None)
        self.clock.pump([1.0] * 5)
        self.assertEqual(self.looks, [1008.0, 1010.0])
        self.lookout.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_store_that_did_not_start_is_left_alone(self) -> None:
        self.ready.errback(StoreError("no"))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_start_that_comes_after_the_stop_changes_nothing(self) -> None:
        self.lookout.stopService()
        self.ready.callback(None)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_it_goes_on_after_faults(self) -> None:
        self.ready.callback(None)
        self.trouble = StoreError("a disk is away")
        with capturedLogs() as events:
            self.clock.advance(2)
        self.assertEqual([event.get("why") for event in events], ["a disk is away"])
        self.trouble = ZeroDivisionError()
        self.clock.advance(2)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.trouble = None
        self.clock.advance(2)
        self.assertEqual(len(self.looks), 3)
