# SPDX-License-Identifier: MIT
"""Tests of what the clients have in common."""

from __future__ import annotations

import itertools
import json
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer import client_common
from smtpmailer.client_common import Conversation, Request, may_repeat, pauses, tls_context, unheard
from smtpmailer.dispatcher import REQUESTS
from smtpmailer.errors import ServiceProtocolError, ServiceUnreachableError

_ROOT = Path(__file__).resolve().parent.parent
PONG = {"status": "success", "data": None, "message": "pong"}


def line(**answer: Any) -> bytes:
    """Give an answer's bytes without the line end."""
    return json.dumps(PONG | answer).encode()


class RequestTests(SynchronousTestCase):
    """A request's bytes and the answer to it."""

    def test_the_name_stays_first_and_what_is_missing_is_added(self) -> None:
        raw = Request.of({"ping": None}, "secret", 7).raw
        self.assertEqual(
            list(json.loads(raw).items()), [("ping", None), ("id", 7), ("auth", "secret")]
        )
        self.assertTrue(raw.endswith(b"}\n"))
        given = {"ping": "ü", "auth": "mine", "id": "x"}
        self.assertEqual(json.loads(Request.of(given, "secret", 7).raw), given)
        self.assertEqual(json.loads(Request.of({}, "secret", 7).raw), {})

    def test_an_answer_s_id_has_to_be_the_request_s(self) -> None:
        """An integer beyond 64 bits comes back as a float, so that nothing can be said of it."""
        for document, number, answered, fits in (
            ({"ping": 1}, None, {}, True),
            ({"ping": 1}, None, {"id": 1}, False),
            ({"ping": 1}, 3, {"id": 3}, True),
            ({"ping": 1}, 3, {}, True),
            ({"ping": 1}, 3, {"id": 4}, False),
            ({"ping": 1}, 3, {"id": "3"}, False),
            ({"ping": 1, "id": "ü"}, 3, {"id": "ü"}, True),
            ({"ping": 1, "id": "ü"}, 3, {"id": "u"}, False),
            ({"ping": 1, "id": 10**23 + 1}, 3, {"id": 1e23}, True),
            ({"ping": 1, "id": None}, 3, {"id": None}, True),
            ({"ping": 1, "id": [1]}, 3, {}, True),
        ):
            request = Request.of(document, None, number)
            if fits:
                self.assertEqual(request.answer(line(**answered), "x")["message"], "pong")
            else:
                self.assertRaises(ServiceProtocolError, request.answer, line(**answered), "x")

    def test_an_id_that_nobody_asked_for_is_not_shown(self) -> None:
        self.assertEqual(Request.of({"ping": 1}, None, 3).answer(line(id=3), "x"), PONG)
        shown = Request.of({"ping": 1, "id": 3}, None, 9).answer(line(id=3), "x")
        self.assertEqual(shown, PONG | {"id": 3})

    def test_only_requests_that_read_may_be_repeated_once_written(self) -> None:
        doubt = ServiceUnreachableError("x", "lost", maybe_done=True)
        again = {name for name in REQUESTS if may_repeat(doubt, Request.of({name: 1}, None))}
        self.assertEqual(
            again, {"ping", "status"} | {name for name in REQUESTS if name.startswith("get")}
        )

    def test_before_that_any_may_if_the_cause_may_pass(self) -> None:
        request = Request.of({"sendMail": {}}, None)
        untrusted = ssl.SSLCertVerificationError(1, "x")
        for cause, may in (
            (ConnectionRefusedError(), True),
            (TimeoutError(), True),
            (ConnectionResetError(), True),
            (ssl.SSLEOFError(), True),
            (socket.gaierror(socket.EAI_AGAIN, "x"), True),
            (socket.gaierror(socket.EAI_NONAME, "x"), False),
            (untrusted, False),
            (ssl.SSLError(1, "wrong version"), False),
            (ValueError("x"), False),
            (None, False),
        ):
            error = ServiceUnreachableError("x", "y")
            error.__cause__ = cause
            self.assertIs(may_repeat(error, request), may, cause)

    def test_answers_about_limits_are_told_from_refusals(self) -> None:
        for message in ("connection timed out", "service is busy", "too many connections"):
            self.assertTrue(unheard({"status": "error", "message": message}))
        self.assertFalse(unheard({"status": "error", "message": "invalid payload"}))
        self.assertFalse(unheard({"status": "error", "message": {"original": "x"}} | PONG))

    def test_pauses_grow_up_to_a_limit(self) -> None:
        self.assertEqual(list(itertools.islice(pauses(), 6)), [0.1, 0.2, 0.4, 0.8, 1.6, 1.6])

    def test_a_ca_file_without_tls_is_a_mistake(self) -> None:
        self.assertRaises(ValueError, tls_context, False, "ca.pem")
        self.assertRaises(ValueError, tls_context, ssl.create_default_context(), "ca.pem")
        self.assertRaises(OSError, tls_context, True, "/missing.pem")
        self.assertIs(tls_context(False, None), False)


