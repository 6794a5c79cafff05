# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.stores.rescue and the leftovers it takes in."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.model import Outcome, RecipientOutcome
from smtpmailer.core.queued import Settlement
from smtpmailer.core.queuestate import FRESH, MailState
from smtpmailer.errors import NoSuchMailError, StoreError
from smtpmailer.stores.filequeue import QueueDirectories
from smtpmailer.stores.files import FileQueueStore
from smtpmailer.stores.rescue import Found, Rescuer
from tests.stores.queues import NOW, HandWatch, Place, make_place
from tests.stores.test_contract import make_cipher

_NAME = "mail_0000000001657084500.39823600_9e51fa6fad25da44.json"
_NEGATIVE = "mail_00000000000000000-5.39823600_9e51fa6fad25da44.json"
_MAIL = {"to": ["a@example.test"], "ccList": [], "bccList": [], "subject": "s", "body": "b"}
_DELIVERED = RecipientOutcome(recipient="a@example.test", outcome=Outcome.DELIVERED)


class _RescueCase(SynchronousTestCase):
    """A queue's directories, and a rescuer that reads anything with a subject."""

    def setUp(self) -> None:
        self.place: Place = make_place(self)
        for path in (self.place.waiting, self.place.claimed):
            path.mkdir(parents=True, exist_ok=True)
        self.cipher = make_cipher()
        self.directories = QueueDirectories(
            waiting=str(self.place.waiting),
            claimed=str(self.place.claimed),
            failed=str(self.place.failed),
        )
        self.rescuer = self.make()

    def make(self) -> Rescuer:
        rescuer = Rescuer(self.directories, self.cipher.open, _judge, durable=True)
        self.addCleanup(rescuer.close)
        return rescuer

    def write(self, path: Path, document: Any = _MAIL, *, at: float = NOW) -> Path:
        """Put a file somewhere."""
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        path.write_bytes(content)
        os.utime(path, (at, at))
        return path

    def run_queue(self) -> tuple[FileQueueStore, HandWatch]:
        """Run the queue, as a service would."""
        files, watch = self.place.make_queue()
        self.successResultOf(files.store.start())
        self.assertTrue(self.successResultOf(files.store.acquire()))
        self.successResultOf(files.store.recover())
        return files.store, watch

    def waiting(self) -> list[str]:
        return sorted(path.name for path in self.place.waiting.glob("mail_*"))

    def everything(self) -> dict[str, bytes]:
        """Give every file below, by path."""
        files = (path for path in self.place.root.rglob("*") if path.is_file())
        return {str(path): path.read_bytes() for path in files}


