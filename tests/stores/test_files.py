# SPDX-License-Identifier: MIT
"""The file queue's index against other programs and other processes."""

from __future__ import annotations

import itertools
import math
import os
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.dueindex import DueIndex
from smtpmailer.core.queued import Settlement
from smtpmailer.core.queuestate import FRESH, MailState
from smtpmailer.errors import NoSuchMailError, StoreError
from smtpmailer.stores import files as module
from smtpmailer.stores import journal
from smtpmailer.stores.content import encode
from smtpmailer.stores.filequeue import FileQueue
from smtpmailer.stores.waiting import WaitingNames
from tests.stores.queues import (
    NOW,
    HandWatch,
    HeldThreads,
    document,
    make_place,
    name_at,
    tried_state,
)

ONE, TWO, THREE = (name_at(NOW - 10 + n, n) for n in (1, 2, 3))
#: After every file of these tests was written.
LATER = 1e10


class FileCase(SynchronousTestCase):
    """A place, and processes on it."""

    def setUp(self) -> None:
        self.place = make_place(self)

    def process(self, threads: Any = None, **options: Any) -> tuple[FileQueue, HandWatch]:
        queue, watch = self.place.make_queue(threads, **options)
        if threads is None:
            self.successResultOf(queue.store.start())
            self.addCleanup(lambda: self.successResultOf(queue.store.stop()))
        return queue, watch

    def run_queue(self, queue: FileQueue) -> Any:
        self.assertTrue(self.successResultOf(queue.store.acquire()))
        return self.successResultOf(queue.store.recover())

    def put(self, queue: FileQueue, name: str = ONE, state: MailState = FRESH) -> None:
        self.successResultOf(queue.store.put(name, document(), state))

    def names(self, queue: FileQueue) -> list[str]:
        return list(self.successResultOf(queue.store.page(500, 0)).names)

    def claimed(self, queue: FileQueue, now: float = LATER) -> list[str]:
        return [mail.name for mail in self.successResultOf(queue.store.claim(now, 100))]

    def settle(self, queue: FileQueue, name: str, **what: Any) -> None:
        settlement = Settlement(at=NOW, **{"state": FRESH, **what})
        self.successResultOf(queue.store.settle(name, settlement))

    def foreign(self, name: str, content: bytes | None = None) -> None:
        """Write a file as another program would."""
        path = self.place.waiting / name
        path.write_bytes(encode(document()) if content is None else content)


class ReleaseTests(FileCase):
    """What is left to the process that runs the queue next."""

    def test_a_run_that_has_ended_ends_but_once(self) -> None:
        first, _ = self.process()
        self.run_queue(first)
        self.successResultOf(first.store.release())
        second, _ = self.process()
        self.run_queue(second)
        self.put(second)
        self.claimed(second)
        self.successResultOf(first.store.release())
        self.successResultOf(first.store.stop())
        self.successResultOf(second.store.mark(ONE, tried_state(in_doubt=("a@example.test",))))
        self.assertIn('"doubt"', (self.place.ours / "journal").read_text("utf-8"))


class HiddenTests(FileCase):
    """Names that an operation of ours has in hand while the directory is read first."""

    def test_they_are_out_of_the_index_until_they_are_shown(self) -> None:
        for present in (True, False):
            self.setUp()
            queue, _ = self.process()
            names = WaitingNames(queue._folder)
            names.begin()
            names.hide([ONE])
            names.load(DueIndex([ONE, TWO]))
            self.assertEqual(list(names.index), [TWO])
            names.show(ONE, None, present=present)
            self.assertEqual(list(names.index), [ONE, TWO] if present else [TWO])


