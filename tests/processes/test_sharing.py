# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.processes.sharing."""

from __future__ import annotations

import os
import signal

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.board import Field
from smtpmailer.processes.sharing import ProcessLock, Shared, alone, make_memory, open_shared
from tests.children import in_child


class SharedTests(SynchronousTestCase):
    """Memory that processes share."""

    def setUp(self) -> None:
        self.memory = make_memory()
        self.addCleanup(os.close, self.memory)
        self.shared = open_shared(self.memory)

    def use(self, shared: Shared) -> None:
        """Write into each part."""
        shared.board.seat(shared.board.give(1)).add(Field.SENT, 5)
        shared.tally.add("peer", 3, 2)
        shared.rates.take("key", 1, 10.0)

    def check(self, shared: Shared) -> None:
        self.assertEqual(shared.board.total(Field.SENT), 5)
        self.assertEqual(shared.tally.total("peer"), 2)
        self.assertFalse(shared.rates.take("key", 1, 10.0))
        self.assertEqual(shared.board.total(Field.CONNECTIONS), 0)

    def test_what_one_process_writes_another_reads_also_when_the_first_was_killed(self) -> None:
        def write_and_die() -> None:
            self.use(open_shared(self.memory))
            os.kill(os.getpid(), signal.SIGKILL)

        self.assertEqual(in_child(write_and_die), -signal.SIGKILL)
        self.check(self.shared)

    def test_alone_it_works_the_same(self) -> None:
        shared = alone()
        self.use(shared)
        self.check(shared)

    def test_processes_count_in_turn(self) -> None:
        rounds = 2000

        def count() -> None:
            shared = open_shared(self.memory)
            for _ in range(rounds):
                shared.tally.add("peer", 0, 1)

        other = os.fork()
        if not other:
            try:
                count()
            finally:
                os._exit(0)
        count()
        os.waitpid(other, 0)
        self.assertEqual(self.shared.tally.total("peer"), 2 * rounds)

    def test_the_lock_is_free_again_when_its_holder_was_killed(self) -> None:
        def hold_and_die() -> None:
            ProcessLock(self.memory).__enter__()
            os.kill(os.getpid(), signal.SIGKILL)

        self.assertEqual(in_child(hold_and_die), -signal.SIGKILL)
        with ProcessLock(self.memory):
            pass
