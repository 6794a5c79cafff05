# SPDX-License-Identifier: MIT
"""Reads the files that a mail names, and only files that may be attached."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from twisted.internet.defer import Deferred
from zope.interface import implementer

from smtpmailer.core.model import FilePart, LoadedFile
from smtpmailer.core.transfer import base64_size
from smtpmailer.errors import AttachmentError
from smtpmailer.interfaces import IAttachments, IThreads

__all__ = ["Attachments"]

#: Their files are no documents: they show the machine, or never end.
_SYSTEM = ("/dev", "/proc", "/sys")
_REASONS = {
    errno.EACCES: "permission denied",
    errno.EISDIR: "is a directory",
    errno.ELOOP: "its links lead in a circle or changed meanwhile",
    errno.ENAMETOOLONG: "its name is too long",
    errno.ENOENT: "no such file",
    errno.ENOTDIR: "no such file",
    errno.EPERM: "permission denied",
}
#: Bytes that are read at a time.
_PIECE = 2**20
_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a FIFO without a writer must not hold up a thread.
_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC


@implementer(IAttachments)
class Attachments:
    """Attachments from the directories that the operator allows.

    A path's links are resolved first, then what it leads to is judged and opened without
    following any link, directory by directory: nobody can swap a link in between.

    A relative path starts at the first allowed directory. Compat: where any file is allowed it
    starts at the process's working directory, as in the predecessor.
    """

    def __init__(
        self,
        threads: IThreads,
        *,
        directories: tuple[str, ...] | None,
        forbidden: Callable[[], tuple[str, ...]],
        limit_bytes: int,
    ) -> None:
        """Read within ``directories`` (None: anywhere) and never from ``forbidden``.

        ``forbidden`` gives files and directories (env file, keys, queue); /proc, /sys and /dev
        always are. ``limit_bytes`` is the most that one mail's files may have together, in
        base64 as they go out.
        """
        self._threads = threads
        self._directories = directories
        self._forbidden = forbidden
        self._limit_bytes = limit_bytes

    def load(self, parts: tuple[FilePart, ...]) -> Deferred[tuple[LoadedFile, ...]]:
        """Read all parts (see IAttachments); AttachmentError also when they exceed the limit."""
        return self._threads.run(lambda: self._load(parts))

    def check(self, parts: tuple[FilePart, ...]) -> Deferred[int]:
        """Fire with the size of all when ``load`` would work now (see IAttachments)."""
        return self._threads.run(lambda: self._check(parts))

    def _load(self, parts: tuple[FilePart, ...]) -> tuple[LoadedFile, ...]:
        """Read the files, in a thread."""
        left = self._limit_bytes
        loaded = []
        for part in parts:
            content = self._read(part.path, left)
            left -= base64_size(len(content))
            loaded.append(LoadedFile(part=part, content=content))
        return tuple(loaded)

    def _check(self, parts: tuple[FilePart, ...]) -> int:
        """Open and measure the files, in a thread."""
        left = self._limit_bytes
        total = 0
        for part in parts:
            with self._opened(part.path, left) as file:
                size = os.fstat(file.fileno()).st_size
            left -= base64_size(size)
            total += size
        return total

    def _read(self, path: str, left: int) -> bytes:
        """Read one file of at most ``left`` bytes in base64."""
        with self._opened(path, left) as file:
            try:
                # In one piece, and one byte more: it may have grown since it was measured.
                content = file.read(os.fstat(file.fileno()).st_size + 1)
                rest = file.read(_PIECE)
                while rest and base64_size(len(content)) <= left:
                    content += rest
                    rest = file.read(_PIECE)
            except OSError as error:
                raise AttachmentError(path, _reason(error)) from error
        if base64_size(len(content)) > left:
            raise self._too_large(path)
        return content

    @contextmanager
    def _opened(self, path: str, left: int) -> Iterator[BinaryIO]:
        """Open one regular file of at most ``left`` bytes in base64 for reading."""
        try:
            real = os.path.realpath(self._absolute(path))
            self._judge(path, real)
            file = os.fdopen(_open_without_links(path, real), "rb")
        except OSError as error:
            raise AttachmentError(path, _reason(error)) from error
        except ValueError as error:  # NUL or half a surrogate pair
            raise AttachmentError(path, "is no path that a file can have") from error
        with file:
            self._inspect(path, os.fstat(file.fileno()), left)
            yield file

    def _absolute(self, path: str) -> str:
        """Give the path from the root; ``..`` and links are still in it."""
        if not path:
            raise FileNotFoundError(errno.ENOENT, "empty path")
        return str(Path(self._directories[0], path)) if self._directories else path

    def _judge(self, path: str, real: str) -> None:
        """Refuse a resolved path by where it lies, whether or not there is anything."""
        if self._directories is not None and not _inside(real, self._directories):
            raise AttachmentError(path, "lies outside ATTACHMENT_DIRS")
        if _inside(real, _SYSTEM):
            raise AttachmentError(path, "lies in a directory of the system's own")
        if _inside(real, self._forbidden()):
            raise AttachmentError(path, "is one of the service's own files")

    def _inspect(self, path: str, status: os.stat_result, left: int) -> None:
        """Refuse an open file by what it is: irregular, too large, a forbidden one's hard link."""
        _check_regular(path, status)
        if any(_is_same(status, place) for place in self._forbidden()):
            raise AttachmentError(path, "is one of the service's own files")
        if base64_size(status.st_size) > left:
            raise self._too_large(path)

    def _too_large(self, path: str) -> AttachmentError:
        """Say which limit the file passes."""
        return AttachmentError(
            path,
            "with it the mail's files, encoded as they go out, exceed MAIL_MAX_SIZE "
            f"({self._limit_bytes} bytes)",
        )


def _is_same(status: os.stat_result, place: str) -> bool:
    """Whether ``place`` exists and is the same file, whatever its name."""
    try:
        return os.path.samestat(status, Path(place).stat())
    except OSError:
        return False


def _inside(real: str, places: Iterable[str]) -> bool:
    """Whether a resolved path is one of the places or lies below one, links resolved."""
    for place in places:
        root = os.path.realpath(place)
        if real == root or real.startswith(root.rstrip("/") + "/"):
            return True
    return False


def _open_without_links(path: str, real: str) -> int:
    """Open a resolved path for reading, refusing a link in any of its components."""
    *directories, name = real.strip("/").split("/")
    current = os.open("/", _STEP)
    try:
        for directory in directories:
            following = os.open(directory, _STEP, dir_fd=current)
            os.close(current)
            current = following
        # Opening a device can do things to it: look first.
        _check_regular(path, os.stat(name or ".", dir_fd=current, follow_symlinks=False))
        return os.open(name, _OPEN, dir_fd=current)
    finally:
        os.close(current)


def _check_regular(path: str, status: os.stat_result) -> None:
    """Refuse directories, FIFOs, sockets and devices."""
    if stat.S_ISDIR(status.st_mode):
        raise AttachmentError(path, "is a directory")
    if not stat.S_ISREG(status.st_mode):
        raise AttachmentError(path, "is not a regular file")


def _reason(error: OSError) -> str:
    """Word an error of the system's."""
    return _REASONS.get(error.errno or 0, error.strerror or "can't be read")
