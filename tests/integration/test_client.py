# SPDX-License-Identifier: MIT
"""Tests of the synchronous client against a service that does what is scripted."""

from __future__ import annotations

import itertools
import json
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.client import Client
from smtpmailer.errors import (
    ServiceAnswerError,
    ServiceProtocolError,
    ServiceUnreachableError,
)
from smtpmailer.trap_certificate import CertificateFiles, self_made_certificate
from tests.integration.scripted import ScriptedService, answering

PONG = {"status": "success", "data": None, "message": "pong"}


def saying(*chunks: bytes) -> Callable[[socket.socket], None]:
    """Make a handler that reads a request, writes chunks one by one, and closes."""

    def handle(connection: socket.socket) -> None:
        connection.recv(65536)
        for chunk in chunks:
            connection.sendall(chunk)

    return handle


class RequestTests(SynchronousTestCase):
    """A request goes out as it is, and its answer comes back."""

    def test_requests_share_one_connection(self) -> None:
        seen: list[dict[str, Any]] = []
        with (
            ScriptedService(answering(lambda _: {"message": "pong"}, seen)) as service,
            Client("127.0.0.1", service.port) as client,
        ):
            self.assertEqual(client.request({"ping": None}), PONG)
            self.assertGreaterEqual(client.ping(), 0)
        self.assertEqual(seen, [{"ping": None}, {"ping": None}])
        self.assertEqual(service.connections, 1)

    def test_the_password_is_added_behind_the_name(self) -> None:
        seen: list[dict[str, Any]] = []
        with (
            ScriptedService(answering(lambda _: {}, seen)) as service,
            Client("127.0.0.1", service.port, auth="pässwörd") as client,
        ):
            client.request({"ping": None})
            client.request({"ping": None, "auth": "mine"})
        self.assertEqual(
            [list(one.items()) for one in seen],
            [
                [("ping", None), ("auth", "pässwörd")],
                [("ping", None), ("auth", "mine")],
            ],
        )

    def test_helpers_send_what_their_names_say(self) -> None:
        seen: list[dict[str, Any]] = []
        data: dict[str, Any] = {"status": {"sent": 3, "failed": 1}, "queueMail": "name"}
        with (
            ScriptedService(
                answering(lambda r: {"data": data.get(next(iter(r)))}, seen)
            ) as service,
            Client("127.0.0.1", service.port) as client,
        ):
            self.assertEqual(client.status(), {"sent": 3, "failed": 1})
            self.assertEqual(client.send_mail({"subject": "ü"})["status"], "success")
            client.send_mail({}, detail=True)
            self.assertEqual(client.queue_mail({}, id="x"), "name")
        self.assertEqual(
            seen,
            [
                {"status": None},
                {"sendMail": {"subject": "ü"}},
                {"sendMail": {}, "detail": True},
                {"queueMail": {}, "id": "x"},
            ],
        )

    def test_an_error_is_an_answer_to_request_and_an_exception_to_helpers(self) -> None:
        refusal = {"status": "error", "data": {"to": ["x"]}, "message": "invalid payload"}
        with (
            ScriptedService(answering(lambda _: refusal, [])) as service,
            Client("127.0.0.1", service.port) as client,
        ):
            self.assertEqual(client.request({"sendMail": {}}), refusal)
            error = self.assertRaises(ServiceAnswerError, client.send_mail, {})
        self.assertEqual(error.answer, refusal)

    def test_an_answer_in_pieces_is_read_whole(self) -> None:
        raw = json.dumps({**PONG, "data": "x" * 200_000}).encode() + b"\n"
        with (
            ScriptedService(saying(raw[:1], raw[1:-1], raw[-1:])) as service,
            Client("127.0.0.1", service.port) as client,
        ):
            self.assertEqual(len(client.request({"ping": None})["data"]), 200_000)

    def test_a_connection_closed_meanwhile_is_made_anew(self) -> None:
        """Closed in silence, or with the reason that the service gives an idle client."""
        line = json.dumps(PONG).encode() + b"\n"
        for last_words in (b"", b'{"status":"error","data":null,"message":"idle"}\n'):
            with (
                ScriptedService(saying(line, last_words), answering(lambda _: PONG, [])) as service,
                Client("127.0.0.1", service.port) as client,
            ):
                client.ping()
                wait_until_readable(client)
                client.ping()
                self.assertEqual(service.connections, 2)


def wait_until_readable(client: Client) -> None:
    """Wait until the service's closing has arrived."""
    connection = client._socket
    if connection is not None:
        connection.settimeout(10)
        connection.recv(1, socket.MSG_PEEK)


