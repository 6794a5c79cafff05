# SPDX-License-Identifier: MIT
"""A scripted SMTP server and an in-memory network to put between it and the sender."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError as RefusedError
from twisted.internet.interfaces import IReactorPluggableNameResolver
from twisted.internet.protocol import connectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.basic import LineReceiver
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport, IOPump
from zope.interface import implementer

from smtpmailer.core.model import (
    Capabilities,
    DeliveryResult,
    Encryption,
    Envelope,
    OutgoingMail,
    Route,
)
from smtpmailer.core.wire import Wire
from smtpmailer.delivery.limits import PoolLimits
from smtpmailer.delivery.sender import Sender

__all__ = [
    "PASSWORD",
    "WIRE",
    "Action",
    "Pipe",
    "Reactor",
    "Rig",
    "ScriptedServer",
    "mail",
    "plain_route",
    "says",
]

WIRE = b"Subject: hello\r\n\r\nfirst\r\n..second\r\n"
PASSWORD = "open-sesame-4711"

#: An action takes the server's place for one stage; replying is up to it.
Action = Callable[["ScriptedServer"], None]


def says(*lines: str) -> Action:
    """Give the action of a server that answers with these lines."""
    return lambda server: server.reply(*lines)


def plain_route(**changes: Any) -> Route:
    """Give a route without TLS and login, with some fields changed."""
    fields: dict[str, Any] = {
        "host": "192.0.2.1",
        "port": 25,
        "encryption": Encryption.NONE,
        "ehlo_name": "client.example",
        "timeout": 60,
    }
    return Route(**(fields | changes))


def mail(
    *recipients: str,
    wire: bytes | Callable[[Capabilities], bytes] = WIRE,
    sender: str = "from@example.com",
) -> OutgoingMail:
    """Give a mail whose wire bytes are ``wire``, or made by it."""

    def told(capabilities: Capabilities) -> Wire:
        data = wire(capabilities) if callable(wire) else wire
        return Wire(data, (b"\r\n" + data).count(b"\r\n."))

    return OutgoingMail(
        mail_id="mail-1",
        envelope=Envelope(sender=sender, recipients=recipients or ("to@example.com",)),
        wire=told,
    )


class ScriptedServer(LineReceiver):
    """A polite SMTP server, except where ``faults`` says otherwise.

    Stages: banner, EHLO, HELO, STARTTLS, AUTH, MAIL, RCPT, DATA, body (the first bytes after
    354), dot, QUIT. ``extensions`` are offered before TLS, ``tls_extensions`` under it.
    """

    MAX_LENGTH = 1 << 20
    transport: Any

    def __init__(
        self,
        faults: Mapping[str, Action] | None = None,
        *,
        extensions: tuple[str, ...] = (),
        tls_extensions: tuple[str, ...] = (),
        tls: Any = None,
        implicit: bool = False,
    ) -> None:
        self.faults = dict(faults or {})
        self._offers = (extensions, tls_extensions)
        self._tls = tls
        self._implicit = implicit
        self.secured = False
        self.commands: list[str] = []
        self.rcpt_replies: dict[str, str] = {}
        self.data = bytearray()
        self.bodies: list[bytes] = []
        self.logins: list[bytes] = []
        self.lost = False
        self.peer: Pipe  # the client's end of the connection

    def reply(self, *lines: str) -> None:
        """Send reply lines."""
        self.transport.write("".join(f"{line}\r\n" for line in lines).encode())

    def at(self, stage: str, polite: Callable[[], None]) -> None:
        """Do the fault planned for a stage, or what is right."""
        fault = self.faults.get(stage)
        if fault is None:
            polite()
        else:
            fault(self)

    def connectionMade(self) -> None:
        """Begin with TLS or the banner."""
        if self._implicit:
            self.secured = True
            self.transport.startTLS(self._tls)
        self.at("banner", lambda: self.reply("220 mx.example ESMTP"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        """Remember it."""
        self.lost = True

    def lineReceived(self, line: bytes) -> None:
        """Dispatch a command."""
        text = line.decode("utf-8", "replace")
        self.commands.append(text)
        verb = text.partition(" ")[0].upper()
        handler = getattr(self, f"on_{verb}", None)
        if handler is None:
            self.on_login_answer(line)
        else:
            self.at(verb, lambda: handler(text))

    def rawDataReceived(self, data: bytes) -> None:
        """Collect a body up to the final dot."""
        searched = max(len(self.data) - 5, 0)
        self.data += data
        fault = self.faults.pop("body", None)
        if fault is not None:
            fault(self)
            return
        end = self.data.find(b"\r\n.\r\n", searched)
        if end >= 0:
            self.bodies.append(bytes(self.data[2 : end + 2]))
            rest = bytes(self.data[end + 5 :])
            self.at("dot", self.on_dot)
            self.setLineMode(rest)

    def on_EHLO(self, _: str) -> None:
        offered = ("mx.example", *self._offers[self.secured])
        self.reply(*(f"250-{word}" for word in offered[:-1]), f"250 {offered[-1]}")

    def on_HELO(self, _: str) -> None:
        self.reply("250 mx.example")

    def on_STARTTLS(self, _: str) -> None:
        self.reply("220 go ahead")
        self.secured = True
        self.transport.startTLS(self._tls)

    def on_AUTH(self, text: str) -> None:
        words = text.split()
        if words[1:2] == ["PLAIN"]:
            self.logins.append(b64decode(words[2]))
            self.reply("235 2.7.0 welcome")
        else:
            self.reply("334 VXNlcm5hbWU6")

    def on_login_answer(self, line: bytes) -> None:
        """Take the answers of AUTH LOGIN (two) and CRAM-MD5 (one)."""
        if line == b"*":
            self.reply("501 5.7.0 cancelled")
            return
        self.logins.append(b64decode(line))
        login = any(command == "AUTH LOGIN" for command in self.commands)
        more = login and len(self.logins) == 1
        self.reply("334 UGFzc3dvcmQ6" if more else "235 2.7.0 welcome")

    def on_MAIL(self, _: str) -> None:
        self.reply("250 2.1.0 sender ok")

    def on_RCPT(self, text: str) -> None:
        address = text.partition("<")[2].rpartition(">")[0]
        self.reply(self.rcpt_replies.get(address, "250 2.1.5 recipient ok"))

    def on_DATA(self, _: str) -> None:
        self.reply("354 go ahead")
        self.data = bytearray(b"\r\n")  # so that a dot may be the first line
        self.setRawMode()

    def on_dot(self) -> None:
        self.reply("250 2.0.0 queued")

    def on_RSET(self, _: str) -> None:
        self.reply("250 2.0.0 reset")

    def on_QUIT(self, _: str) -> None:
        self.reply("221 2.0.0 bye")
        self.transport.loseConnection()


class _Raw:
    """What the TLS layer of a Pipe writes to."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipe, name)

    def write(self, data: bytes) -> None:
        FakeTransport.write(self._pipe, data)

    def loseConnection(self) -> None:
        FakeTransport.loseConnection(self._pipe)

    def abortConnection(self) -> None:
        FakeTransport.abortConnection(self._pipe)

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: FBT001
        FakeTransport.registerProducer(self._pipe, producer, streaming)

    def unregisterProducer(self) -> None:
        FakeTransport.unregisterProducer(self._pipe)


