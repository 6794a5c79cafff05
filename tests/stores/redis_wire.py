# SPDX-License-Identifier: MIT
"""The wire to Redis in memory: a transport on which a test plays the server."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

__all__ = ["Wire"]


class Wire(StringTransport):
    """A transport that is gone as soon as it is aborted; TCP's is a moment later."""

    def __init__(self, protocol: Any) -> None:
        """Connect the protocol."""
        super().__init__()
        self.no_delay = self.keep_alive = False
        self._protocol = protocol
        protocol.makeConnection(self)

    def abortConnection(self) -> None:
        """End the connection."""
        if not self.disconnecting:
            super().abortConnection()
            self._protocol.connectionLost(Failure(ConnectionDone()))

    def setTcpNoDelay(self, enabled: bool) -> None:  # noqa: FBT001 - as the interface has it
        """Note it."""
        self.no_delay = enabled

    def setTcpKeepAlive(self, enabled: bool) -> None:  # noqa: FBT001
        """Note it."""
        self.keep_alive = enabled

    def sent(self) -> bytes:
        """Give what went out since the last time."""
        value: bytes = self.value()
        self.clear()
        return value

    def words(self) -> list[bytes]:
        """Give the words of the command that went out since the last time."""
        return self.sent().split(b"\r\n")[2::2]
