# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.processes.pulse."""

from __future__ import annotations

import mmap
import os

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.board import Field
from smtpmailer.processes import pulse as module
from smtpmailer.processes.pulse import Pulse, own_memory
from smtpmailer.processes.sharing import alone


class PulseTests(SynchronousTestCase):
    """A second after the other."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(100)
        self.seat = alone().board.seat(3)
        self.requests = 7
        self.pulse = Pulse(self.clock, self.seat, {Field.REQUESTS: self.count})

    def count(self) -> int:
        if self.requests < 0:
            raise ValueError("no")
        return self.requests

    def test_it_writes_at_once_and_every_second(self) -> None:
        self.pulse.startService()
        fields = (Field.PROCESS, Field.BEAT, Field.REQUESTS)
        self.assertEqual([self.seat[each] for each in fields], [os.getpid(), 100_000, 7])
        self.requests = 8
        self.clock.advance(1)
        self.assertEqual([self.seat[each] for each in fields[1:]], [101_000, 8])
        self.pulse.stopService()
        self.clock.advance(5)
        self.assertEqual(self.seat[Field.BEAT], 101_000)

    def test_a_gauge_that_fails_stops_no_other(self) -> None:
        self.pulse.startService()
        self.requests = -1
        self.clock.advance(1)
        self.clock.advance(1)
        self.assertEqual(self.seat[Field.BEAT], 102_000)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)

    def test_memory_is_what_the_process_has_of_its_own(self) -> None:
        before = own_memory()
        self.assertGreater(before, 5 * 2**20)
        # Fresh from the system: what the interpreter has may hold as much that is free.
        size = 30 * 2**20
        with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
            block.write(b"x" * size)
            self.assertGreater(own_memory() - before, 25 * 2**20)

    def test_where_the_machine_does_not_tell_it_is_0(self) -> None:
        self.patch(module, "_STATM", module._STATM.with_name("nothing"))
        self.assertEqual(own_memory(), 0)
