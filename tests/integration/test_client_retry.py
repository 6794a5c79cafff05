# SPDX-License-Identifier: MIT
"""Tests of what the synchronous client tries again, and of what it does not wait for."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.client import Client
from smtpmailer.errors import ServiceAnswerError, ServiceUnreachableError
from smtpmailer.trap_certificate import self_made_certificate
from tests.integration.scripted import ScriptedService, answering, older
from tests.integration.service import until
from tests.integration.test_client import PONG, saying


def hearing(heard: list[bytes]) -> Callable[[socket.socket], None]:
    """Make a handler that takes all there is and answers nothing."""

    def handle(connection: socket.socket) -> None:
        heard.append(b"".join(iter(lambda: connection.recv(65536), b"")))

    return handle


class ForgetTests(SynchronousTestCase):
    """A request that nobody wants an answer to."""

    def setUp(self) -> None:
        self.heard: list[bytes] = []
        files = self_made_certificate(Path(self.mktemp()), time.time())
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.load_cert_chain(files.certificate, files.key)
        self.trust = str(files.ca)

    def test_it_is_written_whole_on_a_connection_of_its_own(self) -> None:
        secure: dict[str, Any] = {"tls": True, "ca_file": self.trust}
        for server, options in ((None, {}), (self.server, secure)):
            with ScriptedService(hearing(self.heard), tls=server) as service:
                client = Client("127.0.0.1", service.port, auth="secret", **options)
                client.forget({"queueMail": "x" * 1_000_000})
                until("it is heard", lambda: self.heard)
            self.assertEqual(
                json.loads(self.heard.pop()), {"queueMail": "x" * 1_000_000, "auth": "secret"}
            )

    def test_what_can_t_be_written_is_told(self) -> None:
        def deaf(connection: socket.socket) -> None:
            connection.recv(1)

        with ScriptedService(deaf) as service:
            client = Client("127.0.0.1", service.port)
            error = self.assertRaises(
                ServiceUnreachableError, client.forget, {"queueMail": "x" * 20_000_000}
            )
        self.assertTrue(error.maybe_done)
        self.assertIn("not written", error.why)


class RetryTests(SynchronousTestCase):
    """With ``retry_for`` what can't do anything twice is tried again."""

    def setUp(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def client(self, port: int, **options: Any) -> Client:
        """Make a client in whose time a pause is over at once."""

        def sleep(seconds: float) -> None:
            self.slept.append(seconds)
            self.now += seconds

        options.setdefault("retry_for", 2)
        return Client("127.0.0.1", port, clock=lambda: self.now, sleep=sleep, **options)

    def test_a_service_that_comes_up_is_found(self) -> None:
        probe = socket.create_server(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()

        def sleep(_: float) -> None:
            """Come up while the client waits."""
            service = ScriptedService(answering(lambda _: PONG, []), port=port)
            service.__enter__()
            self.addCleanup(service.__exit__)

        with Client("127.0.0.1", port, retry_for=9, sleep=sleep) as client:
            client.send_mail({})

    def test_one_that_does_not_is_given_up_in_time(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.assertRaises(ServiceUnreachableError, self.client(port).send_mail, {})
        self.assertEqual(self.slept, [0.1, 0.2, 0.4, 0.8])
        self.slept.clear()
        self.assertRaises(ServiceUnreachableError, self.client(port, retry_for=0).send_mail, {})
        self.assertRaises(
            ServiceUnreachableError, self.client(port, retry_for=9, timeout=0.05).send_mail, {}
        )
        self.assertEqual(self.slept, [])

    def test_a_mail_that_was_written_is_never_written_again(self) -> None:
        """Not to a service that does not remember it, nor when it was to get no key."""
        seen: list[dict[str, Any]] = []
        for handler, once in ((older(seen), True), (saying(), False)):
            with ScriptedService(handler) as service, self.client(service.port) as client:
                for send in (client.send_mail, client.queue_mail):
                    error = self.assertRaises(ServiceUnreachableError, send, {}, once=once)
                    self.assertTrue(error.maybe_done)
            self.assertEqual((service.connections, self.slept), (2, []))
        self.assertEqual([list(each) for each in seen], [["sendMail"], ["queueMail"]])

    def test_a_question_is_asked_again(self) -> None:
        with (
            ScriptedService(saying(), saying(), answering(lambda _: PONG, [])) as service,
            self.client(service.port) as client,
        ):
            client.ping()
        self.assertEqual(service.connections, 3)

    def test_a_mail_that_was_not_looked_at_is_offered_again(self) -> None:
        busy = {"status": "error", "data": "x", "message": "service is busy"}
        refusing = saying(json.dumps(busy).encode() + b"\n")
        with (
            ScriptedService(refusing, answering(lambda _: {"data": "name"}, [])) as service,
            self.client(service.port) as client,
        ):
            self.assertEqual(client.queue_mail({}), "name")
        with ScriptedService(refusing) as service, self.client(service.port) as client:
            error = self.assertRaises(ServiceAnswerError, client.queue_mail, {})
        self.assertEqual(error.answer, busy)

    def test_a_certificate_that_is_not_trusted_stays_so(self) -> None:
        files = self_made_certificate(Path(self.mktemp()), time.time())
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(files.certificate, files.key)
        with ScriptedService(saying(), tls=server) as service:
            client = self.client(service.port, tls=True)
            self.assertRaises(ServiceUnreachableError, client.send_mail, {})
        self.assertEqual(self.slept, [])
