# SPDX-License-Identifier: MIT
"""Tests of requests' keys in files: the contract, what is on the disk, and what faults leave."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import attrs
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.once import Kept
from smtpmailer.errors import StoreError
from smtpmailer.interfaces import IOnceStore
from smtpmailer.stores import atomic, commit
from smtpmailer.stores.once_files import FileOnceStore
from smtpmailer.stores.sealed_once import SealedOnceStore
from smtpmailer.threads import InlineThreads
from tests.stores.once_contract import ANSWER, NOTE, OTHER, PLACE, OnceContract
from tests.stores.queues import SHM, HeldThreads
from tests.stores.test_contract import make_cipher

#: Takes a place, says so, and dies without a word when it is told to.
_DIES = """
import os, sys
from smtpmailer.stores.once_files import FileOnceStore
from smtpmailer.threads import InlineThreads
store = FileOnceStore(sys.argv[1], InlineThreads(), durable=True)
store.claim(sys.argv[2], {"mark": "m1"}).addCallback(lambda kept: print(kept, flush=True))
sys.stdin.readline()
os._exit(9)
"""


class _FileCase(SynchronousTestCase):
    """A store in files, and another one on the same directory."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory(dir=SHM)
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name, "queue", "once")
        self.files, self.second = self.make(), self.make()
        self.store: IOnceStore = self.files
        self.other: IOnceStore = self.second

    def make(self) -> FileOnceStore:
        store = FileOnceStore(str(self.directory), InlineThreads(), durable=True)
        self.addCleanup(lambda: self.successResultOf(store.stop()))
        return store

    def records(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir() if len(path.name) == 64)

    def claim(self, store: IOnceStore, note: Any = NOTE, place: str = PLACE) -> Kept | None:
        kept: Kept | None = self.successResultOf(store.claim(place, note))
        return kept


class FileOnceTests(OnceContract, _FileCase):
    """The store in files."""

    def test_an_answer_may_be_a_text(self) -> None:
        self.claim(self.store)
        self.successResultOf(self.store.answer(PLACE, NOTE, "c2VhbGVk"))
        self.assertEqual(self.claim(self.other), Kept(note=NOTE, answer="c2VhbGVk"))


class SealedFileOnceTests(OnceContract, _FileCase):
    """The same, with answers encrypted."""

    def setUp(self) -> None:
        super().setUp()
        self.store, self.other = (
            SealedOnceStore(each, make_cipher(whole=True)) for each in (self.store, self.other)
        )

    def test_no_recipient_is_on_the_disk(self) -> None:
        self.claim(self.store)
        detail = {"recipients": [{"address": "someone@example.test"}]}
        self.successResultOf(self.store.answer(PLACE, NOTE, {**ANSWER, "detail": detail}))
        self.assertNotIn(b"someone", (self.directory / PLACE).read_bytes())

    def test_what_no_key_opens_was_answered_all_the_same(self) -> None:
        self.claim(self.store)
        self.successResultOf(self.store.answer(PLACE, NOTE, ANSWER))
        cipher = attrs.evolve(make_cipher(whole=True), keys=(b"another key 1234",))
        kept = self.claim(SealedOnceStore(self.files, cipher))
        self.assertEqual(kept, Kept(note=NOTE, answer={}))


