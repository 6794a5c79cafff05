# SPDX-License-Identifier: MIT
"""Tests of the Twisted client against a service that does what is scripted."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults, inlineCallbacks
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from smtpmailer.client_twisted import TwistedClient
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import (
    ServiceAnswerError,
    ServiceProtocolError,
    ServiceUnreachableError,
)
from smtpmailer.trap_certificate import self_made_certificate
from tests.integration.scripted import Handler, ScriptedService, answering, older
from tests.integration.service import until
from tests.integration.test_client import saying
from tests.integration.test_client_asyncio import PONG, numbered
from tests.integration.test_client_retry import hearing


def silent(connection: socket.socket) -> None:
    """Never answer."""
    while connection.recv(100):
        pass


class TwistedClientTests(TestCase):
    """One connection for any number of callers."""

    def scripted(self, *handlers: Handler, **options: Any) -> ScriptedService:
        """Start a service."""
        service = ScriptedService(*handlers, **options)
        service.__enter__()
        self.addCleanup(lambda: deferToThread(service.__exit__))
        return service

    def client(self, port: int, **options: Any) -> TwistedClient:
        """Make a client."""
        client = TwistedClient(reactor, "127.0.0.1", port, **options)
        self.addCleanup(client.close)
        return client

    def later(self, seconds: float) -> Deferred[None]:
        """Wait."""
        return deferLater(IReactorTime(reactor), seconds)

    @returns_deferred
    async def failure(self, waiting: Deferred[Any]) -> Any:
        """Give what a Deferred fails with."""
        try:
            result = await waiting
        except (ServiceAnswerError, ServiceUnreachableError, ServiceProtocolError) as error:
            return error
        return self.fail(f"it did not fail: {result}")

    @inlineCallbacks
    def test_callers_share_a_connection_and_each_gets_its_answer(self) -> Any:
        service = self.scripted(answering(numbered, []))
        client = self.client(service.port)
        answers = yield gatherResults([client.call("ping", n) for n in range(50)])
        self.assertEqual([answer["data"] for answer in answers], list(range(50)))
        self.assertNotIn("id", answers[0])
        self.assertEqual(service.connections, 1)

    @inlineCallbacks
    def test_helpers_send_what_their_names_say(self) -> Any:
        seen: list[dict[str, Any]] = []
        data: dict[str, Any] = {"status": {"sent": 3}, "queueMail": "name"}
        service = self.scripted(answering(lambda r: {"data": data.get(next(iter(r)))}, seen))
        client = self.client(service.port, auth="secret")
        yield client.send_mail({}, detail=True)
        self.assertEqual((yield client.queue_mail({})), "name")
        self.assertGreaterEqual((yield client.ping()), 0)
        self.assertEqual((yield client.status()), {"sent": 3})
        self.assertEqual(
            seen,
            [
                {"sendMail": {}, "detail": True, "id": 1, "auth": "secret"},
                {"queueMail": {}, "id": 2, "auth": "secret"},
                {"ping": None, "id": 3, "auth": "secret"},
                {"status": None, "id": 4, "auth": "secret"},
            ],
        )

    @inlineCallbacks
    def test_who_gives_up_leaves_the_others_their_answers(self) -> Any:
        release = threading.Event()

        def slow(connection: socket.socket) -> None:
            """Answer when two requests are there."""
            lines = connection.makefile("rb")
            requests = [json.loads(lines.readline()) for _ in range(2)]
            release.wait(10)
            for each in requests:
                connection.sendall(json.dumps(PONG | numbered(each)).encode() + b"\n")

        client = self.client(self.scripted(slow).port)
        impatient = client.call("ping", "impatient")
        patient = client.call("ping", "patient")
        yield self.later(0.05)
        impatient.cancel()
        release.set()
        self.assertEqual((yield patient)["data"], "patient")
        yield self.assertFailure(impatient, CancelledError)

    @inlineCallbacks
    def test_each_failure_says_whether_the_mail_may_be_sent(self) -> Any:
        for handler, kind, text in (
            (saying(), ServiceUnreachableError, "no answer"),
            (saying(b'{"status"'), ServiceUnreachableError, "no answer"),
            (silent, ServiceUnreachableError, "in time"),
            (saying(b"220 mail.test ESMTP\r\n"), ServiceProtocolError, "another service"),
            (saying(json.dumps(PONG | {"id": 99}).encode() + b"\n"), ServiceProtocolError, "id"),
        ):
            service = self.scripted(handler)
            client = self.client(service.port, timeout=0.1 if handler is silent else 10)
            error = yield self.failure(client.send_mail({}))
            self.assertIsInstance(error, kind)
            self.assertIn(text, str(error))
            self.assertTrue(getattr(error, "maybe_done", True))

    @inlineCallbacks
    def test_nobody_listens(self) -> Any:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        error = yield self.failure(self.client(port).ping())
        self.assertIn("no connection", error.why)
        self.assertFalse(error.maybe_done)

    @inlineCallbacks
    def test_an_error_answer_is_an_exception(self) -> Any:
        refusal = {"status": "error", "data": "x", "message": "failed to send mail"}
        client = self.client(self.scripted(answering(lambda _: refusal, [])).port)
        self.assertEqual((yield self.failure(client.send_mail({}))).answer, refusal)

    @inlineCallbacks
    def test_after_the_service_has_closed_there_is_a_new_connection(self) -> Any:
        line = json.dumps(PONG).encode() + b"\n"
        for last_words in (b"", b'{"status":"error","data":null,"message":"idle"}\n'):
            service = self.scripted(saying(line, last_words), answering(lambda _: PONG, []))
            client = self.client(service.port)
            yield client.ping()
            yield self.later(0.05)
            yield client.ping()
            self.assertEqual(service.connections, 2)

    @inlineCallbacks
    def test_closing_tells_who_still_waits(self) -> Any:
        client = self.client(self.scripted(silent).port)
        waiting = client.request({"ping": None})
        yield self.later(0.05)
        yield client.close()
        self.assertTrue((yield self.failure(waiting)).maybe_done)

    @inlineCallbacks
    def test_only_what_does_nothing_twice_is_tried_again(self) -> Any:
        good = answering(lambda _: PONG, [])
        service = self.scripted(saying(), good)
        yield self.client(service.port, retry_for=5).ping()
        self.assertEqual(service.connections, 2)
        service = self.scripted(older([]), good)
        yield self.failure(self.client(service.port, retry_for=5).send_mail({}))
        self.assertEqual(service.connections, 1)
        busy = json.dumps(PONG | {"status": "error", "message": "service is busy"}).encode()
        service = self.scripted(saying(busy + b"\n"), good)
        yield self.client(service.port, retry_for=5).send_mail({})
        self.assertEqual(service.connections, 2)

    @inlineCallbacks
    def test_a_service_that_comes_up_is_found(self) -> Any:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        waiting = self.client(port, retry_for=5).send_mail({})
        yield self.later(0.05)
        self.scripted(answering(lambda _: PONG, []), port=port)
        self.assertEqual((yield waiting), PONG)

    @inlineCallbacks
    def test_what_is_forgotten_is_written_all_the_same(self) -> Any:
        heard: list[bytes] = []
        client = self.client(self.scripted(hearing(heard)).port, auth="secret")
        yield client.forget({"queueMail": "x" * 1_000_000})
        yield deferToThread(until, "it is heard", lambda: heard)
        self.assertEqual(json.loads(heard[0]), {"queueMail": "x" * 1_000_000, "auth": "secret"})

    @inlineCallbacks
    def test_what_can_t_be_written_in_time_is_told(self) -> Any:
        release = threading.Event()

        def deaf(_: socket.socket) -> None:
            release.wait(10)

        client = self.client(self.scripted(deaf).port, timeout=0.1)
        error = yield self.failure(client.forget({"queueMail": "x" * 20_000_000}))
        release.set()
        self.assertTrue(error.maybe_done)
        self.assertIn("not written in time", error.why)

    @inlineCallbacks
    def test_what_can_t_be_written_at_all_is_told(self) -> Any:
        client = self.client(self.scripted(saying()).port)
        error = yield self.failure(client.forget({"queueMail": "x" * 20_000_000}))
        self.assertTrue(error.maybe_done)
        self.assertIn("lost", error.why)

    @inlineCallbacks
    def test_a_status_that_is_none(self) -> Any:
        client = self.client(self.scripted(answering(lambda _: PONG, [])).port)
        error = yield self.failure(client.status())
        self.assertIsInstance(error, ServiceProtocolError)
        self.assertRaises(ValueError, TwistedClient, reactor, ca_file=__file__)

    @inlineCallbacks
    def test_who_is_not_trusted_is_told_nothing(self) -> Any:
        files = self_made_certificate(Path(self.mktemp()), time.time())
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(files.certificate, files.key)
        seen: list[dict[str, Any]] = []
        service = self.scripted(answering(lambda _: PONG, seen), tls=server)
        trust = {"tls": True, "retry_for": 5, "auth": "secret"}
        for options in ({}, {"ca_file": str(files.ca), "server_name": "example.test"}):
            client = self.client(service.port, **trust, **options)
            error = yield self.failure(client.ping())
            self.assertIn("certificate is not trusted", error.why)
            self.assertFalse(error.maybe_done)
        self.assertEqual((seen, service.connections), ([], 2))
        client = self.client(service.port, **trust, ca_file=str(files.ca), server_name="localhost")
        yield client.ping()
        self.assertEqual(len(seen), 1)
