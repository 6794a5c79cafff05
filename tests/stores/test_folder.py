# SPDX-License-Identifier: MIT
"""The steps on disk: what is there when a process ends between any two of them."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator
from unittest import mock

from smtpmailer.core.queuestate import FRESH, MailState
from smtpmailer.errors import NoSuchMailError
from smtpmailer.stores.commit import Batch
from smtpmailer.stores.graves import Burial, Graves
from tests.stores.folders import LATE, NEW, OLD, ONE, THREE, TWO, FolderCase
from tests.stores.queues import tried_state


class StoppedTests(FolderCase):
    """A process that ends between two steps leaves each mail once, or never accepted it."""

    def test_put(self) -> None:
        for count in self.stops(
            lambda: None, lambda batch: self.put_one(batch, ONE, OLD, tried_state())
        ):
            self.assertEqual(self.where(), {ONE: ["waiting"]} if count == 2 else {})
            found = self.recovered()
            self.assertEqual(found.states, {ONE: tried_state()} if count == 2 else {})
            self.assertEqual(os.listdir(self.place.ours / "new"), [ONE] if count == 2 else [])

    def test_replace(self) -> None:
        for count in self.stops(
            lambda: self.put(state=tried_state()),
            lambda batch: self.folder.replace(batch, ONE, TWO, NEW),
        ):
            name, content = (TWO, NEW) if count == 2 else (ONE, OLD)
            self.assertEqual(self.where(), {name: ["waiting"]})
            self.assertEqual((self.place.waiting / name).read_bytes(), content)
            self.assertEqual(self.recovered().states, {name: tried_state()})

    def test_remove(self) -> None:
        for count in self.stops(self.put, lambda batch: self.folder.remove(batch, [ONE])):
            self.assertEqual(self.where(), {} if count == 2 else {ONE: ["waiting"]})

    def test_claim(self) -> None:
        for _ in self.stops(
            lambda: self.put(state=tried_state()),
            lambda batch: self.folder.claim(batch, [ONE], LATE),
        ):
            self.assertEqual(self.where(), {ONE: ["waiting"]})
            self.assertEqual(self.recovered().states, {ONE: tried_state()})

    def test_done(self) -> None:
        for count in self.stops(
            self.claimed, lambda batch: self.folder.record(batch, [(ONE, None)])
        ):
            self.assertEqual(self.where(), {ONE: ["claimed"]})
            found = self.recovered()
            self.assertEqual([mail.name for mail in found.claims], [] if count else [ONE])
            self.assertEqual(self.where(), {} if count else {ONE: ["claimed"]})

    def test_requeue(self) -> None:
        state = tried_state(next_at=99.0)
        for count in self.stops(
            self.claimed, lambda batch: self.folder.requeue(batch, ONE, NEW, state)
        ):
            self.assertEqual(self.where(), {ONE: ["claimed"]})
            found = self.recovered()
            self.assertEqual(found.claims == [], count == 1)
            self.assertEqual(found.states, {ONE: state} if count else {})
            self.assertEqual(self.where(), {ONE: ["waiting"] if count else ["claimed"]})

    def test_bury(self) -> None:
        burial = Burial(ONE, NEW, tried_state(), Graves(str(self.place.failed)), b"{}")
        for count in self.stops(self.claimed, lambda batch: self.folder.bury(batch, self.burial())):
            self.assertEqual(self.where(), {ONE: ["failed"] if count == 2 else ["claimed"]})
            found = self.recovered()
            if count == 1:
                self.assertEqual([mail.state for mail in found.claims], [burial.state])
            self.assertEqual(len(found.claims), 0 if count == 2 else 1)

    def test_unbury(self) -> None:
        for count in self.stops(self.buried, self.unbury):
            self.assertEqual(self.where(), {ONE: ["waiting"] if count == 2 else ["failed"]})
            self.assertEqual(
                self.recovered().states, {ONE: MailState(crashes=2)} if count == 2 else {}
            )

    def claimed(self) -> None:
        self.put()
        self.claim()

    def burial(self) -> Burial:
        return Burial(ONE, NEW, tried_state(), self.graves, b'{"why":"x"}')

    def buried(self) -> None:
        self.claimed()
        self.finish(lambda batch: self.folder.bury(batch, self.burial()))

    def unbury(self, batch: Batch) -> Generator[None, None, None]:
        return self.folder.unbury(batch, ONE, NEW, self.graves, MailState(crashes=2))

    def test_a_revived_mail_keeps_its_note_against_an_old_journal(self) -> None:
        """The journal may not have heard yet that the mail was buried."""
        self.put()
        self.claim()
        with mock.patch.object(self.folder.journal, "forget"):
            self.finish(lambda batch: self.folder.bury(batch, self.burial()))
        self.folder.journal.close()
        other = self.new_process()
        state = MailState(crashes=2)
        self.finish(lambda batch: other.unbury(batch, ONE, NEW, self.graves, state))
        self.assertEqual(self.recovered().states, {ONE: state})
        self.assertEqual(self.claim().mails[0].state, state)

    def test_a_note_that_a_power_cut_brings_back_does_not_count_again(self) -> None:
        self.put(state=MailState(crashes=1))
        note = (self.place.ours / "new" / ONE).read_bytes()
        self.claim()
        self.finish(lambda batch: self.folder.requeue(batch, ONE, None, tried_state()))
        (self.place.ours / "new" / ONE).write_bytes(note)
        self.assertEqual(self.folder.state(ONE), tried_state())
        self.assertEqual(self.recovered().states, {ONE: tried_state()})
        self.assertEqual(self.claim().mails[0].state, tried_state())

    def test_a_done_mail_that_a_power_cut_brings_back_is_removed(self) -> None:
        for directory in ("mail", "temp"):
            self.setUp()
            self.claimed()
            self.finish(lambda batch: self.folder.record(batch, [(ONE, None)]))
            (self.place.root / directory / ONE).write_bytes(OLD)
            self.assertEqual(self.recovered().claims, [])
            self.assertEqual(self.where(), {})

    def test_after_an_orderly_end_nothing_is_taken_for_done(self) -> None:
        """Somebody may put the file back to have it sent again."""
        self.claimed()
        self.finish(lambda batch: self.folder.record(batch, [(ONE, None)]))
        self.finish(self.folder.end_run)
        (self.place.waiting / ONE).write_bytes(OLD)
        self.recovered()
        self.assertEqual(self.where(), {ONE: ["waiting"]})


class NotedTests(FolderCase):
    """Notes beside new mails, of which most queues have none."""

    def test_they_are_looked_for_only_where_there_are_any(self) -> None:
        with mock.patch.object(self.folder.notes, "read", wraps=self.folder.notes.read) as read:
            self.put(ONE)
            self.put(TWO)
            self.assertEqual(len(self.claim(ONE, TWO).mails), 2)
            self.assertEqual(read.call_count, 0)
            self.put(THREE, tried_state())
            (mail,) = self.claim(THREE).mails
            self.assertEqual((mail.state, read.call_count > 0), (tried_state(), True))

    def test_where_that_can_t_be_told_they_are_looked_for(self) -> None:
        self.put(ONE, tried_state())
        with mock.patch("os.scandir", side_effect=OSError(24, "too many")):
            (mail,) = self.claim(ONE).mails
        self.assertEqual(mail.state, tried_state())


class VanishedTests(FolderCase):
    """A claimed file that somebody takes away."""

    def test_it_is_not_kept_open(self) -> None:
        self.put()
        self.claim()
        self.assertEqual(len(self.folder.disposal._kept), 1)
        (self.place.claimed / ONE).unlink()
        with self.assertRaises(NoSuchMailError):
            self.finish(lambda batch: self.folder.requeue(batch, ONE, None, FRESH))
        self.assertEqual(self.folder.disposal._kept, {})


class VisibleTests(FolderCase):
    """What others see in the directories."""

    def test_all_that_is_made_is_for_its_owner_alone(self) -> None:
        old = os.umask(0)
        self.addCleanup(os.umask, old)
        self.setUp()
        for name in (ONE, TWO, THREE):
            self.put(name, tried_state())
        self.claim(ONE, TWO)
        burial = Burial(ONE, NEW, FRESH, self.graves, b"{}")
        self.finish(lambda batch: self.folder.bury(batch, burial))
        self.finish(lambda batch: self.folder.requeue(batch, TWO, NEW, FRESH))
        found = list(self.place.root.rglob("*"))
        self.assertGreater(len(found), 12)
        for path in found:
            mode = 0o700 if path.is_dir() else 0o600
            self.assertEqual(stat.S_IMODE(path.lstat().st_mode), mode, path)

    def test_a_listing_without_end_anchor_shows_mails_alone(self) -> None:
        """Compat: the predecessor takes every name that begins like a mail's for one."""
        seen: set[str] = set()
        real = os.rename

        def look(old: str, new: str) -> None:
            real(old, new)
            seen.update(os.listdir(self.place.waiting), os.listdir(self.place.claimed))

        with mock.patch("os.rename", look):
            self.put(state=tried_state())
            self.finish(lambda batch: self.folder.replace(batch, ONE, TWO, NEW))
            self.claim(TWO)
            self.finish(lambda batch: self.folder.requeue(batch, TWO, NEW, FRESH))
        self.assertEqual(seen, {ONE, TWO, ".smtpmailer"})
