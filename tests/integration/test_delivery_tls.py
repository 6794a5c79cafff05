# SPDX-License-Identifier: MIT
"""Deliveries over real sockets: TLS as the reactor does it, names, addresses, large mails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.trial.unittest import TestCase

from smtpmailer.core.model import DeliveryResult, Encryption, Outcome, OutgoingMail
from smtpmailer.coroutines import returns_deferred
from smtpmailer.delivery.sender import Sender
from tests.delivery.certificates import Identity, authority, issue
from tests.delivery.hostile import PASSWORD, ScriptedServer, mail, plain_route

BIG = b"Subject: big\r\n\r\n" + b"0123456789abcde\r\n" * 600_000
BOTH = (Encryption.STARTTLS, Encryption.TLS)


class RealSocketTests(TestCase):
    """The same sender, a real reactor."""

    timeout = 30

    def setUp(self) -> None:
        self.ca_file = self.mktemp()
        Path(self.ca_file).write_bytes(authority().cert_pem)
        self.sender = Sender(reactor, 20)
        self.servers: list[ScriptedServer] = []

    @returns_deferred
    async def deliver(
        self,
        identity: Identity | None,
        encryption: Encryption,
        message: OutgoingMail | None = None,
        **changes: Any,
    ) -> DeliveryResult:
        """Deliver to a new server on the loopback and wait until both have let go."""
        tls = identity.options() if identity else None

        def build() -> ScriptedServer:
            server = ScriptedServer(
                extensions=("STARTTLS",),
                tls_extensions=("AUTH PLAIN",),
                tls=tls,
                implicit=encryption is Encryption.TLS,
            )
            self.servers.append(server)
            return server

        io: Any = reactor
        port = io.listenTCP(0, Factory.forProtocol(build), interface="127.0.0.1")
        fields = {"host": "localhost", "ca_file": self.ca_file, "timeout": 10} | changes
        route = plain_route(port=port.getHost().port, encryption=encryption, **fields)
        try:
            result = await self.sender.send(message or mail(), route)
            await self.sender.drain()
            while not all(server.lost for server in self.servers):
                await _turn()
        finally:
            await port.stopListening()
        return result

    @returns_deferred
    async def both(self, identity: Identity, said: str, **changes: Any) -> None:
        """Check that a certificate is refused with these words, with STARTTLS and TLS."""
        for encryption in BOTH:
            result = await self.deliver(identity, encryption, **changes)
            self.assertIs(result.outcomes[0].outcome, Outcome.TEMPORARY)
            self.assertEqual(result.reason, "SMTP Error: Could not connect to SMTP host.")
            self.assertIn(said, result.outcomes[0].reply)
            self.assertFalse(any("MAIL" in c for s in self.servers for c in s.commands))

    @returns_deferred
    async def _right(self) -> None:
        for encryption in BOTH:
            for host in ("localhost", "127.0.0.1"):
                identity = issue(host, issuer=authority())
                result = await self.deliver(
                    identity, encryption, host=host, user="user", password=PASSWORD
                )
                self.assertTrue(result.delivered, result)
                self.assertEqual(len(self.servers[-1].logins), 1)

    @returns_deferred
    async def _large(self) -> None:
        identity = issue("localhost", issuer=authority())
        for encryption in Encryption:
            result = await self.deliver(identity, encryption, mail(wire=BIG))
            self.assertTrue(result.delivered, result)
            self.assertEqual(self.servers[-1].bodies, [BIG])

    @returns_deferred
    async def _refused(self) -> None:
        io: Any = reactor
        port = io.listenTCP(0, Factory(), interface="127.0.0.1")
        number = port.getHost().port
        await port.stopListening()
        result = await self.sender.send(mail(), plain_route(host="127.0.0.1", port=number))
        self.assertEqual(result.reason, "SMTP Error: Could not connect to SMTP host.")
        self.assertIn("refused", result.outcomes[0].reply)
        await self.sender.drain()

    def test_a_right_certificate_carries_mail_and_login(self) -> Deferred[None]:
        return self._right()

    def test_a_large_mail_arrives_whole_with_every_encryption(self) -> Deferred[None]:
        return self._large()

    def test_a_self_signed_certificate_is_refused(self) -> Deferred[None]:
        return self.both(issue("localhost"), "self-signed")

    def test_an_expired_certificate_is_refused(self) -> Deferred[None]:
        return self.both(issue("localhost", issuer=authority(), days=(-9, -1)), "has expired")

    def test_the_wrong_host_is_refused(self) -> Deferred[None]:
        identity = issue("elsewhere.example", issuer=authority())
        return self.both(identity, "is for elsewhere.example, not for localhost")

    def test_an_unknown_ca_is_refused(self) -> Deferred[None]:
        identity = issue("localhost", issuer=authority())
        return self.both(identity, "unknown CA", ca_file="")

    def test_a_closed_port_is_a_temporary_result(self) -> Deferred[None]:
        return self._refused()


def _turn() -> Deferred[None]:
    """Fire in a later turn of the reactor."""
    turn: Deferred[None] = Deferred()
    io: Any = reactor
    io.callLater(0.001, turn.callback, None)
    return turn
