# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.heap, each in a process of its own: it is about all of the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent

_BEGIN = """
import threading
from smtpmailer import heap

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) // 256

"""
#: Eight threads that live at the same time, of which each frees what it allocates.
_THREADS = """
together = threading.Barrier(8)

def work():
    for _ in range(3):
        bytearray(20_000_000)
    together.wait()

before = resident()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(resident() - before)
"""
#: Blocks that are freed below one that is not.
_GAPS = """
before = resident()
blocks = [bytes(bytearray(100_000)) for _ in range(500)]
blocks = blocks[-1]
held = resident()
heap.give_back()
print(held - before, resident() - before)
"""


class HeapTests(SynchronousTestCase):
    """In MB."""

    def ran(self, script: str) -> list[int]:
        """Run a script; give the numbers that it prints."""
        command = [sys.executable, "-c", _BEGIN + script]
        return [int(word) for word in subprocess.check_output(command, cwd=ROOT).split()]

    def test_threads_do_not_each_keep_what_they_freed(self) -> None:
        (kept,) = self.ran("heap.use_one_heap()\n" + _THREADS)
        self.assertLess(kept, 60)

    def test_free_memory_below_what_is_used_goes_back(self) -> None:
        held, kept = self.ran(_GAPS)
        self.assertLess(kept, 10, f"of {held}")
