# SPDX-License-Identifier: MIT
"""Notices files that other programs put into a directory or take out of it (Linux inotify)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["DirectoryWatch", "MakeWatch", "Watch"]

# <sys/inotify.h>
_CLOSE_WRITE: Final = 0x00000008
_MOVED_FROM: Final = 0x00000040
_MOVED_TO: Final = 0x00000080
_DELETE: Final = 0x00000200
_MOVE_SELF: Final = 0x00000800
_OVERFLOW: Final = 0x00004000
_IGNORED: Final = 0x00008000
_ONLYDIR: Final = 0x01000000
_EVENT: Final = struct.Struct("iIII")
_READ_BYTES: Final = 256 * 1024

# What tells that a file went; all else tells that one may have come.
_WENT: Final = _MOVED_FROM | _DELETE

#: Seconds between two reads. Most of what happens in a queue's directory is our own doing, a file
#: at a time: to read of each by itself cost more than all else about it.
_PAUSE: Final = 0.02

_libc = ctypes.CDLL(None, use_errno=True)


class Watch(Protocol):
    """What tells of changes in a directory."""

    @property
    def watching(self) -> bool:
        """Whether it does; once it fails, names have to be looked for."""

    def start(self, path: str) -> bool:
        """Begin, or begin again, to watch a directory; tells whether that is possible."""

    def stop(self) -> None:
        """Watch no longer; may be called without ``start``, and again."""


#: Makes a watch from what it tells: a name, with whether its file may have come (it went, if not),
#: in the order in which it happened; and that names were lost.
MakeWatch = Callable[[Callable[[str, bool], None], Callable[[], None]], Watch]


@implementer(IReadDescriptor)
class DirectoryWatch:
    """Tells which names in a directory have changed, within 20 ms.

    A file counts once it is closed after writing or renamed to its name. Twisted's own INotify
    passes over overflows in silence and builds a FilePath an event, hence this one.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        changed: Callable[[str, bool], None],
        lost: Callable[[], None],
    ) -> None:
        """Tell ``changed`` one name at a time, and ``lost`` when names went untold.

        ``reactor`` is an IReactorFDSet and IReactorTime.
        """
        self._reactor = reactor
        self._changed = changed
        self._lost = lost
        self._handle = -1
        self._pause: IDelayedCall | None = None

    @property
    def watching(self) -> bool:
        """Whether changes are told."""
        return self._handle >= 0

    def start(self, path: str) -> bool:
        """Begin to watch a directory; tells whether the machine can."""
        self.stop()
        handle = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if handle < 0:
            return False
        mask = _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _DELETE | _MOVE_SELF | _ONLYDIR
        if _libc.inotify_add_watch(handle, os.fsencode(path), mask) < 0:
            os.close(handle)
            return False
        self._handle = handle
        self._reactor.addReader(self)
        return True

    def stop(self) -> None:
        """Watch no longer; may be called without ``start``, and again."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._handle >= 0:
            self._reactor.removeReader(self)
            os.close(self._handle)
            self._handle = -1

    def fileno(self) -> int:
        """Give the descriptor that becomes readable."""
        return self._handle

    def logPrefix(self) -> str:
        """Name this reader in Twisted's own log lines."""
        return "DirectoryWatch"

    def doRead(self) -> None:
        """Read what has happened and tell it; then let more gather."""
        try:
            data = os.read(self._handle, _READ_BYTES)
        except BlockingIOError:
            return
        if len(data) < _READ_BYTES // 2:
            # Else there is more already, and what is not read in time is lost.
            self._reactor.removeReader(self)
            self._pause = self._reactor.callLater(_PAUSE, self._resume)
        self._tell(data)

    def _resume(self) -> None:
        self._pause = None
        self._reactor.addReader(self)

    def _tell(self, data: bytes) -> None:
        offset = 0
        while offset < len(data):
            _, mask, _, size = _EVENT.unpack_from(data, offset)
            offset += _EVENT.size
            if mask & (_IGNORED | _MOVE_SELF):
                # Removed, unmounted or moved away: what is at its path now is another directory.
                self.stop()
                self._lost()
                return
            if mask & _OVERFLOW:
                self._lost()
            elif size:
                name = os.fsdecode(data[offset : offset + size].rstrip(b"\0"))
                self._changed(name, not mask & _WENT)
            offset += size

    def connectionLost(self, reason: Failure) -> None:
        """Stop when the reactor gives this reader up."""
        self._log.warn("a queue directory is watched no longer: {reason}", reason=reason.value)
        self.stop()
        self._lost()
