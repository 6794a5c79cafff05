# SPDX-License-Identifier: MIT
"""The steps on a disk that fails, and what the next process makes of it."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from functools import partial
from typing import Any
from unittest import mock

from smtpmailer.core.queuestate import FRESH
from smtpmailer.errors import MailGoneOnError, NoSuchMailError, StoreError
from smtpmailer.stores import scratch
from smtpmailer.stores.commit import Batch
from smtpmailer.stores.graves import Burial
from smtpmailer.stores.recovery import recover
from tests.stores.folders import LATE, NEW, OLD, ONE, THREE, TWO, FolderCase, Steps
from tests.stores.queues import tried_state


class FailureTests(FolderCase):
    """An operation that fails leaves what was there, and may be asked for again."""

    @contextlib.contextmanager
    def failing(self, call: str, code: int, part: str = "") -> Iterator[None]:
        """Let a call of ``os``, or one of our steps, fail for paths that hold ``part``."""
        where, real = f"os.{call}", getattr(os, call, None)
        if real is None:
            where, real = f"smtpmailer.stores.scratch.{call}", getattr(scratch, call)

        def fail(*args: Any, **kwargs: Any) -> Any:
            if any(part in str(arg) for arg in args):
                raise OSError(code, os.strerror(code), str(args[0]))
            return real(*args, **kwargs)

        with mock.patch(where, fail):
            yield

    def fail_sync(self, operation: Steps, at: int) -> None:
        """Let the sync at a yield fail."""
        steps = operation(Batch())
        for _ in range(at):
            next(steps)
        with self.assertRaises(StoreError):
            steps.throw(StoreError("could not make durable"))

    def test_a_put_whose_sync_fails_is_not_in_the_queue(self) -> None:
        for at in (1, 2):
            self.fail_sync(lambda batch: self.put_one(batch, ONE, OLD, tried_state()), at)
            self.assertEqual(self.where(), {})
            self.assertEqual(os.listdir(self.place.ours / "new"), [])
            self.assertEqual(os.listdir(self.folder.scratch._own), [])

    def test_a_put_that_another_process_has_claimed_is_not_refused(self) -> None:
        steps = self.put_one(Batch(), ONE, OLD, FRESH)
        next(steps)
        next(steps)
        os.rename(self.place.waiting / ONE, self.place.claimed / ONE)
        with self.assertRaisesRegex(MailGoneOnError, f"not durable; {ONE} may be queued"):
            steps.throw(StoreError("not durable"))
        self.assertEqual(self.where(), {ONE: ["claimed"]})

    def test_a_put_that_can_t_be_taken_back_is_not_refused(self) -> None:
        steps = self.put_one(Batch(), ONE, OLD, tried_state())
        next(steps)
        next(steps)
        with self.failing("unlink", errno.EPERM, ONE), self.assertRaises(MailGoneOnError):
            steps.throw(StoreError("not durable"))
        self.assertEqual(self.where(), {ONE: ["waiting"]})
        self.assertEqual(self.folder.read(ONE).state, tried_state())

    def test_a_put_on_a_full_disk_leaves_nothing(self) -> None:
        calls = (("write", ""), ("rename", "/new/"), ("rename_new", ONE))
        for call, part in calls:
            with self.failing(call, errno.ENOSPC, part), self.assertRaises(OSError):
                self.put(state=tried_state())
            self.assertEqual(self.where(), {})
            self.assertEqual(os.listdir(self.place.ours / "new"), [])
            self.assertEqual(os.listdir(self.folder.scratch._own), [])

    def test_a_put_never_takes_another_mail_s_place(self) -> None:
        self.put()
        with self.assertRaises(StoreError):
            self.put(content=NEW)
        self.assertEqual((self.place.waiting / ONE).read_bytes(), OLD)

    def test_nor_with_a_history_that_it_has(self) -> None:
        self.put(state=tried_state())
        with self.assertRaises(StoreError):
            self.put(content=NEW, state=tried_state(next_at=5.0))
        self.assertEqual((self.place.waiting / ONE).read_bytes(), OLD)
        self.assertEqual(self.folder.state(ONE), tried_state())

    def test_the_end_of_a_run_closes_the_journal_whatever_happens(self) -> None:
        steps = self.folder.end_run(Batch())
        next(steps)
        with self.assertRaises(StoreError):
            steps.throw(StoreError("the gate can't be had"))
        self.assertFalse(self.folder.journal.is_open)

    def test_what_comes_behind_the_end_of_a_run_leaves_the_journal_to_the_next(self) -> None:
        late = self.folder.rewrite_journal(Batch())
        next(late)
        self.finish(self.folder.end_run)
        following = self.new_process()
        self.finish(lambda batch: recover(following, batch))
        inode = (self.place.ours / "journal").stat().st_ino
        for _ in late:
            pass
        self.finish(self.folder.end_run)
        self.assertEqual((self.place.ours / "journal").stat().st_ino, inode)
        self.assertFalse(self.folder.journal.is_open)

    def test_a_failed_sync_of_the_journal_begins_a_new_one(self) -> None:
        self.put()
        before = (self.place.ours / "journal").stat().st_ino
        self.fail_sync(lambda batch: self.folder.claim(batch, [ONE], LATE), 1)
        self.assertEqual(self.where(), {ONE: ["waiting"]})
        self.claim()
        self.assertNotEqual((self.place.ours / "journal").stat().st_ino, before)

    def test_a_mail_that_can_t_be_moved_keeps_no_other(self) -> None:
        self.put(ONE)
        self.put(TWO)
        with self.failing("rename", errno.EPERM, ONE):
            taken = self.claim(ONE, TWO)
        self.assertEqual([mail.name for mail in taken.mails], [TWO])
        self.assertEqual(list(taken.kept), [ONE])
        self.assertEqual(self.where(), {ONE: ["waiting"], TWO: ["claimed"]})

    def test_a_mail_that_can_t_be_read_now_goes_back(self) -> None:
        self.put()
        with self.failing("open", errno.EMFILE, str(self.place.claimed)):
            taken = self.claim()
        self.assertEqual((taken.mails, list(taken.kept)), ((), [ONE]))
        self.assertEqual(self.where(), {ONE: ["waiting"]})
        self.assertEqual([mail.fault for mail in self.claim().mails], [""])

    def test_a_mail_that_could_not_go_back_is_claimed_where_it_is(self) -> None:
        self.put()
        real = os.rename

        def only_out(old: str, new: str) -> None:
            if new == str(self.place.waiting / ONE):
                raise PermissionError(errno.EPERM, "no")
            real(old, new)

        with (
            self.failing("open", errno.EMFILE, str(self.place.claimed)),
            mock.patch("os.rename", only_out),
        ):
            self.assertEqual(list(self.claim().kept), [ONE])
        self.assertEqual(self.where(), {ONE: ["claimed"]})
        self.assertEqual([mail.name for mail in self.claim().mails], [ONE])

    def test_a_missing_directory_is_no_missing_mail(self) -> None:
        self.put(state=tried_state())
        self.place.claimed.rmdir()
        self.assertEqual(list(self.claim().kept), [ONE])
        self.place.claimed.mkdir()
        self.assertEqual(self.claim().mails[0].state, tried_state())

    def test_vanished_mails_are_left_out_and_forgotten(self) -> None:
        self.put()
        (self.place.waiting / ONE).unlink()
        taken = self.claim()
        self.assertEqual((taken.mails, taken.kept), ((), {}))
        self.assertNotIn(ONE, self.folder.journal)

    def test_another_service_s_claim_is_not_taken_for_ours(self) -> None:
        """Compat: a predecessor on the same directories claims by the same rename."""
        self.put()
        os.rename(self.place.waiting / ONE, self.place.claimed / ONE)
        self.assertEqual(self.claim().mails, ())
        self.assertEqual(self.where(), {ONE: ["claimed"]})
        self.assertNotIn(ONE, self.folder.journal)

    def test_irregular_files_are_faults_not_failures(self) -> None:
        (self.place.waiting / ONE).symlink_to("/etc/passwd")
        (self.place.waiting / TWO).mkdir()
        os.mkfifo(self.place.waiting / THREE)
        mails = self.claim(ONE, TWO, THREE).mails
        self.assertEqual([mail.name for mail in mails], [ONE, TWO, THREE])
        for mail in mails:
            self.assertIn("not a regular file", mail.fault)
            burial = Burial(mail.name, None, FRESH, self.graves, b"{}")
            self.finish(partial(self.folder.bury, burial=burial))
        self.assertEqual(self.where(), {name: ["failed"] for name in (ONE, TWO, THREE)})

    def test_a_settlement_that_failed_can_be_asked_for_again(self) -> None:
        burial = Burial(ONE, NEW, tried_state(), self.graves, b"{}")
        operations: dict[str, Steps] = {
            "done": lambda batch: self.folder.record(batch, [(ONE, None)]),
            "requeue": lambda batch: self.folder.requeue(batch, ONE, NEW, tried_state()),
            "bury": lambda batch: self.folder.bury(batch, burial),
        }
        where = {"done": {}, "requeue": {ONE: ["waiting"]}, "bury": {ONE: ["failed"]}}
        for what, operation in operations.items():
            for at in (1, 2) if what == "bury" else (1,):
                self.setUp()
                burial = Burial(ONE, NEW, tried_state(), self.graves, b"{}")
                self.put()
                self.claim()
                self.fail_sync(operation, at)
                self.finish(operation)
                self.assertEqual(self.where(), where[what], (what, at))

    def test_a_claimed_mail_that_vanished_is_no_mail(self) -> None:
        burial = Burial(ONE, NEW, FRESH, self.graves, b"{}")
        operations: tuple[Steps, ...] = (
            lambda batch: self.folder.requeue(batch, ONE, NEW, FRESH),
            lambda batch: self.folder.bury(batch, burial),
        )
        for operation in operations:
            self.put()
            self.claim()
            (self.place.claimed / ONE).unlink()
            with self.assertRaises(NoSuchMailError):
                self.finish(operation)
            self.assertEqual(self.where(), {})
            self.assertNotIn(ONE, self.folder.journal)

    def test_one_mail_that_can_t_be_removed_keeps_no_other(self) -> None:
        self.put(ONE)
        self.put(TWO)
        with self.failing("unlink", errno.EPERM, ONE):
            removed = self.finish(lambda batch: self.folder.remove(batch, [ONE, TWO]))
            self.assertEqual(removed, [TWO])
            with self.assertRaises(OSError):
                self.finish(lambda batch: self.folder.remove(batch, [ONE]))
        self.assertEqual(self.where(), {ONE: ["waiting"]})

    def test_a_replace_against_a_changed_state_changes_nothing(self) -> None:
        self.put()
        steps = self.folder.replace(Batch(), ONE, TWO, NEW)
        next(steps)
        self.claim()
        self.finish(lambda batch: self.folder.requeue(batch, ONE, None, tried_state()))
        with self.assertRaises(StopIteration) as end:
            next(steps)
        self.assertIs(end.exception.value, False)
        self.assertEqual(self.where(), {ONE: ["waiting"]})
        self.assertEqual((self.place.waiting / ONE).read_bytes(), OLD)


class RecoveryTests(FolderCase):
    """What a new process finds."""

    def test_a_damaged_journal_is_told_and_its_mails_stay_where_they_are(self) -> None:
        self.put(ONE)
        self.put(TWO)
        self.claim(ONE, TWO)
        self.folder.journal.close()
        journal = self.place.ours / "journal"
        data = bytearray(journal.read_bytes())
        data[20] ^= 1
        journal.write_bytes(data)
        found = self.recovered()
        self.assertEqual([mail.name for mail in found.claims], [TWO])
        self.assertIn("1 records are damaged", found.faults[0])
        self.assertEqual(self.where(), {ONE: ["claimed"], TWO: ["claimed"]})

    def test_a_full_disk_keeps_no_process_from_recovering(self) -> None:
        self.put()
        self.claim()
        self.folder.journal.close()
        self.folder = self.new_process()
        with mock.patch("smtpmailer.stores.journal.open_new", side_effect=OSError(28, "full")):
            found = self.finish(lambda batch: recover(self.folder, batch))
        self.assertEqual([mail.name for mail in found.claims], [ONE])
        self.assertEqual(len(found.faults), 1)
        self.finish(lambda batch: self.folder.record(batch, [(ONE, None)]))
        self.assertEqual(self.recovered().claims, [])

    def test_one_file_that_resists_keeps_no_other(self) -> None:
        for name in (ONE, TWO):
            self.put(name)
        self.claim(ONE, TWO)
        real = os.open

        def fail(path: str, *args: Any, **kwargs: Any) -> int:
            if path == str(self.place.claimed / ONE):
                raise PermissionError(errno.EACCES, "no", path)
            return real(path, *args, **kwargs)

        with mock.patch("os.open", fail):
            found = self.recovered()
        self.assertEqual([mail.name for mail in found.claims], [TWO])
        self.assertIn(ONE, found.faults[0])
        self.assertEqual([mail.name for mail in self.recovered().claims], [ONE, TWO])

    def test_a_mail_in_doubt_whose_claim_a_power_cut_undid_is_judged_as_a_claim(self) -> None:
        for name in (ONE, TWO):
            self.put(name)
        self.claim(ONE, TWO)
        marked = tried_state(in_doubt=("b@example.test",), in_doubt_since=5.0)
        self.finish(lambda batch: self.folder.record(batch, [(ONE, marked)]))
        for name in (ONE, TWO):
            os.rename(self.place.claimed / name, self.place.waiting / name)
        found = self.recovered()
        self.assertEqual([(mail.name, mail.state) for mail in found.claims], [(ONE, marked)])
        # The other one was not sent for certain: it waits.
        self.assertEqual(self.where(), {ONE: ["claimed"], TWO: ["waiting"]})
        self.assertEqual([mail.name for mail in self.recovered().claims], [ONE])

    def test_a_mail_that_went_back_in_doubt_is_no_claim(self) -> None:
        self.put()
        self.claim()
        doubtful = tried_state(next_at=9.0, in_doubt=("b@example.test",), in_doubt_since=5.0)
        self.finish(lambda batch: self.folder.requeue(batch, ONE, None, doubtful))
        found = self.recovered()
        self.assertEqual((found.claims, found.states), ([], {ONE: doubtful}))

    def test_another_mail_with_the_name_of_one_in_doubt_is_no_claim(self) -> None:
        """While the first was being delivered, or since; it brings a state of its own along."""
        self.put()
        self.claim()
        marked = tried_state(in_doubt=("b@example.test",), in_doubt_since=5.0)
        self.finish(lambda batch: self.folder.record(batch, [(ONE, marked)]))
        (self.place.waiting / ONE).write_bytes(NEW)
        found = self.recovered()
        self.assertEqual([mail.name for mail in found.claims], [ONE])
        self.assertEqual(self.where(), {ONE: ["waiting", "claimed"]})
        (self.place.claimed / ONE).unlink()
        (self.place.waiting / ONE).unlink()
        self.put(state=tried_state())
        self.assertEqual(self.recovered().claims, [])
        self.assertEqual(self.where(), {ONE: ["waiting"]})

    def test_a_mail_in_doubt_that_can_t_be_taken_back_is_named(self) -> None:
        self.put()
        self.claim()
        marked = tried_state(in_doubt=("b@example.test",), in_doubt_since=5.0)
        self.finish(lambda batch: self.folder.record(batch, [(ONE, marked)]))
        os.rename(self.place.claimed / ONE, self.place.waiting / ONE)
        with mock.patch("os.rename", side_effect=PermissionError(errno.EPERM, "no", ONE)):
            found = self.recovered()
        self.assertEqual((found.claims, found.states), ([], {ONE: marked}))
        self.assertIn(ONE, found.faults[0])

    def test_of_two_copies_on_two_disks_the_claimed_one_counts(self) -> None:
        self.put()
        self.claim()
        (self.place.waiting / ONE).write_bytes(OLD)
        with mock.patch("smtpmailer.stores.recovery._apart", return_value=True):
            found = self.recovered()
        self.assertEqual([mail.name for mail in found.claims], [ONE])
        self.assertEqual(self.where(), {ONE: ["claimed"]})

    def test_of_two_copies_of_a_returned_mail_the_waiting_one_counts(self) -> None:
        self.put()
        self.claim()
        self.finish(lambda batch: self.folder.requeue(batch, ONE, NEW, tried_state()))
        (self.place.claimed / ONE).write_bytes(OLD)
        found = self.recovered()
        self.assertEqual((found.claims, found.states), ([], {ONE: tried_state()}))
        self.assertEqual(self.where(), {ONE: ["waiting"]})
        self.assertEqual((self.place.waiting / ONE).read_bytes(), NEW)

    def test_states_of_mails_that_are_nowhere_are_dropped(self) -> None:
        self.put()
        self.claim()
        (self.place.claimed / ONE).unlink()
        self.recovered()
        self.assertNotIn(ONE, self.folder.journal)
        self.assertEqual((self.place.ours / "journal").read_bytes(), b"")

    def test_a_rewrite_keeps_what_is_done_until_the_file_is_gone(self) -> None:
        for name in (ONE, TWO):
            self.put(name)
        self.claim(ONE, TWO)
        for name in (ONE, TWO):
            self.finish(partial(self.folder.record, changes=[(name, None)]))
        (self.place.claimed / ONE).write_bytes(OLD)
        self.finish(self.folder.rewrite_journal)
        self.assertEqual(self.folder.journal.done_names(), [ONE])
