# SPDX-License-Identifier: MIT
"""Dead letters of the file queue."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from functools import partial
from typing import Any, Final, TypeVar

import orjson
from twisted.internet.defer import Deferred
from zope.interface import implementer

from smtpmailer.core.names import is_file_name
from smtpmailer.core.queued import Buried, MailDocument, Page, StoredMail
from smtpmailer.core.queuestate import FRESH, MailState, revived, state_from_json
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import NoSuchMailError, StoreError
from smtpmailer.interfaces import IDeadLetters, IThreads
from smtpmailer.stores.commit import Batch, GroupCommit
from smtpmailer.stores.content import decode, encode
from smtpmailer.stores.folder import QueueFolder
from smtpmailer.stores.graves import Graves

__all__ = ["FileDeadLetters", "read_buried"]

_T = TypeVar("_T")

#: So many are removed with one commit.
_CHUNK: Final = 1000


@implementer(IDeadLetters)
class FileDeadLetters:
    """The dead letters in a directory, which is read anew for each list: few look, and seldom.

    ``revive`` is told the name of each mail that was put back into the queue.
    """

    def __init__(
        self,
        graves: Graves,
        folder: QueueFolder,
        commit: GroupCommit,
        threads: IThreads,
        revive: Callable[[str], None],
    ) -> None:
        """Use the queue's own parts, so that steps on both never run beside each other."""
        self._graves = graves
        self._folder = folder
        self._commit = commit
        self._threads = threads
        self._revive = revive

    @returns_deferred
    async def page_failed(self, limit: int, page: int) -> Page:
        """Fire with a page of names."""
        names = await _no_os_errors(self._threads.run(self._graves.names))
        start = limit * page
        return Page(names=tuple(names[start : start + limit]), total=len(names))

    @returns_deferred
    async def get_failed(self, name: str) -> Buried:
        """Read a dead letter and its record."""
        _check(name)
        read = partial(self._graves.read, name)
        return read_buried(name, *await _no_os_errors(self._threads.run(read)))

    @returns_deferred
    async def retry_failed(self, name: str, document: MailDocument) -> None:
        """Move a dead letter back into the queue."""
        buried = await self.get_failed(name)
        state, content = revived(buried.mail.state), encode(document)
        operation = partial(
            self._folder.unbury, name=name, content=content, graves=self._graves, state=state
        )
        await _no_os_errors(self._commit.submit(operation))
        self._revive(name)

    @returns_deferred
    async def remove_failed(self, name: str) -> None:
        """Remove a dead letter and its record."""
        _check(name)
        remove = partial(self._remove, names=[name])
        if not await _no_os_errors(self._commit.submit(remove)):
            raise NoSuchMailError(name)

    @returns_deferred
    async def clear_failed(self) -> int:
        """Remove all that are there now."""
        names = await _no_os_errors(self._threads.run(self._graves.names))
        count = 0
        for start in range(0, len(names), _CHUNK):
            remove = partial(self._remove, names=names[start : start + _CHUNK])
            count += await _no_os_errors(self._commit.submit(remove))
        return count

    def _remove(self, batch: Batch, names: list[str]) -> Generator[None, None, int]:
        yield
        removed = sum(self._graves.remove(batch, name) for name in names)
        yield
        return removed


async def _no_os_errors(work: Deferred[_T]) -> _T:
    try:
        return await work
    except OSError as error:
        raise StoreError(f"{error.filename or 'dead letters'}: {error.strerror}") from error


def _check(name: str) -> None:
    if not is_file_name(name):
        raise NoSuchMailError(name)


def read_buried(name: str, content: bytes, raw: bytes) -> Buried:
    """Read a mail that is not to be sent, and its record, as far as they can be read."""
    record: Mapping[str, Any] = {}
    state: MailState = FRESH
    document: MailDocument = ""
    fault = ""
    try:
        record = orjson.loads(raw)
        state = state_from_json(record["state"])
    except (ValueError, KeyError, TypeError):
        record = record if isinstance(record, dict) else {}
    try:
        document = decode(content)
    except ValueError as error:
        fault = str(error)
    mail = StoredMail(name=name, document=document, state=state, fault=fault)
    return Buried(mail=mail, record=record)
