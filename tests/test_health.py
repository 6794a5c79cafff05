# SPDX-License-Identifier: MIT
"""The pages for machines: what they say, and that nothing about them hurts the service."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactor, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.health import HealthPort, make_site


class _Taken(MemoryReactor):
    """A reactor all of whose ports are taken."""

    def listenTCP(self, *_args: Any, **_kwargs: Any) -> Any:
        raise CannotListenError("127.0.0.1", 9124, OSError())


class PageTests(SynchronousTestCase):
    """What is answered."""

    def setUp(self) -> None:
        self.figures: Deferred[bytes] = succeed(b"mails 3\n")
        self.why = ""

    def ask(self, path: str, method: str = "GET") -> tuple[int, dict[str, str], str]:
        """Give the status, the headers and the text."""

        async def why_not_ready() -> str:
            return self.why

        site = make_site(lambda: self.figures, why_not_ready)
        self.protocol = site.buildProtocol(None)
        self.transport = StringTransport()
        self.protocol.makeConnection(self.transport)
        self.protocol.dataReceived(f"{method} {path} HTTP/1.0\r\n\r\n".encode())
        return self.answer()

    def answer(self) -> tuple[int, dict[str, str], str]:
        head, _, text = self.transport.value().decode().partition("\r\n\r\n")
        first, *lines = head.split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        return int(first.split()[1]) if first else 0, headers, text

    def test_figures_are_in_prometheus_s_form(self) -> None:
        status, headers, text = self.ask("/metrics")
        self.assertEqual((status, text), (200, "mails 3\n"))
        self.assertEqual(headers["content-type"], "text/plain; version=0.0.4; charset=utf-8")

    def test_a_head_request_gets_no_text(self) -> None:
        status, headers, text = self.ask("/metrics", "HEAD")
        self.assertEqual((status, headers["content-length"], text), (200, "8", ""))

    def test_who_answers_is_alive(self) -> None:
        self.why = "it stops"
        self.assertEqual(self.ask("/livez")[::2], (200, "alive\n"))

    def test_ready_or_why_not(self) -> None:
        self.assertEqual(self.ask("/readyz")[::2], (200, "ready\n"))
        self.why = "the queue can't be used"
        self.assertEqual(self.ask("/readyz")[::2], (503, "not ready: the queue can't be used\n"))

    def test_any_other_path_and_method_is_refused(self) -> None:
        for path in ("/", "/other", "/metricsandmore"):
            self.assertNotEqual(self.ask(path)[2][:5], "mails", path)
        self.assertEqual(self.ask("/other")[0], 404)
        self.assertEqual(self.ask("/metrics", "POST")[0], 405)

    def test_a_fault_is_answered_and_logged(self) -> None:
        self.figures = fail(RuntimeError("no"))
        self.assertEqual(self.ask("/metrics")[::2], (500, "the log says why\n"))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_who_has_gone_meanwhile_is_forgotten(self) -> None:
        self.figures = Deferred()
        self.assertEqual(self.ask("/metrics")[0], 0)
        self.protocol.connectionLost(CannotListenError("", 0, OSError()))
        self.figures.callback(b"late")
        self.assertEqual(self.transport.value(), b"")


class PortTests(SynchronousTestCase):
    """Where it is served."""

    def port(self, reactor: MemoryReactor, address: str = "127.0.0.1") -> HealthPort:
        async def nothing() -> str:
            return ""

        async def no_figures() -> bytes:
            return b""

        return HealthPort(reactor, address, 9124, make_site(no_figures, nothing))

    def test_it_listens_where_it_was_told_until_it_is_stopped(self) -> None:
        reactor = MemoryReactor()
        service = self.port(reactor)
        service.startService()
        self.assertEqual(reactor.tcpServers[0][0], 9124)
        self.assertEqual(reactor.tcpServers[0][3], "127.0.0.1")
        self.assertIn(":", service.address)
        self.successResultOf(service.stopService())
        self.assertEqual(service.address, "")

    def test_a_port_that_is_taken_stops_nothing(self) -> None:
        service = self.port(_Taken())
        service.startService()
        self.assertEqual(service.address, "")
        self.assertEqual(len(self.flushLoggedErrors(CannotListenError)), 1)
        self.successResultOf(service.stopService())