class Pipe(FakeTransport):
    """One end of a connection: real TLS after startTLS, and a send buffer that fills up.

    While ``blocked`` nothing leaves it: the peer reads no more.
    """

    BUFFER = 64 * 1024

    def __init__(self, protocol: Any, is_server: bool, clock: Any) -> None:  # noqa: FBT001
        super().__init__(protocol, is_server)
        self.clock = clock
        self._layer: TLSMemoryBIOProtocol | None = None
        self.blocked = False
        self.most_buffered = 0
        self.no_delay = False

    def setTcpNoDelay(self, enabled: bool) -> None:  # noqa: FBT001
        self.no_delay = enabled

    def startTLS(self, context: Any, *_: Any) -> None:
        nothing: Any = None  # as Twisted's own startTLS does it
        factory = TLSMemoryBIOFactory(context, not self.isServer, nothing, self.clock)
        self._layer = TLSMemoryBIOProtocol(factory, self.protocol, False)
        self.protocol = self._layer
        self._layer.makeConnection(_Raw(self))

    def write(self, data: bytes) -> None:
        if self._layer is not None:
            self._layer.write(data)
        else:
            super().write(data)
        buffered = sum(map(len, self.stream))
        self.most_buffered = max(self.most_buffered, buffered)
        if self.producer is not None and buffered > self.BUFFER:
            self.producer.pauseProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: FBT001
        if self._layer is not None:
            self._layer.registerProducer(producer, streaming)
        else:
            super().registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        if self._layer is not None:
            self._layer.unregisterProducer()
        else:
            super().unregisterProducer()

    def loseConnection(self) -> None:
        if self._layer is not None:
            self._layer.loseConnection()
        else:
            super().loseConnection()

    def abortConnection(self) -> None:
        self.stream = []
        super().abortConnection()

    def getOutBuffer(self) -> Any:
        if self.blocked:
            return None
        sent = super().getOutBuffer()
        if sent and self.producer is not None:
            self.producer.resumeProducing()
        return sent

    def reportDisconnect(self) -> None:
        if self.producer is not None:
            self.producer.stopProducing()
        super().reportDisconnect()


