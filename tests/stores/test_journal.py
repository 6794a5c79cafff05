# SPDX-License-Identifier: MIT
"""The journal of mail states, and its reader in another process."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.queuestate import FRESH, MailState
from smtpmailer.errors import StoreError
from smtpmailer.stores import journal as module
from smtpmailer.stores.journal import Journal, JournalReader
from tests.stores.queues import make_place, name_at, tried_state

ONE, TWO, THREE = (name_at(n, n) for n in (1, 2, 3))
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class JournalTests(SynchronousTestCase):
    """One process's journal."""

    def setUp(self) -> None:
        self.path = Path(make_place(self).root, "journal")
        self.journals: list[Journal] = []
        self.journal = self.opened()

    def opened(self) -> Journal:
        """Open the file as a new process would, once what the others were told is written."""
        for journal in self.journals:
            if journal.is_open:
                journal.fileno()
        self.journals.append(Journal(str(self.path)))
        self.journals[-1].open()
        self.addCleanup(self.journals[-1].close)
        return self.journals[-1]

    def written(self) -> bytes:
        """Give what is in the file when the journal is about to be synced."""
        self.journal.fileno()
        return self.path.read_bytes()

    def test_lines_are_written_together_when_they_are_to_be_synced(self) -> None:
        with mock.patch("os.pwrite", wraps=os.pwrite) as pwrite:
            for name in (ONE, TWO):
                self.journal.record(name, tried_state(), claimed=True)
            self.journal.record_done(THREE)
            self.assertEqual((pwrite.call_count, self.path.stat().st_size), (0, 0))
            self.journal.fileno()
            self.journal.fileno()
            self.assertEqual(pwrite.call_count, 1)
        self.assertEqual(len(self.path.read_bytes().splitlines()), 3)

    def test_what_nobody_waits_for_is_written_at_once_and_in_order(self) -> None:
        self.journal.record(ONE, tried_state(), claimed=True)
        self.journal.record(TWO, FRESH, claimed=True)
        self.journal.forget(ONE)
        self.assertEqual(len(self.path.read_bytes().splitlines()), 3)
        self.assertEqual(list(self.opened()), [TWO])

    def test_where_the_reserved_space_ends_the_order_stays(self) -> None:
        """Lines that were not written yet come before the one for which there may be no space."""
        real = module._fallocate

        def scarce(handle: int, mode: int, start: Any, length: Any) -> int:
            return -1 if start.value or length.value > 20_000 else real(handle, mode, start, length)

        self.patch(module, "_fallocate", scarce)
        self.journal.rewrite()
        names = [name_at(number) for number in range(200)]
        for name in names:
            self.journal.record(name, tried_state(), claimed=True)
        again = self.opened()
        self.assertEqual((list(again), again.damaged), (names, 0))

    def test_what_is_not_written_is_when_it_is_closed(self) -> None:
        self.journal.record(ONE, tried_state(), claimed=True)
        self.journal.close()
        self.assertEqual(list(self.opened()), [ONE])
        with mock.patch("os.pwrite", side_effect=FULL):
            self.journals[-1].record(TWO, FRESH, claimed=True)
            self.journals[-1].close()
        self.assertFalse(self.journals[-1].is_open)
        self.journals[-1].open()
        self.journals[-1].record(THREE, FRESH, claimed=True)
        self.assertEqual(sorted(self.opened()), [ONE, THREE])

    def test_what_could_not_be_written_is_not_lost(self) -> None:
        """It is written with the next try, or into the file that is begun instead."""
        for distrust in (False, True):
            self.setUp()
            self.journal.record(ONE, tried_state(), claimed=True)
            self.written()
            self.journal.record(TWO, tried_state(), claimed=True)
            with mock.patch("os.pwrite", side_effect=FULL), self.assertRaises(OSError):
                self.journal.fileno()
            if distrust:
                self.journal.distrust()
            self.journal.record(THREE, tried_state(), claimed=True)
            again = self.opened()
            self.assertEqual((sorted(again), again.damaged), ([ONE, TWO, THREE], 0))

    def test_a_line_s_length_is_known(self) -> None:
        for raw in (b"null", b'"done"', b'{"claimed":true}'):
            self.assertEqual(module._length(ONE, raw), len(module._line(ONE, raw)))

    def test_the_last_record_of_a_name_counts(self) -> None:
        self.journal.record(ONE, tried_state(), claimed=True)
        self.journal.record(ONE, tried_state(next_at=5.0), claimed=False)
        self.journal.record(TWO, FRESH, claimed=True)
        self.journal.record_done(THREE)
        again = self.opened()
        self.assertEqual(again.state(ONE), tried_state(next_at=5.0))
        self.assertEqual([again.is_claimed(n) for n in (ONE, TWO, THREE)], [False, True, False])
        self.assertEqual(sorted(again), [ONE, TWO])
        self.assertNotIn(THREE, again)
        self.assertEqual([again.is_done(n) for n in (ONE, TWO, THREE)], [False, False, True])
        self.assertEqual(again.done_names(), [THREE])
        self.assertEqual(again.damaged, 0)

    def test_forget_takes_states_and_done_away(self) -> None:
        self.journal.record(ONE, tried_state(), claimed=True, note="x")
        self.journal.record_done(TWO)
        size = len(self.written())
        self.journal.forget(THREE)
        self.assertEqual(self.path.stat().st_size, size)
        self.journal.forget(ONE)
        self.journal.forget(TWO)
        again = self.opened()
        self.assertEqual((list(again), again.done_names()), ([], []))
        self.assertEqual((again.state(ONE), again.note_of(ONE)), (FRESH, ""))

    def test_a_note_s_id_stays_with_its_name(self) -> None:
        self.journal.record(ONE, FRESH, claimed=True, note="first")
        self.journal.record(ONE, tried_state(), claimed=False)
        self.assertEqual(self.opened().note_of(ONE), "first")
        self.journal.record(ONE, FRESH, claimed=True, note="second")
        self.assertEqual(self.opened().note_of(ONE), "second")

    def test_a_torn_last_line_is_overwritten_at_every_length(self) -> None:
        self.journal.record(ONE, tried_state(), claimed=True)
        whole = self.written()
        self.journal.record(TWO, tried_state(), claimed=True)
        both = self.written()
        for size in range(len(whole), len(both)):
            self.path.write_bytes(both[:size])
            again = self.opened()
            self.assertEqual((list(again), again.damaged), ([ONE], 0))
            again.record(THREE, FRESH, claimed=True)
            again = self.opened()
            self.assertEqual((list(again), again.damaged), ([ONE, THREE], 0), size)

    def test_a_damaged_line_costs_only_itself_and_is_counted(self) -> None:
        for name in (ONE, TWO, THREE):
            self.journal.record(name, tried_state(), claimed=True)
        lines = self.written().splitlines(keepends=True)
        for place in (0, 9, 60, len(lines[1]) - 2):
            damaged = bytearray(lines[1])
            damaged[place] ^= 1
            self.path.write_bytes(b"".join((lines[0], damaged, lines[2])))
            again = self.opened()
            self.assertEqual((sorted(again), again.damaged), ([ONE, THREE], 1), place)

    def test_a_state_of_another_version_is_held(self) -> None:
        line = module._line(ONE, b'{"settled":[["a","future",0,"",""]]}')
        self.path.write_bytes(line)
        self.assertNotEqual(self.opened().state(ONE).held, "")

    def test_a_full_disk_in_the_middle_of_a_line_changes_nothing(self) -> None:
        """Where no space could be reserved, who asks for it is told."""
        self.patch(module, "_fallocate", lambda *_: -1)
        self.journal.rewrite()
        self.journal.record(ONE, tried_state(), claimed=True)
        real = os.pwrite

        def half(handle: int, data: bytes, offset: int) -> int:
            if len(data) < 60:
                raise FULL
            return real(handle, data[: len(data) // 2], offset)

        with mock.patch("os.pwrite", half), self.assertRaises(OSError):
            self.journal.record(TWO, tried_state(), claimed=True)
        self.assertNotIn(TWO, self.journal)
        self.journal.record(THREE, FRESH, claimed=True)
        again = self.opened()
        self.assertEqual((sorted(again), again.damaged), ([ONE, THREE], 0))

    def test_space_is_reserved_ahead(self) -> None:
        self.journal.record(ONE, FRESH, claimed=True)
        self.written()
        found = self.path.stat()
        self.assertLess(found.st_size, 200)
        self.assertGreater(found.st_blocks * 512, 1024 * 1024)
        self.journal.rewrite()
        self.assertGreater(self.path.stat().st_blocks * 512, 1024 * 1024)

    def test_where_so_much_can_t_be_had_less_is_reserved(self) -> None:
        """On a disk that is nearly full it matters most."""
        real = module._fallocate

        def scarce(handle: int, mode: int, start: Any, length: Any) -> int:
            return -1 if length.value > 100_000 else real(handle, mode, start, length)

        with mock.patch.object(module, "_fallocate", scarce):
            self.journal.rewrite()
        blocks = self.path.stat().st_blocks * 512
        self.assertTrue(32_000 < blocks <= 100_000, blocks)
        with mock.patch.object(module, "_fallocate", return_value=-1):
            self.journal.rewrite()
            self.journal.record(ONE, FRESH, claimed=True)
        self.assertLess(self.path.stat().st_blocks * 512, 16_384)

    def test_a_rewrite_keeps_what_counts(self) -> None:
        for number in range(50):
            self.journal.record(ONE, tried_state(next_at=number), claimed=True, note="n")
        self.journal.record_done(TWO)
        self.journal.record(THREE, FRESH, claimed=True)
        self.journal.drop(THREE)
        self.journal.rewrite()
        self.assertEqual(len(self.path.read_bytes().splitlines()), 2)
        self.journal.record(THREE, FRESH, claimed=False)
        again = self.opened()
        self.assertEqual(again.state(ONE), tried_state(next_at=49))
        self.assertEqual((again.is_claimed(ONE), again.note_of(ONE)), (True, "n"))
        self.assertTrue(again.is_done(TWO))
        self.assertIn(THREE, again)

    def test_a_rewrite_is_due_when_most_is_outdated(self) -> None:
        with mock.patch.object(module, "MIN_REWRITE_BYTES", 5000):
            self.journal.open()
            while not self.journal.wants_rewrite():
                self.journal.record(ONE, FRESH, claimed=True)
            self.assertGreater(len(self.written()), 5000)
            self.journal.rewrite()
            self.assertFalse(self.journal.wants_rewrite())
            for number in range(200):
                self.journal.record(name_at(number), tried_state(), claimed=True)
            self.journal.rewrite()
            self.journal.record(ONE, FRESH, claimed=True)
            self.assertFalse(self.journal.wants_rewrite(), "little of it is outdated")

    def test_a_failed_rewrite_leaves_the_old_file_and_is_not_tried_at_once(self) -> None:
        with mock.patch.object(module, "MIN_REWRITE_BYTES", 100):
            self.journal.open()
            for _ in range(5):
                self.journal.record(ONE, tried_state(), claimed=True)
            self.assertTrue(self.journal.wants_rewrite())
            for call in ("os.fsync", "os.rename"):
                with mock.patch(call, side_effect=FULL), self.assertRaises(OSError):
                    self.journal.rewrite()
            self.assertFalse(self.journal.wants_rewrite())
        self.assertEqual(sorted(os.listdir(self.path.parent)), ["journal"])
        self.journal.record(TWO, FRESH, claimed=True)
        self.assertEqual(sorted(self.opened()), [ONE, TWO])

    def test_a_new_file_whose_name_may_be_lost_goes_on_and_is_replaced(self) -> None:
        self.journal.record(ONE, tried_state(), claimed=True)
        with mock.patch.object(module, "sync_directory", side_effect=FULL):
            for _ in range(2):
                with self.assertRaises(OSError):
                    self.journal.rewrite()
                self.assertEqual(os.fstat(self.journal.fileno()).st_ino, self.path.stat().st_ino)
            with self.assertRaises(OSError):
                self.journal.record(TWO, FRESH, claimed=True)
        before = self.path.stat().st_ino
        self.journal.record(TWO, FRESH, claimed=True)
        self.assertNotEqual(self.path.stat().st_ino, before)
        self.assertEqual(sorted(self.opened()), [ONE, TWO])

    def test_a_closed_journal_is_not_begun_anew(self) -> None:
        self.journal.close()
        before = self.path.stat().st_ino
        with self.assertRaises(StoreError):
            self.journal.rewrite()
        self.assertEqual((self.path.stat().st_ino, self.journal.is_open), (before, False))

    def test_after_a_failed_sync_no_byte_goes_to_the_same_file(self) -> None:
        self.journal.record(ONE, tried_state(), claimed=True)
        before = self.journal.fileno()
        inode = self.path.stat().st_ino
        held = os.dup(before)
        self.addCleanup(os.close, held)
        self.journal.distrust()
        with mock.patch("os.fsync", side_effect=FULL), self.assertRaises(OSError):
            self.journal.record(TWO, FRESH, claimed=True)
        self.assertNotIn(TWO, self.journal)
        self.journal.record(TWO, FRESH, claimed=True)
        self.assertNotEqual(self.path.stat().st_ino, inode)
        self.assertEqual(sorted(self.opened()), [ONE, TWO])

    def test_a_closed_journal_takes_nothing(self) -> None:
        self.journal.close()
        self.journal.close()
        self.assertFalse(self.journal.is_open)
        for attempt in (lambda: self.journal.record(ONE, FRESH, claimed=True),):
            self.assertRaises(StoreError, attempt)

    def test_its_files_are_for_their_owner_alone(self) -> None:
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        self.journal.rewrite()
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)

    def test_it_is_no_link_to_elsewhere(self) -> None:
        self.path.unlink()
        self.path.symlink_to("/etc/passwd")
        with self.assertRaises(OSError):
            Journal(str(self.path)).open()


class JournalReaderTests(SynchronousTestCase):
    """What another process sees."""

    def setUp(self) -> None:
        self.path = Path(make_place(self).root, "journal")
        self.journal = Journal(str(self.path))
        self.addCleanup(self.journal.close)
        self.reader = JournalReader(str(self.path))
        self.addCleanup(self.reader.close)

    def test_no_journal_is_an_empty_one(self) -> None:
        self.assertEqual(self.reader.read_state(ONE), (FRESH, ""))
        self.assertEqual(self.reader.names(), set())

    def test_it_follows_as_the_file_grows_and_is_begun_anew(self) -> None:
        self.journal.open()
        for number in range(20):
            state = MailState(next_at=float(number))
            self.journal.record(ONE, state, claimed=True, note=str(number))
            if number % 6 == 5:
                self.journal.rewrite()
            if number % 3 == 2:
                self.journal.record_done(TWO)
            self.journal.fileno()
            self.assertEqual(self.reader.read_state(ONE), (state, str(number)))
        self.assertEqual(self.reader.names(), {ONE, TWO})
        self.journal.forget(ONE)
        self.assertEqual(self.reader.read_state(ONE), (FRESH, ""))

    def test_half_a_line_is_read_when_it_is_whole(self) -> None:
        self.journal.open()
        self.journal.record(ONE, tried_state(), claimed=True)
        self.journal.fileno()
        whole = self.path.read_bytes()
        with self.path.open("r+b") as file:
            for size in range(len(whole)):
                file.truncate(size)
                self.assertEqual(self.reader.read_state(ONE), (FRESH, ""))
            file.write(whole)
        self.assertEqual(self.reader.read_state(ONE), (tried_state(), ""))

    def test_a_removed_journal_is_forgotten(self) -> None:
        self.journal.open()
        self.journal.record(ONE, tried_state(), claimed=True)
        self.journal.fileno()
        self.assertEqual(self.reader.names(), {ONE})
        self.path.unlink()
        self.assertEqual(self.reader.names(), set())