class FindTests(_RescueCase):
    """What the predecessor stranded is found, and nothing else; looking changes nothing."""

    def test_nothing_is_found_where_nothing_is(self) -> None:
        self.write(self.place.waiting / _NAME)
        for path in (self.place.claimed / "other.txt", self.place.root / "mailbox.json"):
            self.write(path)
        self.assertEqual(self.rescuer.find(), [])

    def test_directories_that_do_not_exist_hold_nothing(self) -> None:
        self.place.claimed.rmdir()
        self.place.waiting.rmdir()
        self.assertEqual((self.rescuer.find(), self.rescuer.find_quarantined()), ([], []))

    def test_a_mail_among_those_being_sent_is_found(self) -> None:
        path = self.write(self.place.claimed / _NAME)
        (found,) = self.rescuer.find()
        self.assertEqual((found.path, found.name, found.mail), (str(path), _NAME, _MAIL))
        self.assertEqual((found.written_at, found.fault), (NOW, ""))
        self.assertIn("was being sent", found.why)

    def test_mails_beside_the_directories_are_found(self) -> None:
        for prefix in ("mail", "temp"):
            self.write(
                self.place.root / f"{prefix}{_NAME}".replace("39823600", f"{ord(prefix[0])}")
            )
        names = [found.name for found in self.rescuer.find()]
        self.assertEqual(names, [_NAME.replace("39823600", part) for part in ("109", "116")])

    def test_the_predecessors_usual_prefix_is_known_beside_any_directory(self) -> None:
        waiting = self.place.root / "other" / "waiting"
        waiting.mkdir(parents=True)
        path = self.write(waiting.parent / f"mail{_NAME}")
        self.directories = attrs.evolve(self.directories, waiting=str(waiting))
        self.assertEqual([found.path for found in self.make().find()], [str(path)])

    def test_a_negative_time_becomes_that_of_the_writing(self) -> None:
        paths = [
            self.write(self.place.waiting / _NEGATIVE, at=NOW + 1),
            self.write(self.place.claimed / _NEGATIVE, at=NOW + 2),
            self.write(self.place.root / f"mail{_NEGATIVE}", at=NOW + 3),
        ]
        found = self.rescuer.find()
        self.assertEqual([each.path for each in found], list(map(str, paths)))
        expected = [
            f"mail_000000000170000000{second}.00000000_9e51fa6fad25da44.json"
            for second in (1, 2, 3)
        ]
        self.assertEqual([each.name for each in found], expected)

    def test_claims_of_ours_are_not_found_whether_the_process_lives_or_died(self) -> None:
        store, _ = self.run_queue()
        self.successResultOf(store.put(_NAME, _MAIL, FRESH))
        self.successResultOf(store.claim(NOW, 10))
        other = self.write(self.place.claimed / _NAME.replace("9e51", "ffff"))
        self.assertEqual([each.path for each in self.rescuer.find()], [str(other)])
        store._lock.release()
        self.assertEqual([each.path for each in self.make().find()], [str(other)])

    def test_encrypted_mails_are_read(self) -> None:
        whole = attrs.evolve(self.cipher, whole=True)
        sealed = whole.seal(_MAIL)
        assert isinstance(sealed, str)
        self.write(self.place.claimed / _NAME, sealed.encode())
        (found,) = self.rescuer.find()
        self.assertEqual((found.mail, found.fault), (_MAIL, ""))

    def test_what_can_not_be_read_is_found_with_the_reason(self) -> None:
        broken = {
            "a": b'{"subject": "Hel',
            "b": b"",
            "c": b"bm90IG91cnM=",
            "d": b'{"nosubject": 1}',
        }
        for unique, content in broken.items():
            self.write(self.place.claimed / f"mail_1.1_{unique}.json", content)
        (self.place.claimed / "mail_1.1_e.json").mkdir()
        (self.place.claimed / "mail_1.1_f.json").symlink_to("/etc/hostname")
        found = self.rescuer.find()
        self.assertEqual(len(found), 6)
        self.assertTrue(all(each.fault for each in found), found)
        self.assertEqual([each.mail for each in found].count(None), 5)

    def test_what_lies_above_may_be_closed_to_us(self) -> None:
        self.write(self.place.claimed / _NAME)
        listdir = os.listdir

        def guarded(path: str) -> list[str]:
            if path == str(self.place.root):
                raise PermissionError(13, "Permission denied", path)
            return listdir(path)

        self.patch(os, "listdir", guarded)
        self.assertEqual(len(self.rescuer.find()), 1)

    def test_looking_changes_nothing(self) -> None:
        self.write(self.place.claimed / _NAME)
        self.write(self.place.waiting / _NEGATIVE)
        before = self.everything()
        self.rescuer.find()
        self.rescuer.find_quarantined()
        self.rescuer.close()
        self.assertEqual(self.everything(), before)
        self.assertFalse((self.place.waiting / ".smtpmailer").exists())