class FileOnceOwnTests(_FileCase):
    """What only files have."""

    def setUp(self) -> None:
        super().setUp()
        self.old_mask = os.umask(0)
        self.addCleanup(os.umask, self.old_mask)

    def test_nothing_is_touched_before_a_request_has_a_key(self) -> None:
        self.assertEqual(self.successResultOf(self.files.sweep(1e12, 0.0)), 0)
        self.successResultOf(self.files.stop())
        self.assertFalse(self.directory.parent.exists())

    def test_all_is_its_owners_alone(self) -> None:
        self.claim(self.store)
        self.successResultOf(self.store.answer(PLACE, NOTE, ANSWER))
        self.claim(self.store, place="0b" * 32)
        modes = {path.name: path.stat().st_mode & 0o777 for path in self.directory.rglob("*")}
        modes[""] = self.directory.stat().st_mode & 0o777
        self.assertEqual(set(modes.values()), {0o600, 0o700}, modes)
        self.assertEqual(modes[PLACE], 0o600)

    def test_the_dead_hold_nothing(self) -> None:
        words = [sys.executable, "-c", _DIES, str(self.directory), PLACE]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin
            assert process.stdout
            self.assertEqual(process.stdout.readline(), b"None\n")
            self.assertEqual(self.claim(self.store, OTHER), Kept(note={"mark": "m1"}, alive=True))
            process.stdin.write(b"\n")
            process.stdin.flush()
            process.wait(10)
        self.assertEqual(self.claim(self.store, OTHER), Kept(note={"mark": "m1"}))

    def test_a_claim_that_is_not_durable_is_none(self) -> None:
        for failing in ("sync_files", "sync_directory"):
            with patch.object(commit, failing, side_effect=OSError(5, "I/O error")):
                self.failureResultOf(self.store.claim(PLACE, NOTE), StoreError)
            self.assertEqual(self.records(), [], failing)
            self.assertIsNone(self.claim(self.other, OTHER))
            self.successResultOf(self.other.release(PLACE))

    def test_names_are_synced_before_a_claim_counts(self) -> None:
        seen: list[list[str]] = []

        def watched(path: str) -> None:
            seen.append(self.records())
            atomic.sync_directory(path)

        with patch.object(commit, "sync_directory", watched):
            claim = self.store.claim(PLACE, NOTE)
        self.successResultOf(claim)
        self.assertEqual(seen, [[PLACE]])

    def test_an_answer_that_is_not_durable_leaves_the_place_taken(self) -> None:
        self.claim(self.store)
        with patch.object(commit, "sync_files", side_effect=OSError(28, "full")):
            self.failureResultOf(self.store.answer(PLACE, NOTE, ANSWER), StoreError)
        self.assertEqual(self.claim(self.other, OTHER), Kept(note=NOTE, alive=True))
        self.store.leave(PLACE)
        self.assertEqual(self.claim(self.other, OTHER), Kept(note=NOTE))

    def test_what_a_power_cut_emptied_stays_taken(self) -> None:
        self.directory.mkdir(parents=True)
        for content, kept in ((b"", Kept(note={})), (b"{}\n[1]\n", Kept(note={}, answer={}))):
            (self.directory / PLACE).write_bytes(content)
            self.assertEqual(self.claim(self.store), kept)

    def test_a_disk_that_can_not_be_used_refuses(self) -> None:
        self.directory.parent.mkdir()
        self.directory.write_bytes(b"in the way")
        self.failureResultOf(self.store.claim(PLACE, NOTE), StoreError)

    def test_who_has_stopped_refuses(self) -> None:
        threads = InlineThreads()
        store = FileOnceStore(str(self.directory), threads, durable=True)
        self.successResultOf(threads.stop())
        self.failureResultOf(store.claim(PLACE, NOTE), StoreError)

    def test_old_records_are_forgotten_and_no_others(self) -> None:
        places = [f"{number:064x}" for number in range(4)]
        for place in places:
            self.claim(self.store, place=place)
        for place in places[:2]:
            self.successResultOf(self.store.answer(place, NOTE, ANSWER))
        self.store.leave(places[3])
        for place in (places[0], places[2], places[3]):
            os.utime(self.directory / place, (1000.0, 1000.0))
        self.assertEqual(self.successResultOf(self.second.sweep(2060.0, 60.0)), 2)
        # What is under way is never old.
        self.assertEqual(self.records(), places[1:3])
        self.assertIsNone(self.claim(self.other, OTHER, places[0]))

    def test_what_another_has_just_swept_is_not_looked_at(self) -> None:
        self.claim(self.store)
        self.successResultOf(self.store.answer(PLACE, NOTE, ANSWER))
        os.utime(self.directory / PLACE, (1000.0, 1000.0))
        swept = lambda now: self.successResultOf(self.second.sweep(now, 500.0, 30.0))  # noqa: E731
        self.assertEqual(self.successResultOf(self.files.sweep(1480.0, 500.0, 30.0)), 0)
        self.assertEqual(swept(1509.0), 0)
        self.assertEqual(self.records(), [PLACE])
        self.assertEqual(swept(1510.0), 1)

    def test_a_sweep_in_a_time_yet_to_come_holds_up_nobody(self) -> None:
        self.claim(self.store)
        self.successResultOf(self.store.answer(PLACE, NOTE, ANSWER))
        self.successResultOf(self.files.sweep(1e12, 1e12, 30.0))
        os.utime(self.directory / PLACE, (1000.0, 1000.0))
        self.assertEqual(self.successResultOf(self.second.sweep(2000.0, 500.0, 30.0)), 1)

    def test_requests_under_way_keep_no_file_open(self) -> None:
        self.claim(self.store)
        before = len(os.listdir("/proc/self/fd"))
        for number in range(20):
            self.claim(self.store, place=f"{number:064x}")
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_a_burst_of_claims_opens_few_files_at_a_time(self) -> None:
        threads, seen = HeldThreads(), []
        store = FileOnceStore(str(self.directory), threads, durable=True)

        def watched(files: list[int], drafts: list[int]) -> None:
            seen.append(len(files) + len(drafts))

        claims = [store.claim(f"{number:064x}", NOTE) for number in range(100)]
        with patch.object(commit, "sync_files", watched):
            threads.go()
        self.assertEqual([self.successResultOf(claim) for claim in claims], [None] * 100)
        self.assertEqual(max(seen), 32)
        stopped = store.stop()
        threads.go()
        self.successResultOf(stopped)

    def test_a_full_disk_keeps_nobody_from_leaving(self) -> None:
        self.claim(self.store)
        with patch("os.write", side_effect=OSError(28, "full")):
            self.store.leave(PLACE)
        self.assertEqual(self.claim(self.other, OTHER), Kept(note=NOTE))

    def test_what_can_t_be_left_is_alive_for_others_until_the_end(self) -> None:
        self.claim(self.store)
        with patch("os.ftruncate", side_effect=OSError(5, "I/O error")):
            self.store.leave(PLACE)
        self.assertEqual(self.claim(self.store, OTHER), Kept(note=NOTE))
        self.assertEqual(self.claim(self.other, OTHER), Kept(note=NOTE, alive=True))
        self.successResultOf(self.store.stop())
        self.assertEqual(self.claim(self.other, OTHER), Kept(note=NOTE))

    def test_who_leaves_harms_no_others_record(self) -> None:
        self.claim(self.store)
        (self.directory / PLACE).unlink()
        self.claim(self.other, OTHER)
        self.store.leave(PLACE)
        self.assertEqual(self.claim(self.store), Kept(note=OTHER, alive=True))

    def test_a_sweep_clears_up_after_the_dead(self) -> None:
        self.claim(self.store)
        left = self.directory / "tmp" / "dead"
        left.mkdir()
        (left / "draft").write_bytes(b"x")
        self.successResultOf(self.files.sweep(60.0, 60.0))
        self.assertFalse(left.exists())
        self.assertIsNone(self.claim(self.store, place="0c" * 32))
