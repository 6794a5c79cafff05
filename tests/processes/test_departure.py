# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.processes.departure."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.processes.departure import Departure
from smtpmailer.protocol import JsonFactory, ProtocolLimits
from tests.connections import HalfCloseableTransport
from tests.test_moving import PING, HandleTransport, Slow


class DepartureTests(SynchronousTestCase):
    """A process with some connections, which is to part with them."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.dispatcher = Slow()
        self.factory = JsonFactory(self.dispatcher, self.clock, ProtocolLimits(idle_timeout=900))
        self.given: list[socket.socket] = []
        self.room = 100
        self.writers: list[object] = []
        self.departure = Departure(
            self.factory,
            self.give,
            clock=self.clock,
            writers=lambda: self.writers,
            limit=300,
        )

    def give(self, handle: socket.socket, _rest: bytes) -> bool:
        if self.room < 0:
            raise OSError(9, "broken")
        if len(self.given) >= self.room:
            return False
        self.given.append(handle)
        return True

    def connect(self, transport: Any = None) -> Any:
        """Make a connection; give it with its transport."""
        transport = transport or HandleTransport()
        connection: Any = self.factory.buildProtocol(None)
        connection.makeConnection(transport)
        return connection

    def begin(self) -> Deferred[None]:
        begun = self.departure.begin()
        begun.addCallback(lambda _: self.assertEqual(self.clock.getDelayedCalls(), []))
        return begun

    def test_without_connections_it_is_over_at_once(self) -> None:
        self.successResultOf(self.begin())

    def test_idle_connections_are_given_away(self) -> None:
        for _ in range(3):
            self.connect()
        self.successResultOf(self.begin())
        self.assertEqual((len(self.given), self.factory.connections), (3, 0))

    def test_busy_ones_follow_when_their_requests_are_answered(self) -> None:
        connection = self.connect()
        connection.dataReceived(PING)
        over = self.begin()
        self.clock.advance(0.5)
        self.assertEqual(self.given, [])
        self.dispatcher.answer()
        self.clock.advance(0.01)
        self.assertEqual(len(self.given), 1)
        self.successResultOf(over)

    def test_those_with_something_to_write_follow_when_it_is_out(self) -> None:
        connection = self.connect()
        self.writers.append(connection.transport)
        over = self.begin()
        self.clock.advance(0.01)
        self.assertEqual(self.given, [])
        self.writers.clear()
        self.clock.advance(0.01)
        self.successResultOf(over)

    def test_what_finds_no_room_waits(self) -> None:
        self.room = 2
        for _ in range(5):
            self.connect()
        over = self.begin()
        self.clock.advance(0.01)
        self.assertEqual((len(self.given), self.factory.connections), (2, 3))
        self.room = 100
        self.clock.advance(0.01)
        self.successResultOf(over)

    def test_when_giving_fails_they_are_served_here_until_the_limit(self) -> None:
        self.room = -1
        connection = self.connect()
        with capturedLogs() as events:
            over = self.begin()
        self.assertEqual([event["why"] for event in events], ["broken"])
        with capturedLogs() as events:
            for _ in range(40):
                self.clock.advance(0.25)
            self.assertFalse(connection.transport.disconnecting)
            for _ in range(1300):
                self.clock.advance(0.25)
        self.assertEqual(events, [])
        self.assertTrue(connection.transport.disconnecting)
        self.assertNoResult(over)

    def test_one_that_can_not_move_is_closed_when_it_has_been_quiet(self) -> None:
        connection = self.connect(HalfCloseableTransport())
        self.begin()
        for _ in range(18):
            self.clock.advance(0.25)
            self.assertFalse(connection.transport.disconnecting)
        connection.dataReceived(PING)
        for _ in range(40):
            self.clock.advance(0.25)
        self.assertFalse(connection.transport.disconnecting)
        self.dispatcher.answer()
        for _ in range(21):
            self.clock.advance(0.25)
        self.assertTrue(connection.transport.disconnecting)

    def test_a_request_whose_client_is_gone_is_waited_for(self) -> None:
        connection = self.connect()
        connection.dataReceived(PING)
        over = self.begin()
        connection.connectionLost()
        self.clock.advance(1)
        self.assertNoResult(over)
        self.dispatcher.answer()
        self.clock.advance(0.25)
        self.successResultOf(over)

    def test_a_fault_does_not_end_it(self) -> None:
        connection = self.connect()
        self.patch(connection, "can_move", lambda: 1 // 0)
        over = self.begin()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.patch(connection, "can_move", lambda: True)
        self.clock.advance(0.01)
        self.successResultOf(over)
