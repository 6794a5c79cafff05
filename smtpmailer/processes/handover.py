# SPDX-License-Identifier: MIT
"""Connections on their way from one process to another, with what was read of a request.

A process that retires puts them into a socket that all processes share, and any other takes them
out: its clients notice nothing. What they write meanwhile waits in the kernel.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.protocol import Factory
from twisted.logger import Logger

from smtpmailer.moving import LARGEST_REST
from smtpmailer.processes.turns import Turns

__all__ = ["Giver", "Taker"]

#: What a message begins with: none is empty.
_MARK: Final = b"\0"
#: The kernel can't take it now, or not with so much of a request.
_LATER: Final = (
    errno.EAGAIN,
    errno.EMSGSIZE,
    errno.ENOBUFS,
    errno.ENOMEM,
    errno.ETOOMANYREFS,
)


class Giver:
    """Puts connections in."""

    def __init__(self, descriptor: int) -> None:
        """Use this end; it becomes ours."""
        self._socket = socket.socket(fileno=descriptor)

    def give(self, connection: socket.socket, rest: bytes) -> bool:
        """Give a connection away, with at most LARGEST_REST bytes that were read from it.

        False when that does not work now. Otherwise it is ours no longer: close the socket.
        """
        try:
            socket.send_fds(self._socket, [_MARK + rest], [connection.fileno()])
        except OSError as error:
            if error.errno in _LATER:
                return False
            raise
        return True


class Taker:
    """Takes connections out, for ``factory``: a reader of the reactor."""

    _log = Logger()

    def __init__(self, reactor: Any, descriptor: int, factory: Any, turns: Turns) -> None:
        """Use this end; it becomes ours. ``factory`` has to build a protocol for everybody."""
        self._reactor = reactor
        self._socket = socket.socket(fileno=descriptor)
        self._factory = factory
        self._waiting = turns.waiting(self._pause, self.start)
        self._stopped = False

    def start(self) -> None:
        """Take what is there, and what comes."""
        if not self._stopped:
            self._reactor.addReader(self)

    def stop(self) -> None:
        """Leave what is there to others."""
        self._stopped = True
        self._waiting.stop()
        self._pause()

    def fileno(self) -> int:
        """Give the descriptor, for the reactor."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """Name it, for the reactor."""
        return "handover"

    def connectionLost(self, _reason: object) -> None:
        """Do nothing: nobody is left to give anything."""
        self._stopped = True

    def doRead(self) -> None:
        """Take one."""
        if not self._waiting.may_take():
            return
        try:
            flags = socket.MSG_CMSG_CLOEXEC
            data, descriptors, _, _ = socket.recv_fds(
                self._socket, len(_MARK) + LARGEST_REST, 1, flags
            )
        except BlockingIOError:
            return
        if not data:
            self._pause()
            return
        for descriptor in descriptors:
            self._adopt(descriptor, data.removeprefix(_MARK))

    def _adopt(self, descriptor: int, rest: bytes) -> None:
        with socket.socket(fileno=descriptor) as connection:
            made: list[Any] = []
            try:
                self._reactor.adoptStreamConnection(
                    descriptor, connection.family, _Keeping(self._factory, made.append)
                )
            except OSError as error:
                # The client is gone: nobody waits for an answer.
                self._log.debug("a connection was lost on its way: {why}", why=str(error))
                return
        if rest:
            made[0].dataReceived(rest)

    def _pause(self) -> None:
        self._reactor.removeReader(self)


class _Keeping(Factory):
    """Makes what another factory makes, and shows it."""

    noisy = False

    def __init__(self, factory: Any, keep: Callable[[Any], None]) -> None:
        self._factory = factory
        self._keep = keep

    def buildProtocol(self, addr: Any) -> Any:
        """Make a protocol."""
        protocol = self._factory.adopt(addr)
        self._keep(protocol)
        return protocol
