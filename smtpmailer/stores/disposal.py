# SPDX-License-Identifier: MIT
"""Removing files without waiting until their space is given back.

A name goes at once; the file itself only when its last descriptor is closed, and on some disks
that takes milliseconds (mounted with ``discard``, 2 ms here, while removing the name took 10 us).
So a descriptor is kept at the removal, and closed by other threads than the one that changes names.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

from twisted.internet.defer import Deferred

from smtpmailer.interfaces import IThreads
from smtpmailer.stores.atomic import unlink

__all__ = ["Disposal"]

#: So many threads wait for a disk at a time; it deals with several at once as fast as with one.
_THREADS: Final = 3

#: Descriptors are scarce: beyond so many the file is closed where it is removed.
_MAX_OPEN: Final = 200


class Disposal:
    """Files that have no name any more, and wait to be closed."""

    def __init__(self, threads: IThreads) -> None:
        """Close them in these threads, a few at a time."""
        self._threads = threads
        self._handles: list[int] = []
        self._closing = 0

    def unlink(self, path: str) -> bool:
        """Remove a file's name; tells whether it was there. Raises OSError for anything else."""
        try:
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

    def dispose(self) -> None:
        """Begin to close what was removed; on the reactor's thread."""
        for _ in range(min(_THREADS, len(self._handles)) - self._closing):
            self._closing += 1
            closed: Deferred[None] = self._threads.run(self.close)
            # Only threads that were stopped refuse; ``close`` is called once more at the end.
            closed.addBoth(self._closed)

    def close(self) -> None:
        """Close all that was removed; for any thread, and several at once."""
        with contextlib.suppress(IndexError):
            while True:
                os.close(self._handles.pop())

    def _closed(self, _: object) -> None:
        self._closing -= 1
