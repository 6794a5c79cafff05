# SPDX-License-Identifier: MIT
"""The protocol inside TLS, on real sockets."""

from __future__ import annotations

import json
import socket
import ssl
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
from smtpmailer.dispatcher import Dispatcher
from smtpmailer.protocol import JsonFactory, ProtocolLimits
from smtpmailer.tlsport import TlsPortFactory
from tests.delivery.certificates import issue

_T = TypeVar("_T")
_VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


def _client_context(version: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    return context


class TlsPortTests(TestCase):
    """What holds in plain TCP holds in TLS."""

    def setUp(self) -> None:
        """Listen."""
        self.clock = IReactorTime(reactor)
        self.done: list[Any] = []
        handlers = dict.fromkeys(("ping", "status", "sendMail"), self._take)
        limits = ProtocolLimits(max_request_bytes=2_000_000)
        self.factory = JsonFactory(Dispatcher(handlers), self.clock, limits)
        tls: Any = TlsPortFactory(issue("127.0.0.1").options(), self.factory, self.clock)
        port = IReactorTCP(reactor).listenTCP(0, tls, interface="127.0.0.1")
        where = port.getHost()
        assert isinstance(where, IPv4Address)
        self.address = (where.host, where.port)
        self.addCleanup(port.stopListening)
        self.addCleanup(self._leave)

    def _leave(self) -> Deferred[None]:
        self.factory.stop_reading()
        return self.factory.drained()

    def _take(self, arguments: Arguments) -> Deferred[Reply]:
        self.done.append(arguments.value)
        return succeed(success(message="pong"))

    def with_client(
        self, version: ssl.TLSVersion, work: Callable[[ssl.SSLSocket], _T]
    ) -> Deferred[_T]:
        """Connect and do ``work`` in a thread, then close the socket without a word."""
        context = _client_context(version)

        def run() -> _T:
            with (
                socket.create_connection(self.address, timeout=20) as plain,
                context.wrap_socket(plain) as client,
            ):
                return work(client)

        return deferToThread(run)

    @inlineCallbacks
    def test_requests_are_answered(self) -> Any:
        def work(client: ssl.SSLSocket) -> bytes:
            client.sendall(b'{"ping":')
            client.sendall(b"1}")
            return client.recv(4096)

        for version in _VERSIONS:
            answer = yield self.with_client(version, work)
            self.assertEqual(json.loads(answer)["message"], "pong")

    @inlineCallbacks
    def test_a_large_request_written_and_closed_at_once_is_done(self) -> Any:
        """Session tickets that lie unread would reset the connection under the request."""
        request = json.dumps({"sendMail": 1, "pad": "x" * 1_000_000}).encode()
        for version in _VERSIONS:
            self.done.clear()
            for _ in range(10):
                yield self.with_client(version, lambda client: client.sendall(request))
            end = self.clock.seconds() + 10
            while len(self.done) < 10 and self.clock.seconds() < end:
                yield deferLater(self.clock, 0.01)
            self.assertEqual(self.done, [1] * 10)

    @inlineCallbacks
    def test_a_client_that_ends_tls_in_good_order_is_answered_so(self) -> Any:
        def work(client: ssl.SSLSocket) -> socket.socket:
            return client.unwrap()

        for version in _VERSIONS:
            yield self.with_client(version, work)

    @inlineCallbacks
    def test_a_fault_is_answered_and_ends_tls_in_good_order(self) -> Any:
        def work(client: ssl.SSLSocket) -> bytes:
            client.sendall(b"garbage")
            return b"".join(iter(lambda: client.recv(4096), b""))

        for version in _VERSIONS:
            answer = yield self.with_client(version, work)
            self.assertEqual(json.loads(answer)["message"], "payload cannot be empty")
