# SPDX-License-Identifier: MIT
"""Two services on the same queue directories."""

from __future__ import annotations

import os

from smtpmailer.core.queuestate import MailState
from smtpmailer.errors import NoSuchMailError, StoreError
from tests.stores.queues import NOW, document, tried_state
from tests.stores.test_files import LATER, ONE, TWO, FileCase


class TwoProcessesTests(FileCase):
    """Two services on the same directories."""

    def setUp(self) -> None:
        super().setUp()
        self.first, self.first_watch = self.process()
        self.second, self.second_watch = self.process()

    def tell(self, *names: str) -> None:
        """Tell both what a watch would."""
        for name in names:
            self.first_watch.changed(name)
            self.second_watch.changed(name)

    def test_one_runs_and_the_other_takes_over(self) -> None:
        self.run_queue(self.first)
        self.assertFalse(self.successResultOf(self.second.store.acquire()))
        self.failureResultOf(self.second.store.recover(), StoreError)
        who = self.successResultOf(self.second.store.runner())
        self.assertIn(f"process {os.getpid()} on ", who)
        self.put(self.first)
        self.assertEqual(self.claimed(self.first), [ONE])
        self.successResultOf(self.first.store.release())
        recovered = self.run_queue(self.second)
        self.assertEqual([mail.name for mail in recovered.claims], [ONE])

    def test_a_first_that_stops_in_the_middle_of_a_delivery_keeps_the_queue_to_its_end(
        self,
    ) -> None:
        self.run_queue(self.first)
        self.put(self.first)
        self.claimed(self.first)
        self.successResultOf(self.first.store.stop())
        self.assertFalse(self.successResultOf(self.second.store.acquire()))
        # The delivery ends all the same, and that is recorded.
        self.settle(self.first, ONE, done=True)
        # As the end of its process does it.
        handle = self.first.store._lock._handle
        assert handle is not None
        os.close(handle)
        self.first.store._lock._handle = None
        self.assertEqual(self.run_queue(self.second).claims, ())
        self.assertEqual(self.names(self.second), [])

    def test_a_first_that_stops_with_nothing_in_hand_lets_the_second_run_at_once(self) -> None:
        self.run_queue(self.first)
        self.put(self.first)
        self.claimed(self.first)
        self.settle(self.first, ONE, done=True)
        self.successResultOf(self.first.store.stop())
        self.run_queue(self.second)

    def test_what_the_second_puts_the_first_delivers_with_its_state(self) -> None:
        self.run_queue(self.first)
        self.put(self.second, ONE, tried_state(next_at=NOW + 60))
        self.tell(ONE)
        self.assertEqual(self.claimed(self.first, NOW + 59), [])
        (mail,) = self.successResultOf(self.first.store.claim(NOW + 60, 9))
        self.assertEqual(mail.state, tried_state(next_at=NOW + 60))
        self.assertEqual(list((self.place.ours / "new").iterdir()), [])

    def test_both_lists_show_the_same(self) -> None:
        self.run_queue(self.first)
        self.put(self.first, ONE)
        self.put(self.second, TWO)
        self.tell(ONE, TWO)
        self.assertEqual(self.names(self.first), self.names(self.second))
        self.successResultOf(self.second.store.remove(ONE))
        self.assertEqual(self.claimed(self.first), [TWO])
        self.tell(ONE, TWO)
        self.assertEqual((self.names(self.first), self.names(self.second)), ([], []))
        self.settle(self.first, TWO, state=tried_state(next_at=LATER + 60))
        self.tell(TWO)
        self.assertEqual(self.names(self.second), [TWO])
        stored = self.successResultOf(self.second.store.get(TWO))
        self.assertEqual(stored.state, tried_state(next_at=LATER + 60))

    def test_a_replacement_by_the_second_keeps_what_the_first_recorded(self) -> None:
        self.run_queue(self.first)
        self.put(self.first)
        self.claimed(self.first)
        self.settle(self.first, ONE, state=tried_state(next_at=NOW))
        self.tell(ONE)
        self.successResultOf(self.second.store.replace(ONE, TWO, document("new")))
        self.tell(ONE, TWO)
        (mail,) = self.successResultOf(self.first.store.claim(LATER, 9))
        self.assertEqual((mail.name, mail.state), (TWO, tried_state()))

    def test_a_claimed_mail_is_out_of_the_second_s_reach(self) -> None:
        self.run_queue(self.first)
        self.put(self.first)
        self.tell(ONE)
        self.claimed(self.first)
        for attempt in (
            self.second.store.remove(ONE),
            self.second.store.replace(ONE, TWO, document()),
            self.second.store.get(ONE),
        ):
            self.failureResultOf(attempt, NoSuchMailError)
        self.assertEqual(self.names(self.second), [])
        self.assertEqual(self.place.names(self.place.claimed), [ONE])

    def test_after_a_takeover_each_mail_is_due_as_the_first_had_it(self) -> None:
        self.run_queue(self.first)
        self.put(self.first, ONE)
        self.put(self.first, TWO)
        self.claimed(self.first)
        self.settle(self.first, ONE, state=tried_state(next_at=LATER + 60))
        self.settle(self.first, TWO, state=MailState(held="in doubt"))
        self.tell(ONE, TWO)
        self.successResultOf(self.first.store.release())
        self.run_queue(self.second)
        self.assertEqual(self.second.store.next_due(), LATER + 60)
        self.assertEqual(self.claimed(self.second, LATER), [])
        self.assertEqual(self.claimed(self.second, LATER + 60), [ONE])
