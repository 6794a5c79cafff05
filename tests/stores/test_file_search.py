# SPDX-License-Identifier: MIT
"""Finding a mail among files that others may have put there."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.lookup import Wanted
from smtpmailer.core.names import name_of_file
from smtpmailer.core.queued import FoundMail, MailPlace
from smtpmailer.errors import StoreError
from tests.stores.queues import NOW, HeldThreads, document, make_place, name_at, tried_state

_ID = f"{1:016x}"


class FileSearchTests(SynchronousTestCase):
    """Beyond what the contract asks of every store."""

    def setUp(self) -> None:
        self.place = make_place(self)
        self.queue, _ = self.place.make_queue()
        self.successResultOf(self.queue.store.start())
        self.addCleanup(lambda: self.successResultOf(self.queue.store.stop()))
        self.name = name_at(NOW, 1)

    def find(self) -> FoundMail:
        return self.successResultOf(self.queue.search.find(Wanted(_ID)))

    def test_a_link_is_not_followed_and_no_directory_is_named(self) -> None:
        secret = self.place.root / "secret"
        secret.write_text('{"subject": "zebra"}')
        places = {
            MailPlace.WAITING: self.place.waiting,
            MailPlace.SENDING: self.place.claimed,
            MailPlace.DEAD: self.place.failed,
            MailPlace.QUARANTINE: self.place.failed / "quarantine",
        }
        for place, directory in places.items():
            link = directory / self.name
            link.symlink_to(secret)
            found = self.find()
            self.assertEqual((found.place, found.mail.document), (place, ""))
            self.assertEqual(found.mail.fault, f"{self.name} is not a regular file")
            link.unlink()

    def test_another_process_finds_what_the_one_that_runs_the_queue_has(self) -> None:
        store = self.queue.store
        self.successResultOf(store.put(self.name, document(), tried_state()))
        self.successResultOf(store.acquire())
        self.successResultOf(store.recover())
        (claimed,) = self.successResultOf(store.claim(NOW, 1))
        self.successResultOf(store.mark(self.name, claimed.state))
        other, _ = self.place.make_queue()
        found = self.successResultOf(other.search.find(Wanted(_ID, name_of_file(self.name))))
        self.assertEqual(found, FoundMail(place=MailPlace.SENDING, mail=claimed))

    def test_it_looks_in_a_thread(self) -> None:
        threads = HeldThreads()
        queue, _ = self.place.make_queue(threads)
        (self.place.waiting / self.name).write_text('{"subject": "x"}')
        found: Deferred[FoundMail] = queue.search.find(Wanted(_ID))
        self.assertNoResult(found)
        threads.go()
        self.assertEqual(self.successResultOf(found).mail.name, self.name)

    def test_a_directory_that_can_not_be_read_is_a_fault_of_the_store(self) -> None:
        for path in self.place.claimed.iterdir():
            path.unlink()
        self.place.claimed.rmdir()
        self.failureResultOf(self.queue.search.find(Wanted(_ID)), StoreError)