@implementer(IReactorPluggableNameResolver)
class Reactor(MemoryReactorClock):
    """A memory reactor that resolves IP addresses to themselves and names as told."""

    def __init__(self, names: Mapping[str, tuple[str, ...]] | None = None) -> None:
        super().__init__()
        self.nameResolver: Any = self
        self.names = dict(names or {})
        self.silent_resolver = False

    def resolveHostName(
        self,
        receiver: Any,
        hostName: str,  # noqa: N803
        portNumber: int = 0,  # noqa: N803
        *_: Any,
        **__: Any,
    ) -> Any:
        receiver.resolutionBegan(self)
        if self.silent_resolver:
            return self
        for address in self.names.get(hostName, (hostName,)):
            kind = IPv6Address if ":" in address else IPv4Address
            receiver.addressResolved(kind("TCP", address, portNumber))
        receiver.resolutionComplete()
        return self


class Rig:
    """A sender and the server it talks to, with time in the test's hands."""

    def __init__(self, server: ScriptedServer | None = None, *, limit: float = 600) -> None:
        self.reactor = Reactor()
        self.server = server or ScriptedServer()
        self.sender = Sender(self.reactor, limit, PoolLimits(idle_seconds=0))
        self.results: list[DeliveryResult] = []
        self.client: Pipe
        self.remote: Pipe
        self._pump: IOPump | None = None

    def send(
        self, message: OutgoingMail | None = None, route: Route | None = None
    ) -> Deferred[Any]:
        """Start a delivery; the result also goes to ``results``."""
        result = self.sender.send(message or mail(), route or plain_route())
        result.addCallback(self._keep)
        return result

    def _keep(self, result: DeliveryResult) -> DeliveryResult:
        self.results.append(result)
        return result

    def accept(self) -> None:
        """Let the pending TCP connection come about and talk until nobody has more to say."""
        factory: Any = self.reactor.tcpClients.pop(0)[2]
        protocol = factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 25))
        self.client = Pipe(protocol, False, self.reactor)
        self.remote = Pipe(self.server, True, self.reactor)
        self.server.peer = self.client
        self.server.makeConnection(self.remote)
        protocol.makeConnection(self.client)
        self._pump = IOPump(
            protocol, self.server, self.client, self.remote, False, clock=self.reactor
        )
        self.flush()

    def refuse(self) -> None:
        """Let the pending TCP connection fail."""
        factory: Any = self.reactor.tcpClients.pop(0)[2]
        factory.clientConnectionFailed(None, Failure(RefusedError()))

    def flush(self) -> None:
        """Move bytes until nothing moves."""
        if self._pump is not None:
            self._pump.flush()

    def advance(self, seconds: float) -> None:
        """Let time pass, then let both sides talk."""
        self.reactor.advance(seconds)
        self.flush()

    def deliver(
        self, message: OutgoingMail | None = None, route: Route | None = None
    ) -> DeliveryResult:
        """Deliver over a connection that comes about at once; the result must be there."""
        self.send(message, route)
        self.accept()
        (result,) = self.results
        return result
