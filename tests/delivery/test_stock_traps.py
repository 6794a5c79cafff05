# SPDX-License-Identifier: MIT
"""The traps of Twisted's stock SMTP sender, each beside what ours does instead.

The tests named ``test_stock_...`` show that the trap is real: should one fail with a newer
Twisted, that trap is mended there and ours may be simplified.
"""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO
from typing import Any

from twisted.internet import ssl
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.mail import smtp
from twisted.python.failure import Failure
from twisted.test.iosim import IOPump
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.model import Encryption, Outcome
from smtpmailer.delivery.connecting import SessionFactory
from smtpmailer.delivery.session import Session
from tests.delivery.hostile import PASSWORD, Pipe, Reactor, Rig, ScriptedServer, mail, plain_route

ADDRESS = IPv4Address("TCP", "192.0.2.1", 25)
B64_PASSWORD = b64encode(PASSWORD.encode()).decode()


class Stock:
    """The stock ESMTPSenderFactory against the scripted server, without TLS."""

    def __init__(self, server: ScriptedServer, body: bytes, *, to: Any = "to@example.com") -> None:
        self.reactor = Reactor()
        self.server = server
        self.outcome: list[Any] = []
        result: Deferred[Any] = Deferred()
        result.addBoth(self.outcome.append)
        self.factory = smtp.ESMTPSenderFactory(
            b"user",
            PASSWORD.encode(),
            "from@example.com",
            to,
            BytesIO(body),
            result,
            requireAuthentication=False,
            requireTransportSecurity=False,
        )
        self.factory.noisy = False

    def accept(self) -> Stock:
        """Connect through an endpoint and let both sides talk."""
        TCP4ClientEndpoint(self.reactor, "192.0.2.1", 25).connect(self.factory).addErrback(
            lambda _: None
        )
        protocol: Any = self.reactor.tcpClients.pop(0)[2].buildProtocol(ADDRESS)
        self.client = Pipe(protocol, False, self.reactor)
        remote = Pipe(self.server, True, self.reactor)
        self.server.peer = self.client
        self.server.makeConnection(remote)
        protocol.makeConnection(self.client)
        IOPump(protocol, self.server, self.client, remote, False, clock=self.reactor).flush()
        return self


def mails(server: ScriptedServer) -> int:
    """Count the mail transactions a server saw."""
    return sum(command.startswith("MAIL") for command in server.commands)


class SmugglingTests(SynchronousTestCase):
    """A body line of one dot that begins at a chunk border must not end the message."""

    EVIL = (
        b".\nMAIL FROM:<evil@example.com>\nRCPT TO:<victim@example.com>\nDATA\n"
        b"Subject: smuggled\n\nhello\n"
    )

    def body(self, chunk: int) -> bytes:
        head = b"Subject: x\n\n"
        return head + b"a" * (chunk - len(head) - 1) + b"\n" + self.EVIL

    def test_stock_lets_a_body_become_a_second_mail(self) -> None:
        stock = Stock(ScriptedServer(), self.body(2**14)).accept()
        self.assertEqual(mails(stock.server), 2)
        self.assertEqual(len(stock.server.bodies), 2)

    def test_ours_writes_the_wire_bytes_unchanged_at_every_border(self) -> None:
        for chunk in (2**14, 2**16, 2**17):
            for shift in (-2, -1, 0, 1, 2):
                text = self.body(chunk + shift).replace(b"\n", b"\r\n")
                wire = text.replace(b"\r\n.", b"\r\n..")
                rig = Rig()
                result = rig.deliver(mail(wire=wire))
                self.assertTrue(result.delivered)
                self.assertEqual(rig.server.bodies, [wire])
                self.assertEqual(mails(rig.server), 1)


class LineEndTests(SynchronousTestCase):
    """CRLF stays CRLF."""

    def test_stock_doubles_the_cr(self) -> None:
        stock = Stock(ScriptedServer(), b"Subject: x\r\n\r\nhello\r\n").accept()
        self.assertIn(b"\r\r\n", stock.server.bodies[0])

    def test_ours_keeps_it(self) -> None:
        rig = Rig()
        rig.deliver(mail(wire=b"Subject: x\r\n\r\nhello\r\n"))
        self.assertEqual(rig.server.bodies, [b"Subject: x\r\n\r\nhello\r\n"])


