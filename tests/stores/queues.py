# SPDX-License-Identifier: MIT
"""Queues for tests: file queues without a reactor, documents, states, and threads run by hand."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred, execute
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from smtpmailer.core.model import Outcome, RecipientOutcome
from smtpmailer.core.names import make_file_name
from smtpmailer.core.queuestate import FRESH, Attempt, MailState
from smtpmailer.interfaces import IThreads
from smtpmailer.stores.filequeue import FileQueue, QueueDirectories, make_file_queue
from smtpmailer.threads import InlineThreads

_T = TypeVar("_T")

#: Memory in a disk's place: these tests sync very often, and pull no plug.
SHM = "/dev/shm" if Path("/dev/shm").is_dir() else None

NOW = 1_700_000_000.0


class HandWatch:
    """A watch that tells what the test says; ``working`` false makes it unable to."""

    def __init__(self, tell: Callable[[str, bool], None], lost: Callable[[], None]) -> None:
        self.tell = tell
        self.lost = lost
        self.working = True
        self.watching = False

    def changed(self, name: str) -> None:
        """Tell that a file went and that one may have come, so that it is looked for."""
        self.tell(name, False)
        self.tell(name, True)

    def start(self, path: str) -> bool:
        del path
        self.watching = self.working
        return self.watching

    def stop(self) -> None:
        self.watching = False


@implementer(IThreads)
class HeldThreads:
    """Runs work only when told to, so that a test can do something before."""

    def __init__(self) -> None:
        self._work: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def run(self, work: Callable[[], _T]) -> Deferred[_T]:
        done: Deferred[_T] = Deferred()
        self._work.append((work, done))
        return done

    def go(self) -> None:
        """Run all that has come so far, and what comes of that."""
        while self._work:
            work, done = self._work.pop(0)
            execute(work).chainDeferred(done)


@attrs.frozen(kw_only=True)
class Place:
    """The directories of a file queue, and its parts on them."""

    root: Path

    @property
    def waiting(self) -> Path:
        return self.root / "mail"

    @property
    def claimed(self) -> Path:
        return self.root / "temp"

    @property
    def failed(self) -> Path:
        return self.root / "failed"

    @property
    def ours(self) -> Path:
        return self.waiting / ".smtpmailer"

    def names(self, directory: Path) -> list[str]:
        """Give what a listing of mails shows."""
        return sorted(path.name for path in directory.glob("mail_*"))

    def make_queue(
        self, threads: IThreads | None = None, *, working: bool = True
    ) -> tuple[FileQueue, HandWatch]:
        """Put a queue together, as a process of its own would."""
        watches: list[HandWatch] = []

        def make_watch(tell: Callable[[str, bool], None], lost: Callable[[], None]) -> HandWatch:
            watches.append(HandWatch(tell, lost))
            watches[0].working = working
            return watches[0]

        directories = QueueDirectories(
            waiting=str(self.waiting), claimed=str(self.claimed), failed=str(self.failed)
        )
        queue = make_file_queue(directories, threads or InlineThreads(), make_watch, durable=True)
        return queue, watches[0]


def make_place(test: SynchronousTestCase) -> Place:
    """Make an empty directory for a queue, removed after the test."""
    directory = tempfile.TemporaryDirectory(dir=SHM)
    test.addCleanup(directory.cleanup)
    return Place(root=Path(directory.name))


def name_at(due: float, number: int = 0) -> str:
    """Make a queue file's name."""
    return make_file_name(due, f"{number:016x}")


def document(subject: str = "Hello", **more: Any) -> dict[str, Any]:
    """Make a mail object as the queue stores it."""
    return {
        "to": ["user@example.test"],
        "ccList": [],
        "bccList": [["b@example.test", "Bé"]],
        "subject": subject,
        "body": "<p>x</p>",
        "failToDelivered": 0,
        **more,
    }


def outcome(recipient: str, kind: Outcome = Outcome.DELIVERED) -> RecipientOutcome:
    """Make a recipient's outcome."""
    return RecipientOutcome(recipient=recipient, outcome=kind, code=250, enhanced="2.0.0")


def tried_state(next_at: float | None = None, **more: Any) -> MailState:
    """Make a state with one attempt in its history and one recipient settled."""
    attempt = Attempt(
        at=NOW,
        server="mx.example.test:25",
        seconds=0.5,
        reason="SMTP Error: 450 later",
        outcomes=(outcome("a@example.test"), outcome("b@example.test", Outcome.TEMPORARY)),
    )
    state = FRESH.attempted(attempt, (outcome("a@example.test"),), ())
    return attrs.evolve(state, next_at=next_at, **more)
