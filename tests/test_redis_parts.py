# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.redis_parts: the settings decide where it connects and what it says."""

from __future__ import annotations

from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.settings import Settings
from smtpmailer.core.settings_reading import from_values
from smtpmailer.errors import TlsConfigError
from smtpmailer.redis_parts import RedisParts, build_redis
from tests.stores.redis_wire import Wire

_AOF = b"# Persistence\r\naof_enabled:%d\r\n"


class RedisPartsTests(SynchronousTestCase):
    """A link in front of a reactor that is the test's."""

    reactor: Any

    def settings(self, **values: object) -> Settings:
        """Give settings with Redis."""
        least = {"SMTP_HOST": "h", "MAILER_QUEUE": False, "REDIS_ENABLE": True}
        return from_values(least | values, self.mktemp())

    def build(self, **values: object) -> RedisParts:
        """Build and start all parts, on a reactor of their own."""
        return self.start(self.settings(**values))

    def start(self, settings: Settings, *, resets: bool = True) -> RedisParts:
        """Build and start all parts, on a reactor of their own."""
        self.reactor = MemoryReactorClock()
        parts = build_redis(settings, self.reactor, resets=resets)
        for service in parts.services:
            service.startService()
            self.addCleanup(service.stopService)
        return parts

    def said(self, answers: tuple[bytes, ...]) -> list[bytes]:
        """Take the first connection and answer what is said on it; give the commands."""
        protocol = self.reactor.tcpClients[0][2].buildProtocol(None)
        wire = Wire(protocol)
        commands = []
        for answer in answers:
            commands.append(b" ".join(wire.words()))
            protocol.dataReceived(answer)
        return commands

    def test_it_connects_where_the_settings_say(self) -> None:
        self.build(REDIS_ADDR="192.0.2.1", REDIS_PORT=7000, REDIS_TIMEOUT=3)
        for host, port, _, timeout, _ in self.reactor.tcpClients:
            self.assertEqual((host, port, timeout), ("192.0.2.1", 7000, 3))

    def test_without_a_limit_there_is_one(self) -> None:
        parts = self.build(REDIS_READ_TIMEOUT=0)
        self.assertEqual(self.reactor.tcpClients[0][3], 10)
        self.said(())
        self.reactor.advance(299)
        self.assertEqual(parts.redis.state().reason, "not connected yet")
        self.reactor.advance(2)
        self.assertIn("no answer within 300 s", parts.redis.state().reason)

    def test_it_logs_in_as_the_settings_say(self) -> None:
        values = {"REDIS_USER": "u", "REDIS_PASSWORD": "p", "REDIS_DB": 2}
        self.build(**values)
        commands = self.said((b"+OK\r\n", b"+OK\r\n", b"+PONG\r\n"))
        self.assertEqual(commands, [b"AUTH u p", b"SELECT 2", b"PING"])

    def test_sentinels_are_asked_with_their_own_login(self) -> None:
        self.build(
            REDIS_SENTINELS="192.0.2.2:1, 192.0.2.3:2",
            REDIS_SENTINEL_MASTER="m",
            REDIS_SENTINEL_USER="su",
            REDIS_SENTINEL_PASSWORD="sp",
            REDIS_PASSWORD="p",
        )
        self.assertEqual(self.reactor.tcpClients[0][:2], ("192.0.2.2", 1))
        answer = b"*2\r\n$9\r\n192.0.2.9\r\n$4\r\n7000\r\n"
        commands = self.said((b"+OK\r\n", b"+PONG\r\n", answer))
        asked = b"SENTINEL GET-MASTER-ADDR-BY-NAME m"
        self.assertEqual(commands, [b"AUTH su sp", b"PING", asked])
        self.assertEqual(self.reactor.tcpClients[-1][:2], ("192.0.2.9", 7000))

    def test_tls_is_for_server_and_sentinels(self) -> None:
        for more in ({}, {"REDIS_SENTINELS": "127.0.0.1", "REDIS_SENTINEL_MASTER": "m"}):
            self.build(REDIS_PROTO="tls", **more)
            wrapped = self.reactor.tcpClients[0][2]._wrappedFactory
            self.assertIsInstance(wrapped, TLSMemoryBIOFactory)

    def test_authorities_that_are_none_are_refused(self) -> None:
        settings = self.settings(REDIS_PROTO="tls", REDIS_CA_FILE="/nowhere")
        self.assertRaises(TlsConfigError, build_redis, settings, MemoryReactorClock())
        build_redis(self.settings(REDIS_CA_FILE="/nowhere"), MemoryReactorClock())

    def test_the_service_waits_for_redis_but_not_for_long(self) -> None:
        ready = self.build().ready()
        self.assertNoResult(ready)
        self.reactor.advance(2)
        self.assertIsNone(self.successResultOf(ready))

    def test_the_service_is_ready_once_redis_is(self) -> None:
        parts = self.build()
        ready = parts.ready()
        self.said((b"+PONG\r\n", b"$-1\r\n"))
        self.assertIsNone(self.successResultOf(ready))
        self.assertTrue(parts.redis.state().up)

    def test_counters_are_reset_by_one_process_and_only_if_they_shall_be(self) -> None:
        for shall, resets, words in (
            (True, True, b"SET SMTP_MAILER:sent:success 0"),
            (True, False, b"SET SMTP_MAILER:sent:success 0 NX"),
            (False, True, b"SET SMTP_MAILER:sent:success 0 NX"),
        ):
            self.start(self.settings(REDIS_RESET_STATS_ON_START=shall), resets=resets)
            commands = self.said((b"+PONG\r\n", b"$-1\r\n", b"+OK\r\n"))
            self.assertEqual(commands[-1], words)

    def test_a_redis_that_may_lose_what_it_keeps_is_warned_about(self) -> None:
        for append_only, values, warned in (
            (0, {"REDIS_STORE_TEMPLATE": True}, True),
            (1, {"REDIS_STORE_TEMPLATE": True}, False),
            (0, {}, False),
        ):
            self.build(**values)
            info = _AOF % append_only
            with capturedLogs() as events:
                self.said((b"+PONG\r\n", b"$%d\r\n%s\r\n" % (len(info), info)))
            lines = [event["log_format"] for event in events]
            self.assertEqual(any("appendonly off" in line for line in lines), warned)
