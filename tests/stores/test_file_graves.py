# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.stores.file_graves."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.errors import MailExistsError, NoSuchMailError, StoreError
from tests.stores.queues import NOW, make_place, name_at


class FileGravesTests(SynchronousTestCase):
    """What another store had is added as it is, and lies where dead letters lie."""

    def setUp(self) -> None:
        self.place = make_place(self)
        queue, _ = self.place.make_queue()
        self.successResultOf(queue.store.start())
        self.addCleanup(lambda: self.successResultOf(queue.store.stop()))
        self.graves, self.dead = queue.graves, queue.dead
        self.name = name_at(NOW)

    def names(self) -> tuple[str, ...]:
        names: tuple[str, ...] = self.successResultOf(self.graves.page(9, 0)).names
        return names

    def test_the_same_may_be_added_again_and_another_not(self) -> None:
        for _ in range(2):
            self.successResultOf(self.graves.add(self.name, b"\xff", b"{}"))
        for content, record in ((b"\xfe", b"{}"), (b"\xff", b"[]")):
            self.failureResultOf(self.graves.add(self.name, content, record), MailExistsError)
        self.assertEqual(self.successResultOf(self.graves.read(self.name)), (b"\xff", b"{}"))
        self.assertEqual(self.names(), (self.name,))
        self.assertEqual(self.place.names(self.place.failed), [self.name])

    def test_what_was_added_is_a_dead_letter(self) -> None:
        self.successResultOf(self.graves.add(self.name, b'{"subject": "s"}', b'{"why": "x"}'))
        buried = self.successResultOf(self.dead.get_failed(self.name))
        self.assertEqual((buried.mail.document, buried.record), ({"subject": "s"}, {"why": "x"}))

    def test_it_is_removed_once(self) -> None:
        self.successResultOf(self.graves.add(self.name, b"{}", b"{}"))
        self.successResultOf(self.graves.remove(self.name))
        self.failureResultOf(self.graves.remove(self.name), NoSuchMailError)
        self.failureResultOf(self.graves.read(self.name), NoSuchMailError)
        self.assertEqual(self.names(), ())

    def test_what_is_no_name_is_no_mail(self) -> None:
        for name in ("", "nonsense", "../mail_1.5_a.json", f"../{self.name}"):
            self.failureResultOf(self.graves.read(name), NoSuchMailError)
            self.failureResultOf(self.graves.remove(name), NoSuchMailError)

    def test_pages_are_in_ascending_order(self) -> None:
        names = [name_at(NOW, number) for number in (2, 0, 1)]
        for name in names:
            self.successResultOf(self.graves.add(name, b"{}", b"{}"))
        page = self.successResultOf(self.graves.page(2, 1))
        self.assertEqual((page.names, page.total), (tuple(sorted(names)[2:]), 3))

    def test_a_directory_that_is_none_is_a_fault_of_the_store(self) -> None:
        for each in (self.place.failed / ".records", self.place.failed / "quarantine"):
            for path in (*each.rglob("*"), each):
                path.rmdir()
        self.place.failed.rmdir()
        self.place.failed.write_text("")
        self.failureResultOf(self.graves.page(9, 0), StoreError)
        self.failureResultOf(self.graves.read(self.name), StoreError)
