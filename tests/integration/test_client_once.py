# SPDX-License-Identifier: MIT
"""Tests of what the clients do with a service that remembers requests, and with older ones."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import inlineCallbacks
from twisted.trial.unittest import SynchronousTestCase, TestCase

from smtpmailer.client import Client
from smtpmailer.client_asyncio import AsyncClient
from smtpmailer.client_twisted import TwistedClient
from smtpmailer.errors import (
    ServiceAnswerError,
    ServiceProtocolError,
    ServiceUnreachableError,
)
from tests.integration.scripted import ScriptedService, answering, older, remembering

_DONE = {"data": "mail_1.json", "message": "mail added to queue"}
_UNDER_WAY = {"status": "error", "message": "request is under way"}
_BUSY = {"status": "error", "message": "service is busy"}
_NOT_KEPT = {"status": "error", "message": "request can't be remembered", "repeated": False}
_UNAUTHORIZED = {"status": "error", "message": "unauthorized request"}
_FAULT = {"status": "error", "message": "exception occurred"}


def cut(connection: socket.socket) -> None:
    """Read a request, and say nothing."""
    connection.recv(65536)


def refusing(seen: list[dict[str, Any]]) -> Callable[[socket.socket], None]:
    """Make a handler that lets a password do everything but ping."""
    return answering(lambda asked: _UNAUTHORIZED if "ping" in asked else _DONE, seen)


def elsewhere(connection: socket.socket) -> None:
    """Be no service at all."""
    connection.recv(65536)
    connection.sendall(b"220 mx.example.test ESMTP\n")


def hiding() -> list[Callable[[socket.socket], None]]:
    """Make handlers whose answers say nothing of an earlier attempt."""
    answers = (_UNAUTHORIZED, _FAULT, {"status": "no answer"})
    return [*(remembering([], answer) for answer in answers), refusing([]), elsewhere]


class OnceTests(SynchronousTestCase):
    """The blocking client."""

    def setUp(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self.seen: list[dict[str, Any]] = []

    def client(self, port: int, **options: Any) -> Client:
        def sleep(seconds: float) -> None:
            self.slept.append(seconds)
            self.now += seconds

        options.setdefault("retry_for", 5)
        return Client("127.0.0.1", port, clock=lambda: self.now, sleep=sleep, **options)

    def keys(self) -> list[Any]:
        return [each.get("once") for each in self.seen]

    def test_a_mail_whose_answer_was_lost_is_written_again_under_its_key(self) -> None:
        handler = remembering(self.seen, None, None, _DONE)
        with ScriptedService(handler) as service, self.client(service.port) as client:
            self.assertEqual(client.queue_mail({"subject": "s"}), "mail_1.json")
        first, second, third = self.keys()
        self.assertEqual((first, second), (second, third))
        self.assertEqual(len(first), 36)
        self.assertEqual(self.seen[0], {"queueMail": {"subject": "s"}, "once": first})

    def test_each_mail_has_a_key_of_its_own_and_the_service_is_asked_once(self) -> None:
        handler = remembering(self.seen, _DONE, _DONE)
        with ScriptedService(handler) as service, self.client(service.port) as client:
            client.queue_mail({})
            client.send_mail({})
        self.assertEqual((len(set(self.keys())), service.connections), (2, 1))

    def test_a_given_key_is_used_in_every_form_of_the_request(self) -> None:
        handler = remembering(self.seen, *[None, _DONE] * 3)
        with ScriptedService(handler) as service, self.client(service.port) as client:
            client.queue_mail({}, once="order-17")
            client.call("sendMail", {}, once="order-17")
            client.request({"sendMail": {}, "once": "order-17"})
        self.assertEqual(self.keys(), ["order-17"] * 6)

    def test_who_does_not_try_again_has_no_key(self) -> None:
        for options, once in (({"retry_for": 0}, True), ({}, False)):
            handler = answering(lambda _: _DONE, self.seen)
            with (
                ScriptedService(handler) as service,
                self.client(service.port, **options) as client,
            ):
                client.queue_mail({}, once=once)
        self.assertEqual(self.seen, [{"queueMail": {}}] * 2)

    def test_a_given_key_that_the_service_does_not_know_is_told_before_anything_is_sent(
        self,
    ) -> None:
        with ScriptedService(older(self.seen)) as service:
            for retry_for in (0, 5):
                client = self.client(service.port, retry_for=retry_for)
                error = self.assertRaises(ServiceProtocolError, client.queue_mail, {}, once="k")
                self.assertIn("nothing was sent", str(error))
        self.assertEqual((self.seen, self.slept), ([], []))

    def test_a_repeat_does_not_go_to_a_service_that_does_not_know_keys(self) -> None:
        elsewhere: list[dict[str, Any]] = []
        for once in (True, "k"):
            handlers = (remembering(self.seen, None), older(elsewhere))
            with ScriptedService(*handlers) as service, self.client(service.port) as client:
                error = self.assertRaises(ServiceUnreachableError, client.queue_mail, {}, once=once)
            self.assertTrue(error.maybe_done)
        self.assertEqual((len(self.seen), elsewhere), (2, []))

    def test_what_says_nothing_of_the_first_attempt_does_not_hide_it(self) -> None:
        for once in (True, "k"):
            for then in hiding():
                self.now = 0.0
                handlers = (remembering(self.seen, None), then)
                with ScriptedService(*handlers) as service, self.client(service.port) as client:
                    error = self.assertRaises(
                        ServiceUnreachableError, client.queue_mail, {}, once=once
                    )
                self.assertTrue(error.maybe_done)

    def test_what_tells_of_the_first_attempt_is_given(self) -> None:
        failed = {"status": "error", "message": "failed to send mail", "repeated": True}
        invalid = {"status": "error", "message": "invalid payload"}
        for answer in (failed, invalid):
            handler = remembering(self.seen, None, answer)
            with ScriptedService(handler) as service, self.client(service.port) as client:
                error = self.assertRaises(ServiceAnswerError, client.send_mail, {})
            self.assertEqual(error.answer["message"], answer["message"])

    def test_a_refusal_without_a_doubt_is_given(self) -> None:
        for answer, kind in (
            (_UNAUTHORIZED, ServiceAnswerError),
            ({"status": "no answer"}, ServiceProtocolError),
        ):
            handler = remembering(self.seen, answer)
            with ScriptedService(handler) as service, self.client(service.port) as client:
                self.assertRaises(kind, client.queue_mail, {}, once="k")
        self.assertEqual(len(self.seen), 2)

    def test_a_question_that_failed_says_nothing_about_the_service(self) -> None:
        pongs: list[dict[str, Any]] = [_FAULT, _FAULT, {"detail": {"once": 60}}]
        handler = answering(lambda asked: pongs.pop(0) if "ping" in asked else _DONE, self.seen)
        with ScriptedService(handler) as service, self.client(service.port) as client:
            error = self.assertRaises(ServiceAnswerError, client.queue_mail, {}, once="k")
            self.assertEqual(error.answer["message"], "exception occurred")
            client.queue_mail({})
            client.queue_mail({}, once="k")
            client.queue_mail({}, once="k")
        mails = [each for each in self.seen if "queueMail" in each]
        self.assertEqual([each.get("once") for each in mails], [None, "k", "k"])

    def test_what_is_not_yet_known_is_asked_again(self) -> None:
        handler = remembering(self.seen, _UNDER_WAY, _NOT_KEPT, _DONE)
        with ScriptedService(handler) as service, self.client(service.port) as client:
            client.queue_mail({})
        self.assertEqual((len(self.seen), len(set(self.keys()))), (3, 1))

    def test_a_key_of_the_client_s_own_keeps_no_mail_back(self) -> None:
        """A disk is full, or can't be written at all: a mail without a key would be sent."""
        handler = remembering(self.seen, _NOT_KEPT, _DONE)
        with ScriptedService(handler) as service, self.client(service.port) as client:
            client.send_mail({})
        self.assertEqual(self.seen[1], {"sendMail": {}})
        self.assertEqual(sum(self.slept), 0)

    def test_a_mail_that_went_without_its_key_is_not_written_again(self) -> None:
        handler = remembering(self.seen, _NOT_KEPT, None, _DONE)
        with ScriptedService(handler) as service, self.client(service.port) as client:
            error = self.assertRaises(ServiceUnreachableError, client.send_mail, {})
        self.assertTrue(error.maybe_done)
        self.assertEqual(len(self.seen), 2)

    def test_after_a_doubt_a_mail_does_not_go_without_its_key(self) -> None:
        handler = remembering(self.seen, None, _NOT_KEPT, _DONE)
        with ScriptedService(handler) as service, self.client(service.port) as client:
            client.send_mail({})
        self.assertEqual((len(self.seen), len(set(self.keys()))), (3, 1))

    def test_a_given_key_is_not_left_out(self) -> None:
        handler = remembering(self.seen, *[_NOT_KEPT] * 99)
        with ScriptedService(handler) as service, self.client(service.port) as client:
            error = self.assertRaises(ServiceAnswerError, client.send_mail, {}, once="k")
        self.assertIn("remembered", str(error))
        self.assertEqual(set(self.keys()), {"k"})

    def test_what_is_never_known_is_told_in_the_end(self) -> None:
        handler = remembering(self.seen, *[_UNDER_WAY] * 99)
        with ScriptedService(handler) as service, self.client(service.port) as client:
            error = self.assertRaises(ServiceAnswerError, client.queue_mail, {})
        self.assertIn("under way", str(error))
        self.assertLess(sum(self.slept), 5)

    def test_an_answer_is_no_reason_to_ask_again(self) -> None:
        doubt = {"status": "error", "message": "request is in doubt"}
        handler = remembering(self.seen, doubt)
        with ScriptedService(handler) as service, self.client(service.port) as client:
            self.assertRaises(ServiceAnswerError, client.queue_mail, {})
        self.assertEqual(len(self.seen), 1)

    def test_in_the_end_a_doubt_stays_one(self) -> None:
        """The service said nothing on what came of the first request."""
        for then in (answering(lambda _: _BUSY, []), cut):
            self.now = 0.0
            with (
                ScriptedService(remembering(self.seen, None), then) as service,
                self.client(service.port) as client,
            ):
                error = self.assertRaises(ServiceUnreachableError, client.queue_mail, {})
            self.assertTrue(error.maybe_done)

    def test_a_connection_that_ends_at_the_question_sent_nothing(self) -> None:
        with (
            ScriptedService(cut, remembering(self.seen, _DONE)) as service,
            self.client(service.port) as client,
        ):
            client.queue_mail({}, once="k")
        with ScriptedService(cut) as service:
            error = self.assertRaises(
                ServiceUnreachableError, self.client(service.port).queue_mail, {}, once="k"
            )
        self.assertFalse(error.maybe_done)

    def test_a_password_that_must_not_ask_is_told_or_does_without(self) -> None:
        with ScriptedService(refusing(self.seen)) as service:
            client = self.client(service.port)
            error = self.assertRaises(ServiceAnswerError, client.queue_mail, {}, once="k")
            self.assertEqual(error.answer["message"], "unauthorized request")
            self.assertEqual([next(iter(each)) for each in self.seen], ["ping"])
            self.assertEqual(client.queue_mail({}), "mail_1.json")
            client.close()
        self.assertEqual(self.seen[-1], {"queueMail": {}})


