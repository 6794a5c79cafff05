# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.garbage."""

from __future__ import annotations

import gc
import resource
import weakref
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.garbage import GarbageCollector


class _Node:
    """Something that refers to itself, so that only a collection frees it."""

    def __init__(self) -> None:
        self.itself = self


def _resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text("ascii").split()[1]
    return int(pages) * resource.getpagesize()


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

    def test_free_memory_goes_back_then(self) -> None:
        blocks = [bytes(bytearray(100_000)) for _ in range(500)]
        full = _resident_bytes()
        del blocks[:-1]  # What lies below one that is used does not go by itself.
        self.clock.advance(10)
        self.assertLess(_resident_bytes(), full - 40_000_000)

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
