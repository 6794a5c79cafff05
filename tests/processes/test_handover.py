# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.processes.handover."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.board import Field
from smtpmailer.moving import LARGEST_REST
from smtpmailer.processes.handover import Giver, Taker
from smtpmailer.processes.sharing import alone, make_passage
from smtpmailer.processes.turns import Turns


class _Reactor(Clock):
    """Keeps what it is told to read, and what it is to adopt."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[object] = []
        self.adopted: list[socket.socket] = []
        self.trouble: Exception | None = None

    def addReader(self, reader: object) -> None:
        if reader not in self.readers:
            self.readers.append(reader)

    def removeReader(self, reader: object) -> None:
        if reader in self.readers:
            self.readers.remove(reader)

    def adoptStreamConnection(self, descriptor: int, family: int, factory: Any) -> None:
        if self.trouble is not None:
            raise self.trouble
        assert family == socket.AF_UNIX, family
        self.adopted.append(socket.socket(fileno=os.dup(descriptor)))
        factory.buildProtocol("address")


class HandoverTests(SynchronousTestCase):
    """From one process to another, both here."""

    def setUp(self) -> None:
        self.reactor = _Reactor()
        self.giving, self.taking = make_passage()
        self.giver = Giver(self.giving.detach())
        board = alone().board
        self.seat, self.other = (board.seat(board.give(number)) for number in (1, 2))
        self.seat[Field.ACCEPTING] = 1
        turns = Turns(board, self.seat, self.reactor)
        self.taker = Taker(self.reactor, self.taking.detach(), self, turns)
        self.addCleanup(self.taker._socket.close)
        self.addCleanup(self.giver._socket.close)
        self.addCleanup(self.close)
        self.made: list[Any] = []
        self.received: list[bytes] = []
        self.taker.start()

    def close(self) -> None:
        for connection in self.reactor.adopted:
            connection.close()

    def adopt(self, address: object) -> Any:
        """Make a protocol, as a factory does."""
        self.made.append(address)
        return self

    def dataReceived(self, data: bytes) -> None:
        self.received.append(data)

    def connection(self) -> tuple[socket.socket, socket.socket]:
        """Give a connection: our end and the client's."""
        ours, clients = socket.socketpair()
        self.addCleanup(clients.close)
        self.addCleanup(ours.close)
        return ours, clients

    def take(self) -> None:
        """Let the taker read, if it wants to."""
        if self.taker in self.reactor.readers:
            self.taker.doRead()

    def test_a_connection_arrives_with_what_was_read_of_it(self) -> None:
        ours, clients = self.connection()
        self.assertTrue(self.giver.give(ours, b'{"pi'))
        ours.close()
        self.take()
        self.assertEqual((self.made, self.received), (["address"], [b'{"pi']))
        clients.send(b'ng":1}')
        (adopted,) = self.reactor.adopted
        self.assertEqual(adopted.recv(100), b'ng":1}')
        adopted.send(b"pong")
        self.assertEqual(clients.recv(100), b"pong")

    def test_the_largest_rest_arrives_whole_and_none_is_no_data(self) -> None:
        rest = os.urandom(LARGEST_REST)
        for each in (rest, b""):
            self.giver.give(self.connection()[0], each)
            self.take()
        self.assertEqual((self.received, len(self.made)), ([rest], 2))

    def test_what_the_kernel_has_no_room_for_stays(self) -> None:
        ours, _ = self.connection()
        given = 0
        while self.giver.give(ours, b"x" * LARGEST_REST):
            given += 1
            self.assertLess(given, 1000)
        self.take()
        self.assertTrue(self.giver.give(ours, b""))

    def test_one_is_taken_at_a_time_and_nothing_where_nothing_is(self) -> None:
        for _ in range(2):
            self.giver.give(self.connection()[0], b"")
        for taken in (1, 2, 2):
            self.take()
            self.assertEqual(len(self.made), taken)

    def test_it_is_left_to_who_has_fewer_connections_for_a_moment(self) -> None:
        self.seat[Field.CONNECTIONS] = 2
        self.other[Field.ACCEPTING] = self.other[Field.CONNECTIONS] = 1
        self.giver.give(self.connection()[0], b"")
        self.take()
        self.assertEqual((self.made, self.reactor.readers), ([], []))
        self.reactor.advance(0.01)
        self.take()
        self.assertEqual(len(self.made), 1)

    def test_a_client_that_went_meanwhile_is_forgotten(self) -> None:
        self.giver.give(self.connection()[0], b"rest")
        self.reactor.trouble = OSError(107, "not connected")
        self.take()
        self.assertEqual((self.made, self.received), ([], []))
        self.assertIn(self.taker, self.reactor.readers)

    def test_who_has_stopped_takes_nothing_any_more(self) -> None:
        self.taker.stop()
        self.taker.start()
        self.assertEqual(self.reactor.readers, [])

    def test_without_a_giver_nothing_is_looked_for(self) -> None:
        self.giver._socket.close()
        self.take()
        self.assertEqual((self.made, self.reactor.readers), ([], []))
