# SPDX-License-Identifier: MIT
"""Removing files without waiting until their space is given back.

A name goes at once; the file itself only when its last descriptor is closed, and on some disks
that takes milliseconds (mounted with ``discard``, 2 ms here, while removing the name took 10 us).
So a descriptor is kept at the removal, and closed by other threads than the one that changes names.

Few calls, as each gives the interpreter lock up, and has to wait for it in a busy process: who has
a file open that will soon be removed leaves its descriptor here, and many are closed with one call.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

from twisted.internet.defer import Deferred

from smtpmailer.interfaces import IThreads
from smtpmailer.stores.atomic import close_all, unlink

__all__ = ["Disposal"]

#: So many threads wait for a disk at a time; it deals with several at once as fast as with one.
_THREADS: Final = 3

#: Another thread joins in for so many files.
_A_THREAD: Final = 32

#: Descriptors are scarce: beyond so many the file is closed where it is removed.
_MAX_OPEN: Final = 200

#: And so many are kept of files that still have their name.
_MAX_KEPT: Final = 64


class Disposal:
    """Files that have no name any more, and wait to be closed."""

    def __init__(self, threads: IThreads) -> None:
        """Close them in these threads, a few at a time."""
        self._threads = threads
        self._handles: list[int] = []
        self._kept: dict[str, int] = {}
        self._closing = 0

    def keep(self, path: str, handle: int) -> None:
        """Take over the descriptor of a file that will be removed, if it does not move before."""
        self.let_go(path)
        if len(self._kept) < _MAX_KEPT:
            self._kept[path] = handle
        else:
            os.close(handle)

    def let_go(self, path: str) -> None:
        """Close what is kept of a file, if anything is: it is another one's path from now on."""
        handle = self._kept.pop(path, None)
        if handle is not None:
            os.close(handle)

    def unlink(self, path: str) -> bool:
        """Remove a file's name; tells whether it was there. Raises OSError for anything else."""
        handle = self._kept.pop(path, -1)
        try:
            if handle < 0:
                handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            # Gone, or no descriptor is left.
            return unlink(path)
        try:
            removed = unlink(path)
        except OSError:
            os.close(handle)
            raise
        if len(self._handles) < _MAX_OPEN:
            self._handles.append(handle)
        else:
            os.close(handle)
        return removed

    def dispose(self, more: bool = False) -> None:  # noqa: FBT001, FBT002 - GroupCommit's ``told``
        """Begin to close what was removed; on the reactor's thread.

        A few files wait for ``more`` that are being removed, as a thread costs more than they do.
        """
        if more and len(self._handles) < _A_THREAD:
            return
        threads = min(_THREADS, -(-len(self._handles) // _A_THREAD))
        for _ in range(threads - self._closing):
            self._closing += 1
            closed: Deferred[None] = self._threads.run(self.close)
            # Only threads that were stopped refuse; ``close`` is called once more at the end.
            closed.addBoth(self._closed)

    def close(self) -> None:
        """Close all that was removed; for any thread, and several at once."""
        while handles := self._some():
            close_all(handles)

    def _some(self) -> list[int]:
        """Take a thread's share of what is to be closed."""
        handles: list[int] = []
        with contextlib.suppress(IndexError):
            while len(handles) < _A_THREAD:
                handles.append(self._handles.pop())
        return handles

    def end(self) -> None:
        """Close everything, also what is kept; nothing is to be removed any more."""
        for path in list(self._kept):
            self.let_go(path)
        self.close()

    def _closed(self, _: object) -> None:
        self._closing -= 1