class ConversationTests(SynchronousTestCase):
    """Answers find their requests."""

    def setUp(self) -> None:
        self.conversation = Conversation("host:1")
        self.outcomes: list[Any] = []

    def expect(self, number: int) -> None:
        """Expect an answer."""
        request = Request.of({"ping": None}, None, number)
        self.conversation.expect(request, lambda outcome: self.outcomes.append((number, outcome)))

    @settings(deadline=None, max_examples=50, derandomize=True)
    @given(st.lists(st.integers(0, 200), max_size=8))
    def test_answers_come_in_any_pieces(self, cuts: list[int]) -> None:
        self.setUp()
        for number in range(3):
            self.expect(number)
        raw = b"".join(line(id=number, data="ü") + b"\n" for number in range(3))
        edges = [0, *sorted(cuts), len(raw)]
        for start, end in itertools.pairwise(edges):
            self.conversation.receive(raw[start:end])
        self.assertEqual(self.outcomes, [(number, PONG | {"data": "ü"}) for number in range(3)])
        self.assertFalse(self.conversation.is_over)

    def test_the_end_is_told_to_all_who_wait(self) -> None:
        self.expect(1)
        self.expect(2)
        self.conversation.receive(line(id=1) + b"\n")
        self.conversation.end("gone")
        (number, error) = self.outcomes[1]
        self.assertIsInstance(error, ServiceUnreachableError)
        self.assertEqual((number, error.maybe_done, error.why), (2, True, "gone"))
        self.assertTrue(self.conversation.is_over)

    def test_another_s_answer_ends_it_for_all(self) -> None:
        self.expect(1)
        self.expect(2)
        self.conversation.receive(line(id=2) + b"\n" + line(id=2) + b"\n")
        self.assertEqual([number for number, _ in self.outcomes], [1, 2])
        for _, error in self.outcomes:
            self.assertIsInstance(error, ServiceProtocolError)
        self.assertTrue(self.conversation.is_over)

    def test_behind_an_answer_about_a_limit_nobody_was_heard(self) -> None:
        self.expect(1)
        self.expect(2)
        self.conversation.receive(line(status="error", message="service is busy") + b"\n")
        self.assertEqual([unheard(answer) for _, answer in self.outcomes], [True, True])
        self.assertTrue(self.conversation.is_over)

    def test_an_answer_that_nobody_asked_for_is_the_end(self) -> None:
        self.conversation.receive(line(status="error", message="connection timed out") + b"\n")
        self.assertTrue(self.conversation.is_over)

    def test_an_answer_without_end_is_given_up(self) -> None:
        self.patch(client_common, "ANSWER_LIMIT_BYTES", 100)
        self.expect(1)
        for _ in range(3):
            self.conversation.receive(b"x" * 50)
        self.assertIsInstance(self.outcomes[0][1], ServiceProtocolError)


class DependencyTests(SynchronousTestCase):
    """The clients without Twisted need nothing but the standard library."""

    def test_they_import_nothing_else(self) -> None:
        code = (
            f"import sys; sys.path.insert(0, {str(_ROOT)!r}); "
            "import smtpmailer.client, smtpmailer.client_asyncio"
        )
        ran = subprocess.run(
            [sys.executable, "-I", "-S", "-c", code], capture_output=True, check=False
        )
        self.assertEqual((ran.returncode, ran.stderr), (0, b""))