class ForeignTests(FileCase):
    """Files that other programs add and remove."""

    def test_files_that_lie_there_are_found_at_start(self) -> None:
        self.place.waiting.mkdir()
        wider = "mail_12.5_zz.json"
        for name in (ONE, wider, "mail_x.json", "other.json", f"{TWO}.tmp", "mail_-5.1_a.json"):
            self.foreign(name)
        queue, _ = self.process()
        self.assertEqual(self.names(queue), [ONE, wider])
        self.run_queue(queue)
        self.assertEqual(self.claimed(queue), [wider, ONE])

    def test_files_that_appear_and_vanish_are_followed(self) -> None:
        queue, watch = self.process()
        calls: list[int] = []
        queue.store.watch(lambda: calls.append(1))
        self.foreign(ONE)
        watch.changed(ONE)
        watch.changed(ONE)
        watch.changed("other")
        self.assertEqual((self.names(queue), calls), ([ONE], [1]))
        (self.place.waiting / ONE).unlink()
        watch.changed(ONE)
        self.assertEqual(self.names(queue), [])

    def test_our_own_doing_costs_no_look(self) -> None:
        """Each mail that is put comes, each that is claimed goes: told at once, or later."""
        queue, watch = self.process()
        self.run_queue(queue)
        with mock.patch("os.path.lexists", side_effect=AssertionError("looked")):
            for later, here in itertools.product((False, True), (True, False)):
                names = queue.store._names
                names.hide([ONE])
                if not later:
                    watch.tell(ONE, here)
                names.show(ONE, None, present=here)
                if later:
                    watch.tell(ONE, here)
                self.assertEqual(self.names(queue), [ONE] if here else [])

    def test_whatever_happens_to_a_mail_in_hand_the_directory_counts(self) -> None:
        """Its file goes and comes, in any order, told at any time, and we say what we will."""
        queue, watch = self.process()
        names = queue.store._names
        orders: tuple[list[bool], ...]
        orders = [], [False], [True], [False, True], [True, False], [True, False, True]
        for happened in orders:
            for present, untold in itertools.product((True, False), range(len(happened) + 1)):
                lies = happened[-1] if happened else present
                names.hide([ONE])
                (self.place.waiting / ONE).unlink(missing_ok=True)
                if lies:
                    self.foreign(ONE)
                for came in happened[: len(happened) - untold]:
                    watch.tell(ONE, came)
                names.show(ONE, None, present=present)
                for came in happened[len(happened) - untold :]:
                    watch.tell(ONE, came)
                self.assertEqual(ONE in names, lies, (happened, present, untold))
                queue.store.look(ONE)
                names.index.discard(ONE)

    def test_the_file_of_a_mail_that_is_not_claimed_after_all_is_closed(self) -> None:
        queue, watch = self.process()
        self.run_queue(queue)
        self.foreign(ONE, b'{"sub')
        watch.changed(ONE)
        before = len(os.listdir("/proc/self/fd"))
        self.assertEqual(self.claimed(queue, NOW), [])
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_a_mail_in_hand_that_was_looked_for_is_looked_for_afterwards(self) -> None:
        queue, _ = self.process()
        names = queue.store._names
        for present, lies in itertools.product((True, False), repeat=2):
            names.hide([ONE])
            queue.store.look(ONE)
            if lies:
                self.foreign(ONE)
            names.show(ONE, None, present=present)
            self.assertEqual(ONE in names, lies, present)
            names.index.discard(ONE)
            (self.place.waiting / ONE).unlink(missing_ok=True)

    def test_the_file_of_a_mail_in_hand_stays_open_until_it_is_settled(self) -> None:
        """It is opened once; what is returned or buried is somebody else's from then on."""
        queue, _ = self.process()
        self.run_queue(queue)
        for what in ({"done": True}, {"dead": "no"}, {"state": tried_state(next_at=math.inf)}):
            before = len(os.listdir("/proc/self/fd"))
            self.put(queue)
            self.claimed(queue)
            self.assertEqual(len(os.listdir("/proc/self/fd")), before + 1)
            self.settle(queue, ONE, **what)
            self.assertEqual(len(os.listdir("/proc/self/fd")), before, what)

    def test_files_that_come_while_the_directory_is_read_are_found(self) -> None:
        threads = HeldThreads()
        queue, watch = self.process(threads)
        with mock.patch.object(queue.store._folder, "names", return_value=[TWO]):
            started = queue.store.start()
            threads._work.pop(0)[1].callback(None)
            queue.store._prepare()
            self.foreign(ONE)
            watch.tell(ONE, True)
            watch.tell(TWO, False)
            threads.go()
        self.successResultOf(started)
        self.assertEqual(self.names(queue), [ONE])

    def test_what_happens_to_a_mail_in_hand_is_seen_afterwards(self) -> None:
        """Put here, taken away by another program before the answer is dealt with."""
        queue, watch = self.process()
        real = queue.store._puts._operation

        def put(*args: Any) -> Any:
            faults = yield from real(*args)
            (self.place.waiting / ONE).unlink()
            watch.changed(ONE)
            return faults

        with mock.patch.object(queue.store._puts, "_operation", put):
            self.put(queue)
        self.assertEqual(self.names(queue), [])

    def test_a_file_put_back_while_its_mail_is_being_delivered_is_a_new_mail(self) -> None:
        queue, watch = self.process()
        self.run_queue(queue)
        self.put(queue)
        self.claimed(queue)
        self.foreign(ONE)
        watch.changed(ONE)
        self.assertEqual(self.claimed(queue), [])
        self.settle(queue, ONE, done=True)
        self.assertEqual(self.claimed(queue), [ONE])

    def test_events_that_were_lost_are_made_up_for(self) -> None:
        queue, watch = self.process()
        for name in (ONE, TWO):
            self.put(queue, name)
        (self.place.waiting / ONE).unlink()
        self.foreign(THREE)
        watch.lost()
        self.assertEqual(self.names(queue), [TWO, THREE])

    def test_a_directory_that_can_t_be_watched_is_looked_through(self) -> None:
        queue, watch = self.process(working=False)
        self.run_queue(queue)
        self.foreign(ONE)
        self.assertEqual(self.claimed(queue, LATER), [ONE])
        self.foreign(TWO)
        self.assertEqual(self.claimed(queue, LATER + 3), [])
        self.assertEqual(self.claimed(queue, LATER + 4), [TWO])
        self.foreign(THREE)
        # Also when the clock went back.
        self.assertEqual(self.claimed(queue, LATER - 99), [THREE])
        watch.working = True
        self.claimed(queue, LATER + 99)
        self.assertTrue(watch.watching)

    def test_a_large_directory_is_looked_through_less_often(self) -> None:
        self.patch(module, "_LOOKED_THROUGH", 0.1)
        queue, _ = self.process(working=False)
        for name in (ONE, TWO):
            self.put(queue, name)
        self.successResultOf(queue.store.look_around(NOW))
        self.foreign(THREE)
        for later, found in ((19, 2), (20, 3)):
            self.successResultOf(queue.store.look_around(NOW + later))
            self.assertEqual(len(self.names(queue)), found)

    def test_a_directory_that_is_watched_is_not_looked_through(self) -> None:
        queue, _ = self.process()
        self.foreign(ONE)
        self.successResultOf(queue.store.look_around(NOW))
        self.assertEqual(self.names(queue), [])

    def test_a_half_written_file_is_left_until_it_is_whole_or_old(self) -> None:
        queue, watch = self.process()
        self.run_queue(queue)
        self.foreign(ONE, b"")
        self.foreign(TWO, encode(document())[:50])
        watch.changed(ONE)
        watch.changed(TWO)
        now = (self.place.waiting / TWO).stat().st_mtime
        self.assertEqual(self.claimed(queue, now), [])
        self.assertEqual(self.names(queue), [ONE, TWO])
        self.assertEqual(queue.store.next_due(), now + 10)
        self.foreign(ONE)
        os.utime(self.place.waiting / TWO, (now, now))
        mails = self.successResultOf(queue.store.claim(now + 11, 9))
        self.assertEqual([bool(mail.fault) for mail in mails], [False, True])
        self.flushLoggedErrors()

    def test_a_mail_that_can_t_be_claimed_is_left_alone_for_a_while(self) -> None:
        queue, _ = self.process()
        self.run_queue(queue)
        self.put(queue, ONE)
        self.put(queue, TWO)
        real = os.rename

        def rename(old: str, new: str) -> None:
            if str(self.place.claimed / ONE) == new:
                raise PermissionError(1, "no", old)
            real(old, new)

        with mock.patch("os.rename", rename):
            self.assertEqual(self.claimed(queue, NOW), [TWO])
            self.assertEqual(self.claimed(queue, NOW), [])
        self.assertEqual(queue.store.next_due(), NOW + 10)
        self.assertEqual(self.claimed(queue, NOW + 10), [ONE])

    def test_a_file_that_is_no_longer_there_is_no_mail(self) -> None:
        queue, watch = self.process()
        self.put(queue)
        (self.place.waiting / ONE).unlink()
        self.failureResultOf(queue.store.get(ONE), NoSuchMailError)
        self.failureResultOf(queue.store.replace(ONE, TWO, document()), NoSuchMailError)
        self.assertEqual(self.names(queue), [])
        watch.changed(ONE)

    def test_a_claimed_file_that_is_no_longer_there_ends_its_claim(self) -> None:
        queue, _ = self.process()
        self.run_queue(queue)
        self.put(queue)
        self.claimed(queue)
        (self.place.claimed / ONE).unlink()
        settlement = Settlement(at=NOW, state=FRESH, document=document())
        self.failureResultOf(queue.store.settle(ONE, settlement), NoSuchMailError)
        self.assertEqual((self.names(queue), self.claimed(queue)), ([], []))


