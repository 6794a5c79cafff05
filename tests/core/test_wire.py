# SPDX-License-Identifier: MIT
"""Tests for line ends and dots on the wire."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.wire import (
    MAX_LINE,
    Wire,
    dot_stuff,
    has_line_over,
    normalise_newlines,
    to_wire,
)
from tests.messages import unstuff

_pieces = st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"..", b"a", b" ", b"\xc3\xbc"]))
_property = settings(deadline=None, max_examples=100, derandomize=True)


class NewlineTests(SynchronousTestCase):
    """Every line end becomes CRLF."""

    def test_mixtures_become_crlf(self) -> None:
        for raw, expected in {
            b"": b"",
            b"a": b"a",
            b"a\nb": b"a\r\nb",
            b"a\rb": b"a\r\nb",
            b"a\r\nb": b"a\r\nb",
            b"\n\r": b"\r\n\r\n",
            b"a\r\r\nb": b"a\r\n\r\nb",
            b"\r\n\n\r\n\r": b"\r\n" * 4,
        }.items():
            self.assertEqual(normalise_newlines(raw), expected)

    @_property
    @given(_pieces)
    def test_lines_stay_what_python_sees(self, pieces: list[bytes]) -> None:
        raw = b"".join(pieces)
        self.assertEqual(normalise_newlines(raw).split(b"\r\n"), re.split(rb"\r\n|\r|\n", raw))


class DotTests(SynchronousTestCase):
    """Dots at line starts are doubled, others are not."""

    def test_dots_are_doubled_at_line_starts_only(self) -> None:
        for raw, expected in {
            b"": b"",
            b".": b"..",
            b".\r\n..\r\n": b"..\r\n...\r\n",
            b"a.\r\nb.c": b"a.\r\nb.c",
            b"\r\n.\r\n.\r\n": b"\r\n..\r\n..\r\n",
        }.items():
            self.assertEqual(dot_stuff(raw).data, expected)

    @_property
    @given(_pieces)
    def test_a_server_gets_the_message_back(self, pieces: list[bytes]) -> None:
        message = normalise_newlines(b"".join(pieces))
        wire = dot_stuff(message)
        self.assertEqual(unstuff(wire.data), message)
        self.assertEqual(wire.plain(), message)

    @_property
    @given(_pieces)
    def test_those_that_are_told_are_those_that_are_there(self, pieces: list[bytes]) -> None:
        message = normalise_newlines(b"".join(pieces))
        wire = dot_stuff(message)
        lines = message.split(b"\r\n")
        self.assertEqual(wire.dots, sum(line.startswith(b".") for line in lines))
        self.assertEqual(wire.size, len(message))

    def test_a_dot_within_a_line_is_none(self) -> None:
        message = b"a.b\r\n .\r\nc.\r\n"
        self.assertEqual(dot_stuff(message), Wire(message, 0))


class LineLengthTests(SynchronousTestCase):
    """A line's limit counts its octets without CRLF."""

    def test_the_limit_itself_is_allowed(self) -> None:
        line = b"x" * MAX_LINE
        for data in (b"", line, line + b"\r\n", (line + b"\r\n") * 3 + line, b"\r\n" * 5000):
            self.assertFalse(has_line_over(MAX_LINE, data))

    def test_one_more_is_found_wherever_it_is(self) -> None:
        line = b"x" * (MAX_LINE + 1)
        for data in (line, line + b"\r\n", b"a\r\n" * 999 + line, line + b"\r\na" * 999):
            self.assertTrue(has_line_over(MAX_LINE, data))

    @_property
    @given(st.lists(st.integers(0, 12)), st.integers(1, 12))
    def test_it_agrees_with_looking_at_every_line(self, lengths: list[int], limit: int) -> None:
        data = b"\r\n".join(b"x" * length for length in lengths)
        self.assertEqual(has_line_over(limit, data), max(lengths, default=0) > limit)


class WireTests(SynchronousTestCase):
    """A whole message is fit for DATA."""

    def test_it_ends_in_crlf_without_the_final_dot(self) -> None:
        self.assertEqual(to_wire(b"a: b\n\n.\n"), Wire(b"a: b\r\n\r\n..\r\n", 1))
        self.assertEqual(to_wire(b"a: b\n\nx"), Wire(b"a: b\r\n\r\nx\r\n", 0))

    @_property
    @given(_pieces)
    def test_nothing_can_end_the_data_early(self, pieces: list[bytes]) -> None:
        wire = to_wire(b"".join(pieces)).data
        self.assertNotIn(b"\r\n.\r\n", b"\r\n" + wire)
        self.assertEqual(re.findall(rb"(?<!\r)\n|\r(?!\n)", wire), [])
