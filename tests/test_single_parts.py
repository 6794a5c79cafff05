# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.single_parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import bcrypt
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import capturedLogs
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.errors import SettingsError, TlsConfigError
from smtpmailer.protocol import JsonFactory
from smtpmailer.reloading import Reloader
from smtpmailer.root import Root
from smtpmailer.single_parts import build_single
from tests.delivery.certificates import authority, issue
from tests.surroundings import settings, surroundings


def open_files() -> set[str]:
    """Give the numbers of this process's open files."""
    return {path.name for path in Path("/proc/self/fd").iterdir()}


class BuildTests(SynchronousTestCase):
    """The parts, put together."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()

    def build(self, **changes: object) -> Root:
        made = settings(MAILER_RUN_DIR=str(Path(self.mktemp()).absolute()), **changes)
        return build_single(made, self.reactor, surroundings(made, self.reactor))

    def factory(self, **changes: object) -> Any:
        """Start a service; give what it listens with."""
        root = self.build(**changes)
        root.privilegedStartService()
        root.startService()
        self.addCleanup(lambda: self.successResultOf(root.stopService()))
        return self.reactor.tcpServers[-1][1]

    def test_it_opens_and_schedules_nothing(self) -> None:
        before = open_files()
        self.build()
        self.assertEqual(self.reactor.tcpServers, [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(open_files(), before)

    def test_the_listener_starts_last_and_so_stops_first(self) -> None:
        names = [service.name for service in self.build()]
        self.assertEqual(names[0], "control")
        self.assertEqual(names[-2:], ["requests", "listener"])
        self.assertLess(names.index("threads"), names.index("deliveries"))
        self.assertLess(names.index("deliveries"), names.index("requests"))

    def test_it_listens_where_the_settings_say_and_stops(self) -> None:
        root = self.build(MAILER_ADDR="127.0.0.2", MAILER_PORT=4000)
        root.privilegedStartService()
        root.startService()
        port, _, _, interface = self.reactor.tcpServers[0]
        self.assertEqual((port, interface), (4000, "127.0.0.2"))
        self.successResultOf(root.stopService())

    def test_the_limits_are_those_of_the_settings(self) -> None:
        factory = self.factory(
            MAILER_MAX_REQUEST_SIZE=2048,
            MAILER_MAX_DEPTH=9,
            MAILER_IDLE_TIMEOUT=8,
            MAILER_REQUEST_TIMEOUT=7,
            MAILER_MAX_CONNECTIONS=6,
            MAILER_MAX_CONNECTIONS_PER_PEER=5,
            MAILER_MAX_IN_FLIGHT=4,
            MAILER_MAX_BUFFERED=2**21,
        )
        assert isinstance(factory, JsonFactory)
        limits = attrs.astuple(factory.limits)
        self.assertEqual(limits[:7], (2048, 9, 8, 7, 6, 5, 4))
        self.assertEqual(factory.limits.max_buffered_bytes, 2**21)

    def test_with_ssl_it_speaks_tls(self) -> None:
        folder = self.mktemp()
        Path(folder).mkdir()
        cert, key = issue("localhost", issuer=authority()).write(str(Path(folder).absolute()))
        factory = self.factory(MAILER_PROTO="ssl", MAILER_SSL_CERT=cert, MAILER_SSL_KEY=key)
        self.assertIsInstance(factory, TLSMemoryBIOFactory)

    def test_a_certificate_that_can_not_be_used_is_an_error_before_anything_opens(self) -> None:
        with self.assertRaises(TlsConfigError):
            self.build(MAILER_PROTO="ssl", MAILER_SSL_CERT="/missing", MAILER_SSL_KEY="/missing")
        self.assertEqual(self.reactor.tcpServers, [])

    def test_with_a_password_nothing_is_answered_without_it(self) -> None:
        secret = bcrypt.hashpw(b"x", bcrypt.gensalt(4)).decode()
        for changes, said in (
            ({}, b"pong"),
            ({"MAILER_AUTH": True, "MAILER_AUTH_HASH": secret}, b"unauthorized request"),
        ):
            protocol = self.factory(**changes).buildProtocol(None)
            transport = StringTransport()
            protocol.makeConnection(transport)
            protocol.dataReceived(b'{"ping":1}')
            self.reactor.advance(1)  # what answers no password at all
            self.assertIn(said, transport.value())
            protocol.connectionLost(Failure(ConnectionDone()))

    def test_new_keys_count_without_a_restart(self) -> None:
        """The file is looked at every five seconds; a faulty one changes nothing."""
        path = Path(self.mktemp()).absolute()
        path.touch(mode=0o600)

        def write(content: str) -> None:
            path.write_text(content, "utf-8")

        def hashed(password: bytes) -> str:
            return bcrypt.hashpw(password, bcrypt.gensalt(4)).decode()

        write(json.dumps([{"name": "a", "hash": hashed(b"old")}]))
        root = self.build(MAILER_AUTH=True, MAILER_KEYS_FILE=str(path))
        reloader: Any = root.getServiceNamed("reloader")
        auth = reloader._items[0]
        root.startService()
        self.addCleanup(lambda: self.successResultOf(root.stopService()))
        applied: list[str] = []
        self.patch(Reloader, "_apply", lambda _self, item: applied.append(item.what))
        write(json.dumps([{"name": "b", "hash": hashed(b"new")}]))
        self.reactor.advance(5)
        self.assertEqual(applied, ["MAILER_KEYS_FILE"])
        auth.apply()
        write("[]")
        self.assertRaises(SettingsError, auth.apply)

    def test_the_warnings_of_the_settings_are_logged_at_start(self) -> None:
        root = self.build(SMTP_TLS_VERIFY=False)
        with capturedLogs() as events:
            root.startService()
        self.successResultOf(root.stopService())
        warnings = [event["text"] for event in events if "text" in event]
        self.assertEqual(warnings, list(settings(SMTP_TLS_VERIFY=False).warnings))
        self.assertTrue(warnings)
