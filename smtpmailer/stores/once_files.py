# SPDX-License-Identifier: MIT
"""Remembers requests in files, which all processes on a queue directory share.

A record is a file: a line with the note and, once there is one, a line with the answer. It gets its
name in one step, and only if nobody has that yet. Whoever works on a request holds a lock on its
record until there is an answer, so what a dead process left is known for certain, without looking
at clocks or process ids. An answer replaces the record in one step.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Callable, Generator, Mapping
from functools import partial
from typing import Any, Final, TypeVar

import orjson
from twisted.internet.defer import Deferred
from zope.interface import implementer

from smtpmailer.core.once import Kept
from smtpmailer.core.queued import MailDocument
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import StoreError, ThreadsStoppedError
from smtpmailer.interfaces import IOnceStore, IThreads
from smtpmailer.stores.atomic import FileLock, make_directory, unlink
from smtpmailer.stores.commit import Batch, GroupCommit, Operation
from smtpmailer.stores.scratch import Scratch

__all__ = ["FileOnceStore"]

_T = TypeVar("_T")
_Steps = Generator[None, None, None]

_RECORD: Final = re.compile(r"[0-9a-f]{64}")
#: A record may be replaced or removed while it is looked at.
_TRIES: Final = 5
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@implementer(IOnceStore)
class FileOnceStore:
    """Records in one directory, which is made when the first of them is.

    ``durable`` is QUEUE_FSYNC.
    """

    def __init__(self, directory: str, threads: IThreads, *, durable: bool) -> None:
        """Use this absolute path; nothing is touched yet."""
        self._directory = directory
        self._threads = threads
        self._scratch = Scratch(os.path.join(directory, "tmp"))
        self._commit = GroupCommit(
            threads, FileLock(os.path.join(directory, "gate")), durable=durable
        )
        # The locked descriptors of records that are ours, by place.
        self._held: dict[str, int] = {}
        self._used = False

    def claim(self, place: str, note: Mapping[str, Any]) -> Deferred[Kept | None]:
        """Take a place; see IOnceStore."""
        return self._submit(partial(self._claim, place=place, content=_encoded(note)))

    def answer(self, place: str, note: Mapping[str, Any], answer: MailDocument) -> Deferred[None]:
        """Keep an answer; see IOnceStore."""
        content = _encoded(note) + _encoded(answer)
        return self._submit(partial(self._answer, place=place, content=content))

    def release(self, place: str) -> Deferred[None]:
        """Let go of a place; see IOnceStore."""
        return self._submit(partial(self._release, place=place))

    def leave(self, place: str) -> None:
        """Leave a place to others; see IOnceStore."""
        handle = self._held.pop(place, None)
        if handle is not None:
            os.close(handle)

    @returns_deferred
    async def stop(self) -> None:
        """Wait for what is being written, and let go of all; see IOnceStore."""
        if not self._used:
            return
        await self._commit.idle()
        for place in tuple(self._held):
            self.leave(place)
        self._scratch.close()

    def sweep(self, before: float) -> Deferred[int]:
        """Forget what was answered, or left, before this time (Unix seconds).

        One process at a time does; fires with how many records it removed.
        """
        return self._threads.run(lambda: self._sweep(before))

    @returns_deferred
    async def _submit(self, operation: Operation[_T]) -> _T:
        self._used = True
        try:
            return await self._commit.submit(operation)
        except OSError as error:
            raise StoreError(f"{error.filename or self._directory}: {error.strerror}") from error
        except ThreadsStoppedError as error:
            raise StoreError(str(error)) from error

    # In threads

    def _claim(
        self, batch: Batch, *, place: str, content: bytes
    ) -> Generator[None, None, Kept | None]:
        path = self._path(place)
        found = self._read(path)
        if found is not None:
            return found
        self._prepare()
        with contextlib.ExitStack() as stack:
            draft = self._scratch.draft(batch, content)
            stack.callback(draft.close)
            # For writing, although nothing is written: some file systems want that for such a lock.
            handle = os.open(draft.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            undo = stack.enter_context(contextlib.ExitStack())
            undo.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
            found = self._publish(draft.publish, path)
            if found is not None:
                return found
            # Before the lock is given up: who sees the name must not think that its owner died.
            undo.callback(_remove, path)
            batch.directories.add(self._directory)
            yield
            undo.pop_all()
            self._held[place] = handle
        return None

    def _prepare(self) -> None:
        make_directory(self._directory)
        self._scratch.prepare()

    def _publish(self, publish: Callable[[str], None], path: str) -> Kept | None:
        """Give a record its name; gives the other one that has it already."""
        for _ in range(_TRIES):
            try:
                publish(path)
            except FileExistsError:
                found = self._read(path)
                if found is not None:
                    return found
            else:
                return None
        raise StoreError(f"{path} changes all the time")

    def _answer(self, batch: Batch, *, place: str, content: bytes) -> _Steps:
        self._prepare()
        with contextlib.ExitStack() as stack:
            temporary = self._scratch.write(batch, stack, content)
            yield
            os.rename(temporary, self._path(place))
            batch.directories.add(self._directory)
            yield
        self.leave(place)

    def _release(self, batch: Batch, *, place: str) -> _Steps:
        yield
        if place in self._held:
            unlink(self._path(place))
            batch.directories.add(self._directory)
        yield
        self.leave(place)

    def _read(self, path: str) -> Kept | None:
        """Give what a record holds; None when there is none. Raises OSError, StoreError."""
        for _ in range(_TRIES):
            try:
                handle = os.open(path, _READ)
            except FileNotFoundError:
                return None
            with open(handle, "rb") as file:
                note, _, answer = file.read().partition(b"\n")
                if answer:
                    return Kept(note=_note(note), answer=_document(answer))
                if not _lock(handle):
                    return Kept(note=_note(note), alive=True)
                # Nobody works on it, unless it is not this file any more.
                if _is_at(handle, path):
                    return Kept(note=_note(note))
        raise StoreError(f"{path} changes all the time")

    def _sweep(self, before: float) -> int:
        if not os.path.isdir(self._directory):
            return 0
        lock = FileLock(os.path.join(self._directory, "sweep"))
        if not lock.try_acquire(f"process {os.getpid()}"):
            return 0
        try:
            with os.scandir(self._directory) as entries:
                old = [entry.path for entry in entries if _is_old(entry, before)]
            removed = sum(map(_forget, old))
            if os.path.isdir(tmp := os.path.join(self._directory, "tmp")):
                Scratch(tmp).sweep()
            return removed
        finally:
            lock.release()

    def _path(self, place: str) -> str:
        assert _RECORD.fullmatch(place), place
        return os.path.join(self._directory, place)


def _encoded(document: MailDocument) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)


def _note(text: bytes) -> Mapping[str, Any]:
    """Read a note; empty when it can't be read: without syncs a power cut may take it away."""
    try:
        value = orjson.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _document(text: bytes) -> MailDocument:
    try:
        value = orjson.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict | str) else {}


def _lock(handle: int) -> bool:
    """Lock a record nobody works on; tells whether that is so."""
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(handle: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _remove(path: str) -> None:
    """Take a name back; on a disk that fails this may fail as well."""
    with contextlib.suppress(OSError):
        unlink(path)


def _is_old(entry: os.DirEntry[str], before: float) -> bool:
    if _RECORD.fullmatch(entry.name) is None:
        return False
    with contextlib.suppress(FileNotFoundError):
        return entry.stat(follow_symlinks=False).st_mtime < before
    return False


def _forget(path: str) -> bool:
    """Remove an old record, unless somebody works on it or has just replaced it."""
    try:
        handle = os.open(path, _READ)
    except OSError:
        return False
    try:
        if not _lock(handle) or not _is_at(handle, path):
            return False
        return unlink(path)
    except OSError:
        return False
    finally:
        os.close(handle)
