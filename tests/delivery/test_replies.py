# SPDX-License-Identifier: MIT
"""Replies: parsed strictly, bounded, and safe to show."""

from __future__ import annotations

import itertools
import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.delivery.replies import (
    MAX_REPLY_BYTES,
    MAX_TEXT,
    LineBuffer,
    ReplyParser,
    Secrets,
    SmtpReply,
    clean_text,
    parse_extensions,
)
from smtpmailer.errors import SmtpProtocolError

QUICK = settings(deadline=None, max_examples=100, derandomize=True)


def parse(*lines: bytes, secrets: tuple[str, ...] = ()) -> SmtpReply:
    """Parse lines of which only the last ends the reply."""
    parser = ReplyParser(Secrets(*secrets).hide)
    for line in lines[:-1]:
        assert parser.feed(line) is None
    reply = parser.feed(lines[-1])
    assert reply is not None
    return reply


class ReplyParserTests(SynchronousTestCase):
    """RFC 5321 section 4.2, to the letter."""

    def refused(self, *lines: bytes) -> str:
        with self.assertRaises(SmtpProtocolError) as caught:
            parse(*lines)
        return str(caught.exception)

    def test_one_line_is_a_reply(self) -> None:
        reply = parse(b"250 ok")
        self.assertEqual((reply.code, reply.text, reply.lines), (250, "ok", (b"ok",)))

    def test_a_bare_code_is_a_reply(self) -> None:
        for line in (b"250", b"250 "):
            self.assertEqual((parse(line).code, parse(line).text), (250, ""))

    def test_lines_are_put_together(self) -> None:
        reply = parse(b"250-mx", b"250-", b"250 SIZE 7")
        self.assertEqual((reply.text, reply.lines), ("mx SIZE 7", (b"mx", b"", b"SIZE 7")))

    def test_a_parser_goes_on_with_the_next_reply(self) -> None:
        parser = ReplyParser(str)
        parser.feed(b"250-a")
        parser.feed(b"250 b")
        reply = parser.feed(b"354 c")
        assert reply is not None
        self.assertEqual((reply.code, reply.text), (354, "c"))

    def test_what_is_no_reply_is_refused(self) -> None:
        for line in (
            b"",
            b"hello",
            b"25 ok",
            b"2500 ok",
            b"250ok",
            b"250\tok",
            b"150 ok",
            b"050 ok",
            b"650 ok",
            b" 250 ok",
            "२५० ok".encode(),
            b"+25 ok",
        ):
            self.assertIn("no SMTP reply", self.refused(line))

    def test_the_code_may_not_change_inside_a_reply(self) -> None:
        self.assertIn("code changes", self.refused(b"250-a", b"550 b"))

    def test_a_reply_of_a_hundred_lines_is_the_longest(self) -> None:
        self.assertEqual(len(parse(*[b"250-x"] * 99, b"250 x").lines), 100)
        self.assertIn("100 lines", self.refused(*[b"250-x"] * 100, b"250 x"))

    def test_a_reply_of_64_kib_is_the_largest(self) -> None:
        line = b"250-" + b"x" * 995
        self.assertEqual(len(parse(*[line] * 64, b"250 x").lines), 65)
        self.assertIn("65536 bytes", self.refused(*[line] * 66, b"250 x"))

    def test_enhanced_codes_are_found_where_they_stand(self) -> None:
        for line, enhanced in (
            (b"550 5.1.1 no such user", "5.1.1"),
            (b"250 2.0.0", "2.0.0"),
            (b"550 4.1.1 of another class", ""),
            (b"250 2.0 short", ""),
            (b"550 5.1.1x glued", ""),
            (b"550 see 5.1.1", ""),
            (b"250 192.0.2.1 is an address", ""),
        ):
            self.assertEqual(parse(line).enhanced, enhanced, line)

    def test_a_repeated_enhanced_code_is_shown_once(self) -> None:
        reply = parse(b"550-5.1.1 no such", b"550 5.1.1 user, says 5.1.1")
        self.assertEqual(reply.text, "5.1.1 no such user, says 5.1.1")

    def test_secrets_are_hidden_in_replies_and_in_errors(self) -> None:
        self.assertEqual(parse(b"535 no hunter22 here", secrets=("hunter22",)).text, "no *** here")
        with self.assertRaises(SmtpProtocolError) as caught:
            parse(b"hunter22", secrets=("hunter22",))
        self.assertNotIn("hunter22", str(caught.exception))

    def test_a_secret_that_is_cut_off_is_hidden_before(self) -> None:
        secret = "T0ken" * 100
        for lines in ((b"hello " + secret.encode(),), (b"250-a", b"251 " + secret.encode())):
            with self.assertRaises(SmtpProtocolError) as caught:
                parse(*lines, secrets=(secret,))
            self.assertTrue(str(caught.exception).endswith("***"), str(caught.exception))

    def test_little_is_shown_of_a_line_that_is_no_reply(self) -> None:
        with self.assertRaises(SmtpProtocolError) as caught:
            parse(b"x" * 1000)
        self.assertEqual(str(caught.exception), f"no SMTP reply: {'x' * 200}")

    @QUICK
    @given(st.binary(max_size=3000))
    def test_no_line_yields_anything_but_a_safe_reply_or_an_error(self, line: bytes) -> None:
        for prefix in (b"", b"250 "):
            try:
                reply = ReplyParser(str).feed(prefix + line)
            except SmtpProtocolError as error:
                self.assert_safe(str(error))
            else:
                if reply is not None:
                    self.assert_safe(reply.text)
                    self.assertLessEqual(len(reply.text), MAX_TEXT)

    def assert_safe(self, text: str) -> None:
        text.encode("utf-8")
        bad = [c for c in text if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]
        self.assertEqual(bad, [])


