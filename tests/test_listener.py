# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.listener."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import ServerFactory
from twisted.internet.testing import MemoryReactor
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.listener import Listener


class RefusingReactor(MemoryReactor):
    """Has no port for anybody."""

    def __init__(self, why: Exception) -> None:
        super().__init__()
        self._why = why

    def listenTCP(self, port: int, *_: object, interface: str = "", **_more: object) -> Any:
        raise CannotListenError(interface, port, self._why)


class Port:
    """An open port; ``story`` says what was done with it."""

    def __init__(self) -> None:
        self.story: list[str] = []

    def stopReading(self) -> None:
        self.story.append("wait")

    def startReading(self) -> None:
        self.story.append("serve")

    def stopListening(self) -> None:
        self.story.append("close")

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 4711)


class ReadyTests(SynchronousTestCase):
    """Connections are taken when what serves them is ready."""

    def setUp(self) -> None:
        self.port = Port()
        self.ready: Deferred[None] = Deferred()
        reactor: Any = SimpleNamespace(listenTCP=lambda *_, **__: self.port)
        self.listener = Listener(reactor, ("127.0.0.1", 0), ServerFactory(), lambda: self.ready)

    def test_no_connection_is_taken_before_all_is_ready(self) -> None:
        self.listener.privilegedStartService()
        self.listener.startService()
        self.assertEqual(self.port.story, ["wait"])
        self.ready.callback(None)
        self.assertEqual(self.port.story, ["wait", "serve"])

    def test_what_is_there_is_served_when_not_all_gets_ready(self) -> None:
        self.listener.startService()
        self.ready.errback(OSError("no"))
        self.assertEqual(self.port.story, ["wait", "serve"])
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_nothing_is_served_when_it_was_stopped_meanwhile(self) -> None:
        self.listener.startService()
        self.successResultOf(self.listener.stopService())
        self.ready.callback(None)
        self.assertIsNone(self.successResultOf(self.ready))
        self.assertEqual(self.port.story, ["wait", "close"])

    def test_it_says_on_which_port_it_listens_once_it_serves(self) -> None:
        with capturedLogs() as events:
            self.listener.startService()
            self.assertEqual(events, [])
            self.ready.callback(None)
        self.assertEqual([event["address"] for event in events], ["127.0.0.1:4711"])


class ListenerTests(SynchronousTestCase):
    """One port, open as long as the service runs."""

    def setUp(self) -> None:
        self.reactor = MemoryReactor()
        self.factory = ServerFactory()

    def listener(self, address: str = "127.0.0.1", reactor: Any = None) -> Listener:
        return Listener(reactor or self.reactor, (address, 3000), self.factory)

    def refusal(self, listener: Listener) -> str:
        return str(self.assertRaises(SystemExit, listener.privilegedStartService).code)

    def test_it_opens_nothing_before_it_is_started(self) -> None:
        self.listener()
        self.assertEqual(self.reactor.tcpServers, [])

    def test_the_port_opens_once_and_while_still_privileged(self) -> None:
        listener = self.listener()
        listener.privilegedStartService()
        self.assertEqual(len(self.reactor.tcpServers), 1)
        listener.startService()
        ((port, factory, backlog, interface),) = self.reactor.tcpServers
        self.assertEqual((port, interface), (3000, "127.0.0.1"))
        self.assertIs(factory, self.factory)
        self.assertGreaterEqual(backlog, 500)
        self.assertTrue(listener.running)

    def test_it_starts_without_privileges_too(self) -> None:
        self.listener().startService()
        self.assertEqual(len(self.reactor.tcpServers), 1)

    def test_a_host_name_is_resolved(self) -> None:
        self.listener("localhost").startService()
        self.assertIn(self.reactor.tcpServers[0][3], {"127.0.0.1", "::1"})

    def test_stopping_closes_the_port_and_may_be_repeated(self) -> None:
        listener = self.listener()
        listener.startService()
        self.successResultOf(listener.stopService())
        self.successResultOf(listener.stopService())
        self.assertFalse(listener.running)
        listener.startService()
        self.assertEqual(len(self.reactor.tcpServers), 2)

    def test_the_address_is_shown_as_one_would_type_it(self) -> None:
        self.assertEqual(self.listener().address(), "127.0.0.1:3000")
        self.assertEqual(self.listener("::1").address(), "[::1]:3000")

    def test_a_busy_port_ends_the_process_with_a_clear_line(self) -> None:
        busy = RefusingReactor(OSError(errno.EADDRINUSE, "Address already in use"))
        self.assertEqual(
            self.refusal(self.listener(reactor=busy)),
            "smtpmailer: can't listen on 127.0.0.1:3000: another program listens there "
            "(MAILER_ADDR, MAILER_PORT)",
        )

    def test_any_other_refusal_ends_the_process_with_the_systems_words(self) -> None:
        for why in (OSError(errno.EACCES, "Permission denied"), ValueError("Permission denied")):
            said = self.refusal(self.listener(reactor=RefusingReactor(why)))
            self.assertEqual(
                said,
                "smtpmailer: can't listen on 127.0.0.1:3000: Permission denied "
                "(MAILER_ADDR, MAILER_PORT)",
            )

    def test_a_name_that_nobody_has_ends_the_process_with_a_clear_line(self) -> None:
        said = self.refusal(self.listener("host.invalid"))
        self.assertIn("can't listen on host.invalid:3000: ", said)
        self.assertEqual(self.reactor.tcpServers, [])
