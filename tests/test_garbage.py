# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.garbage."""

from __future__ import annotations

import gc
import weakref

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.garbage import GarbageCollector


class _Node:
    """Something that refers to itself, so that only a collection frees it."""

    def __init__(self) -> None:
        self.itself = self


class GarbageCollectorTests(SynchronousTestCase):
    """Cycles go at idle moments, and Python's rhythm comes back."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.busy = False
        self.collector = GarbageCollector(self.clock, lambda: self.busy)
        self.before = gc.get_threshold()
        self.collector.startService()
        self.addCleanup(self.stop)

    def stop(self) -> None:
        if self.collector.running:
            self.collector.stopService()

    def garbage(self) -> weakref.ref[_Node]:
        gc.collect(1)  # So that no young collection comes between.
        return weakref.ref(_Node())

    def test_an_idle_moment_is_used(self) -> None:
        gone = self.garbage()
        self.clock.advance(10)
        self.assertIsNone(gone())

    def test_a_busy_one_is_not(self) -> None:
        collections = gc.get_stats()[2]["collections"]
        self.busy = True
        self.clock.advance(10)
        self.assertEqual(gc.get_stats()[2]["collections"], collections)

    def test_full_collections_are_rarer_while_it_runs(self) -> None:
        self.assertEqual(gc.get_threshold()[2], self.before[2] * 100)
        self.collector.stopService()
        self.assertEqual(gc.get_threshold(), self.before)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_was_there_before_is_left_alone(self) -> None:
        self.assertGreater(gc.get_freeze_count(), 0)
        self.collector.stopService()
        self.assertEqual(gc.get_freeze_count(), 0)
