# SPDX-License-Identifier: MIT
"""Group commit: what batches that are under way together may do, with real threads."""

from __future__ import annotations

import errno
import os
import queue
import tempfile
import threading
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, execute
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from smtpmailer.errors import StoreError
from smtpmailer.interfaces import IThreads
from smtpmailer.stores import commit as module
from smtpmailer.stores.atomic import FileLock
from smtpmailer.stores.commit import Batch, GroupCommit
from tests.integration.service import until
from tests.stores.queues import SHM

_T = TypeVar("_T")

#: Seconds until something that never comes fails a test.
DEADLINE = 20.0


@implementer(IThreads)
class LooseThreads:
    """Runs each piece of work in a thread of its own; the test's thread hears of the ends."""

    def __init__(self) -> None:
        self._ends: queue.Queue[tuple[Deferred[Any], Deferred[Any]]] = queue.Queue()
        self._open = 0

    def run(self, work: Callable[[], _T]) -> Deferred[_T]:
        done: Deferred[_T] = Deferred()
        self._open += 1
        target = threading.Thread(target=lambda: self._ends.put((execute(work), done)))
        target.start()
        return done

    def hear(self) -> None:
        """Wait for one end."""
        ended, done = self._ends.get(timeout=DEADLINE)
        self._open -= 1
        ended.chainDeferred(done)

    def go(self) -> None:
        """Wait until all has ended."""
        while self._open:
            self.hear()


class StageTests(SynchronousTestCase):
    """Batches follow each other closely."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory(dir=SHM)
        self.addCleanup(directory.cleanup)
        self.root = directory.name
        self.threads = LooseThreads()
        gate = FileLock(os.path.join(self.root, "gate"))
        self.commit = GroupCommit(self.threads, gate, durable=True)
        self.addCleanup(self.threads.go)
        #: Calls of syncs, in order, each with what it does.
        self.syncs: list[Callable[[], None]] = []
        self.patch(module, "sync_files", self.sync_files)

    def sync_files(self, files: list[int], _drafts: list[int]) -> None:
        if files and self.syncs:
            self.syncs.pop(0)()

    def submit(self, *steps: Callable[[], None], close: bool = False) -> Deferred[None]:
        """Submit an operation of these steps, which writes a file; ``close``: and closes it."""

        def operation(batch: Batch) -> Generator[None, None, None]:
            file = tempfile.TemporaryFile(dir=self.root)  # noqa: SIM115 - closed by steps
            batch.files.append(file)
            for step in steps:
                step()
                if close:
                    file.close()
                yield
            file.close()

        return self.commit.submit(operation)

    def test_one_batch_writes_while_another_one_is_synced(self) -> None:
        syncing, written = threading.Event(), threading.Event()

        def sync() -> None:
            syncing.set()
            self.assertTrue(written.wait(DEADLINE))

        self.syncs = [sync]
        first = self.submit(lambda: None)
        self.assertTrue(syncing.wait(DEADLINE))
        second = self.submit(written.set)
        self.threads.go()
        self.successResultOf(first)
        self.successResultOf(second)

    def test_no_batch_overtakes_another(self) -> None:
        syncing, looked = threading.Event(), threading.Event()

        def sync() -> None:
            syncing.set()
            self.assertTrue(looked.wait(DEADLINE))

        order: list[str] = []
        self.syncs = [sync]
        first = self.submit(lambda: None, lambda: order.append("named first"))
        first.addCallback(lambda _: order.append("first"))
        self.assertTrue(syncing.wait(DEADLINE))
        second = self.submit(lambda: None, lambda: order.append("named second"))
        second.addCallback(lambda _: order.append("second"))
        third = self.commit.idle().addCallback(lambda _: order.append("idle"))
        self.assertEqual(order, [])
        looked.set()
        self.threads.go()
        self.assertEqual(
            [each for each in order if "named" in each], ["named first", "named second"]
        )
        self.assertEqual(
            [each for each in order if "named" not in each], ["first", "second", "idle"]
        )
        for each in (first, second, third):
            self.successResultOf(each)

    def test_a_failed_sync_fails_what_was_written_before_it_failed(self) -> None:
        syncing, written = threading.Event(), threading.Event()

        def sync() -> None:
            syncing.set()
            self.assertTrue(written.wait(DEADLINE))
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        self.syncs = [sync]
        first = self.submit(lambda: None)
        self.assertTrue(syncing.wait(DEADLINE))
        second = self.submit(written.set)
        self.threads.go()
        self.failureResultOf(first, StoreError)
        self.failureResultOf(second, StoreError)
        third = self.submit(lambda: None)
        self.threads.go()
        self.successResultOf(third)

    def test_what_is_written_before_a_failure_is_told_is_not_durable_either(self) -> None:
        """The first batch waits for the gate then; it has not said what it can't rely on."""
        failed, written = threading.Event(), threading.Event()

        def sync() -> None:
            failed.set()
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        self.syncs = [sync]
        with FileLock(os.path.join(self.root, "gate")).held():
            first = self.submit(lambda: None)
            self.assertTrue(failed.wait(DEADLINE))
            until("the failure is counted", lambda: self.commit._failed)
            second = self.submit(written.set)
            self.assertTrue(written.wait(DEADLINE))
        self.threads.go()
        self.failureResultOf(first, StoreError)
        self.failureResultOf(second, StoreError)
        third = self.submit(lambda: None)
        self.threads.go()
        self.successResultOf(third)

    def test_a_file_that_a_step_of_another_batch_closes_is_synced_all_the_same(self) -> None:
        syncing, closed = threading.Event(), threading.Event()
        file = tempfile.TemporaryFile(dir=self.root)  # noqa: SIM115 - what this is about
        self.addCleanup(file.close)
        found: list[os.stat_result] = []

        def sync_files(files: list[int], _drafts: list[int]) -> None:
            if files and not syncing.is_set():
                syncing.set()
                self.assertTrue(closed.wait(DEADLINE))
                found.extend(map(os.fstat, files))

        self.patch(module, "sync_files", sync_files)
        expected = os.fstat(file.fileno())

        def write(batch: Batch) -> Generator[None, None, None]:
            batch.files.append(file)
            yield

        def close() -> None:
            file.close()
            closed.set()

        first = self.commit.submit(write)
        self.assertTrue(syncing.wait(DEADLINE))
        second = self.submit(close)
        self.threads.go()
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertTrue(os.path.samestat(found[0], expected))

    def test_a_file_that_is_closed_too_early_fails_the_batch_and_no_later_one(self) -> None:
        first = self.submit(lambda: None, close=True)
        self.threads.go()
        self.failureResultOf(first, StoreError, ValueError)
        second = self.submit(lambda: None)
        self.threads.go()
        self.successResultOf(second)

    def test_one_thread_takes_steps_at_a_time(self) -> None:
        stepping = threading.Lock()
        met: list[int] = []

        def step() -> None:
            if not stepping.acquire(blocking=False):
                met.append(1)
                return
            # Gives other threads a chance to do it wrong.
            os.listdir(self.root)
            stepping.release()

        results = []
        for _ in range(100):
            results.append(self.submit(step, step, step))
            results.append(self.submit(step, step))
            self.threads.hear()
        self.threads.go()
        for result in results:
            self.successResultOf(result)
        self.assertEqual(met, [])
