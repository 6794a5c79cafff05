# SPDX-License-Identifier: MIT
"""The protocol on real sockets: what only a kernel can do to a connection."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.interfaces import IReactorTCP, IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from smtpmailer.core.replies import Reply, success
from smtpmailer.core.requests import Arguments
from smtpmailer.coroutines import returns_deferred
from smtpmailer.dispatcher import Dispatcher
from smtpmailer.protocol import JsonFactory, ProtocolLimits

_T = TypeVar("_T")
_REQUEST_BYTES = 300


def _request(name: str, argument: int) -> bytes:
    text = json.dumps({name: argument, "pad": ""})
    return text.replace('""', '"' + "x" * (_REQUEST_BYTES - len(text)) + '"').encode()


class SocketTests(TestCase):
    """Clients that write, close and read as they please."""

    def setUp(self) -> None:
        """Listen."""
        self.clock = IReactorTime(reactor)
        self.done: list[Any] = []
        self.serve(ProtocolLimits())

    def serve(self, limits: ProtocolLimits) -> None:
        """Listen with these limits, on a port of its own."""
        handlers = {"ping": self._quick, "status": self._quick, "sendMail": self._slow}
        self.factory = JsonFactory(Dispatcher(handlers), self.clock, limits)
        port = IReactorTCP(reactor).listenTCP(0, self.factory, interface="127.0.0.1")
        where = port.getHost()
        assert isinstance(where, IPv4Address)
        self.address = (where.host, where.port)
        self.addCleanup(port.stopListening)
        self.addCleanup(self.leave, self.factory)

    def leave(self, factory: JsonFactory) -> Deferred[None]:
        """Leave no connection open."""
        factory.stop_reading()
        return factory.drained()

    def _quick(self, arguments: Arguments) -> Deferred[Reply]:
        self.done.append(arguments.value)
        return succeed(success(message="pong"))

    def _slow(self, arguments: Arguments) -> Deferred[Reply]:
        return deferLater(self.clock, 0.05, self._quick, arguments).addCallback(lambda d: d)

    def with_client(self, work: Callable[[socket.socket], _T]) -> Deferred[_T]:
        """Connect and do ``work`` in a thread, then close."""

        def run() -> _T:
            with socket.create_connection(self.address, timeout=20) as client:
                return work(client)

        return deferToThread(run)

    @returns_deferred
    async def settled(self, count: int) -> None:
        """Wait, not for ever, until ``count`` requests are done and the loss is noticed."""
        end = self.clock.seconds() + 10
        while len(self.done) < count or self.factory.connections:
            if self.clock.seconds() > end:
                return
            await deferLater(self.clock, 0.01)

    def _write_and_close(self, name: str, count: int) -> Deferred[None]:
        data = b"".join(_request(name, i) for i in range(count))
        return self.with_client(lambda client: client.sendall(data))

    @inlineCallbacks
    def test_300_kb_of_quick_requests_written_and_closed_at_once_are_all_done(self) -> Any:
        """The first answer would provoke a reset that makes the kernel drop what is unread."""
        count = 300_000 // _REQUEST_BYTES
        for _ in range(5):
            self.done.clear()
            yield self._write_and_close("ping", count)
            yield self.settled(count)
            self.assertEqual(self.done, list(range(count)))

    @inlineCallbacks
    def test_300_kb_of_slow_requests_written_and_closed_at_once_are_all_done(self) -> Any:
        count = 300_000 // _REQUEST_BYTES
        yield self._write_and_close("sendMail", count)
        yield self.settled(count)
        self.assertEqual(sorted(self.done), list(range(count)))

    @inlineCallbacks
    def test_one_request_written_and_closed_at_once_is_done(self) -> Any:
        for _ in range(20):
            yield self._write_and_close("sendMail", 1)
        yield self.settled(20)
        self.assertEqual(self.done, [0] * 20)

    @inlineCallbacks
    def test_a_half_closed_client_gets_its_answer_and_the_end(self) -> Any:
        def work(client: socket.socket) -> list[bytes]:
            client.sendall(b'{"sendMail":1}')
            client.shutdown(socket.SHUT_WR)
            return list(iter(lambda: client.recv(4096), b""))

        answer = yield self.with_client(work)
        self.assertEqual(json.loads(b"".join(answer))["message"], "pong")

    @inlineCallbacks
    def test_a_client_that_writes_too_much_still_reads_why(self) -> Any:
        self.serve(ProtocolLimits(max_request_bytes=1_000_000))

        def work(client: socket.socket) -> bytes:
            client.sendall(b'{"ping":"' + b"x" * 8_000_000 + b'"}')
            return b"".join(iter(lambda: client.recv(4096), b""))

        answer = yield self.with_client(work)
        self.assertIn("MAILER_MAX_REQUEST_SIZE", json.loads(answer)["data"])

    @inlineCallbacks
    def test_a_refused_client_reads_why_though_it_has_written(self) -> Any:
        self.serve(ProtocolLimits(max_connections=0))

        def work(client: socket.socket) -> bytes:
            client.sendall(b'{"ping":1}')
            return b"".join(iter(lambda: client.recv(4096), b""))

        answer = yield self.with_client(work)
        self.assertEqual(json.loads(answer)["message"], "too many connections")

    @inlineCallbacks
    def test_a_client_that_never_reads_is_not_read_any_further_and_dropped(self) -> Any:
        self.serve(ProtocolLimits(idle_timeout=1))

        def work(client: socket.socket) -> int:
            client.settimeout(5)
            sent = 0
            try:
                while sent < 200_000_000:
                    sent += client.send(b'{"ping":1}' * 10_000)
            except OSError:
                return sent
            return sent

        sent = yield self.with_client(work)
        self.assertLess(sent, 100_000_000)
        yield self.settled(0)
        self.assertEqual(self.factory.connections, 0)

    @inlineCallbacks
    def test_a_30_mb_request_is_answered(self) -> Any:
        def work(client: socket.socket) -> bytes:
            client.sendall(b'{"ping":"' + b"\\n<p>" * 6_000_000 + b'"}')
            return client.recv(4096)

        answer = yield self.with_client(work)
        self.assertEqual(json.loads(answer)["message"], "pong")
