# SPDX-License-Identifier: MIT
"""Files being written: each process has a directory for its own, and clears up after others.

The directory is locked while its process lives, so what a dead one left is known for certain,
without looking at clocks or process ids (in a container every process may be number 1).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import Final

import attrs

from smtpmailer.stores.atomic import make_directory, open_new, rename_new, unlink, write_all
from smtpmailer.stores.commit import Batch

__all__ = ["Draft", "Scratch"]

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@attrs.define
class Draft:
    """A file in writing, open until ``close``, which removes it unless it got a name.

    ``path`` is empty once ``publish`` has given it one.
    """

    path: str
    _handle: int
    _batch: Batch

    def publish(self, target: str) -> None:
        """Give it its name; raises FileExistsError when another has that, or OSError."""
        rename_new(self.path, target)
        self.path = ""

    def close(self) -> None:
        """Be done with it, whether it was renamed (by others, too) or not."""
        self._batch.over.append(self._handle)
        if self.path:
            with contextlib.suppress(OSError):
                unlink(self.path)


class Scratch:
    """A directory for unfinished files, on the file system on which they will be used."""

    def __init__(self, directory: str) -> None:
        """Use this absolute path; ``prepare`` makes it."""
        self._directory = directory
        self._own = ""
        self._name = ""
        self._handle = -1
        self._count = 0

    def prepare(self) -> None:
        """Make this process's directory, once; raises OSError, also where nothing can be locked."""
        make_directory(self._directory)
        while self._handle < 0:
            own = os.path.join(self._directory, os.urandom(8).hex())
            os.mkdir(own, 0o700)
            try:
                handle = _lock(own)
            except OSError:
                _remove(own)
                raise
            # A sweep by another process may have come between; then another one is made.
            if handle >= 0 and os.path.isdir(own):
                self._own, self._handle = own, handle
                self._name = os.path.basename(own)
            elif handle >= 0:
                os.close(handle)

    @property
    def name(self) -> str:
        """The name of this process's directory, which no other has or will have."""
        return self._name

    def lives(self, name: str) -> bool:
        """Whether the process that has the directory of this name lives; raises OSError."""
        try:
            handle = os.open(os.path.join(self._directory, name), _DIRECTORY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False

    def close(self) -> None:
        """Give this process's directory up."""
        if self._handle >= 0:
            _remove(self._own)
            os.close(self._handle)
            self._handle = -1

    def sweep(self) -> None:
        """Remove what dead processes left; what can't be removed stays for the next time."""
        for name in os.listdir(self._directory):
            path = os.path.join(self._directory, name)
            with contextlib.suppress(OSError):
                if path != self._own and (handle := _lock(path)) >= 0:
                    _remove(path)
                    os.close(handle)

    def fresh_id(self) -> str:
        """Give an id that no process has used or will use."""
        self._count += 1
        return f"{self._name}-{self._count}"

    def draft(self, batch: Batch, content: bytes) -> Draft:
        """Write a file that is durable at the batch's next sync; raises OSError."""
        path = f"{self._own}/{self.fresh_id()}"
        handle = open_new(path)
        try:
            write_all(handle, content)
        except BaseException:
            # At once, as others of this step may need the space.
            os.close(handle)
            with contextlib.suppress(OSError):
                unlink(path)
            raise
        batch.drafts.append(handle)
        return Draft(path, handle, batch)

    def write(self, batch: Batch, stack: contextlib.ExitStack, content: bytes) -> str:
        """Write a file as ``draft`` does and give its path; the stack closes it."""
        draft = self.draft(batch, content)
        stack.callback(draft.close)
        return draft.path


def _lock(path: str) -> int:
    """Lock a directory; gives its descriptor, or -1 when it is gone or somebody has it.

    Raises OSError for anything else.
    """
    try:
        handle = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        return -1
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if isinstance(error, BlockingIOError):
            return -1
        raise
    return handle


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        for name in os.listdir(path):
            os.unlink(os.path.join(path, name))
        os.rmdir(path)
