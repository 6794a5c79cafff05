# SPDX-License-Identifier: MIT
"""Remembers requests in files, which all processes on a queue directory share.

A record is a file: a line with the note, and a line that says who works on the request or, once
there is one, what the answer is. It gets its name in one step, and only if nobody has that yet.
Whoever works on a request is named by the directory of its scratch files, which is locked while its
process lives: so what a dead one left is known for certain, without looking at clocks or process
ids, and however many requests are under way, none of them keeps a file open. An answer replaces the
record in one step; a record that was left loses its second line.
"""

from __future__ import annotations

import contextlib
import math
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
from smtpmailer.stores.content import read_object
from smtpmailer.stores.scratch import Scratch

__all__ = ["FileOnceStore"]

_T = TypeVar("_T")
_Steps = Generator[None, None, None]

_RECORD: Final = re.compile(r"[0-9a-f]{64}")
#: What names who works on a request; no JSON is like it.
_OWNER: Final = re.compile(rb"by ([0-9a-f]{16})\n")
#: So many operations share a sync at most: few, as mails need descriptors more than their keys do.
_MOST: Final = 32
#: A record may be replaced or removed while it is looked at.
_TRIES: Final = 5
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHANGE: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


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
            threads, FileLock(os.path.join(directory, "gate")), durable=durable, most=_MOST
        )
        # The places that are ours. Whether they are is for nothing but this to say in this process.
        self._held: set[str] = set()
        self._used = False

    def claim(self, place: str, note: Mapping[str, Any]) -> Deferred[Kept | None]:
        """Take a place; see IOnceStore."""
        return self._submit(partial(self._claim, place=place, content=_encoded(note)))

    def answer(self, place: str, note: Mapping[str, Any], answer: MailDocument) -> Deferred[None]:
        """Keep an answer; see IOnceStore."""
        content = _encoded(note) + _encoded(answer)
        return self._submit(partial(self._answer, place=place, note=note, content=content))

    def release(self, place: str) -> Deferred[None]:
        """Let go of a place; see IOnceStore."""
        return self._submit(partial(self._release, place=place))

    def leave(self, place: str) -> None:
        """Leave a place to others; see IOnceStore."""
        if place in self._held:
            self._held.discard(place)
            # Where that fails the others learn it when this process ends.
            with contextlib.suppress(OSError):
                self._disown(self._path(place))

    @returns_deferred
    async def stop(self) -> None:
        """Wait for what is being written, and let go of all; see IOnceStore."""
        if not self._used:
            return
        await self._commit.idle()
        # With the directory's lock all records are left.
        self._held.clear()
        self._scratch.close()

    def sweep(self, now: float, keep: float, pause: float = 0.0) -> Deferred[int]:
        """Forget what was answered, or left, more than ``keep`` seconds before ``now``.

        One process at a time does, and none in the ``pause`` seconds after; fires with how many
        records it removed.
        """
        return self._threads.run(lambda: self._sweep(now, keep, pause))

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
            draft = self._scratch.draft(batch, content + b"by %s\n" % self._scratch.name.encode())
            stack.callback(draft.close)
            yield
            found = self._publish(draft.publish, path)
        if found is not None:
            return found
        self._held.add(place)
        batch.directories.add(self._directory)
        try:
            yield
        except BaseException:
            # First the name: who sees it must not think that its owner died.
            _remove(path)
            self._held.discard(place)
            raise
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

    def _answer(
        self, batch: Batch, *, place: str, note: Mapping[str, Any], content: bytes
    ) -> _Steps:
        self._prepare()
        with contextlib.ExitStack() as stack:
            temporary = self._scratch.write(batch, stack, content)
            yield
            self._refuse_others(place, note)
            os.rename(temporary, self._path(place))
            batch.directories.add(self._directory)
            yield
        self._held.discard(place)

    def _release(self, batch: Batch, *, place: str) -> _Steps:
        yield
        if place in self._held:
            unlink(self._path(place))
            batch.directories.add(self._directory)
        yield
        self._held.discard(place)

    def _read(self, path: str) -> Kept | None:
        """Give what a record holds; None when there is none. Raises OSError, StoreError."""
        for _ in range(_TRIES):
            try:
                handle = os.open(path, _READ)
            except FileNotFoundError:
                return None
            # Without syncs a power cut may take what it holds away: then its note is empty.
            with open(handle, "rb") as file:
                note, _, rest = file.read().partition(b"\n")
                if rest and _OWNER.fullmatch(rest) is None:
                    return Kept(note=read_object(note), answer=_document(rest))
                if self._is_under_way(path, rest):
                    return Kept(note=read_object(note), alive=True)
                # Nobody works on it, unless it is not this file any more.
                if _is_at(handle, path):
                    return Kept(note=read_object(note))
        raise StoreError(f"{path} changes all the time")

    def _is_under_way(self, path: str, rest: bytes) -> bool:
        """Whether somebody works on the record with this second line. Raises OSError."""
        owner = _OWNER.fullmatch(rest)
        if owner is None:
            return False
        name = owner[1].decode()
        if name == self._scratch.name:
            return os.path.basename(path) in self._held
        return self._scratch.lives(name)

    def _refuse_others(self, place: str, note: Mapping[str, Any]) -> None:
        """Raise StoreError when a place is another request's by now."""
        found = self._read(self._path(place))
        if found is not None and found.note and found.note != note:
            raise StoreError("another request has the key by now")

    def _disown(self, path: str) -> None:
        """Take our name out of a record, which needs no room on the disk; raises OSError."""
        with open(os.open(path, _CHANGE), "r+b") as file:
            note, _, rest = file.read().partition(b"\n")
            if rest == b"by %s\n" % self._scratch.name.encode():
                os.ftruncate(file.fileno(), len(note) + 1)

    def _sweep(self, now: float, keep: float, pause: float) -> int:
        if not os.path.isdir(self._directory):
            return 0
        lock = FileLock(os.path.join(self._directory, "sweep"))
        if not lock.try_acquire(f"process {os.getpid()}"):
            return 0
        try:
            swept = os.path.join(self._directory, "swept")
            if _age(swept, now) < pause:
                return 0
            with os.scandir(self._directory) as entries:
                old = [entry.path for entry in entries if _is_old(entry, now - keep)]
            removed = sum(map(self._forget, old))
            if os.path.isdir(os.path.join(self._directory, "tmp")):
                self._scratch.sweep()
            _touch(swept, now)
            return removed
        finally:
            lock.release()

    def _forget(self, path: str) -> bool:
        """Remove an old record, unless somebody works on it or has just replaced it."""
        try:
            with open(os.open(path, _READ), "rb") as file:
                rest = file.read().partition(b"\n")[2]
                if self._is_under_way(path, rest) or not _is_at(file.fileno(), path):
                    return False
                return unlink(path)
        except OSError:
            return False

    def _path(self, place: str) -> str:
        assert _RECORD.fullmatch(place), place
        return os.path.join(self._directory, place)


def _encoded(document: MailDocument) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)


def _document(text: bytes) -> MailDocument:
    try:
        value = orjson.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict | str) else {}


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


def _age(path: str, now: float) -> float:
    """Give how long ago a file was touched; a time that is yet to come is long ago."""
    try:
        age = now - os.stat(path, follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return math.inf
    return age if age >= 0 else math.inf


def _touch(path: str, now: float) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    os.utime(path, (now, now), follow_symlinks=False)
