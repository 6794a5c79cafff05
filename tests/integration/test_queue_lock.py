# SPDX-License-Identifier: MIT
"""The lock of a file queue, of a service that ends before a delivery of its own does."""

from __future__ import annotations

import os
import signal

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.queuestate import FRESH, MailState
from tests.children import in_child
from tests.stores.queues import NOW, document, make_place, name_at


class LockTests(SynchronousTestCase):
    """Nobody else runs the queue before the process has ended."""

    def setUp(self) -> None:
        self.place = make_place(self)
        self.queue, _ = self.place.make_queue()
        self.successResultOf(self.queue.store.start())
        self.addCleanup(lambda: self.successResultOf(self.queue.store.stop()))
        self.stopped, self.tell = os.pipe()
        for handle in (self.stopped, self.tell):
            self.addCleanup(os.close, handle)
        self.marked = MailState(in_doubt=("user@example.test",), in_doubt_since=NOW)

    def stop_in_delivery(self) -> None:
        """Be a service that is told to stop while a server owes it the final reply."""
        store = self.place.make_queue()[0].store
        name = name_at(NOW)
        self.successResultOf(store.start())
        self.successResultOf(store.put(name, document(), FRESH))
        self.assertTrue(self.successResultOf(store.acquire()))
        self.successResultOf(store.recover())
        self.successResultOf(store.claim(NOW, 1))
        self.successResultOf(store.mark(name, self.marked))
        self.successResultOf(store.stop())
        os.write(self.tell, b".")
        # Until it is killed.
        signal.pause()

    def test_a_mail_whose_final_reply_is_owed_is_taken_over_after_the_end(self) -> None:
        before: list[object] = []

        def look() -> None:
            """While the other process, stopped as it is, still lives."""
            before.append(os.read(self.stopped, 1))
            before.append(self.successResultOf(self.queue.store.acquire()))

        in_child(self.stop_in_delivery, kill_after=look)
        self.assertEqual(before, [b".", False])
        self.assertTrue(self.successResultOf(self.queue.store.acquire()))
        (claim,) = self.successResultOf(self.queue.store.recover()).claims
        self.assertEqual((claim.name, claim.state), (name_at(NOW), self.marked))
