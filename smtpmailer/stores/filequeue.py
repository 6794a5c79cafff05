# SPDX-License-Identifier: MIT
"""A file queue put together from its parts."""

from __future__ import annotations

import os

import attrs
from twisted.internet.defer import Deferred

from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import StoreError
from smtpmailer.interfaces import IThreads
from smtpmailer.stores.atomic import FileLock
from smtpmailer.stores.commit import GroupCommit
from smtpmailer.stores.deadletters import FileDeadLetters
from smtpmailer.stores.disposal import Disposal
from smtpmailer.stores.file_graves import FileGraves
from smtpmailer.stores.file_search import FileSearch
from smtpmailer.stores.files import FileQueueStore
from smtpmailer.stores.folder import Paths, QueueFolder
from smtpmailer.stores.graves import Graves
from smtpmailer.stores.journal import Journal
from smtpmailer.stores.leftovers import Leftover, find_leftovers, rescue
from smtpmailer.stores.watch import MakeWatch

__all__ = ["FileQueue", "QueueDirectories", "make_file_queue"]


@attrs.frozen(kw_only=True)
class QueueDirectories:
    """QUEUE_DIR, QUEUE_PROCESS_DIR and QUEUE_FAILED_DIR, absolute."""

    waiting: str
    claimed: str
    failed: str


@attrs.frozen(kw_only=True)
class FileQueue:
    """A file queue: the mails, the dead letters, and what the predecessor stranded.

    ``graves`` and ``quarantine`` are the dead letters, and what could not be read, as bytes.

    All of it works between the store's ``start`` and ``stop``.
    """

    store: FileQueueStore
    dead: FileDeadLetters
    graves: FileGraves
    quarantine: FileGraves
    search: FileSearch
    _folder: QueueFolder
    _commit: GroupCommit
    _threads: IThreads

    def find_leftovers(self) -> Deferred[list[Leftover]]:
        """Fire with the mails that the predecessor stranded; may fail with OSError."""
        return self._threads.run(lambda: find_leftovers(self._folder))

    @returns_deferred
    async def rescue(self, leftover: Leftover) -> None:
        """Take one of them into the queue; fires when that is durable.

        Fails with NoSuchMailError when it is gone, StoreError when it can't be moved.
        """
        try:
            await self._commit.submit(lambda batch: rescue(self._folder, batch, leftover))
        except OSError as error:
            raise StoreError(f"{leftover.path}: {error.strerror}") from error
        self.store.look(leftover.name)


def make_file_queue(
    directories: QueueDirectories, threads: IThreads, make_watch: MakeWatch, *, durable: bool
) -> FileQueue:
    """Put a queue together; nothing is touched before the store's ``start``.

    ``durable`` is QUEUE_FSYNC. Six threads or more are of use: one changes names, three wait for
    the disk to give space back, reads run beside them.
    """
    paths = Paths(os.path.abspath(directories.waiting), os.path.abspath(directories.claimed))
    failed = os.path.abspath(directories.failed)
    disposal = Disposal(threads)
    folder = QueueFolder(paths, Journal(paths.own("journal")), disposal)
    gate = FileLock(paths.own("gate"))
    commit = GroupCommit(threads, gate, durable=durable, told=disposal.dispose)
    graves, quarantine = Graves(failed), Graves(os.path.join(failed, "quarantine"))
    store = FileQueueStore(
        folder,
        commit,
        threads,
        dead=graves,
        quarantine=quarantine,
        make_watch=make_watch,
    )
    dead = FileDeadLetters(graves, folder, commit, threads, store.look)
    return FileQueue(
        store=store,
        dead=dead,
        graves=FileGraves(graves, folder, commit, threads),
        quarantine=FileGraves(quarantine, folder, commit, threads),
        search=FileSearch(folder, graves, quarantine, threads),
        folder=folder,
        commit=commit,
        threads=threads,
    )
