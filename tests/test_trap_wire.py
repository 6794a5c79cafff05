# SPDX-License-Identifier: MIT
"""Tests of reading bodies and arguments in the mail trap."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.trap_wire import Body, has_bare_ends, option_fault, parse_path

LINES = st.lists(st.binary(max_size=6).map(lambda line: re.sub(rb"[\r\n]", b".", line)))


def stuffed(lines: list[bytes]) -> bytes:
    """Give lines as a client sends them behind DATA, the final dot included."""
    return b"".join((b"." + x if x[:1] == b"." else x) + b"\r\n" for x in lines) + b".\r\n"


class BodyTests(SynchronousTestCase):
    """A body is taken exactly, however its bytes are cut."""

    @given(lines=LINES, cut=st.integers(min_value=0), rest=st.binary(max_size=5))
    @settings(deadline=None, max_examples=100, derandomize=True)
    def test_any_cut_gives_the_same_bytes(self, lines: list[bytes], cut: int, rest: bytes) -> None:
        """The message comes out unstuffed, and what follows it is handed back."""
        wire = stuffed(lines)
        at = cut % len(wire)
        body = Body(1000)
        self.assertIsNone(body.feed(wire[:at]))
        self.assertEqual(body.feed(wire[at:] + rest), rest)
        self.assertEqual(body.content(), b"".join(line + b"\r\n" for line in lines))
        self.assertFalse(body.too_large)

    def test_byte_by_byte(self) -> None:
        body = Body(1000)
        wire = stuffed([b"Subject: x", b"", b".", b"..", b"a.b"])
        results = [body.feed(wire[i : i + 1]) for i in range(len(wire))]
        self.assertEqual(results, [None] * (len(wire) - 1) + [b""])
        self.assertEqual(body.content(), b"Subject: x\r\n\r\n.\r\n..\r\na.b\r\n")

    def test_an_empty_body_is_a_dot_alone(self) -> None:
        body = Body(1000)
        self.assertEqual(body.feed(b".\r\nQUIT\r\n"), b"QUIT\r\n")
        self.assertEqual(body.content(), b"")

    def test_a_dot_between_bare_line_feeds_ends_nothing(self) -> None:
        """Such a dot is how mails are smuggled."""
        body = Body(1000)
        self.assertIsNone(body.feed(b"a\n.\nb\n.\r\nc\r\n"))

    def test_the_limit_itself_is_allowed(self) -> None:
        body = Body(4)
        self.assertEqual(body.feed(b"ab\r\n.\r\n"), b"")
        self.assertFalse(body.too_large)

    def test_one_byte_above_the_limit_is_too_large(self) -> None:
        body = Body(4)
        self.assertEqual(body.feed(b"abc\r\n.\r\n"), b"")
        self.assertTrue(body.too_large)

    def test_a_body_that_is_too_large_is_not_kept_but_its_end_is_found(self) -> None:
        body = Body(100)
        for _ in range(50):
            self.assertIsNone(body.feed(b"x" * 60 + b"\r\n"))
        self.assertIsNone(body.feed(b"\r\n."))
        self.assertEqual(body.feed(b"\r\nNOOP\r\n"), b"NOOP\r\n")
        self.assertTrue(body.too_large)
        self.assertLess(len(body.content()), 10)


class BareEndsTests(SynchronousTestCase):
    """Only CRLF ends a line."""

    def test_bare_ends_are_found(self) -> None:
        for text in (b"\n", b"a\nb", b"\r", b"a\rb", b"a\r\r\nb", b"a\r\n\nb"):
            self.assertTrue(has_bare_ends(text), text)

    def test_whole_line_ends_are_fine(self) -> None:
        for text in (b"", b"a", b"a\r\nb\r\n", b"\r\n\r\n"):
            self.assertFalse(has_bare_ends(text), text)


class PathTests(SynchronousTestCase):
    """Arguments of MAIL and RCPT."""

    def test_addresses_and_parameters(self) -> None:
        cases: dict[bytes, tuple[str, tuple[str, ...]]] = {
            b"FROM:<a@b.test>": ("a@b.test", ()),
            b"from: <a@b.test> SIZE=5 BODY=8BITMIME": ("a@b.test", ("SIZE=5", "BODY=8BITMIME")),
            b"FROM:<>": ("", ()),
            "FROM:<ü@bücher.test> SMTPUTF8".encode(): ("ü@bücher.test", ("SMTPUTF8",)),
            b'FROM:<"a b>"@c.test>': ('"a b>"@c.test', ()),
            b"FROM:<@relay.test,@other.test:a@b.test>": ("a@b.test", ()),
            b"FROM:<a@[127.0.0.1]>": ("a@[127.0.0.1]", ()),
        }
        for text, expected in cases.items():
            self.assertEqual(parse_path(text, b"FROM:"), expected, text)

    def test_what_is_no_path_is_refused(self) -> None:
        for text in (
            b"",
            b"TO:<a@b.test>",
            b"FROM:a@b.test",
            b"FROM:<a@b.test",
            b"FROM:<a b@c.test>",
            b"FROM:<a@b.test>x",
            b"FROM:<nobody>",
            b"FROM:<@b.test>",
            b"FROM:<a@>",
            b"FROM:<a\x1b@b.test>",
            b"FROM:<\xff@b.test>",
            b"FROM:<a@b.test> \xc3\xa4",
        ):
            self.assertIsNone(parse_path(text, b"FROM:"), text)

    def test_postmaster_needs_no_domain(self) -> None:
        self.assertEqual(parse_path(b"TO:<Postmaster>", b"TO:"), ("Postmaster", ()))


class OptionTests(SynchronousTestCase):
    """What is advertised is understood, nothing else."""

    def test_advertised_parameters_are_taken(self) -> None:
        options = ("size=10", "BODY=7bit", "SMTPUTF8", "AUTH=<>")
        self.assertIsNone(option_fault(options, 10))

    def test_others_are_refused_with_their_code(self) -> None:
        for options, code in (
            (("RET=FULL",), 555),
            (("SIZE=x",), 501),
            (("SIZE",), 501),
            (("BODY=BINARYMIME",), 501),
            (("SMTPUTF8=1",), 501),
            (("SIZE=1", "SIZE=1"), 501),
            (("SIZE=11",), 552),
        ):
            fault = option_fault(options, 10)
            assert fault is not None, options
            self.assertEqual(fault[0], code, options)