class FailureTests(SynchronousTestCase):
    """Each way to fail has its exception, which says whether the request may have been done."""

    def failure(self, *handlers: Callable[[socket.socket], None], **options: Any) -> Any:
        """Give the exception of a ping."""
        with (
            ScriptedService(*handlers) as service,
            Client("127.0.0.1", service.port, **options) as client,
        ):
            try:
                client.request({"ping": None})
            except (ServiceUnreachableError, ServiceProtocolError) as error:
                return error
        return self.fail("the request did not fail")

    def test_nobody_listens(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        error = self.assertRaises(ServiceUnreachableError, Client("127.0.0.1", port).ping)
        self.assertEqual(error.where, f"127.0.0.1:{port}")
        self.assertIn("refused", error.why)
        self.assertFalse(error.maybe_done)

    def test_an_unknown_host(self) -> None:
        error = self.assertRaises(ServiceUnreachableError, Client("host.invalid", 1).ping)
        self.assertIn("no connection", error.why)

    def test_closed_without_an_answer(self) -> None:
        error = self.failure(saying())
        self.assertIn("closed the connection", error.why)
        self.assertTrue(error.maybe_done)

    def test_half_an_answer_is_none(self) -> None:
        self.assertTrue(self.failure(saying(b'{"status":"succ')).maybe_done)

    def test_a_silent_service(self) -> None:
        def silent(connection: socket.socket) -> None:
            while connection.recv(100):
                pass

        error = self.failure(silent, timeout=0.05)
        self.assertIn("in time", error.why)
        self.assertTrue(error.maybe_done)

    def test_an_answer_that_dribbles_is_bounded_as_a_whole(self) -> None:
        """The clock jumps a second at each look; bytes that keep coming win no time."""
        ticks = iter(range(1000))

        def dribble(connection: socket.socket) -> None:
            connection.recv(100)
            while True:  # until the client hangs up
                connection.sendall(b" ")

        error = self.failure(dribble, timeout=5, clock=lambda: float(next(ticks)))
        self.assertIn("in time", error.why)
        self.assertTrue(error.maybe_done)

    def test_something_else_listens_there(self) -> None:
        for line in (b"220 mail.test ESMTP\r\n", b"[]\n", b'{"status":"what"}\n', b"\xff\n"):
            error = self.failure(saying(line))
            self.assertIsInstance(error, ServiceProtocolError)
            self.assertIn("another service", str(error))

    def test_the_answer_to_a_refused_large_request_is_read(self) -> None:
        """The service refuses while the client still writes; its answer says why."""
        refusal = {"status": "error", "data": None, "message": "request is too large"}

        def refuse(connection: socket.socket) -> None:
            connection.recv(10)
            connection.sendall(json.dumps(refusal).encode() + b"\n")
            # Closing with bytes unread resets the connection, so that the client's write fails.

        with (
            ScriptedService(refuse) as service,
            Client("127.0.0.1", service.port) as client,
        ):
            self.assertEqual(client.request({"sendMail": "x" * 5_000_000}), refusal)

    def test_a_status_that_is_none(self) -> None:
        with (
            ScriptedService(answering(lambda _: PONG, [])) as service,
            Client("127.0.0.1", service.port) as client,
        ):
            self.assertRaises(ServiceProtocolError, client.status)

    def test_after_a_failure_the_next_request_has_a_connection_of_its_own(self) -> None:
        with (
            ScriptedService(saying(), answering(lambda _: PONG, [])) as service,
            Client("127.0.0.1", service.port) as client,
        ):
            self.assertRaises(ServiceUnreachableError, client.ping)
            client.ping()

    def test_a_late_answer_is_not_taken_for_the_next_request_s(self) -> None:
        """An interrupt while waiting leaves the answer to come; the connection is given up."""
        looks = itertools.count(1)

        def clock() -> float:
            if next(looks) == 4:  # before it reads
                raise KeyboardInterrupt
            return 0.0

        def late(connection: socket.socket) -> None:
            """Answer the first request when the second comes."""
            connection.recv(100)
            connection.recv(100)
            connection.sendall(json.dumps({**PONG, "message": "late"}).encode() + b"\n")

        with (
            ScriptedService(late, answering(lambda _: PONG, [])) as service,
            Client("127.0.0.1", service.port, clock=clock) as client,
        ):
            self.assertRaises(KeyboardInterrupt, client.request, {"first": None})
            self.assertEqual(client.request({"second": None}), PONG)

    def test_a_document_that_is_not_json_is_never_sent(self) -> None:
        client = Client("127.0.0.1", 1)
        self.assertRaises(ValueError, client.request, {"sendMail": float("nan")})


class TlsTests(SynchronousTestCase):
    """Over TLS the certificate is checked."""

    def setUp(self) -> None:
        self.files: CertificateFiles = self_made_certificate(Path(self.mktemp()), time.time())
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.load_cert_chain(self.files.certificate, self.files.key)
        self.trusting = ssl.create_default_context(cafile=str(self.files.ca))

    def test_trust_can_be_given_as_a_file(self) -> None:
        handler = answering(lambda _: PONG, [])
        with (
            ScriptedService(handler, tls=self.server) as service,
            Client("127.0.0.1", service.port, tls=True, ca_file=str(self.files.ca)) as client,
        ):
            client.ping()

    def test_a_trusted_service_answers(self) -> None:
        handler = answering(lambda _: PONG, [])
        with (
            ScriptedService(handler, tls=self.server) as service,
            Client("127.0.0.1", service.port, tls=self.trusting) as client,
        ):
            client.ping()
            client.ping()
            self.assertEqual(service.connections, 1)

    def test_the_name_to_check_can_be_another(self) -> None:
        handler = answering(lambda _: PONG, [])
        for name, trusted in (("localhost", True), ("example.test", False)):
            with (
                ScriptedService(handler, tls=self.server) as service,
                Client("127.0.0.1", service.port, tls=self.trusting, server_name=name) as client,
            ):
                if trusted:
                    client.ping()
                else:
                    error = self.assertRaises(ServiceUnreachableError, client.ping)
                    self.assertIn("certificate is not trusted", error.why)

    def test_an_unknown_authority_is_refused_before_anything_is_said(self) -> None:
        seen: list[dict[str, Any]] = []
        with (
            ScriptedService(answering(lambda _: PONG, seen), tls=self.server) as service,
            Client("127.0.0.1", service.port, tls=True, auth="secret") as client,
        ):
            error = self.assertRaises(ServiceUnreachableError, client.ping)
        self.assertIn("certificate is not trusted", error.why)
        self.assertFalse(error.maybe_done)
        self.assertEqual(seen, [])
