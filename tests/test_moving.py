# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.moving; moving between processes is in the integration tests."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ISystemHandle
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from smtpmailer.core.documents import Document
from smtpmailer.core.replies import Reply, success
from smtpmailer.core.standing import Standing
from smtpmailer.errors import ClientError
from smtpmailer.interfaces import IDispatcher
from smtpmailer.moving import LARGEST_REST
from smtpmailer.protocol import JsonFactory, ProtocolLimits
from tests.connections import HalfCloseableTransport

PING = b'{"ping":1}'


@implementer(IDispatcher)
class Slow:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.waiting: list[Deferred[Reply]] = []

    def handle(self, *_about: object) -> Deferred[Reply]:
        waiting: Deferred[Reply] = Deferred()
        self.waiting.append(waiting)
        return waiting

    def prompt(self, *_about: object) -> None:
        """Know nothing at once."""

    def answer(self) -> None:
        self.waiting.pop(0).callback(success(message="pong"))

    def reject(self, fault: ClientError, peer: str) -> Reply:
        return success(message=f"{fault} {peer}")

    def leave(self, standing: Standing) -> None:
        """Do nothing."""

    def may_overlap(self, _document: Document) -> bool:
        return True


@implementer(ISystemHandle)
class HandleTransport(HalfCloseableTransport):
    """A transport with a socket of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.ours, self.clients = socket.socketpair()
        self.story: list[str] = []

    def getHandle(self) -> socket.socket:
        return self.ours

    def stopReading(self) -> None:
        self.story.append("stop reading")

    def stopWriting(self) -> None:
        self.story.append("stop writing")


class MovingCase(SynchronousTestCase):
    """One connection."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.dispatcher = Slow()
        self.factory = JsonFactory(self.dispatcher, self.clock, ProtocolLimits())
        self.transport = HandleTransport()
        self.addCleanup(self.transport.ours.close)
        self.addCleanup(self.transport.clients.close)
        connection: Any = self.factory.buildProtocol(None)
        self.connection = connection
        connection.makeConnection(self.transport)
        self.given: list[bytes] = []

    def give(self, handle: socket.socket, rest: bytes) -> bool:
        """Take a connection, as another process would."""
        self.assertIs(handle, self.transport.ours)
        self.given.append(rest)
        self.other = handle.dup()
        self.addCleanup(self.other.close)
        return True

    def read(self) -> bool:
        """Tell whether it reads."""
        return self.transport.producerState == "producing"


class MovingTests(MovingCase):
    """It moves between two requests."""

    def test_an_idle_one_can_move_and_its_client_keeps_it(self) -> None:
        self.assertTrue(self.connection.can_move())
        self.assertTrue(self.connection.move(self.give))
        self.assertEqual((self.given, self.factory.connections), ([b""], 0))
        self.assertEqual(self.transport.story, ["stop reading", "stop writing"])
        self.assertFalse(self.transport.disconnecting)
        self.other.send(b"still here")
        self.assertEqual(self.transport.clients.recv(100), b"still here")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_beginning_of_a_request_goes_along(self) -> None:
        self.connection.dataReceived(PING[:4])
        self.connection.dataReceived(PING[4:7])
        self.assertTrue(self.connection.can_move())
        self.connection.move(self.give)
        self.assertEqual((self.given, self.factory.load.buffered_bytes), ([PING[:7]], 0))

    def test_one_with_an_open_request_stays_until_that_is_answered(self) -> None:
        self.connection.dataReceived(PING)
        self.assertFalse(self.connection.can_move())
        self.dispatcher.answer()
        self.assertTrue(self.connection.can_move())

    def test_one_that_was_not_taken_goes_on_here(self) -> None:
        self.assertFalse(self.connection.move(lambda _handle, _rest: False))
        self.assertEqual(self.factory.connections, 1)
        self.connection.dataReceived(PING)
        self.dispatcher.answer()
        self.assertIn(b"pong", self.transport.value())

    def test_what_ends_is_backed_up_or_encrypted_stays(self) -> None:
        def end() -> None:
            self.connection.stop_reading()

        def back_up() -> None:
            self.connection.pauseProducing()

        def encrypt() -> None:
            self.connection._is_tls = True

        for change in (end, back_up, encrypt):
            self.setUp()
            change()
            self.assertFalse(self.connection.can_move(), change)


class LeavingTests(MovingCase):
    """Before it moves it reads no further than it has to."""

    def test_it_stops_reading_at_once(self) -> None:
        self.connection.leave()
        self.assertFalse(self.read())

    def test_it_reads_no_more_after_an_answer(self) -> None:
        self.connection.dataReceived(PING)
        self.connection.leave()
        self.dispatcher.answer()
        self.assertFalse(self.read())
        self.assertTrue(self.connection.can_move())

    def test_a_request_that_is_too_long_to_go_along_is_read_to_its_end(self) -> None:
        self.connection.dataReceived(b'{"ping":"' + b"x" * LARGEST_REST)
        self.connection.leave()
        self.assertTrue(self.read())
        self.assertFalse(self.connection.can_move())
        self.connection.dataReceived(b'"}')
        self.assertFalse(self.read())
        self.dispatcher.answer()
        self.assertTrue(self.connection.can_move())


class DescriptionTests(MovingCase):
    """What it tells about itself."""

    def test_it_tells_ages_and_requests(self) -> None:
        self.connection.dataReceived(PING)
        self.clock.advance(5)
        self.dispatcher.answer()
        self.clock.advance(2)
        self.connection.dataReceived(PING)
        told = self.connection.describe()
        expected = {"age": 7.0, "quiet": 0.0, "requests": 1, "open": 1, "tls": False}
        self.assertEqual({name: told[name] for name in expected}, expected)
        self.dispatcher.answer()
        self.clock.advance(3)
        told = self.connection.describe()
        self.assertEqual((told["quiet"], told["requests"], told["open"]), (3.0, 2, 0))


class AdoptionTests(MovingCase):
    """One that another process has let in is never refused."""

    def test_limits_are_not_asked(self) -> None:
        self.factory.use(ProtocolLimits(max_connections=1))
        refused: Any = self.factory.buildProtocol(None)
        self.assertIsNotNone(refused.refusal)
        adopted = self.factory.adopt(None)
        self.assertIsNone(adopted.refusal)
        adopted.makeConnection(HandleTransport())
        self.assertEqual(self.factory.connections, 2)
