# SPDX-License-Identifier: MIT
"""The file queue on disks that are full, read-only or two; needs root for small file systems."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.names import make_file_name
from smtpmailer.core.queued import Settlement
from smtpmailer.core.queuestate import FRESH, MailState
from smtpmailer.errors import StoreError
from smtpmailer.stores.filequeue import FileQueue
from tests.integration.mounts import MAY_MOUNT, fill, mount_memory
from tests.stores.queues import NOW, Place, document, name_at, tried_state

#: A mail that takes some room.
LARGE = document(body="x" * 20_000)


class DiskCase(SynchronousTestCase):
    """A queue on file systems of its own."""

    if not MAY_MOUNT:
        skip = "only root mounts file systems"

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.place = Place(root=Path(directory.name))
        self.prepare()
        self.queue = self.process()

    def prepare(self) -> None:
        """Mount what the test needs."""

    def process(self) -> FileQueue:
        queue, _ = self.place.make_queue()
        self.successResultOf(queue.store.start())
        self.addCleanup(self.end, queue)
        self.assertTrue(self.successResultOf(queue.store.acquire()))
        self.successResultOf(queue.store.recover())
        return queue

    def end(self, queue: FileQueue) -> None:
        """Let go of a queue as the end of its process does, whatever it has claimed."""
        self.successResultOf(queue.store.release())
        self.successResultOf(queue.store.stop())

    def settle(self, name: str, state: MailState = FRESH, **what: Any) -> None:
        settlement = Settlement(at=NOW, state=state, **what)
        self.successResultOf(self.queue.store.settle(name, settlement))


class FullDiskTests(DiskCase):
    """No room is left."""

    def prepare(self) -> None:
        mount_memory(self, self.place.root, "4m")

    def fill(self) -> list[str]:
        """Put mails until there is no room, then fill what is left."""
        names: list[str] = []
        while True:
            name = name_at(NOW, len(names))
            put = self.queue.store.put(name, LARGE, FRESH)
            if put.result is not None:
                self.failureResultOf(put, StoreError)
                break
            names.append(name)
        fill(self.place.root / "filler")
        self.assertGreater(len(names), 50)
        return names

    def test_a_refused_mail_leaves_nothing_and_the_queue_drains(self) -> None:
        names = self.fill()
        self.assertEqual(self.place.names(self.place.waiting), names)
        for left in range(len(names), 0, -10):
            mails = self.successResultOf(self.queue.store.claim(NOW, 10))
            self.assertEqual(len(mails), min(left, 10))
            for mail in mails:
                self.assertEqual(mail.fault, "")
                marked = MailState(in_doubt=("user@example.test",), in_doubt_since=NOW)
                self.successResultOf(self.queue.store.mark(mail.name, marked))
                self.settle(mail.name, done=True)
        self.assertEqual(self.place.names(self.place.waiting), [])
        self.successResultOf(self.queue.store.put(names[0], LARGE, FRESH))

    def test_retries_go_back_with_their_state(self) -> None:
        names = self.fill()
        mails = self.successResultOf(self.queue.store.claim(NOW, 5))
        for mail in mails:
            state = tried_state(next_at=NOW + 60)
            self.settle(mail.name, state, document={**LARGE, "failToDelivered": 1})
        self.assertEqual(self.place.names(self.place.waiting), names)
        self.assertEqual(
            [mail.state for mail in self.successResultOf(self.queue.store.claim(NOW + 60, 999))][
                -5:
            ],
            [tried_state(next_at=NOW + 60)] * 5,
        )

    def test_a_new_process_starts_and_drains(self) -> None:
        names = self.fill()
        mails = self.successResultOf(self.queue.store.claim(NOW, 5))
        self.end(self.queue)
        self.queue, _ = self.place.make_queue()
        started = self.queue.store.start()
        # Its own directory for unfinished files needs no room on this file system.
        self.successResultOf(started)
        self.addCleanup(self.end, self.queue)
        self.assertTrue(self.successResultOf(self.queue.store.acquire()))
        recovered = self.successResultOf(self.queue.store.recover())
        self.assertEqual(recovered.claims, mails)
        for mail in recovered.claims:
            self.settle(mail.name, done=True)
        left = self.successResultOf(self.queue.store.claim(NOW, 999))
        self.assertEqual([mail.name for mail in left], names[5:])


class ReadOnlyTests(DiskCase):
    """The file system turns read-only, as it does after an error."""

    def prepare(self) -> None:
        mount_memory(self, self.place.root, "4m")

    def test_nothing_is_lost_and_all_goes_on_afterwards(self) -> None:
        names = [name_at(NOW, number) for number in range(3)]
        for name in names[:2]:
            self.successResultOf(self.queue.store.put(name, LARGE, FRESH))
        (claimed,) = self.successResultOf(self.queue.store.claim(NOW, 1))
        # The kernel refuses while files are open for writing.
        self.successResultOf(self.queue.store.release())
        remount = ["mount", "-o", "remount,ro", str(self.place.root)]
        subprocess.run(remount, check=True, capture_output=True)
        self.failureResultOf(self.queue.store.put(names[2], LARGE, FRESH), StoreError)
        self.failureResultOf(self.queue.store.remove(names[1]), StoreError)
        self.failureResultOf(self.queue.store.acquire(), StoreError)
        listed = self.successResultOf(self.queue.store.page(9, 0)).names
        self.assertEqual(listed, (names[1],))
        self.assertEqual(self.successResultOf(self.queue.store.get(names[1])).document, LARGE)
        other, _ = self.place.make_queue()
        failure = self.failureResultOf(other.store.start(), StoreError)
        self.assertIn("Read-only", str(failure.value))
        subprocess.run([*remount[:2], "remount,rw", remount[-1]], check=True, capture_output=True)
        self.assertTrue(self.successResultOf(self.queue.store.acquire()))
        recovered = self.successResultOf(self.queue.store.recover())
        self.assertEqual([mail.name for mail in recovered.claims], [claimed.name])
        self.successResultOf(self.queue.store.put(names[2], LARGE, FRESH))


class TwoDisksTests(DiskCase):
    """The directories lie on several file systems."""

    def prepare(self) -> None:
        mount_memory(self, self.place.claimed, "2m")
        mount_memory(self, self.place.failed, "2m")

    def test_mails_go_there_and_back_whole(self) -> None:
        self.assertNotEqual(
            self.place.claimed.stat().st_dev, self.place.waiting.parent.stat().st_dev
        )
        one, two, three = (make_file_name(NOW, f"{n:016x}") for n in range(3))
        for name in (one, two, three):
            self.successResultOf(self.queue.store.put(name, LARGE, FRESH))
        mails = self.successResultOf(self.queue.store.claim(NOW, 9))
        self.assertEqual([mail.document for mail in mails], [LARGE] * 3)
        self.assertEqual(self.place.names(self.place.waiting), [])
        self.settle(one, done=True)
        self.settle(two, tried_state(), document=document("two"))
        self.settle(three, tried_state(), dead="given up", document=document("three"))
        self.assertEqual(self.place.names(self.place.claimed), [])
        stored = self.successResultOf(self.queue.store.get(two))
        self.assertEqual(stored.document, document("two"))
        buried = self.successResultOf(self.queue.dead.get_failed(three))
        self.assertEqual(buried.mail.document, document("three"))
        self.successResultOf(self.queue.dead.retry_failed(three, document("again")))
        (again,) = [
            mail
            for mail in self.successResultOf(self.queue.store.claim(NOW, 9))
            if mail.name == three
        ]
        self.assertEqual(again.document, document("again"))