class AsyncOnceTests(SynchronousTestCase):
    """The client for asyncio: the same rules, on a connection that tasks share."""

    def test_a_mail_whose_answer_was_lost_is_written_again_under_its_key(self) -> None:
        seen: list[dict[str, Any]] = []

        async def work(port: int) -> str:
            async with AsyncClient("127.0.0.1", port, retry_for=5) as client:
                return await client.queue_mail({})

        with ScriptedService(remembering(seen, None, _UNDER_WAY, _DONE)) as service:
            self.assertEqual(asyncio.run(work(service.port)), "mail_1.json")
        self.assertEqual([each["once"] for each in seen], [seen[0]["once"]] * 3)

    def test_what_says_nothing_of_the_first_attempt_does_not_hide_it(self) -> None:
        async def work(port: int) -> None:
            async with AsyncClient("127.0.0.1", port, retry_for=5) as client:
                await client.send_mail({}, once="k")

        for then in hiding():
            with ScriptedService(remembering([], None), then) as service:
                error = self.assertRaises(ServiceUnreachableError, asyncio.run, work(service.port))
            self.assertTrue(error.maybe_done)

    def test_a_given_key_that_the_service_does_not_know_is_told(self) -> None:
        seen: list[dict[str, Any]] = []

        async def work(port: int) -> None:
            async with AsyncClient("127.0.0.1", port) as client:
                await client.send_mail({}, once="k")

        with ScriptedService(older(seen)) as service:
            self.assertRaises(ServiceProtocolError, asyncio.run, work(service.port))
        self.assertEqual(seen, [])


