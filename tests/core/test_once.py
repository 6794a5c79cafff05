# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.core.once: keys, marks, and what is kept as JSON."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.once import (
    Note,
    answer_to_json,
    is_key,
    marks_of,
    place_of,
    reply_of_answer,
)
from smtpmailer.core.replies import error, success
from smtpmailer.errors import RequestInvalidError

_NOTE = Note(mark="m", mail_id="9e51fa6fad25da44", at=1_700_000_000.5)


class KeyTests(SynchronousTestCase):
    """What a key may be, and where it leads."""

    def test_visible_ascii_of_some_length_is_a_key(self) -> None:
        for key in ("a", "x" * 64, "!~", "../etc/passwd", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"):
            self.assertTrue(is_key(key), key)

    def test_all_else_is_none(self) -> None:
        values: tuple[Any, ...] = ("", "x" * 65, "a b", "a\n", "\x7f", "ä", None, 5, True, ["a"])
        for key in values:
            self.assertFalse(is_key(key), key)

    def test_a_place_is_a_name_that_shows_nothing(self) -> None:
        self.assertTrue(re.fullmatch("[0-9a-f]{64}", place_of("shop", "../order-17")))

    def test_owners_and_keys_do_not_run_into_each_other(self) -> None:
        pairs = [("", "ab"), ("a", "b"), ("ab", ""), ("1:", "ab"), ("", "1:ab"), ("b", "a")]
        self.assertEqual(len({place_of(*pair) for pair in pairs}), len(pairs))


class MarkTests(SynchronousTestCase):
    """What tells requests apart."""

    def mark(self, name: str = "queueMail", secret: bytes = b"s", **fields: Any) -> str:
        (mark,) = marks_of(name, {"subject": "s", **fields}, (secret,))
        return mark

    def test_any_difference_counts(self) -> None:
        marks = {
            self.mark(),
            self.mark("sendMail"),
            self.mark(secret=b"t"),
            self.mark(subject="t"),
            self.mark(body=""),
            self.mark(smtpUser="u"),
        }
        self.assertEqual(len(marks), 6)

    def test_order_and_password_do_not(self) -> None:
        (first,) = marks_of("sendMail", {"a": {"x": 1, "y": 2}, "b": []}, ())
        (second,) = marks_of("sendMail", {"b": [], "smtpPassword": "p", "a": {"y": 2, "x": 1}}, ())
        self.assertEqual(first, second)

    def test_each_secret_gives_a_mark_and_the_first_one_counts(self) -> None:
        marks = marks_of("sendMail", {}, (b"new" * 30, b"old"))
        self.assertEqual(len(set(marks)), 2)
        self.assertEqual(marks[0], marks_of("sendMail", {}, (b"new" * 30,))[0])

    def test_what_is_no_mail_has_a_mark_too(self) -> None:
        values: tuple[Any, ...] = (None, 5, "", [], "x" * 1000)
        self.assertEqual(len({marks_of("sendMail", value, ()) for value in values}), 5)

    def test_what_is_nested_too_deeply_for_a_mark_is_no_mail(self) -> None:
        value: list[Any] = []
        for _ in range(500):
            value = [value]
        error = self.assertRaises(RequestInvalidError, marks_of, "sendMail", {"x": value}, ())
        self.assertEqual(error.errors, {"payload": ["No mail is nested so deeply"]})


class KeptTests(SynchronousTestCase):
    """Notes and answers come back as they were, and what is neither is told."""

    def test_a_note_comes_back(self) -> None:
        self.assertEqual(Note.from_json(json.loads(json.dumps(_NOTE.to_json()))), _NOTE)

    def test_what_is_no_note_is_none(self) -> None:
        note = _NOTE.to_json()
        broken: list[dict[str, Any]] = [{}, {**note, "at": "x"}, {**note, "mark": 5}]
        for value in [*broken, {**note, "mail": None}, {"mark": "m", "mail": "x"}]:
            self.assertIsNone(Note.from_json(value), value)

    def test_an_answer_comes_back(self) -> None:
        for reply in (
            success("mail_1.json", "mail added to queue", {"queueName": "mail_1.json"}),
            error({"to": ["x"]}, None),
        ):
            text = json.dumps(answer_to_json(reply))
            self.assertEqual(reply_of_answer(json.loads(text)), reply)

    @settings(deadline=None, max_examples=50, derandomize=True)
    @given(
        st.dictionaries(st.sampled_from(["status", "data", "detail"]), st.integers() | st.text())
    )
    def test_what_is_no_answer_is_none(self, value: dict[str, Any]) -> None:
        reply = reply_of_answer(value)
        self.assertTrue(reply is None or value["status"] in ("success", "error"))