class LostConnectionTests(SynchronousTestCase):
    """A server that hangs up is a result."""

    @staticmethod
    def hang_up(server: ScriptedServer) -> None:
        server.transport.loseConnection()

    def test_stock_never_fires_through_an_endpoint(self) -> None:
        stock = Stock(ScriptedServer({"MAIL": self.hang_up}), b"x\n").accept()
        self.assertTrue(stock.server.lost)
        stock.reactor.advance(100_000)
        self.assertEqual(stock.outcome, [])

    def test_ours_fires(self) -> None:
        result = Rig(ScriptedServer({"MAIL": self.hang_up})).deliver()
        self.assertIs(result.outcomes[0].outcome, Outcome.TEMPORARY)


class _TlsRecorder(StringTransport):
    """Notes what is written after TLS would have begun."""

    started_at = -1

    def setTcpNoDelay(self, enabled: bool) -> None:  # noqa: FBT001
        """Accept it."""

    def startTLS(self, _: Any) -> None:
        self.started_at = len(self.value())

    def abortConnection(self) -> None:
        self.loseConnection()


class InjectionTests(SynchronousTestCase):
    """Plaintext behind the STARTTLS reply is not believed inside TLS (CVE-2011-0411)."""

    BEFORE = b"220 mx\r\n250-mx\r\n250 STARTTLS\r\n"
    INJECTED = b"220 go\r\n250-mx\r\n250 AUTH PLAIN\r\n"

    def test_stock_logs_in_on_injected_text(self) -> None:
        sender = smtp.ESMTPSender(b"user", PASSWORD.encode(), ssl.CertificateOptions(), b"me")
        transport = _TlsRecorder()
        sender.makeConnection(transport)
        sender.dataReceived(self.BEFORE)
        sender.dataReceived(self.INJECTED)
        self.assertIn(b"AUTH PLAIN", transport.value()[transport.started_at :])

    def test_ours_ends_the_session_before_tls(self) -> None:
        for injected in (self.INJECTED, b"220 go\r\n2", b"220 go\r\n\n"):
            rig = Rig()
            route = plain_route(encryption=Encryption.STARTTLS, user="user", password=PASSWORD)
            rig.send(route=route)
            session: Any = rig.reactor.tcpClients.pop(0)[2].buildProtocol(ADDRESS)
            transport = _TlsRecorder()
            session.makeConnection(transport)
            for line in self.BEFORE.splitlines(keepends=True):
                session.dataReceived(line)
            session.dataReceived(injected)
            self.assertEqual(transport.started_at, -1)
            self.assertTrue(transport.disconnecting)
            (result,) = rig.results
            self.assertEqual(result.reason, "SMTP Error: Could not connect to SMTP host.")
            self.assertIn("unencrypted bytes", result.outcomes[0].reply)
            session.connectionLost(Failure(ConnectionError()))


class _Connector:
    connects = 0

    def connect(self) -> None:
        self.connects += 1


class RetryTests(SynchronousTestCase):
    """Whether to try again is the queue's business."""

    def test_stock_connects_again_by_itself(self) -> None:
        stock = Stock(ScriptedServer(), b"x\n")
        connector = _Connector()
        for _ in range(5):
            stock.factory.clientConnectionLost(connector, Failure(ConnectionError()))
        self.assertEqual(connector.connects, 5)

    def test_our_factory_never_does(self) -> None:
        factory = SessionFactory(plain_route(), None, Clock())
        factory.result.addErrback(lambda _: None)
        connector = _Connector()
        factory.clientConnectionLost(connector, Failure(ConnectionError()))
        self.assertEqual(connector.connects, 0)

    def test_our_sender_never_does(self) -> None:
        rig = Rig(ScriptedServer({"banner": LostConnectionTests.hang_up}))
        rig.send()
        rig.accept()
        self.assertEqual(len(rig.results), 1)
        rig.advance(1000)
        self.assertEqual(rig.reactor.tcpClients, [])


class NoDelayTests(SynchronousTestCase):
    """Small writes go out at once: without that a mail takes some 45 ms longer."""

    def test_stock_leaves_nagle_on(self) -> None:
        self.assertFalse(Stock(ScriptedServer(), b"x\n").accept().client.no_delay)

    def test_ours_turns_it_off(self) -> None:
        rig = Rig()
        rig.deliver()
        self.assertTrue(rig.client.no_delay)


