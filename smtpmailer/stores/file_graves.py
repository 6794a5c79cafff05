# SPDX-License-Identifier: MIT
"""Dead letters and quarantine of a file queue as they are, for carrying them to another store."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from functools import partial
from typing import TypeVar

from twisted.internet.defer import Deferred

from smtpmailer.core.names import is_file_name
from smtpmailer.core.queued import Page
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import MailExistsError, NoSuchMailError, StoreError
from smtpmailer.interfaces import IThreads
from smtpmailer.stores.commit import Batch, GroupCommit
from smtpmailer.stores.folder import QueueFolder
from smtpmailer.stores.graves import Graves

__all__ = ["FileGraves"]

_T = TypeVar("_T")


class FileGraves:
    """The same steps as ``RedisGraves`` has. Every Deferred may fail with StoreError."""

    def __init__(
        self, graves: Graves, folder: QueueFolder, commit: GroupCommit, threads: IThreads
    ) -> None:
        """Use the queue's own parts, so that steps on both never run beside each other."""
        self._graves = graves
        self._folder = folder
        self._commit = commit
        self._threads = threads

    @returns_deferred
    async def page(self, limit: int, page: int) -> Page:
        """Fire with a zero-based page of names, ascending."""
        names = await _no_os_errors(self._threads.run(self._graves.names))
        return Page(names=tuple(names[limit * page : limit * (page + 1)]), total=len(names))

    @returns_deferred
    async def read(self, name: str) -> tuple[bytes, bytes]:
        """Fire with a mail's file and its record; fails with NoSuchMailError."""
        if not is_file_name(name):
            raise NoSuchMailError(name)
        return await _no_os_errors(self._threads.run(partial(self._graves.read, name)))

    @returns_deferred
    async def add(self, name: str, content: bytes, record: bytes) -> None:
        """Add a mail as another store had it; the same one may be added again.

        Fails with MailExistsError when another one has that name.
        """
        add = partial(self._add, name=name, content=content, record=record)
        await _no_os_errors(self._commit.submit(add))

    @returns_deferred
    async def remove(self, name: str) -> None:
        """Remove a mail for good; fails with NoSuchMailError."""
        remove = partial(self._remove, name=name)
        if not is_file_name(name) or not await _no_os_errors(self._commit.submit(remove)):
            raise NoSuchMailError(name)

    def _add(
        self, batch: Batch, name: str, content: bytes, record: bytes
    ) -> Generator[None, None, None]:
        with contextlib.ExitStack() as stack:
            mail = self._folder.scratch.write(batch, stack, content)
            about = self._folder.scratch.write(batch, stack, record)
            yield
            if self._graves.has(name):
                if self._graves.read(name) != (content, record):
                    raise MailExistsError(name)
            else:
                self._graves.take(batch, name, mail, about)
            yield

    def _remove(self, batch: Batch, name: str) -> Generator[None, None, bool]:
        yield
        removed = self._graves.remove(batch, name)
        yield
        return removed


async def _no_os_errors(work: Deferred[_T]) -> _T:
    try:
        return await work
    except OSError as error:
        raise StoreError(f"{error.filename or 'dead letters'}: {error.strerror}") from error