class TroubleTests(FileCase):
    """Disks that fail."""

    def test_errors_of_the_disk_are_store_errors(self) -> None:
        queue, _ = self.process()
        self.put(queue)
        with mock.patch("os.open", side_effect=OSError(5, "Input/output error", "x")):
            for attempt in (
                queue.store.put(TWO, document(), FRESH),
                queue.store.get(ONE),
                queue.store.replace(ONE, TWO, document()),
                queue.store.acquire(),
            ):
                failure = self.failureResultOf(attempt, StoreError)
                self.assertIn("Input/output error", str(failure.value))
        self.assertEqual(self.names(queue), [ONE])
        self.put(queue, TWO)

    def test_a_start_that_fails_says_where(self) -> None:
        self.place.waiting.write_bytes(b"")
        queue, _ = self.place.make_queue()
        failure = self.failureResultOf(queue.store.start(), StoreError)
        self.assertIn(str(self.place.waiting), str(failure.value))

    def test_a_claim_that_fails_leaves_all_as_it_was(self) -> None:
        queue, _ = self.process()
        self.run_queue(queue)
        self.put(queue, ONE, tried_state(next_at=NOW))
        with mock.patch("os.pwrite", side_effect=OSError(28, "full")):
            self.failureResultOf(queue.store.claim(NOW, 9), StoreError)
        self.assertEqual(queue.store.next_due(), NOW)
        self.assertEqual(self.claimed(queue, NOW), [ONE])

    def test_a_settlement_that_fails_can_be_made_again(self) -> None:
        queue, _ = self.process()
        self.run_queue(queue)
        self.put(queue)
        self.claimed(queue)
        settlement = Settlement(at=NOW, state=FRESH, done=True)
        with mock.patch("os.pwrite", side_effect=OSError(28, "full")):
            self.failureResultOf(queue.store.settle(ONE, settlement), StoreError)
        self.successResultOf(queue.store.settle(ONE, settlement))
        self.assertEqual(self.place.names(self.place.claimed), [])

    def test_on_a_full_disk_a_mail_goes_back_with_its_old_content(self) -> None:
        queue, _ = self.process()
        self.run_queue(queue)
        self.put(queue)
        self.claimed(queue)
        with mock.patch("os.write", side_effect=OSError(28, "full")):
            self.settle(queue, ONE, state=tried_state(next_at=NOW), document=document("new"))
        stored = self.successResultOf(queue.store.get(ONE))
        self.assertEqual(stored.state, tried_state(next_at=NOW))
        self.assertEqual(stored.document, document())

    def test_the_journal_is_rewritten_when_it_has_grown(self) -> None:
        self.patch(journal, "MIN_REWRITE_BYTES", 2000)
        queue, _ = self.process()
        self.run_queue(queue)
        for number in range(50):
            name = name_at(NOW, number)
            self.put(queue, name)
            self.claimed(queue)
            self.settle(queue, name, done=True)
        self.assertLess((self.place.ours / "journal").stat().st_size, 3000)

    def test_a_rewrite_that_fails_fails_no_mail(self) -> None:
        self.patch(journal, "MIN_REWRITE_BYTES", 10)
        queue, _ = self.process()
        self.run_queue(queue)
        self.put(queue)
        self.claimed(queue)
        with mock.patch.object(journal, "open_new", side_effect=OSError(28, "full")):
            self.settle(queue, ONE, done=True)
        self.assertEqual(self.place.names(self.place.claimed), [])

    def test_a_mail_that_changes_all_the_time_is_not_replaced(self) -> None:
        queue, _ = self.process()
        self.put(queue)

        def never(*_: Any, **__: Any) -> Any:
            return False
            yield

        with mock.patch.object(queue.store._folder, "replace", never):
            self.failureResultOf(queue.store.replace(ONE, TWO, document()), StoreError)
        self.assertEqual(self.names(queue), [ONE])

    def test_stop_lets_go_even_when_the_journal_can_t_be_closed_in_order(self) -> None:
        queue, _ = self.process()
        self.run_queue(queue)
        self.put(queue)
        self.claimed(queue)
        with mock.patch.object(journal, "open_new", side_effect=OSError(28, "full")):
            self.successResultOf(queue.store.release())
        other, _ = self.process()
        self.assertEqual([mail.name for mail in self.run_queue(other).claims], [ONE])

    def test_clear_takes_many_in_several_commits(self) -> None:
        self.patch(module, "_CHUNK", 3)
        queue, watch = self.process()
        for number in range(10):
            self.put(queue, name_at(NOW, number))
        (self.place.waiting / name_at(NOW, 4)).unlink()
        self.assertEqual(self.successResultOf(queue.store.clear()), 9)
        watch.changed(name_at(NOW, 4))
        self.assertEqual(self.names(queue), [])
