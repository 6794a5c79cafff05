# SPDX-License-Identifier: MIT
"""Who is let in by TLS, who is not, and how those are told; on real sockets."""

from __future__ import annotations

import contextlib
import functools
import json
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.interfaces import IReactorTCP, IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs
from twisted.trial.unittest import TestCase

from smtpmailer import tlsport
from smtpmailer.core.replies import Reply, success
from smtpmailer.core.requests import Arguments
from smtpmailer.delivery.tls import ServerTls
from smtpmailer.dispatcher import Dispatcher
from smtpmailer.errors import TlsConfigError
from smtpmailer.protocol import JsonFactory, ProtocolLimits
from smtpmailer.tlsport import TlsPortFactory
from tests.delivery.certificates import Identity, authority, issue

_T = TypeVar("_T")
_PING = b'{"ping":1}'


def _pong(_: Arguments) -> Deferred[Reply]:
    return succeed(success(message="pong"))


def _read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(4096), b""))


class DoorCase(TestCase):
    """A plain port and a TLS port with client certificates or without."""

    def setUp(self) -> None:
        """Make certificates."""
        self.clock = IReactorTime(reactor)
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        handlers = dict.fromkeys(("ping", "status", "sendMail"), _pong)
        self.factory = JsonFactory(Dispatcher(handlers), self.clock, ProtocolLimits())
        self.authority = authority()
        self.cert, self.key = issue("127.0.0.1").write(str(self.folder))

    def listen(self, factory: Any) -> tuple[str, int]:
        """Listen until the test's end; give where."""
        port = IReactorTCP(reactor).listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.addCleanup(self._leave)
        where = port.getHost()
        assert isinstance(where, IPv4Address)
        return where.host, where.port

    def listen_tls(self, client_ca: str = "") -> tuple[str, int]:
        """Listen with TLS."""
        self.tls = ServerTls(self.cert, self.key, client_ca)
        return self.listen(TlsPortFactory(self.tls, self.factory, self.clock))

    def _leave(self) -> Deferred[None]:
        self.factory.stop_reading()
        return self.factory.drained()

    def context(self, client: Identity | None = None) -> ssl.SSLContext:
        """Give a client's context, which trusts anybody."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if client is not None:
            folder = Path(self.mktemp()).absolute()
            folder.mkdir()
            context.load_cert_chain(*client.write(str(folder)))
        return context

    def in_thread(
        self, where: tuple[str, int], work: Callable[[socket.socket], _T]
    ) -> Deferred[_T]:
        """Connect and do ``work``, in a thread."""

        def run() -> _T:
            with socket.create_connection(where, timeout=15) as plain:
                return work(plain)

        return deferToThread(run)

    def ask(self, where: tuple[str, int], context: ssl.SSLContext) -> Deferred[str]:
        """Ping inside TLS; give the answer's message, or OpenSSL's complaint."""

        def work(plain: socket.socket) -> str:
            try:
                with context.wrap_socket(plain) as client:
                    client.sendall(_PING)
                    return str(json.loads(client.recv(4096))["message"])
            except (ssl.SSLError, ConnectionError) as error:
                return str(error)

        return self.in_thread(where, work)

    @inlineCallbacks
    def warnings(self, work: Callable[[], Deferred[_T]]) -> Any:
        """Do ``work``; give its result and what was logged as a warning or worse."""
        with capturedLogs() as events:
            result = yield work()
            yield deferLater(self.clock, 0.05)
        return result, [e for e in events if e["log_level"].name not in ("debug", "info")]


class WrongLanguageTests(DoorCase):
    """A client of the other kind is told soon, and logged in one line."""

    @inlineCallbacks
    def test_plain_text_on_the_tls_port_is_answered_in_plain_text(self) -> Any:
        where = self.listen_tls()

        def work(client: socket.socket) -> bytes:
            client.sendall(_PING)
            return _read_all(client)

        answer, events = yield self.warnings(lambda: self.in_thread(where, work))
        self.assertIn("TLS only", json.loads(answer)["data"])
        (event,) = events
        self.assertEqual((event["peer"], event["why"]), ("127.0.0.1", "it does not speak TLS"))

    @inlineCallbacks
    def test_tls_on_the_plain_port_ends_at_once(self) -> Any:
        where = self.listen(self.factory)
        said, events = yield self.warnings(lambda: self.ask(where, self.context()))
        self.assertRegex(said.lower(), "wrong.version|record layer|packet length")
        (event,) = events
        self.assertIn("speaks TLS", event["log_format"])

    @inlineCallbacks
    def test_garbage_that_begins_like_tls_is_one_line(self) -> Any:
        where = self.listen_tls()

        def work(client: socket.socket) -> bytes:
            client.sendall(b"\x16" + b"garbage" * 100)
            with contextlib.suppress(ConnectionError):
                return _read_all(client)
            return b""

        _, events = yield self.warnings(lambda: self.in_thread(where, work))
        self.assertEqual([event["peer"] for event in events], ["127.0.0.1"])

    @inlineCallbacks
    def test_who_only_looks_whether_the_port_is_open_is_no_line(self) -> Any:
        where = self.listen_tls()
        _, events = yield self.warnings(lambda: self.in_thread(where, lambda _: None))
        self.assertEqual(events, [])

    @inlineCallbacks
    def test_a_flood_is_no_flood_of_lines(self) -> Any:
        where = self.listen_tls()

        def work(client: socket.socket) -> None:
            client.sendall(_PING)

        def flood() -> Deferred[None]:
            done = self.in_thread(where, work)
            for _ in range(40):
                done.addCallback(lambda _: self.in_thread(where, work))
            return done

        _, events = yield self.warnings(flood)
        self.assertLess(len(events), 25)

    @inlineCallbacks
    def test_a_handshake_that_does_not_come_to_an_end_is_given_up(self) -> Any:
        self.patch(tlsport, "HANDSHAKE_TIMEOUT", 0.1)
        where = self.listen_tls()

        def work(client: socket.socket) -> bytes:
            client.sendall(b"\x16\x03\x01")
            with contextlib.suppress(ConnectionError):
                return _read_all(client)
            return b""

        _, events = yield self.warnings(lambda: self.in_thread(where, work))
        self.assertIn("handshake took longer", events[0]["why"])
        self.assertEqual(self.factory.connections, 0)

    @inlineCallbacks
    def test_a_connection_inside_tls_lives_on_after_that_time(self) -> Any:
        self.patch(tlsport, "HANDSHAKE_TIMEOUT", 0.1)
        where = self.listen_tls()
        pause = threading.Event()

        def work(plain: socket.socket) -> bytes:
            with self.context().wrap_socket(plain) as client:
                client.sendall(_PING)
                first = client.recv(4096)
                pause.wait(0.3)
                client.sendall(_PING)
                return first + client.recv(4096)

        answers = yield self.in_thread(where, work)
        self.assertEqual(answers.count(b"pong"), 2)


class ClientCertificateTests(DoorCase):
    """With MAILER_SSL_CLIENT_CA a client needs a certificate of that authority."""

    @inlineCallbacks
    def test_only_who_has_one_is_let_in(self) -> Any:
        path = self.folder / "ca.pem"
        path.write_bytes(self.authority.cert_pem)
        where = self.listen_tls(str(path))
        said = yield self.ask(where, self.context(issue("client", issuer=self.authority)))
        self.assertEqual(said, "pong")
        for client in (
            None,
            issue("client"),
            issue("client", issuer=issue("Other CA", is_ca=True)),
        ):
            context = self.context(client)
            said, events = yield self.warnings(functools.partial(self.ask, where, context))
            self.assertNotEqual(said, "pong")
            self.assertEqual(len(events), 1, events)

    def test_a_file_without_authority_is_a_fault(self) -> None:
        for path in (self.key, "/missing.pem"):
            fault = self.assertRaises(TlsConfigError, ServerTls, self.cert, self.key, path)
            self.assertIn("MAILER_SSL_CLIENT_CA", str(fault))


class ReloadTests(DoorCase):
    """A renewed certificate is for new connections; nobody is cut off."""

    @inlineCallbacks
    def test_old_connections_go_on_and_new_ones_see_the_new_certificate(self) -> Any:
        where = self.listen_tls()
        old = Path(self.cert).read_text("ascii")
        renew, renewed = threading.Event(), threading.Event()

        def certificate() -> str:
            return ssl.get_server_certificate(where).strip()

        def work(plain: socket.socket) -> bytes:
            with self.context().wrap_socket(plain) as client:
                client.sendall(_PING)
                first = client.recv(4096)
                renew.set()
                renewed.wait(10)
                client.sendall(_PING)
                return first + client.recv(4096)

        long = self.in_thread(where, work)
        yield deferToThread(renew.wait, 10)
        before = yield deferToThread(certificate)
        self.assertIn(before, old)
        issue("127.0.0.1").write(str(self.folder))
        self.tls.reload()
        after = yield deferToThread(certificate)
        self.assertNotEqual(after, before)
        self.assertIn(after, Path(self.cert).read_text("ascii"))
        renewed.set()
        answers = yield long
        self.assertEqual(answers.count(b"pong"), 2)

    @inlineCallbacks
    def test_a_faulty_pair_leaves_the_old_one(self) -> Any:
        where = self.listen_tls()
        Path(self.key).write_text("no key", "ascii")
        self.assertRaises(TlsConfigError, self.tls.reload)
        said = yield self.ask(where, self.context())
        self.assertEqual(said, "pong")
