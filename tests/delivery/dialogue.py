# SPDX-License-Identifier: MIT
"""A sender whose server is the test itself, byte for byte."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from smtpmailer.core.model import DeliveryResult, OutgoingMail, Route
from smtpmailer.delivery.limits import PoolLimits
from smtpmailer.delivery.sender import Sender
from tests.delivery.hostile import Reactor, mail, plain_route

__all__ = ["ONE_SESSION", "Dialogue", "Tape"]

ONE_SESSION = PoolLimits(connections=1)


class Tape(StringTransport):
    """Keeps each write; while ``full`` it takes one at a time from a producer."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.aborted = self.full = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        if self.full and self.producer is not None:
            self.producer.pauseProducing()

    def go_on(self) -> None:
        """Have room again."""
        self.full = False
        assert self.producer is not None
        self.producer.resumeProducing()

    def setTcpNoDelay(self, enabled: bool) -> None:  # noqa: FBT001
        """Accept it."""

    def abortConnection(self) -> None:
        self.aborted = self.disconnecting = True


class Dialogue:
    """One connection at a time, whose bytes the test reads and writes."""

    def __init__(self, *extensions: str, limits: PoolLimits = ONE_SESSION) -> None:
        self.reactor = Reactor()
        self.sender = Sender(self.reactor, 600, limits)
        self.results: list[DeliveryResult] = []
        self.session: Any = None
        self.tape = Tape()
        self._extensions = extensions

    def send(self, *mails: OutgoingMail, route: Route | None = None) -> list[Deferred[Any]]:
        """Start deliveries."""
        sending = []
        for message in mails or (mail(),):
            result = self.sender.send(message, route or plain_route())
            sending.append(result.addCallback(self._keep))
        return sending

    def _keep(self, result: DeliveryResult) -> DeliveryResult:
        self.results.append(result)
        return result

    def connect(self) -> None:
        """Let the pending connection come about, up to the end of EHLO."""
        factory: Any = self.reactor.tcpClients.pop(0)[2]
        self.session = factory.buildProtocol(None)
        self.tape = Tape()
        self.session.makeConnection(self.tape)
        self.hear("220 mx.example")
        self.tape.writes.clear()
        lines = [f"250-{word}" for word in ("mx.example", *self._extensions)]
        self.hear(*lines[:-1], lines[-1].replace("-", " ", 1))

    def hear(self, *lines: str) -> None:
        """Answer with these lines, in one piece."""
        self.hear_bytes("".join(f"{line}\r\n" for line in lines).encode())

    def hear_bytes(self, data: bytes) -> None:
        """Answer with these bytes."""
        self.session.dataReceived(data)

    def said(self) -> bytes:
        """Give what the client has written since this was asked last."""
        said = b"".join(self.tape.writes)
        self.tape.writes.clear()
        return said

    def hang_up(self, *, reset: bool = False) -> None:
        """End the connection from the server's side."""
        self.session.connectionLost(Failure(ConnectionLost() if reset else ConnectionDone()))