class PartialRefusalTests(SynchronousTestCase):
    """A mail that only some got is no success."""

    def server(self) -> ScriptedServer:
        server = ScriptedServer()
        server.rcpt_replies["b@example.com"] = "550 5.1.1 no such user"
        return server

    def test_stock_calls_it_success(self) -> None:
        stock = Stock(self.server(), b"x\n", to=["a@example.com", "b@example.com"]).accept()
        ((accepted, _),) = stock.outcome
        self.assertEqual(accepted, 1)

    def test_ours_says_who_did_not_get_it(self) -> None:
        result = Rig(self.server()).deliver(mail("a@example.com", "b@example.com"))
        self.assertFalse(result.delivered)
        self.assertEqual(
            [o.outcome for o in result.outcomes], [Outcome.DELIVERED, Outcome.PERMANENT]
        )
        self.assertEqual(
            result.reason,
            "SMTP Error: The following recipients failed: b@example.com: 550 5.1.1 no such user",
        )


class SecretTests(SynchronousTestCase):
    """A failed login does not tell the password."""

    def server(self) -> ScriptedServer:
        def refuse(line: bytes) -> None:
            last = line.decode() == B64_PASSWORD
            server.reply("535 5.7.8 no" if last else "334 UGFzc3dvcmQ6")

        server = ScriptedServer(extensions=("AUTH LOGIN",))
        server.on_login_answer = refuse  # type: ignore[method-assign]
        return server

    def test_stock_errors_hold_it(self) -> None:
        (failure,) = Stock(self.server(), b"x\n").accept().outcome
        self.assertIn(B64_PASSWORD, str(failure.value))

    def test_ours_do_not(self) -> None:
        result = Rig(self.server()).deliver(route=plain_route(user="user", password=PASSWORD))
        self.assertEqual(result.reason, "SMTP Error: Could not authenticate.")
        self.assertNotIn(B64_PASSWORD, repr(result))
        self.assertFalse(Session.debug)


class TimeoutTests(SynchronousTestCase):
    """A silent server is given up."""

    @staticmethod
    def silent(_: ScriptedServer) -> None:
        return

    def test_stock_waits_for_ever(self) -> None:
        factory = Stock(ScriptedServer(), b"x\n").factory
        sender = factory.buildProtocol(ADDRESS)
        clock = Clock()
        sender.callLater = clock.callLater
        sender.makeConnection(StringTransport())
        self.assertIsNone(sender.timeout)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_ours_waits_for_the_timeout(self) -> None:
        rig = Rig(ScriptedServer({"banner": self.silent}))
        rig.send(route=plain_route(timeout=7))
        rig.accept()
        rig.advance(6.9)
        self.assertEqual(rig.results, [])
        rig.advance(0.1)
        self.assertEqual(len(rig.results), 1)


class EndlessReplyTests(SynchronousTestCase):
    """A reply without end is cut off."""

    @staticmethod
    def endless(server: ScriptedServer) -> None:
        server.reply(*["250-more"] * 10_000)

    def test_stock_keeps_it_all(self) -> None:
        stock = Stock(ScriptedServer({"EHLO": self.endless}), b"x\n").accept()
        sender = stock.factory.currentProtocol
        assert sender is not None
        self.assertEqual(len(sender.resp), 10_000)

    def test_ours_gives_up(self) -> None:
        result = Rig(ScriptedServer({"EHLO": self.endless})).deliver()
        self.assertIn("100 lines", result.reason)


class HeloTests(SynchronousTestCase):
    """A server that refuses HELO as well is done with."""

    @staticmethod
    def refuse(server: ScriptedServer) -> None:
        if len(server.commands) < 50:
            server.reply("502 5.5.1 unknown")

    def test_stock_repeats_helo_for_ever(self) -> None:
        stock = Stock(ScriptedServer({"EHLO": self.refuse, "HELO": self.refuse}), b"x\n")
        build = stock.factory.buildProtocol

        def with_fallback(addr: Any) -> Any:
            sender = build(addr)
            sender.heloFallback = True
            return sender

        stock.factory.buildProtocol = with_fallback  # type: ignore[method-assign]
        stock.accept()
        self.assertEqual(len(stock.server.commands), 50)

    def test_ours_tries_it_once(self) -> None:
        server = ScriptedServer({"EHLO": self.refuse, "HELO": self.refuse})
        result = Rig(server).deliver()
        self.assertEqual(result.reason, "SMTP Error: HELO not accepted: 502 5.5.1 unknown")
        self.assertEqual([c.split()[0] for c in server.commands], ["EHLO", "HELO", "QUIT"])
