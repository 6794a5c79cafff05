# SPDX-License-Identifier: MIT
"""Servers that keep to the rules of a transaction, and a sender that may connect to many."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError as RefusedError
from twisted.python.failure import Failure
from twisted.test.iosim import IOPump

from smtpmailer.core.model import DeliveryResult, Outcome, OutgoingMail, Route
from smtpmailer.delivery.limits import PoolLimits
from smtpmailer.delivery.sender import Sender
from tests.delivery.hostile import Action, Pipe, Reactor, ScriptedServer, mail, plain_route

__all__ = ["EVERYTHING", "OFFERS", "Arrived", "Network", "StrictServer", "hold", "release"]

OFFERS: tuple[tuple[str, ...], ...] = ((), ("PIPELINING",), ("PIPELINING", "CHUNKING"))
EVERYTHING = ("PIPELINING", "CHUNKING", "SIZE", "8BITMIME")


def hold(server: ScriptedServer) -> None:
    """Answer nothing until ``release``."""


def release(server: Any) -> None:
    """Take a message that was held, and say so."""
    server.on_dot()


@attrs.frozen
class Arrived:
    """A mail as a server took it; ``body`` is without dots of stuffing."""

    sender: str
    recipients: tuple[str, ...]
    body: bytes = attrs.field(repr=False)


class StrictServer(ScriptedServer):
    """Takes commands in the order of RFC 5321 only, and BDAT (RFC 3030).

    A transaction that ended with a refusal stays open: without RSET the next MAIL is refused.
    Stages besides those of ScriptedServer: RSET, BDAT (the command), and dot for a last chunk.
    """

    def __init__(
        self,
        faults: Mapping[str, Action] | None = None,
        *,
        extensions: tuple[str, ...] = EVERYTHING,
        **more: Any,
    ) -> None:
        super().__init__(faults, extensions=extensions, **more)
        self.host = ""
        self.mails: list[Arrived] = []
        self._sender: str | None = None
        self._recipients: list[str] = []
        self._left = -1
        self._chunked = False

    def on_MAIL(self, text: str) -> None:
        if self._sender is not None:
            self.reply("503 5.5.1 nested MAIL")
            return
        self._sender = text.partition("<")[2].partition(">")[0]
        self.reply("250 2.1.0 sender ok")

    def on_RCPT(self, text: str) -> None:
        if self._sender is None:
            self.reply("503 5.5.1 no MAIL")
            return
        address = text.partition("<")[2].rpartition(">")[0]
        answer = self.rcpt_replies.get(address, "250 2.1.5 recipient ok")
        if answer.startswith("2"):
            self._recipients.append(address)
        self.reply(answer)

    def on_DATA(self, text: str) -> None:
        if not self._recipients:
            self.reply("554 5.5.1 no valid recipients")
        else:
            self._chunked = False
            super().on_DATA(text)

    def on_RSET(self, text: str) -> None:
        self.forget()
        super().on_RSET(text)

    def on_BDAT(self, text: str) -> None:
        words = text.split()
        assert words[2:] == ["LAST"], text
        self._left, self._chunked = int(words[1]), True
        self.data = bytearray()
        self.setRawMode()

    def rawDataReceived(self, data: bytes) -> None:
        if self._left < 0:
            super().rawDataReceived(data)
            return
        used, rest = data[: self._left], data[self._left :]
        self.data += used
        self._left -= len(used)
        if self._left == 0:
            self._left = -1
            self.bodies.append(bytes(self.data))
            if self._recipients:
                self.at("dot", self.on_dot)
            else:
                self.reply("503 5.5.1 no valid recipients")
            self.setLineMode(rest)

    def on_dot(self) -> None:
        self.take()
        self.reply("250 2.0.0 queued")

    def take(self) -> None:
        """Take what was written last."""
        assert self._sender is not None
        body = self.bodies[-1]
        if not self._chunked:
            body = re.sub(rb"^\.", b"", body, flags=re.MULTILINE)
        self.mails.append(Arrived(self._sender, tuple(self._recipients), body))
        self.forget()

    def forget(self) -> None:
        """End the transaction."""
        self._sender, self._recipients = None, []


class Network:
    """A sender, and a server of its own for each connection that it makes.

    ``most`` is the most connections there were at a time. With ``refusing`` connections are
    refused, ``refused`` of them so far; with ``deaf`` they stay on their way.
    """

    def __init__(
        self,
        make: Callable[[], ScriptedServer] = StrictServer,
        *,
        limits: PoolLimits | None = None,
        limit: float = 600,
    ) -> None:
        self.reactor = Reactor()
        self.sender = Sender(self.reactor, limit, limits)
        self.make = make
        self.servers: list[Any] = []
        self.results: list[DeliveryResult] = []
        self.refusing = self.deaf = False
        self.most = self.refused = 0
        self._pumps: list[IOPump] = []
        self._busy = False

    @property
    def open(self) -> list[Any]:
        """The servers whose connection stands."""
        return [server for server in self.servers if not server.lost]

    @property
    def outcomes(self) -> list[Outcome]:
        """What became of all recipients so far."""
        return [one.outcome for result in self.results for one in result.outcomes]

    @property
    def mails(self) -> list[Arrived]:
        """All that arrived, by server."""
        return [arrived for server in self.servers for arrived in server.mails]

    def send(
        self, message: OutgoingMail | None = None, route: Route | None = None
    ) -> Deferred[DeliveryResult]:
        """Start a delivery; the result also goes to ``results``."""
        result = self.sender.send(message or mail(), route or plain_route())
        return result.addCallback(self._keep)

    def _keep(self, result: DeliveryResult) -> DeliveryResult:
        self.results.append(result)
        return result

    def settle(self) -> None:
        """Make connections and move bytes until nothing moves any more."""
        moved = True
        while moved:
            moved = False
            self.reactor.advance(0)
            while self.reactor.tcpClients and not self.deaf:
                client = self.reactor.tcpClients.pop(0)
                if not self.reactor.connectors.pop(0).stoppedConnecting:
                    self._connect(client)
                moved = True
            for pump in self._pumps:
                while pump.pump():
                    moved = True
            self._pumps = [
                pump
                for pump in self._pumps
                if not (pump.clientIO.disconnected and pump.serverIO.disconnected)
            ]

    def refuse_one(self) -> None:
        """Let the oldest connection that is on its way be refused."""
        factory: Any = self.reactor.tcpClients.pop(0)[2]
        self.reactor.connectors.pop(0)
        self.refused += 1
        factory.clientConnectionFailed(None, Failure(RefusedError()))

    def advance(self, seconds: float) -> None:
        """Let time pass, then let everybody talk."""
        self.reactor.advance(seconds)
        self.settle()

    def deliver(self, *mails: OutgoingMail) -> list[DeliveryResult]:
        """Hand over mails at once; give all results there are then."""
        for message in mails or (mail(),):
            self.send(message)
        self.settle()
        return self.results

    def _connect(self, client: Any) -> None:
        factory = client[2]
        if self.refusing:
            self.refused += 1
            factory.clientConnectionFailed(None, Failure(RefusedError()))
            return
        server: Any = self.make()
        protocol = factory.buildProtocol(IPv4Address("TCP", client[0], client[1]))
        near, far = Pipe(protocol, False, self.reactor), Pipe(server, True, self.reactor)
        server.peer, server.host = near, client[0]
        self.servers.append(server)
        self.most = max(self.most, len(self.open))
        server.makeConnection(far)
        protocol.makeConnection(near)
        self._pumps.append(IOPump(protocol, server, near, far, False, clock=self.reactor))


def _is_over(pump: IOPump) -> bool:
    return bool(pump.clientIO.disconnected and pump.serverIO.disconnected)
