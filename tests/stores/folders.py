# SPDX-License-Identifier: MIT
"""A queue's directories for tests, and the process that runs them, step by step."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.queuestate import FRESH, MailState
from smtpmailer.stores.atomic import close_all
from smtpmailer.stores.commit import Batch
from smtpmailer.stores.content import encode
from smtpmailer.stores.folder import Paths, QueueFolder
from smtpmailer.stores.graves import Graves
from smtpmailer.stores.journal import Journal
from smtpmailer.stores.putting import NewMail, put
from smtpmailer.stores.recovery import Recovery, recover
from tests.stores.queues import document, make_place, name_at

ONE, TWO, THREE = (name_at(n, n) for n in (1, 2, 3))
OLD, NEW = encode(document("old")), encode(document("new"))
LATE = 1e12
Steps = Callable[[Batch], Generator[None, None, Any]]


class FolderCase(SynchronousTestCase):
    """A queue's directories, and the process that runs it."""

    def setUp(self) -> None:
        self.place = make_place(self)
        self.graves = Graves(str(self.place.failed))
        self.graves.prepare()
        self.folder = self.new_process()
        self.finish(lambda batch: recover(self.folder, batch))

    def new_process(self) -> QueueFolder:
        paths = Paths(str(self.place.waiting), str(self.place.claimed))
        folder = QueueFolder(paths, Journal(paths.own("journal")))
        folder.prepare()
        self.addCleanup(folder.journal.close)
        self.addCleanup(folder.close)
        return folder

    def finish(self, operation: Steps) -> Any:
        """Take an operation to its end."""
        batch = Batch()
        try:
            steps = operation(batch)
            while True:
                next(steps)
        except StopIteration as end:
            return end.value
        finally:
            close_all(batch.over)

    def put(self, name: str = ONE, state: MailState = FRESH, content: bytes = OLD) -> None:
        self.finish(lambda batch: self.put_one(batch, name, content, state))

    def put_one(
        self, batch: Batch, name: str, content: bytes, state: MailState
    ) -> Generator[None, None, None]:
        """Put a mail; raises why it could not be put."""
        faults = yield from put(self.folder, batch, [NewMail(name, content, state)])
        if faults:
            raise faults[0]

    def claim(self, *names: str) -> Any:
        return self.finish(lambda batch: self.folder.claim(batch, names or [ONE], LATE))

    def recovered(self) -> Recovery:
        """Let a new process take over."""
        self.folder.journal.close()
        self.folder.close()
        self.folder = self.new_process()
        found: Recovery = self.finish(lambda batch: recover(self.folder, batch))
        return found

    def where(self) -> dict[str, list[str]]:
        """Give in which directories each mail lies."""
        found: dict[str, list[str]] = {}
        for what in ("waiting", "claimed", "failed"):
            for name in self.place.names(getattr(self.place, what)):
                found.setdefault(name, []).append(what)
        return found

    def stops(self, prepare: Callable[[], None], operation: Steps) -> Iterator[int]:
        """Stop an operation at each of its yields in turn, in a queue made for each."""
        for count in range(10):
            self.setUp()
            prepare()
            steps = operation(Batch())
            try:
                for _ in range(count):
                    next(steps)
            except StopIteration:
                return
            # As death leaves it: nothing is cleared up.
            with mock.patch("smtpmailer.stores.scratch.Draft.close"):
                steps.close()
            yield count