class TwistedOnceTests(TestCase):
    """The client for Twisted: the same rules."""

    def client(self, *handlers: Any, **options: Any) -> TwistedClient:
        from twisted.internet import reactor  # noqa: PLC0415 - trial's own

        service = ScriptedService(*handlers).__enter__()
        client = TwistedClient(reactor, "127.0.0.1", service.port, **options)
        self.addCleanup(service.__exit__)
        self.addCleanup(client.close)
        return client

    @inlineCallbacks
    def test_a_mail_whose_answer_was_lost_is_written_again_under_its_key(self) -> Any:
        seen: list[dict[str, Any]] = []
        client = self.client(remembering(seen, None, _UNDER_WAY, _DONE), retry_for=5)
        self.assertEqual((yield client.queue_mail({})), "mail_1.json")
        self.assertEqual([each["once"] for each in seen], [seen[0]["once"]] * 3)

    @inlineCallbacks
    def test_what_says_nothing_of_the_first_attempt_does_not_hide_it(self) -> Any:
        for then in hiding():
            client = self.client(remembering([], None), then, retry_for=5)
            error = yield self.assertFailure(
                client.send_mail({}, once="k"), ServiceUnreachableError
            )
            self.assertTrue(error.maybe_done)

    @inlineCallbacks
    def test_a_given_key_that_the_service_does_not_know_is_told(self) -> Any:
        seen: list[dict[str, Any]] = []
        client = self.client(older(seen))
        yield self.assertFailure(client.send_mail({}, once="k"), ServiceProtocolError)
        self.assertEqual(seen, [])
