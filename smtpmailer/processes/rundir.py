# SPDX-License-Identifier: MIT
"""The run directory: which process serves from it, and the socket at which it takes commands."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from smtpmailer.errors import ControlError

__all__ = ["RunDirectory", "call"]

_PID_FILE: Final = "smtpmailer.pid"
_SOCKET: Final = "control"
#: Longer paths don't fit into a socket's address (unix(7)).
_LONGEST_PATH: Final = 100
#: pid, uid and gid of who listens (unix(7), SO_PEERCRED).
_CREDENTIALS: Final = struct.Struct("3i")


class RunDirectory:
    """A directory for one running service.

    The lock on its PID file says whether one runs: it goes with the process, however that ends.
    So nothing in it is ever stale.
    """

    def __init__(self, path: str) -> None:
        """Touch nothing yet."""
        self.path = Path(path)
        self._lock: int | None = None
        self._address = contextlib.ExitStack()

    def claim(self) -> str:
        """Make it, and become its process; gives the address to listen at for commands.

        Raises ControlError when another process has it, or OSError.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _locked(self.path / _PID_FILE)
        if self._lock is None:
            raise ControlError(f"another service runs from {self.path}")
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode("ascii"), 0)
        path = self.path / _SOCKET
        path.unlink(missing_ok=True)
        return self._address.enter_context(_address(path))

    def leave(self) -> None:
        """Remove what is ours; does nothing unless it was claimed."""
        self._address.close()
        if self._lock is None:
            return
        for name in (_SOCKET, _PID_FILE):
            with contextlib.suppress(OSError):
                (self.path / name).unlink(missing_ok=True)
        os.close(self._lock)
        self._lock = None


def call(path: str, timeout: float) -> tuple[socket.socket, int] | None:
    """Connect to the service that runs from a directory; gives the socket and its process id.

    None when none runs. Each wait on the socket takes at most ``timeout`` seconds. Raises
    ControlError when one runs, or may, and can't be asked: it is not ours, or it hangs.
    """
    calling = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    calling.settimeout(timeout)
    try:
        with _address(Path(path, _SOCKET)) as address:
            calling.connect(address)
        credentials = calling.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        calling.close()
        return None
    except OSError as error:
        calling.close()
        why = error.strerror or str(error)
        raise ControlError(f"the service that runs from {path} can't be asked: {why}") from None
    process: int = _CREDENTIALS.unpack(credentials)[0]
    return calling, process


def _locked(path: Path) -> int | None:
    """Open and lock a file; None when another process holds the lock."""
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass
        # It was removed before we had the lock.
        os.close(descriptor)


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    """Give an address of a path that is not too long for one."""
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
