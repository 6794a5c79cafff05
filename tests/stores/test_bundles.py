# SPDX-License-Identifier: MIT
"""Changes of many mails at once: each has its own result, and all are durable."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred

from smtpmailer.core.queuestate import FRESH, MailState
from smtpmailer.errors import StoreError, ThreadsStoppedError
from smtpmailer.stores import bundles as module
from smtpmailer.stores import commit as committing
from smtpmailer.stores.atomic import FileLock
from smtpmailer.stores.bundles import Bundles
from smtpmailer.stores.commit import WORTH_A_BATCH, Batch, GroupCommit
from smtpmailer.stores.folder import Change
from smtpmailer.threads import InlineThreads
from tests.stores.folders import ONE, THREE, TWO, FolderCase
from tests.stores.queues import HeldThreads, name_at, tried_state

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class RecordsTests(FolderCase):
    """Marks, and ends of deliveries."""

    def setUp(self) -> None:
        super().setUp()
        self.threads = HeldThreads()
        self.records = self.make(self.threads)
        #: How many syncs of files there were.
        self.syncs = 0
        self.patch(committing, "sync_files", self.sync)

    def make(self, threads: Any) -> Bundles[Change]:
        gate = FileLock(self.folder.paths.own("gate"))
        self.commit = GroupCommit(threads, gate, durable=True)
        return Bundles(self.commit, self.record_all)

    def record_all(self, batch: Batch, changes: Sequence[Change]) -> Any:
        # A test may put something in its place.
        return self.folder.record(batch, changes)

    def sync(self, files: Any, drafts: Any) -> None:
        self.syncs += bool(files or drafts)

    def record(self, name: str, state: MailState | None) -> Deferred[None]:
        return self.records.add((name, state))

    def have(self, *names: str) -> None:
        """Have claimed mails of these names."""
        for name in names:
            self.put(name)
        self.claim(*names)

    def test_all_that_come_before_a_batch_begins_share_one_write_and_one_sync(self) -> None:
        self.have(ONE, TWO, THREE)
        marked = tried_state(in_doubt=("b@example.test",), in_doubt_since=5.0)
        waiting = [self.record(ONE, marked), self.record(TWO, None)]
        waiting.append(self.record(THREE, marked))
        with mock.patch("os.pwrite", wraps=os.pwrite) as write:
            self.threads.go()
        self.assertEqual((write.call_count, self.syncs), (1, 1))
        for each in waiting:
            self.successResultOf(each)
        self.assertEqual(self.where(), {ONE: ["claimed"], THREE: ["claimed"]})
        found = {mail.name: mail.state for mail in self.recovered().claims}
        self.assertEqual(found, {ONE: marked, THREE: marked})

    def test_nothing_is_told_and_no_mail_removed_before_the_sync(self) -> None:
        self.have(ONE, TWO)
        waiting = [self.record(ONE, FRESH), self.record(TWO, None)]
        seen: list[Any] = []

        def sync(files: Any, _drafts: Any) -> None:
            if files:
                seen.append(([each.called for each in waiting], self.where()))

        self.patch(committing, "sync_files", sync)
        self.threads.go()
        self.assertEqual(seen, [([False, False], {ONE: ["claimed"], TWO: ["claimed"]})])

    def test_what_comes_once_a_batch_has_begun_is_in_the_next_one(self) -> None:
        self.have(ONE, TWO)
        later: list[Deferred[None]] = []

        def sync(*_: Any) -> None:
            if not later:
                later.append(self.record(TWO, None))

        self.patch(committing, "sync_files", sync)
        first = self.record(ONE, None)
        self.threads.go()
        self.successResultOf(first)
        self.successResultOf(later[0])
        self.assertEqual(self.where(), {})

    def test_one_that_can_not_be_recorded_keeps_no_other(self) -> None:
        self.have(ONE, TWO, THREE)
        real = self.folder.journal.record_done

        def full(name: str) -> None:
            if name == TWO:
                raise FULL
            real(name)

        waiting = [self.record(name, None) for name in (ONE, TWO, THREE)]
        with mock.patch.object(self.folder.journal, "record_done", full):
            self.threads.go()
        self.assertIn("No space", str(self.failureResultOf(waiting[1], StoreError).value))
        for each in (waiting[0], waiting[2]):
            self.successResultOf(each)
        self.assertEqual(self.where(), {TWO: ["claimed"]})

    def test_one_that_can_not_be_removed_keeps_no_other_and_may_be_asked_for_again(self) -> None:
        self.have(ONE, TWO)
        waiting = [self.record(name, None) for name in (ONE, TWO)]
        real = self.folder.disposal.unlink

        def refuse(path: str) -> bool:
            if path.endswith(ONE):
                raise OSError(errno.EIO, "no", path)
            return real(path)

        with mock.patch.object(self.folder.disposal, "unlink", refuse):
            self.threads.go()
        self.failureResultOf(waiting[0], StoreError)
        self.successResultOf(waiting[1])
        again = self.record(ONE, None)
        self.threads.go()
        self.successResultOf(again)
        self.assertEqual(self.where(), {})

    def test_a_sync_that_fails_fails_all_and_removes_none(self) -> None:
        self.have(ONE, TWO)
        waiting = [self.record(ONE, FRESH), self.record(TWO, None)]
        with mock.patch.object(committing, "sync_files", side_effect=FULL):
            self.threads.go()
        for each in waiting:
            self.failureResultOf(each, StoreError)
        self.assertEqual(self.where(), {ONE: ["claimed"], TWO: ["claimed"]})

    def test_who_does_not_run_the_queue_records_nothing_and_fails_no_other_batch(self) -> None:
        self.have(ONE)
        self.folder.journal.close()
        refused = self.record(ONE, None)
        beside = self.commit.idle()
        self.threads.go()
        self.assertIn("does not run", str(self.failureResultOf(refused, StoreError).value))
        self.successResultOf(beside)
        self.assertEqual(self.where(), {ONE: ["claimed"]})

    def test_threads_that_take_no_work_refuse_each(self) -> None:
        threads = InlineThreads()
        threads.stop()
        records = self.make(threads)
        for _ in range(2):
            self.failureResultOf(records.add((ONE, FRESH)), ThreadsStoppedError)

    def test_many_begin_a_batch_of_their_own_beside_one_under_way(self) -> None:
        self.have(ONE)
        self.commit.idle()
        with mock.patch.object(self.threads, "run", wraps=self.threads.run) as run:
            # The first is under way, in a thread: it has taken what waited.
            self.commit._take()
            for number in range(WORTH_A_BATCH):
                self.assertEqual(run.call_count, 0, number)
                self.record(ONE, FRESH)
            self.assertEqual(run.call_count, 1)

    def test_changes_without_files_of_their_own_fill_no_batch(self) -> None:
        names = [name_at(number, number) for number in range(1, 12)]
        self.have(*names)
        self.patch(module, "_MOST", 5)
        self.commit._most = 3
        waiting = [self.record(name, FRESH) for name in names]
        self.threads.go()
        for each in waiting:
            self.successResultOf(each)
        self.assertEqual(self.syncs, 1)

    def test_a_bundle_has_an_end(self) -> None:
        names = [name_at(number, number) for number in range(1, 12)]
        self.have(*names)
        self.patch(module, "_MOST", 5)
        waiting = [self.record(name, None) for name in names]
        with mock.patch.object(self.folder, "record", wraps=self.folder.record) as record:
            self.threads.go()
        self.assertEqual([len(call.args[1]) for call in record.call_args_list], [5, 5, 1])
        for each in waiting:
            self.successResultOf(each)
        self.assertEqual(self.where(), {})
