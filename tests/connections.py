# SPDX-License-Identifier: MIT
"""Connections in memory: a client's view of JsonProtocol without sockets."""

from __future__ import annotations

import errno
import json
from collections.abc import Sequence
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableDescriptor, ISystemHandle, ITCPTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from smtpmailer.interfaces import IDispatcher
from smtpmailer.protocol import JsonFactory, JsonProtocol, ProtocolLimits

#: Seconds after which held answers are out.
HELD = 0.01


@implementer(IHalfCloseableDescriptor)
class HalfCloseableTransport(StringTransport):
    """A transport whose writing half can be closed alone, as TCP's can."""

    half_closed = False

    def loseWriteConnection(self) -> None:
        """Close our half."""
        self.half_closed = True

    def readConnectionLost(self, reason: Failure) -> None:
        """Do nothing; a client's half-close is told to the protocol directly."""

    def writeConnectionLost(self, reason: Failure) -> None:
        """Do nothing; our half-close is seen by ``half_closed``."""


@implementer(ISystemHandle, ITCPTransport)
class KernelTransport(HalfCloseableTransport):
    """A transport as TCP's over a kernel that takes ``room`` bytes of each write, then blocks.

    ``waited`` is what had to wait for the reactor. ``lost`` says that it was ended at once.
    """

    lost = False

    def __init__(self, room: int | Exception) -> None:
        """Have room for so many bytes, or be an error."""
        super().__init__()
        self.room = room
        self.waited: list[bytes] = []

    def setTcpNoDelay(self, enabled: bool) -> None:  # noqa: FBT001 - Twisted's interface
        """Do nothing."""

    def setTcpKeepAlive(self, enabled: bool) -> None:  # noqa: FBT001 - Twisted's interface
        """Do nothing."""

    def getTcpNoDelay(self) -> bool:
        """Give nothing of interest."""
        return False

    def getTcpKeepAlive(self) -> bool:
        """Give nothing of interest."""
        return False

    def getHandle(self) -> KernelTransport:
        """Be one's own socket."""
        return self

    def send(self, data: bytes) -> int:
        """Take what there is room for."""
        if isinstance(self.room, Exception):
            raise self.room
        if not self.room:
            raise BlockingIOError(errno.EAGAIN, "no room")
        taken = data[: self.room]
        self.io.write(taken)
        return len(taken)

    def connectionLost(self, reason: Failure) -> None:  # noqa: ARG002 - Twisted's interface
        """End at once."""
        self.lost = True

    def write(self, data: bytes) -> None:
        """Take what waits for the reactor."""
        if data:
            self.waited.append(data)
        super().write(data)


class Client:
    """The far end of one connection."""

    def __init__(
        self,
        factory: JsonFactory,
        host: str = "192.0.2.1",
        transport: HalfCloseableTransport | None = None,
    ) -> None:
        """Connect."""
        protocol = factory.buildProtocol(IPv4Address("TCP", host, 4711))
        assert isinstance(protocol, JsonProtocol)
        self.protocol = protocol
        self.transport = transport or HalfCloseableTransport()
        protocol.makeConnection(self.transport)

    def write(self, *pieces: bytes) -> None:
        """Send segments."""
        for piece in pieces:
            self.protocol.dataReceived(piece)

    def half_close(self) -> None:
        """Send no more, but read on."""
        self.protocol.readConnectionLost()

    def lose(self) -> None:
        """Be gone."""
        self.protocol.connectionLost(Failure(ConnectionDone()))

    @property
    def answers(self) -> list[dict[str, Any]]:
        """What was answered so far, each answer on a line of its own."""
        text: bytes = self.transport.value()
        assert not text or text.endswith(b"\n"), text
        return [json.loads(line) for line in text.splitlines()]

    @property
    def messages(self) -> list[Any]:
        """The answers' messages."""
        return [answer["message"] for answer in self.answers]

    @property
    def closed(self) -> bool:
        """Whether the service has closed its half at least."""
        return bool(self.transport.half_closed or self.transport.disconnecting)


def make_factory(
    dispatcher: IDispatcher, clock: Clock | None = None, limits: ProtocolLimits | None = None
) -> JsonFactory:
    """Make a factory on a clock that stands still."""
    return JsonFactory(dispatcher, clock or Clock(), limits or ProtocolLimits())


def exchange(factory: JsonFactory, pieces: Sequence[bytes], *, half_close: bool = False) -> Client:
    """Write all pieces on a new connection, and let held answers go."""
    client = Client(factory)
    client.write(*pieces)
    if half_close:
        client.half_close()
    clock = factory.clock
    assert isinstance(clock, Clock)
    clock.advance(0)
    clock.advance(HELD)
    return client
