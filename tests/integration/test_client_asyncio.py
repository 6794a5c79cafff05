# SPDX-License-Identifier: MIT
"""Tests of the asyncio client against a service that does what is scripted."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.client_asyncio import AsyncClient
from smtpmailer.errors import (
    ServiceAnswerError,
    ServiceProtocolError,
    ServiceUnreachableError,
)
from smtpmailer.trap_certificate import self_made_certificate
from tests.integration.scripted import Handler, ScriptedService, answering, older
from tests.integration.service import until
from tests.integration.test_client import saying
from tests.integration.test_client_retry import hearing

PONG = {"status": "success", "data": None, "message": "pong"}


def numbered(request: dict[str, Any]) -> dict[str, Any]:
    """Answer with the request's argument, and its id."""
    return {"data": next(iter(request.values())), "id": request["id"]}


class AsyncioClientTests(SynchronousTestCase):
    """One connection for any number of tasks."""

    def with_client(
        self, work: Callable[[AsyncClient], Awaitable[Any]], *handlers: Handler, **options: Any
    ) -> tuple[Any, ScriptedService]:
        """Do something with a client; give its result, and the service, which has ended."""

        async def run(port: int) -> Any:
            async with AsyncClient("127.0.0.1", port, **options) as client:
                return await work(client)

        with ScriptedService(*handlers) as service:
            return asyncio.run(run(service.port)), service

    def error(self, *handlers: Handler, **options: Any) -> Any:
        """Give the exception of a sendMail."""

        async def work(client: AsyncClient) -> Any:
            try:
                await client.send_mail({})
            except (ServiceAnswerError, ServiceUnreachableError, ServiceProtocolError) as error:
                return error
            return self.fail("the request did not fail")

        return self.with_client(work, *handlers, **options)[0]

    def test_tasks_share_a_connection_and_each_gets_its_answer(self) -> None:
        async def work(client: AsyncClient) -> Any:
            return await asyncio.gather(*(client.call("ping", n) for n in range(50)))

        answers, service = self.with_client(work, answering(numbered, []))
        self.assertEqual([answer["data"] for answer in answers], list(range(50)))
        self.assertNotIn("id", answers[0])
        self.assertEqual(service.connections, 1)

    def test_helpers_send_what_their_names_say(self) -> None:
        seen: list[dict[str, Any]] = []
        data: dict[str, Any] = {"status": {"sent": 3}, "queueMail": "name"}

        async def work(client: AsyncClient) -> list[Any]:
            await client.send_mail({}, detail=True)
            self.assertGreaterEqual(await client.ping(), 0)
            return [await client.queue_mail({}), await client.status()]

        handler = answering(lambda r: {"data": data.get(next(iter(r)))}, seen)
        results, _ = self.with_client(work, handler, auth="secret")
        self.assertEqual(results, ["name", {"sent": 3}])
        self.assertEqual(
            seen,
            [
                {"sendMail": {}, "detail": True, "id": 1, "auth": "secret"},
                {"ping": None, "id": 2, "auth": "secret"},
                {"queueMail": {}, "id": 3, "auth": "secret"},
                {"status": None, "id": 4, "auth": "secret"},
            ],
        )

    def test_a_task_that_gives_up_leaves_the_others_their_answers(self) -> None:
        release = threading.Event()

        def slow(connection: socket.socket) -> None:
            """Answer when two requests are there."""
            lines = connection.makefile("rb")
            requests = [json.loads(lines.readline()) for _ in range(2)]
            release.wait(10)
            for each in requests:
                connection.sendall(json.dumps(PONG | numbered(each)).encode() + b"\n")

        async def work(client: AsyncClient) -> Any:
            impatient = asyncio.create_task(client.call("ping", "impatient"))
            await asyncio.sleep(0.02)
            impatient.cancel()
            patient = asyncio.create_task(client.call("ping", "patient"))
            await asyncio.sleep(0)
            release.set()
            return (await patient)["data"]

        self.assertEqual(self.with_client(work, slow)[0], "patient")

    def test_each_failure_says_whether_the_mail_may_be_sent(self) -> None:
        def silent(connection: socket.socket) -> None:
            while connection.recv(100):
                pass

        for handler, kind, text in (
            (saying(), ServiceUnreachableError, "closed the connection"),
            (saying(b'{"status"'), ServiceUnreachableError, "closed the connection"),
            (silent, ServiceUnreachableError, "in time"),
            (saying(b"220 mail.test ESMTP\r\n"), ServiceProtocolError, "another service"),
            (saying(json.dumps(PONG | {"id": 99}).encode() + b"\n"), ServiceProtocolError, "id"),
        ):
            error = self.error(handler, timeout=0.1 if handler is silent else 10)
            self.assertIsInstance(error, kind)
            self.assertIn(text, str(error))
            self.assertTrue(getattr(error, "maybe_done", True))

    def test_nobody_listens(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]

        async def work() -> None:
            await AsyncClient("127.0.0.1", port).ping()

        error = self.assertRaises(ServiceUnreachableError, asyncio.run, work())
        self.assertIn("no connection", error.why)
        self.assertFalse(error.maybe_done)

    def test_an_error_answer_is_an_exception(self) -> None:
        refusal = {"status": "error", "data": "x", "message": "failed to send mail"}
        error = self.error(answering(lambda _: refusal, []))
        self.assertEqual(error.answer, refusal)

    def test_after_the_service_has_closed_there_is_a_new_connection(self) -> None:
        async def work(client: AsyncClient) -> None:
            await client.ping()
            await asyncio.sleep(0.05)
            await client.ping()

        line = json.dumps(PONG).encode() + b"\n"
        for last_words in (b"", b'{"status":"error","data":null,"message":"idle"}\n'):
            _, service = self.with_client(
                work, saying(line, last_words), answering(lambda _: PONG, [])
            )
            self.assertEqual(service.connections, 2)

    def test_closing_tells_who_still_waits(self) -> None:
        def silent(connection: socket.socket) -> None:
            while connection.recv(100):
                pass

        async def work(client: AsyncClient) -> Any:
            waiting = asyncio.create_task(client.request({"ping": None}))
            await asyncio.sleep(0.05)
            await client.close()
            return await asyncio.gather(waiting, return_exceptions=True)

        (error,) = self.with_client(work, silent)[0]
        self.assertIsInstance(error, ServiceUnreachableError)
        self.assertTrue(error.maybe_done)

    def test_only_what_does_nothing_twice_is_tried_again(self) -> None:
        async def ping(client: AsyncClient) -> None:
            await client.ping()

        _, service = self.with_client(ping, saying(), answering(lambda _: PONG, []), retry_for=5)
        self.assertEqual(service.connections, 2)

        async def send(client: AsyncClient) -> None:
            try:
                await client.send_mail({})
            except ServiceUnreachableError:
                return
            self.fail("the mail was written twice")

        _, service = self.with_client(send, older([]), answering(lambda _: PONG, []), retry_for=5)
        self.assertEqual(service.connections, 1)

        async def offer(client: AsyncClient) -> None:
            await client.send_mail({})

        busy = json.dumps(PONG | {"status": "error", "message": "service is busy"}).encode()
        _, service = self.with_client(
            offer, saying(busy + b"\n"), answering(lambda _: PONG, []), retry_for=5
        )
        self.assertEqual(service.connections, 2)

    def test_what_is_forgotten_is_written_all_the_same(self) -> None:
        heard: list[bytes] = []

        async def work(client: AsyncClient) -> None:
            await client.forget({"queueMail": "x" * 1_000_000})
            self.assertTrue(until("it is heard", lambda: heard))

        self.with_client(work, hearing(heard), auth="secret")
        self.assertEqual(json.loads(heard[0]), {"queueMail": "x" * 1_000_000, "auth": "secret"})

        async def in_vain(client: AsyncClient) -> Any:
            try:
                await client.forget({"queueMail": "x" * 20_000_000})
            except ServiceUnreachableError as error:
                return error

        error, _ = self.with_client(in_vain, saying())
        self.assertTrue(error.maybe_done)

    def test_a_status_that_is_none(self) -> None:
        async def work(client: AsyncClient) -> Any:
            return await client.status()

        self.assertRaises(
            ServiceProtocolError, self.with_client, work, answering(lambda _: PONG, [])
        )

    def test_an_unknown_authority_is_refused_before_anything_is_said(self) -> None:
        files = self_made_certificate(Path(self.mktemp()), time.time())
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(files.certificate, files.key)
        seen: list[dict[str, Any]] = []

        async def work(port: int, **options: Any) -> Any:
            async with AsyncClient("127.0.0.1", port, tls=True, retry_for=5, **options) as client:
                return await client.call("ping")

        with ScriptedService(answering(lambda _: PONG, seen), tls=server) as service:
            error = self.assertRaises(
                ServiceUnreachableError, asyncio.run, work(service.port, auth="secret")
            )
            self.assertIn("certificate is not trusted", error.why)
            self.assertEqual((error.maybe_done, seen, service.connections), (False, [], 1))
            asyncio.run(work(service.port, ca_file=str(files.ca)))
        self.assertEqual(len(seen), 1)