class BriefTests(SynchronousTestCase):
    """What is kept of a reply."""

    def test_a_short_one_is_kept_as_it_is(self) -> None:
        reply = SmtpReply(250, (b"2.0.0 fine",))
        self.assertIs(reply.brief(), reply)

    def test_a_long_one_is_kept_as_it_is_shown_and_no_more(self) -> None:
        secrets = Secrets("open-sesame")
        long = SmtpReply(550, (b"5.7.1 open-sesame", b"5.7.1 " + b"x" * 5000), secrets.hide)
        for reply in (long, SmtpReply(550, (b"y" * 5000,))):
            brief = reply.brief()
            self.assertEqual((brief.code, brief.text), (550, reply.text))
            self.assertLessEqual(sum(map(len, brief.lines)), 1000)
        self.assertNotIn(b"open-sesame", long.brief().lines[0])


class LineBufferTests(SynchronousTestCase):
    """What comes in, cut into lines."""

    @QUICK
    @given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
    def test_lines_are_the_same_however_they_come(self, data: bytes, cuts: list[int]) -> None:
        data = data.replace(b"\x00", b"\r\n")
        buffer, lines = LineBuffer(), list[bytes]()
        for begin, end in itertools.pairwise((0, *sorted(cuts), len(data))):
            lines += buffer.split(data[begin:end])
        self.assertEqual([*lines, buffer.rest], data.split(b"\r\n"))

    def test_a_line_without_end_is_refused(self) -> None:
        buffer = LineBuffer()
        self.assertEqual(buffer.split(b"x" * MAX_REPLY_BYTES), [])
        with self.assertRaises(SmtpProtocolError):
            buffer.split(b"x")


class CleanTextTests(SynchronousTestCase):
    """Texts from the network become one printable line."""

    def test_controls_and_line_ends_become_single_blanks(self) -> None:
        self.assertEqual(clean_text("a\r\n b\x1b[31m\x00c\u2028d\u202ee "), "a b [31m c d e")

    def test_a_thousand_characters_are_kept(self) -> None:
        self.assertEqual(len(clean_text("x" * 5000)), MAX_TEXT)

    @given(st.text("ab. ", max_size=20))
    @settings(deadline=None, max_examples=100, derandomize=True)
    def test_blanks_are_single_and_inside(self, text: str) -> None:
        self.assertEqual(clean_text(text), " ".join(text.split()))


class SecretsTests(SynchronousTestCase):
    """Secrets are hidden wherever they stand."""

    def test_a_secret_that_contains_another_is_hidden_whole(self) -> None:
        self.assertEqual(Secrets("pass", "password").hide("my password"), "my ***")

    def test_a_short_secret_is_hidden_only_as_a_word(self) -> None:
        self.assertEqual(Secrets("no").hide("no, not now: no"), "***, not now: ***")

    def test_an_empty_secret_changes_nothing(self) -> None:
        self.assertEqual(Secrets("").hide("text"), "text")


class ExtensionTests(SynchronousTestCase):
    """The EHLO reply."""

    def test_keywords_are_upper_cased_and_parameters_kept(self) -> None:
        lines = (b"mx.example STARTTLS", b"size 1000", b"AUTH PLAIN login", b"8BITMIME", b"")
        self.assertEqual(
            parse_extensions(lines), {"SIZE": "1000", "AUTH": "PLAIN login", "8BITMIME": ""}
        )

    def test_both_spellings_of_auth_are_one(self) -> None:
        offered = parse_extensions((b"mx", b"AUTH PLAIN", b"AUTH=LOGIN CRAM-MD5"))
        self.assertEqual(offered["AUTH"].split(), ["PLAIN", "LOGIN", "CRAM-MD5"])

    def test_bytes_that_are_no_ascii_do_no_harm(self) -> None:
        self.assertEqual(list(parse_extensions((b"mx", b"X\xff 1"))), ["X\ufffd"])
