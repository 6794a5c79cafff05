# SPDX-License-Identifier: MIT
"""Small steps on a disk of which each happens wholly or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol

from smtpmailer.errors import StoreError

__all__ = [
    "MAX_FILE_BYTES",
    "FileLock",
    "HasFileno",
    "close_all",
    "make_directory",
    "move",
    "open_new",
    "read_regular",
    "rename_new",
    "sync_directory",
    "sync_files",
    "unlink",
    "write_all",
]

#: No mail is nearly so large; what is, was not put here to be sent.
MAX_FILE_BYTES: Final = 512 * 1024 * 1024

#: From so many files on, one sync of the file system is cheaper than one a file.
_MANY: Final = 4

_libc = ctypes.CDLL(None, use_errno=True)

# Of renameat2(2), which Python does not have: relative to the working directory; never replace.
_AT_FDCWD: Final = -100
_NOREPLACE: Final = 1
#: What it says on kernels and file systems without that.
_NOT_THERE: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP})


class HasFileno(Protocol):
    """An open file, or what stands for one."""

    def fileno(self) -> int:
        """Give the descriptor."""


def make_directory(path: str) -> None:
    """Make a directory, and those above it, for its owner alone; one that exists stays as it is.

    What is made is durable: a file synced into a directory whose own name is not would go with it.
    """
    path = os.path.abspath(path)
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    make_directory(parent)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        # Another process was first, or it is no directory.
        if not os.path.isdir(path):
            raise
    else:
        # Above us there may be a directory that we may write but not read.
        with contextlib.suppress(PermissionError):
            sync_directory(parent)


def open_new(path: str) -> int:
    """Create a file for its owner alone and give its descriptor; raises OSError when it exists."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, 0o600)


def read_regular(path: str, keep: Callable[[str, int], None] | None = None) -> bytes:
    """Read a whole regular file; ``keep`` takes over its descriptor, which is closed otherwise.

    Raises StoreError when it is none (a link, a directory, a pipe) or far too large: it will
    never be readable. Raises OSError when it can't be read now.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise StoreError(f"{path} is not a regular file") from None
        raise
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise StoreError(f"{path} is not a regular file")
        if found.st_size > MAX_FILE_BYTES:
            raise StoreError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
        content = _read_all(handle, found.st_size)
        if keep is not None:
            keep(path, handle)
            handle = -1
        return content
    finally:
        if handle >= 0:
            os.close(handle)


def _read_all(handle: int, size: int) -> bytes:
    """Read a regular file to its end, with one call when it has the size that it should."""
    content = os.read(handle, size + 1)
    if len(content) == size:
        return content
    with open(handle, "rb", buffering=0, closefd=False) as file:
        return content + file.read()


def sync_directory(path: str) -> None:
    """Make the names in a directory durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_files(files: Iterable[int | HasFileno], alike: Sequence[int] = ()) -> None:
    """Make the contents of open files durable: one by one, or many with one call.

    The files ``alike`` lie in one directory, so on one file system. Raises OSError. After that
    nothing is known about what was written: give all of it up, a second try could succeed without
    having written anything.
    """
    handles = [file if isinstance(file, int) else file.fileno() for file in files]
    looked_at = {os.fstat(handle).st_dev for handle in (*handles, *alike[:1])}
    handles += alike
    if len(handles) >= _MANY and len(looked_at) == 1:
        if _libc.syncfs(handles[0]) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return
    for handle in handles:
        os.fsync(handle)


def close_all(handles: Iterable[int]) -> None:
    """Close descriptors, those in a row with one call; no error is told."""
    first = end = -1
    for handle in sorted(set(handles)):
        if handle != end:
            if first >= 0:
                os.closerange(first, end)
            first = handle
        end = handle + 1
    if first >= 0:
        os.closerange(first, end)


def write_all(handle: int, data: bytes, offset: int | None = None) -> None:
    """Write all of it, at ``offset`` or where the file stands; raises OSError."""
    view = memoryview(data)
    while view:
        if offset is None:
            count = os.write(handle, view)
        else:
            count = os.pwrite(handle, view, offset)
            offset += count
        view = view[count:]


def unlink(path: str) -> bool:
    """Remove a file; tells whether it was there. Raises OSError for anything else."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def rename_new(source: str, target: str) -> None:
    """Rename a file within its file system; raises FileExistsError rather than replace another.

    Raises OSError. One step where the system can do that in one; else whoever comes between the
    look and the rename loses.
    """
    if hasattr(_libc, "renameat2"):
        paths = os.fsencode(source), os.fsencode(target)
        if _libc.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _NOREPLACE) == 0:
            return
        code = ctypes.get_errno()
        if code not in _NOT_THERE:
            raise OSError(code, os.strerror(code), source, None, target)
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), source, None, target)
    os.rename(source, target)


def move(source: str, target: str) -> None:
    """Rename a file, also to another file system: then copied, synced, and only then removed.

    A crash in the middle of that leaves both, never none. The copy is made beside the target,
    hidden by a dot. Raises OSError, or StoreError when the source can't be copied.
    """
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    else:
        return
    directory, name = os.path.split(target)
    temporary = os.path.join(directory, f".{name}.tmp")
    content = read_regular(source)
    unlink(temporary)
    handle = open_new(temporary)
    try:
        try:
            write_all(handle, content)
            os.fsync(handle)
        finally:
            os.close(handle)
        os.rename(temporary, target)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_directory(directory)
    os.unlink(source)


class FileLock:
    """An advisory lock on a file, held until released or its process ends, however it ends."""

    def __init__(self, path: str) -> None:
        """Lock this file, which is made when missing."""
        self._path = path
        self._handle: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether this object has the lock."""
        return self._handle is not None

    def try_acquire(self, note: str) -> bool:
        """Take the lock if nobody has it, and leave a note on who does; tells whether it is ours.

        Raises OSError when the file can't be made.
        """
        if self._handle is not None:
            return True
        handle = self._open()
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            if isinstance(error, BlockingIOError):
                return False
            raise
        self._handle = handle
        # Without the note (a full disk) the lock holds as well.
        with contextlib.suppress(OSError):
            os.ftruncate(handle, 0)
            os.pwrite(handle, note.encode("utf-8"), 0)
        return True

    def release(self) -> None:
        """Give the lock up; one that is not held is left alone."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def holder(self) -> str:
        """Read what the lock's holder left; empty when nobody holds it. Raises OSError."""
        try:
            with open(self._path, "rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return file.read().decode("utf-8", "replace") or "another process"
        except FileNotFoundError:
            pass
        return ""

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Wait for the lock and hold it for a block; for short steps only. Raises OSError."""
        handle = self._open()
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
