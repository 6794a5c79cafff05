# SPDX-License-Identifier: MIT
"""What the predecessor stranded."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.names import make_file_name
from smtpmailer.core.queuestate import FRESH
from smtpmailer.errors import NoSuchMailError, StoreError
from smtpmailer.stores.content import encode
from tests.stores.queues import NOW, document, make_place, name_at

ONE, TWO, THREE = (name_at(NOW, n) for n in (1, 2, 3))
NEGATIVE = "mail_00000000000000000-5.39823600_9e51fa6fad25da44.json"
RENAMED = make_file_name(NOW - 5, "9e51fa6fad25da44")


class LeftoverTests(SynchronousTestCase):
    """Found at start, taken in when asked to."""

    def setUp(self) -> None:
        self.place = make_place(self)
        self.queue, _ = self.place.make_queue()
        self.successResultOf(self.queue.store.start())
        self.addCleanup(lambda: self.successResultOf(self.queue.store.stop()))
        mail = encode(document())
        (self.place.claimed / ONE).write_bytes(mail)
        (self.place.root / f"mail{TWO}").write_bytes(mail)
        (self.place.waiting / NEGATIVE).write_bytes(mail)
        os.utime(self.place.waiting / NEGATIVE, (NOW - 5, NOW - 5))
        (self.place.root / "mailing list.txt").write_bytes(b"")

    def run_queue(self) -> tuple[str, ...]:
        self.assertTrue(self.successResultOf(self.queue.store.acquire()))
        return self.successResultOf(self.queue.store.recover()).leftovers

    def test_they_are_found_in_every_place_and_left_there(self) -> None:
        paths = (
            str(self.place.waiting / NEGATIVE),
            str(self.place.claimed / ONE),
            str(self.place.root / f"mail{TWO}"),
        )
        self.assertEqual(self.run_queue(), paths)
        found = self.successResultOf(self.queue.find_leftovers())
        self.assertEqual(tuple(leftover.path for leftover in found), paths)
        self.assertEqual([leftover.name for leftover in found], [RENAMED, ONE, TWO])
        self.assertEqual(self.successResultOf(self.queue.store.page(9, 0)).names, ())

    def test_what_is_being_delivered_is_no_leftover(self) -> None:
        self.run_queue()
        self.successResultOf(self.queue.store.put(THREE, document(), FRESH))
        self.successResultOf(self.queue.store.claim(NOW, 9))
        other, _ = self.place.make_queue()
        for queue in (self.queue, other):
            found = self.successResultOf(queue.find_leftovers())
            self.assertEqual([leftover.name for leftover in found], [RENAMED, ONE, TWO])

    def test_rescued_ones_wait_in_the_queue(self) -> None:
        self.run_queue()
        for leftover in self.successResultOf(self.queue.find_leftovers()):
            self.successResultOf(self.queue.rescue(leftover))
            self.failureResultOf(self.queue.rescue(leftover), NoSuchMailError)
        self.assertEqual(self.successResultOf(self.queue.find_leftovers()), [])
        mails = self.successResultOf(self.queue.store.claim(NOW, 9))
        self.assertEqual([mail.name for mail in mails], [RENAMED, ONE, TWO])
        self.assertEqual([mail.document for mail in mails], [document()] * 3)

    def test_none_takes_a_waiting_mail_s_place(self) -> None:
        self.successResultOf(self.queue.store.put(ONE, document("waits"), FRESH))
        leftovers = self.successResultOf(self.queue.find_leftovers())
        self.failureResultOf(self.queue.rescue(leftovers[1]), StoreError)
        waits = self.successResultOf(self.queue.store.get(ONE))
        self.assertEqual(waits.document, document("waits"))
