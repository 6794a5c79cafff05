# SPDX-License-Identifier: MIT
"""The file queue under SIGKILL: at every step on the disk, and at random under load.

After each kill a new process recovers and drains. Nothing that was answered for is lost; nobody
has a mail twice unless the queue named it in doubt. ``QUEUE_CRASH_ROUNDS`` says how many random
kills there are (20 by default).
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.stores.filequeue import FileQueue
from tests.children import in_child
from tests.integration.queue_worker import (
    RECIPIENTS,
    Fault,
    Ledger,
    Worker,
    all_steps,
    mail_id,
    under_load,
)
from tests.stores.queues import SHM, Place

ROUNDS = int(os.environ.get("QUEUE_CRASH_ROUNDS", "20"))


class CrashTests(SynchronousTestCase):
    """Lost 0; doubled 0 that were not in doubt."""

    def place(self) -> tuple[Place, Ledger]:
        directory = tempfile.TemporaryDirectory(dir=SHM)
        self.addCleanup(directory.cleanup)
        ledger = Ledger(Path(directory.name, "ledger"))
        self.addCleanup(ledger.close)
        return Place(root=Path(directory.name)), ledger

    def finish(self, place: Place, ledger: Ledger) -> FileQueue:
        """Recover and deliver everything, as the next process would."""
        queue, _ = place.make_queue()
        self.successResultOf(queue.store.start())
        worker = Worker(queue, ledger)
        self.successResultOf(worker.begin())
        self.successResultOf(worker.drain())
        return queue

    def check(self, place: Place, ledger: Ledger, queue: FileQueue, when: str) -> None:
        """Compare what was promised with what happened."""
        dead = self.dead_ids(queue)
        self.successResultOf(queue.store.stop())
        counts = ledger.counts()
        sent, doubt = counts["sent"], counts["doubt"]
        for mail in counts["accepted"]:
            for recipient in RECIPIENTS:
                copies = sent[f"{mail}:{recipient}"]
                if counts["removed"][mail]:
                    self.assertEqual(copies, 0, f"{when}: {mail} was sent after its removal")
                elif mail not in dead and not counts["removing"][mail]:
                    self.assertGreaterEqual(copies, 1, f"{when}: {mail} is lost")
        for mail, copies in sent.items():
            self.assertLessEqual(copies, 1 + doubt[mail], f"{when}: {mail} was sent again")
        self.assertEqual(place.names(place.waiting), [], when)
        self.assertEqual(place.names(place.claimed), [], when)
        self.assertEqual(list((place.ours / "tmp").iterdir()), [], when)
        self.assertEqual(list((place.ours / "new").iterdir()), [], when)
        self.assertEqual((place.ours / "journal").read_bytes(), b"", when)

    def dead_ids(self, queue: FileQueue) -> set[str]:
        names = self.successResultOf(queue.dead.page_failed(10**6, 0)).names
        buried = [self.successResultOf(queue.dead.get_failed(name)) for name in names]
        for each in buried:
            self.assertEqual(each.record.get("why"), "given up")
        return {mail_id(each.mail) for each in buried}

    def kill_at_each_step(self, *, torn: bool) -> list[str]:
        place, ledger = self.place()
        whole = Fault(0)
        status = in_child(lambda: self.note_steps(place, ledger, whole))
        self.assertEqual(status, 0)
        steps = (place.root / "steps").read_text("ascii").split()
        for number, step in enumerate(steps, 1):
            if torn and "write" not in step:
                continue
            place, ledger = self.place()
            fault = Fault(number, torn=torn)
            status = in_child(lambda: all_steps(place, ledger, fault))  # noqa: B023
            when = f"killed at step {number} ({step})"
            self.assertEqual(status, -signal.SIGKILL, when)
            self.check(place, ledger, self.finish(place, ledger), when)
        return steps

    def note_steps(self, place: Place, ledger: Ledger, fault: Fault) -> None:
        all_steps(place, ledger, fault)
        steps = " ".join(fault.steps)
        (place.root / "steps").write_text(steps, "ascii")

    def test_killed_before_each_step(self) -> None:
        steps = self.kill_at_each_step(torn=False)
        self.assertEqual(set(Fault._STEPS) | {"syncfs", "renameat2"}, set(steps))

    def test_killed_in_the_middle_of_each_write(self) -> None:
        self.kill_at_each_step(torn=True)

    def test_killed_again_while_it_recovers(self) -> None:
        """The second process dies at each of its steps, too."""
        for number in range(1, 10**6):
            place, ledger = self.place()
            first = Fault(180)
            self.assertEqual(in_child(lambda: all_steps(place, ledger, first)), -9)  # noqa: B023
            second = Fault(number)

            def recover() -> None:
                second.install()  # noqa: B023
                self.finish(place, ledger)  # noqa: B023

            if in_child(recover) == 0:
                break
            when = f"killed at step {number} of the recovery"
            self.check(place, ledger, self.finish(place, ledger), when)

    def test_killed_at_random_under_load(self) -> None:
        place, ledger = self.place()
        for seed in range(ROUNDS):
            pause = random.Random(seed).uniform(0.02, 0.25)  # noqa: S311

            def wait(seed: int = seed, pause: float = pause) -> None:
                while not ledger.counts()["begun"][str(seed)]:
                    time.sleep(0.005)
                time.sleep(pause)

            status = in_child(lambda: under_load(place, ledger, seed), wait)  # noqa: B023
            self.assertEqual(status, -signal.SIGKILL)
        counts = ledger.counts()
        self.assertEqual(counts["failed"], {})
        # Enough to mean something; how many there are is the machine's affair.
        self.assertGreater(len(counts["accepted"]), 5 * ROUNDS)
        self.check(place, ledger, self.finish(place, ledger), "at random")