class TakeTests(_RescueCase):
    """Each is moved into the queue as it is, or stays where it is."""

    def take_all(self) -> None:
        for found in self.rescuer.find():
            self.rescuer.take(found)

    def test_all_wait_under_proper_names_with_their_content(self) -> None:
        self.write(self.place.claimed / _NAME)
        self.write(self.place.waiting / _NEGATIVE, {"subject": "n"})
        self.write(self.place.root / f"mail{_NAME}".replace("9e51", "ffff"), {"subject": "m"})
        self.take_all()
        names = self.waiting()
        self.assertEqual(len(names), 3)
        subjects = [
            json.loads((self.place.waiting / name).read_bytes())["subject"] for name in names
        ]
        self.assertEqual(subjects, ["s", "m", "n"])
        self.assertEqual(self.rescuer.find(), [])

    def test_what_can_not_be_read_is_taken_in_too(self) -> None:
        """The service puts it into quarantine, with an error in its log."""
        self.write(self.place.claimed / _NAME, b"{")
        self.take_all()
        self.assertEqual(self.waiting(), [_NAME])

    def test_a_running_service_notices_and_sends_it(self) -> None:
        store, watch = self.run_queue()
        self.write(self.place.claimed / _NAME)
        self.take_all()
        watch.changed(_NAME)
        (claimed,) = self.successResultOf(store.claim(NOW, 10))
        self.assertEqual((claimed.name, claimed.document), (_NAME, _MAIL))

    def test_a_mail_that_a_service_has_in_hand_by_now_is_not_touched(self) -> None:
        self.write(self.place.claimed / _NAME)
        (found,) = self.rescuer.find()
        self.rescuer.take(found)
        store, _ = self.run_queue()
        self.successResultOf(store.claim(NOW, 10))
        self.assertRaises(NoSuchMailError, self.make().take, found)
        self.assertTrue((self.place.claimed / _NAME).exists())

    def test_names_change_under_the_gate_and_durably(self) -> None:
        self.write(self.place.claimed / _NAME)
        (found,) = self.rescuer.find()
        steps: list[str] = []
        rename, fsync = os.rename, os.fsync

        def noting_rename(source: str, target: str) -> None:
            with (self.place.ours / "gate").open() as gate:
                self.assertRaises(BlockingIOError, fcntl.flock, gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
            steps.append("rename")
            rename(source, target)

        def noting_sync(handle: int) -> None:
            steps.append(Path(f"/proc/self/fd/{handle}").readlink().name)
            fsync(handle)

        self.rescuer._folder.prepare()
        self.patch(os, "rename", noting_rename)
        self.patch(os, "fsync", noting_sync)
        self.rescuer.take(found)
        self.assertEqual(steps[0], "rename")
        self.assertLessEqual({"mail", "temp"}, set(steps[1:]))

    def test_what_is_gone_meanwhile_is_told(self) -> None:
        path = self.write(self.place.claimed / _NAME)
        (found,) = self.rescuer.find()
        path.unlink()
        self.assertRaises(NoSuchMailError, self.rescuer.take, found)

    def test_another_mail_of_the_same_name_is_not_overwritten(self) -> None:
        self.write(self.place.claimed / _NAME)
        self.write(self.place.waiting / _NAME, {"subject": "other"})
        (found,) = self.rescuer.find()
        self.assertRaises(StoreError, self.rescuer.take, found)
        self.assertTrue((self.place.claimed / _NAME).exists())
        self.assertIn(b"other", (self.place.waiting / _NAME).read_bytes())

    def test_a_copy_that_a_crash_left_is_taken_for_the_same_mail(self) -> None:
        self.write(self.place.claimed / _NAME)
        self.write(self.place.waiting / _NAME)
        self.take_all()
        self.assertEqual(self.waiting(), [_NAME])
        self.assertFalse((self.place.claimed / _NAME).exists())

    def test_one_run_after_another_does_the_rest(self) -> None:
        for unique in "abc":
            self.write(self.place.claimed / f"mail_1.1_{unique}.json")
        first, *_ = self.rescuer.find()
        self.rescuer.take(first)
        self.rescuer = self.make()
        self.assertEqual(len(self.rescuer.find()), 2)
        self.take_all()
        self.assertEqual(len(self.waiting()), 3)

    def test_what_the_system_refuses_is_told_and_stays(self) -> None:
        self.write(self.place.claimed / _NAME)
        (found,) = self.rescuer.find()
        self.place.waiting.rmdir()
        self.place.waiting.write_bytes(b"")
        self.assertRaises(StoreError, self.rescuer.take, found)
        self.assertTrue((self.place.claimed / _NAME).exists())


class QuarantineTests(_RescueCase):
    """What was put aside comes back with its history."""

    def quarantine(self, state: MailState = FRESH) -> Found:
        store, _ = self.run_queue()
        self.successResultOf(store.put(_NAME, _MAIL, state))
        self.successResultOf(store.claim(NOW + 2e6, 10))
        settlement = Settlement(at=NOW, state=state, corrupt="no key fits")
        self.successResultOf(store.settle(_NAME, settlement))
        self.successResultOf(store.stop())
        (found,) = self.rescuer.find_quarantined()
        return found

    def test_it_is_found_with_the_reason(self) -> None:
        found = self.quarantine()
        self.assertEqual((found.name, found.mail, found.fault), (_NAME, _MAIL, ""))
        self.assertEqual((found.why, found.quarantined), ("in quarantine: no key fits", True))
        self.assertEqual(self.rescuer.find(), [])

    def test_it_comes_back_due_and_who_has_it_stays_settled(self) -> None:
        state = MailState(settled=(_DELIVERED,), crashes=5, next_at=NOW + 1e6, attempt_count=2)
        self.rescuer.take(self.quarantine(state))
        files, _ = self.place.make_queue()
        self.successResultOf(files.store.start())
        mail = self.successResultOf(files.store.get(_NAME))
        expected = MailState(settled=(_DELIVERED,), attempt_count=2)
        self.assertEqual((mail.document, mail.state), (_MAIL, expected))
        self.assertEqual(files.store.next_due(), 1657084500)
        self.assertEqual(self.rescuer.find_quarantined(), [])

    def test_a_record_that_can_not_be_read_loses_no_mail(self) -> None:
        self.quarantine()
        record = self.place.failed / "quarantine" / ".records" / _NAME
        for content in (b"", b"[]", b"{", b'{"why": 5, "state": 5}'):
            record.write_bytes(content)
            (found,) = self.rescuer.find_quarantined()
        self.rescuer.take(found)
        self.assertEqual(self.waiting(), [_NAME])

    def test_what_is_gone_meanwhile_is_told(self) -> None:
        found = self.quarantine()
        Path(found.path).unlink()
        self.assertRaises(NoSuchMailError, self.rescuer.take, found)
        self.assertEqual(self.waiting(), [])


def _judge(mail: Mapping[str, Any]) -> None:
    if "subject" not in mail:
        raise ValueError("no subject")
