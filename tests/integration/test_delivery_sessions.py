# SPDX-License-Identifier: MIT
"""Sessions over real sockets: kept, pipelined, resumed, and ended by the server while idle."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory
from twisted.trial.unittest import TestCase

from smtpmailer.core.model import DeliveryResult, Encryption, Route
from smtpmailer.coroutines import returns_deferred
from smtpmailer.delivery import tls
from smtpmailer.delivery.limits import PoolLimits
from smtpmailer.delivery.sender import Sender
from tests.delivery.certificates import authority, issue
from tests.delivery.hostile import mail, plain_route
from tests.delivery.network import EVERYTHING, OFFERS, StrictServer

BIG = b"Subject: big\r\n\r\n" + b"0123456789abcde\r\n" * 60_000


class SessionTests(TestCase):
    """One server on the loopback, a real reactor."""

    timeout = 30

    def setUp(self) -> None:
        self.io: Any = reactor
        self.servers: list[StrictServer] = []
        self.offers: tuple[str, ...] = EVERYTHING
        self.tls = issue("localhost", issuer=authority()).options()
        self.ca_file = self.mktemp()
        Path(self.ca_file).write_bytes(authority().cert_pem)
        self.sender = Sender(reactor, 20, PoolLimits(connections=3, depth=3))

    def build(self) -> StrictServer:
        server = StrictServer(
            extensions=(*self.offers, "STARTTLS"), tls_extensions=self.offers, tls=self.tls
        )
        self.servers.append(server)
        return server

    def route(self, port: int, **changes: Any) -> Route:
        fields = {
            "host": "localhost",
            "encryption": Encryption.STARTTLS,
            "ca_file": self.ca_file,
            "timeout": 10,
        }
        return plain_route(port=port, **(fields | changes))

    @returns_deferred
    async def with_server(self, play: Any) -> None:
        """Do something with the port of a server; then all connections have to end."""
        port = self.io.listenTCP(0, Factory.forProtocol(self.build), interface="127.0.0.1")
        try:
            await play(port.getHost().port)
            await self.sender.drain()
            while not all(server.lost for server in self.servers):
                await _turn()
        finally:
            await port.stopListening()

    async def deliver(self, route: Route, count: int = 1, wire: bytes = b"A: b\r\n") -> None:
        mails = [mail(f"{number}@x.example", wire=wire) for number in range(count)]
        sendings = [self.sender.send(message, route) for message in mails]
        results: list[DeliveryResult] = await gatherResults(sendings)
        self.assertEqual([result.reason for result in results], [""] * count)

    async def _many(self, port: int) -> None:
        for offers in OFFERS:
            self.offers = offers
            self.servers.clear()
            await self.deliver(self.route(port), 200)
            await self.deliver(self.route(port), 4, BIG)
            arrived = [one for server in self.servers for one in server.mails]
            self.assertEqual(len(arrived), 204)
            self.assertEqual(sum(one.body == BIG for one in arrived), 4)
            self.assertLessEqual(len(self.servers), 3)
            await self.sender.drain()

    async def _ended(self, port: int) -> None:
        for encryption in (Encryption.NONE, Encryption.STARTTLS):
            route = self.route(port, encryption=encryption)
            for end in (_finish, _reset, _say_goodbye):
                before = len(self.servers)
                await self.deliver(route)
                self.assertEqual(len(self.servers), before + 1)
                end(self.servers[-1])
                await self.deliver(route)
                self.assertEqual(len(self.servers), before + 2)
                await self.sender.drain()
        self.assertEqual(len([one for server in self.servers for one in server.mails]), 12)

    async def _resumed(self, port: int) -> None:
        checked: list[object] = []
        check = tls._name_fault

        def count(*about: Any) -> str:
            checked.append(about)
            return check(*about)

        self.patch(tls, "_name_fault", count)
        self.tls = issue("localhost", issuer=authority()).options(
            enableSessions=True, enableSessionTickets=True
        )
        for _ in range(4):
            await self.deliver(self.route(port))
            await self.sender.drain()
        self.assertEqual((len(self.servers), len(checked)), (4, 1))

    def test_two_hundred_mails_and_large_ones_need_three_connections(self) -> Deferred[None]:
        return self.with_server(self._many)

    def test_a_session_that_ended_while_idle_costs_a_connection_and_nothing_else(
        self,
    ) -> Deferred[None]:
        return self.with_server(self._ended)

    def test_tls_sessions_are_resumed(self) -> Deferred[None]:
        return self.with_server(self._resumed)


def _finish(server: StrictServer) -> None:
    server.transport.loseConnection()


def _reset(server: StrictServer) -> None:
    linger = struct.pack("ii", 1, 0)
    server.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    server.transport.abortConnection()


def _say_goodbye(server: StrictServer) -> None:
    server.reply("421 4.4.2 idle for too long")
    server.transport.loseConnection()


def _turn() -> Deferred[None]:
    """Fire in a later turn of the reactor."""
    turn: Deferred[None] = Deferred()
    io: Any = reactor
    io.callLater(0.001, turn.callback, None)
    return turn
