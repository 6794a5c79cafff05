# SPDX-License-Identifier: MIT
"""Mails that are added together: each has its own result, and all are durable or refused."""

from __future__ import annotations

import errno
import os
from functools import partial
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred

from smtpmailer.core.queuestate import FRESH, MailState
from smtpmailer.errors import MailGoneOnError, StoreError
from smtpmailer.stores import atomic, scratch
from smtpmailer.stores import commit as committing
from smtpmailer.stores.atomic import FileLock
from smtpmailer.stores.bundles import Bundles
from smtpmailer.stores.commit import GroupCommit
from smtpmailer.stores.putting import NewMail, put
from tests.stores.folders import NEW, OLD, ONE, THREE, TWO, FolderCase
from tests.stores.queues import HeldThreads, name_at, tried_state

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
WAITING = ["waiting"]


class PutTogetherTests(FolderCase):
    """What came before a batch begins."""

    def setUp(self) -> None:
        super().setUp()
        self.threads = HeldThreads()
        gate = FileLock(self.folder.paths.own("gate"))
        self.commit = GroupCommit(self.threads, gate, durable=True)
        self.puts = Bundles(self.commit, partial(put, self.folder), opens_files=True)

    def begin(self, *names: str, state: MailState = FRESH) -> list[Deferred[None]]:
        return [self.puts.add(NewMail(name, OLD, state)) for name in names]

    def open_files(self) -> int:
        return len(os.listdir("/proc/self/fd"))

    def test_all_share_the_syncs(self) -> None:
        seen: list[Any] = []

        def files(files: list[int], drafts: list[int]) -> None:
            if files or drafts:
                seen.append((len(drafts), self.where()))

        self.patch(committing, "sync_files", files)
        self.patch(committing, "sync_directory", seen.append)
        waiting = self.begin(ONE, TWO, THREE)
        before = self.open_files()
        self.threads.go()
        self.assertEqual(seen, [(3, {}), str(self.place.waiting)])
        for each in waiting:
            self.successResultOf(each)
        self.assertEqual(self.where(), {ONE: WAITING, TWO: WAITING, THREE: WAITING})
        self.assertEqual((self.place.waiting / TWO).read_bytes(), OLD)
        self.assertEqual(self.open_files(), before)

    def test_nothing_is_told_before_its_name_is_durable(self) -> None:
        waiting = self.begin(ONE, TWO)
        told: list[Any] = []
        self.patch(
            committing, "sync_directory", lambda _: told.append([each.called for each in waiting])
        )
        self.threads.go()
        self.assertEqual(told, [[False, False]])

    def test_one_that_can_not_be_written_or_named_keeps_no_other(self) -> None:
        self.put(TWO, content=NEW)
        real = atomic.write_all

        def write(handle: int, content: bytes) -> None:
            if content == b"too much":
                raise FULL
            real(handle, content)

        before = self.open_files()
        waiting = self.begin(ONE, TWO)
        waiting.append(self.puts.add(NewMail(THREE, b"too much", FRESH)))
        with mock.patch.object(scratch, "write_all", write):
            self.threads.go()
        self.successResultOf(waiting[0])
        self.assertIn("a mail", str(self.failureResultOf(waiting[1], StoreError).value))
        self.assertIn("No space", str(self.failureResultOf(waiting[2], StoreError).value))
        self.assertEqual(self.where(), {ONE: WAITING, TWO: WAITING})
        self.assertEqual((self.place.waiting / TWO).read_bytes(), NEW)
        self.assertEqual(os.listdir(self.folder.scratch._own), [])
        self.assertEqual(self.open_files(), before)

    def test_a_sync_that_fails_refuses_all_and_leaves_nothing(self) -> None:
        for failing in ("sync_files", "sync_directory"):
            before = self.open_files()
            waiting = self.begin(ONE, state=tried_state()) + self.begin(TWO)
            with mock.patch.object(committing, failing, side_effect=FULL):
                self.threads.go()
            for each in waiting:
                self.failureResultOf(each, StoreError)
            self.assertEqual(self.where(), {}, failing)
            self.assertEqual(os.listdir(self.place.ours / "new"), [])
            self.assertEqual(os.listdir(self.folder.scratch._own), [])
            self.assertEqual(self.open_files(), before)

    def test_of_those_that_are_not_durable_one_that_is_claimed_already_is_not_refused(self) -> None:
        waiting = self.begin(ONE, TWO)

        def claim(_path: str) -> None:
            os.rename(self.place.waiting / TWO, self.place.claimed / TWO)
            raise FULL

        with mock.patch.object(committing, "sync_directory", claim):
            self.threads.go()
        self.assertNotIsInstance(self.failureResultOf(waiting[0]).value, MailGoneOnError)
        self.failureResultOf(waiting[1], MailGoneOnError)
        self.assertEqual(self.where(), {TWO: ["claimed"]})

    def test_each_has_its_own_history(self) -> None:
        states = {ONE: tried_state(next_at=5.0), TWO: FRESH, THREE: tried_state(next_at=9.0)}
        for name, state in states.items():
            self.puts.add(NewMail(name, OLD, state))
        self.threads.go()
        self.assertEqual({name: self.folder.read(name).state for name in states}, states)

    def test_however_many_come_only_some_hundred_files_are_open_at_a_time(self) -> None:
        names = [name_at(number, number) for number in range(1, 1001)]
        before, most = self.open_files(), 0

        def sync(_files: list[int], _drafts: list[int]) -> None:
            nonlocal most
            most = max(most, self.open_files() - before)

        self.patch(committing, "sync_files", sync)
        waiting = self.begin(*names)
        self.threads.go()
        for each in waiting:
            self.successResultOf(each)
        self.assertEqual(sorted(self.where()), names)
        # Some stages have a descriptor more, of the gate.
        self.assertGreater(most, 100)
        self.assertLess(most, 300)
