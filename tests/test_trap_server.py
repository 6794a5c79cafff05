# SPDX-License-Identifier: MIT
"""Tests of the mail trap as a program, on a reactor in memory."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.trap import TrapPolicy
from smtpmailer.trap_server import TrapServer


class Reactor(MemoryReactorClock):
    """A reactor that notes when it is stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.running = True
        self.stopped = False

    def stop(self) -> None:
        """Note it."""
        self.stopped = True
        self.running = False


class ServerTests(SynchronousTestCase):
    """Ports open, mails are reported, and the end is in order."""

    def setUp(self) -> None:
        self.reactor: Any = Reactor()
        self.lines: list[str] = []

    def server(self, count: int | None = None) -> TrapServer:
        """Make a server."""
        return TrapServer(
            self.reactor,
            directory=Path(self.mktemp()),
            now=lambda: 0.0,
            report=self.lines.append,
            count=count,
        )

    def session(self) -> Any:
        """Connect to the first port."""
        protocol = self.reactor.tcpServers[0][1].buildProtocol(None)
        protocol.makeConnection(StringTransport())
        return protocol

    def send(self, session: Any) -> None:
        """Send a mail."""
        session.dataReceived(
            b"EHLO me\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\nx\r\n.\r\n"
        )

    def test_ports_speak_tls_as_their_policy_says(self) -> None:
        server, context = self.server(), object()
        server.listen("127.0.0.1", 1025, TrapPolicy())
        server.listen("::1", 4465, TrapPolicy(tls=context, implicit_tls=True))  # type: ignore[arg-type]
        self.assertEqual([one[0] for one in self.reactor.tcpServers], [1025])
        self.assertEqual([(one[0], one[2]) for one in self.reactor.sslServers], [(4465, context)])

    def test_a_busy_port_is_an_os_error_that_names_it(self) -> None:
        def busy(*_args: Any, **_kwargs: Any) -> None:
            raise CannotListenError("127.0.0.1", 1025, OSError(98, "Address already in use"))

        self.reactor.listenTCP = busy
        error = self.assertRaises(OSError, self.server().listen, "127.0.0.1", 1025, TrapPolicy())
        self.assertIn("127.0.0.1:1025", str(error))

    def test_each_mail_is_reported(self) -> None:
        server = self.server()
        server.listen("127.0.0.1", 1025, TrapPolicy())
        self.send(self.session())
        self.assertEqual(server.caught, 1)
        self.assertIn("a@b.test -> c@d.test", self.lines[0])

    def test_after_the_last_mail_it_stops_once_the_client_is_gone(self) -> None:
        server = self.server(count=2)
        server.listen("127.0.0.1", 1025, TrapPolicy())
        session = self.session()
        self.send(session)
        self.reactor.advance(1)
        self.send(session)
        self.reactor.advance(1)
        self.assertFalse(self.reactor.stopped)
        session.connectionLost(None)
        self.assertTrue(self.reactor.stopped)

    def test_a_client_that_stays_does_not_keep_it(self) -> None:
        server = self.server(count=1)
        server.listen("127.0.0.1", 1025, TrapPolicy())
        self.send(self.session())
        self.reactor.advance(0)
        self.reactor.advance(4)
        self.assertFalse(self.reactor.stopped)
        self.reactor.advance(2)
        self.assertTrue(self.reactor.stopped)
        # A Deferred whose failure nobody heard logs it when it goes.
        del server
        self.reactor = None
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])
