# SPDX-License-Identifier: MIT
"""Group commit: what shares a sync, and what a failure is confined to."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Generator
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.errors import StoreError, ThreadsStoppedError
from smtpmailer.stores import commit as module
from smtpmailer.stores.atomic import FileLock
from smtpmailer.stores.commit import WORTH_A_BATCH, Batch, GroupCommit
from smtpmailer.threads import InlineThreads
from tests.stores.queues import SHM, HeldThreads

BROKEN = OSError(errno.EIO, os.strerror(errno.EIO))


class GroupCommitTests(SynchronousTestCase):
    """Operations in batches."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory(dir=SHM)
        self.addCleanup(directory.cleanup)
        self.root = directory.name
        self.gate = FileLock(os.path.join(self.root, "gate"))
        self.threads = HeldThreads()
        self.commit = GroupCommit(self.threads, self.gate, durable=True)
        #: What happened, in order.
        self.events: list[str] = []
        self.patch(module, "sync_files", self.sync_files)
        self.patch(module, "sync_directory", lambda path: self.events.append(f"sync {path}"))

    def sync_files(self, files: list[int], drafts: list[int]) -> None:
        names = [os.path.basename(os.readlink(f"/proc/self/fd/{file}")) for file in files + drafts]
        if names:
            self.events.append(f"sync {' '.join(names)}")

    def write(
        self, name: int, *, fail: str = "", patient: bool = False, size: int = 1
    ) -> Deferred[int]:
        """Submit an operation that writes file ``name``; ``fail`` says at which step it fails."""

        def steps(batch: Batch) -> Generator[None, None, int]:
            with open(os.path.join(self.root, str(name)), "wb") as file:
                try:
                    batch.files.append(file.fileno())
                    self.step(f"write {name}", fail)
                    yield
                    self.step(f"name {name}", fail)
                    batch.directories.add("dir")
                    yield
                    self.step(f"end {name}", fail)
                except StoreError:
                    self.events.append(f"undo {name}")
                    raise
            return name

        return self.commit.submit(steps, patient=patient, size=lambda: size)

    def step(self, what: str, fail: str) -> None:
        self.events.append(what)
        if what.startswith(fail or "-"):
            raise ValueError(what)

    def test_operations_submitted_before_a_batch_begins_share_its_syncs(self) -> None:
        results = [self.write(n) for n in (1000, 2000)]
        self.threads.go()
        self.assertEqual([self.successResultOf(r) for r in results], [1000, 2000])
        written = ["write 1000", "write 2000", "sync 1000 2000"]
        named = ["name 1000", "name 2000", "sync dir"]
        self.assertEqual(self.events, [*written, *named, "end 1000", "end 2000"])

    def test_nothing_is_answered_before_its_last_sync(self) -> None:
        result = self.write(1000)
        result.addCallback(lambda _: self.events.append("answered"))
        self.threads.go()
        self.assertEqual(self.events[-3:], ["sync dir", "end 1000", "answered"])

    def test_a_failing_operation_fails_alone_and_its_files_are_not_synced(self) -> None:
        for stage in ("write", "name", "end"):
            self.events.clear()
            good, bad = self.write(1000), self.write(2000, fail=stage)
            self.threads.go()
            self.assertEqual(self.successResultOf(good), 1000)
            self.failureResultOf(bad, ValueError)
            synced = "sync 1000" if stage == "write" else "sync 1000 2000"
            self.assertIn(synced, self.events)

    def test_a_failing_sync_fails_all_and_each_takes_back_what_it_did(self) -> None:
        for stage in ("sync_files", "sync_directory"):
            with mock.patch.object(module, stage, side_effect=BROKEN):
                results = [self.write(1000), self.write(2000)]
                self.threads.go()
            for result in results:
                self.failureResultOf(result, StoreError)
            self.assertEqual(self.events[-2:], ["undo 1000", "undo 2000"])
            self.assertEqual("name 1000" in self.events, stage == "sync_directory")
            self.events.clear()
        result = self.write(3000)
        self.threads.go()
        self.assertEqual(self.successResultOf(result), 3000)

    def test_a_fault_of_our_own_leaves_what_was_done_and_undoes_the_rest(self) -> None:
        def at_once(_batch: Batch) -> Generator[None, None, str]:
            return "done"
            yield

        def faulty(batch: Batch) -> Generator[None, None, None]:
            with open(os.path.join(self.root, "closed"), "wb") as file:
                batch.files.append(file)
            yield

        done, bad, undone = self.commit.submit(at_once), self.commit.submit(faulty), self.write(1)
        self.threads.go()
        self.assertEqual(self.successResultOf(done), "done")
        self.failureResultOf(bad, StoreError)
        self.failureResultOf(undone, StoreError)
        self.assertEqual(self.events, ["write 1", "undo 1"])
        later = self.write(2)
        self.threads.go()
        self.assertEqual(self.successResultOf(later), 2)

    def test_names_change_only_under_the_gate(self) -> None:
        other = FileLock(os.path.join(self.root, "gate"))
        free: list[bool] = []

        def look() -> None:
            free.append(other.try_acquire(""))
            other.release()

        def steps(_batch: Batch) -> Generator[None, None, None]:
            look()
            yield
            look()
            yield
            look()

        result = self.commit.submit(steps)
        self.threads.go()
        self.successResultOf(result)
        self.assertEqual(free, [True, False, True])

    def test_without_the_gate_no_name_changes(self) -> None:
        gate = FileLock(os.path.join(self.root, "missing", "gate"))
        self.commit = GroupCommit(self.threads, gate, durable=True)
        result = self.write(1000)
        self.threads.go()
        self.failureResultOf(result, StoreError)
        self.assertEqual(self.events, ["write 1000", "sync 1000", "undo 1000"])

    def test_an_operation_may_end_early(self) -> None:
        def steps(_batch: Batch) -> Generator[None, None, str]:
            return "at once"
            yield

        result = self.commit.submit(steps)
        self.threads.go()
        self.assertEqual(self.successResultOf(result), "at once")

    def test_one_file_in_several_operations_is_synced_once(self) -> None:
        with open(os.path.join(self.root, "journal"), "wb") as journal:

            def steps(batch: Batch) -> Generator[None, None, None]:
                batch.files.append(journal)
                yield

            results = [self.commit.submit(steps) for _ in range(3)]
            self.threads.go()
        for result in results:
            self.successResultOf(result)
        self.assertEqual(self.events, ["sync journal"])

    def test_idle_fires_after_what_came_before(self) -> None:
        self.write(1000).addCallback(lambda _: self.events.append("answered"))
        idle = self.commit.idle().addCallback(lambda _: self.events.append("idle"))
        self.assertNoResult(idle)
        self.threads.go()
        self.assertEqual(self.events[-2:], ["answered", "idle"])

    def test_a_batch_has_a_limit(self) -> None:
        results = [self.write(n) for n in range(1000, 1300)]
        self.threads.go()
        for result in results:
            self.successResultOf(result)
        sizes = [len(e.split()) - 1 for e in self.events if e.startswith("sync 1")]
        self.assertEqual(sizes, [128, 128, 44])

    def test_a_batch_has_the_limit_that_it_was_given(self) -> None:
        self.commit = GroupCommit(self.threads, self.gate, durable=True, most=2)
        results = [self.write(n) for n in range(1000, 1005)]
        self.threads.go()
        for result in results:
            self.successResultOf(result)
        sizes = [len(e.split()) - 1 for e in self.events if e.startswith("sync 1")]
        self.assertEqual(sizes, [2, 2, 1])

    def test_a_large_operation_counts_for_many(self) -> None:
        self.commit = GroupCommit(self.threads, self.gate, durable=True, most=4)
        sizes = {1000: 3, 1001: 3, 1002: 9, 1003: 1, 1004: 1}
        results = [self.write(name, size=size) for name, size in sizes.items()]
        self.threads.go()
        for result in results:
            self.successResultOf(result)
        synced = [event.split()[1:] for event in self.events if event.startswith("sync 1")]
        self.assertEqual(synced, [["1000", "1001"], ["1002"], ["1003", "1004"]])

    def test_a_file_that_an_operation_is_done_with_is_closed_for_it(self) -> None:
        at_steps: list[list[str]] = []

        def look() -> None:
            files = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
            names = (os.readlink(file) for file in files if os.path.lexists(file))
            at_steps.append(sorted(name[7:] for name in names if name.startswith("/memfd:test ")))

        def steps(batch: Batch) -> Generator[None, None, None]:
            handles = [os.memfd_create(f"test {number}") for number in range(3)]
            batch.over.append(handles[0])
            yield
            look()
            batch.over.append(handles[2])
            yield
            look()
            batch.over.append(handles[1])

        result = self.commit.submit(steps)
        self.threads.go()
        look()
        self.successResultOf(result)
        found = [["".join(filter(str.isdigit, name)) for name in names] for names in at_steps]
        self.assertEqual(found, [["1", "2"], ["1"], []])

    def test_without_durability_nothing_is_synced(self) -> None:
        self.commit = GroupCommit(self.threads, self.gate, durable=False)
        result = self.write(1000)
        self.threads.go()
        self.successResultOf(result)
        self.assertEqual(self.events, ["write 1000", "name 1000", "end 1000"])

    def test_without_durability_all_is_written(self) -> None:
        """A journal writes what it was told when its descriptor is asked for."""

        class Journal:
            def fileno(_self) -> int:  # noqa: N805 - the test is self
                self.events.append("write")
                if broken:
                    raise BROKEN
                return 0

        def steps(batch: Batch) -> Generator[None, None, None]:
            batch.files.append(Journal())
            yield
            self.events.append("go on")

        for durable in (True, False):
            self.commit = GroupCommit(self.threads, self.gate, durable=durable)
            for broken in (False, True):
                self.events.clear()
                result = self.commit.submit(steps)
                self.threads.go()
                self.assertEqual([e for e in self.events if "sync" not in e][:1], ["write"])
                self.assertEqual("go on" in self.events, not broken)
                self.assertEqual(isinstance(result.result, Failure), broken)
                if broken:
                    self.failureResultOf(result, StoreError)

    def test_patient_operations_wait_for_the_batch_under_way_unless_many_do(self) -> None:
        for first in (True, False):
            self.write(1000, patient=first)
            self.assertEqual(len(self.threads._work), 1, "nothing was under way")
            work, done = self.threads._work.pop()
            work()
            few = [self.write(n, patient=True) for n in range(2000, 2000 + WORTH_A_BATCH - 1)]
            self.assertEqual(len(self.threads._work), 0)
            done.callback(None)
            self.assertEqual(len(self.threads._work), 1)
            self.threads.go()
            for result in few:
                self.successResultOf(result)

    def test_an_impatient_operation_takes_the_patient_ones_along(self) -> None:
        for number, patient in ((WORTH_A_BATCH - 1, False), (WORTH_A_BATCH, True)):
            self.write(1000)
            work, done = self.threads._work.pop()
            work()
            results = [self.write(n, patient=True) for n in range(2000, 2000 + number - 1)]
            self.assertEqual(len(self.threads._work), 0)
            results.append(self.write(3000, patient=patient))
            self.assertEqual(len(self.threads._work), 1)
            self.threads.go()
            done.callback(None)
            for result in results:
                self.successResultOf(result)

    def test_it_says_when_results_were_told_and_whether_more_is_under_way(self) -> None:
        told: list[Any] = []
        self.commit = GroupCommit(self.threads, self.gate, durable=True, told=told.append)
        first = self.write(1000).addCallback(told.append)
        (work, done) = self.threads._work.pop()
        work()
        second = self.write(2000).addCallback(told.append)
        self.assertEqual(told, [])
        done.callback(None)
        self.threads.go()
        self.assertEqual(told, [1000, True, 2000, False])
        for result in (first, second):
            self.successResultOf(result)

    def test_threads_that_have_stopped_fail_every_operation(self) -> None:
        threads = InlineThreads()
        self.commit = GroupCommit(threads, self.gate, durable=True)
        self.successResultOf(threads.stop())
        self.failureResultOf(self.write(1000), ThreadsStoppedError)
        self.failureResultOf(self.write(2000), ThreadsStoppedError)
        self.assertEqual(self.events, [])

    def test_a_cancelled_answer_keeps_no_other(self) -> None:
        first, second = self.write(1000), self.write(2000)
        first.addErrback(lambda _: None)
        first.cancel()
        self.threads.go()
        self.assertEqual(self.successResultOf(second), 2000)
        self.assertIn("end 1000", self.events)
