# SPDX-License-Identifier: MIT
"""Tests for header fields: words, parameters, folding, and that nobody can inject one."""

from __future__ import annotations

import re
from email import policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.parser import Parser
from email.utils import getaddresses, parsedate_to_datetime

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core import headers
from smtpmailer.errors import MessageError

_property = settings(deadline=None, max_examples=100, derandomize=True)
_WORD = re.compile(r"=\?utf-8\?[qb]\?[!->@-~]*\?=")

# Texts as clients send them: with hard cases mixed in, without what is refused or left out.
_hard = st.sampled_from(
    ["=?utf-8?Q?=0D=0AX-Injected:_yes?=", "=?", "?=", '"', "\\", "a, b; c <d@e>", "x" * 80, "  "]
)
_readable = st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"))
_texts = st.lists(st.one_of(_hard, st.text(_readable)), max_size=6).map("".join)


def parse(block: str) -> EmailMessage:
    return Parser(policy=policy.default).parsestr(block + "\r\n")


class CleanTests(SynchronousTestCase):
    """What a text may hold at all."""

    def test_line_breaks_nul_and_surrogates_are_refused(self) -> None:
        for bad in "\r\n\0\ud800\udfff":
            error = self.assertRaises(MessageError, headers.clean, f"a{bad}b", "subject")
            self.assertEqual(
                str(error), f"the subject must not hold the character U+{ord(bad):04X}"
            )

    def test_other_controls_are_left_out_and_a_tab_is_a_blank(self) -> None:
        self.assertEqual(headers.clean("a\x01\x1f\x7f\x80\x9f\u2028\u2029b\tc", "x"), "ab c")

    def test_other_text_stays(self) -> None:
        for text in ("plain", "\u00fc\u00a0\u200d\U0001f389", ""):
            self.assertEqual(headers.clean(text, "x"), text)


class UnstructuredTests(SynchronousTestCase):
    """Subject and the like."""

    def test_plain_ascii_stays_plain(self) -> None:
        self.assertEqual(
            headers.unstructured("Subject", "Hello, World!"), "Subject: Hello, World!\r\n"
        )
        self.assertEqual(headers.unstructured("Subject", ""), "Subject:\r\n")

    def test_what_a_receiver_would_misread_is_encoded(self) -> None:
        for text in ("\u00fc", " a", "a ", " ", "=?utf-8?q?a?=", "a =? b", "x" * 901):
            field = headers.unstructured("Subject", text)
            self.assertRegex(field, _WORD)
            self.assertEqual(str(parse(field)["Subject"]), text)

    @_property
    @given(
        st.lists(st.sampled_from([" ", "=", "?", "a", "\u00fc", "\t", "x" * 35, "yy " * 12])).map(
            "".join
        )
    )
    def test_a_short_text_is_written_as_any_other(self, text: str) -> None:
        short = headers.unstructured("Subject", text)
        self.patch(headers, "_is_short", lambda *_: False)
        self.assertEqual(headers.unstructured("Subject", text), short)

    def test_a_text_that_fills_its_line_stays_on_it(self) -> None:
        for text in ("x" * 67, "x y" + "x" * 64):
            self.assertEqual(headers.unstructured("Subject", text), f"Subject: {text}\r\n")
        folded = headers.unstructured("Subject", f"{'x' * 60} {'y' * 7}")
        self.assertEqual(folded, f"Subject: {'x' * 60}\r\n {'y' * 7}\r\n")

    def test_words_have_at_most_75_characters_and_lines_76(self) -> None:
        for text in ("\u00fc" * 500, "\u4e2d" * 500, "\U0001f389" * 500, "a\u00fc " * 300):
            for line in headers.unstructured("Subject", text).split("\r\n"):
                self.assertLessEqual(len(line), 76)

    def test_words_hold_whole_characters(self) -> None:
        """Each word decodes by itself."""
        text = "".join(chr(0x4E00 + n) + "a\u00fc\U0001f389"[n % 3] for n in range(200))
        for subject in (text, text.replace("\u4e00", "") + "a" * 700):
            words = _WORD.findall(headers.unstructured("Subject", subject))
            self.assertGreater(len(words), 5)
            self.assertEqual("".join(str(make_header(decode_header(w))) for w in words), subject)

    def test_the_shorter_of_q_and_b_is_taken(self) -> None:
        self.assertIn("?q?", headers.unstructured("Subject", "mostly plain \u00fc text"))
        self.assertIn("?b?", headers.unstructured("Subject", "\u4e2d\u6587"))

    def test_long_ascii_is_folded_before_blanks(self) -> None:
        text = "some words  and more " * 20 + "end"
        field = headers.unstructured("Subject", text)
        self.assertLessEqual(max(map(len, field.split("\r\n"))), 76)
        self.assertEqual(field.replace("\r\n", ""), f"Subject: {text}")

    def test_no_line_of_nothing_but_the_name(self) -> None:
        self.assertTrue(headers.unstructured("Subject", "x" * 300).startswith("Subject: x"))

    @_property
    @given(_texts)
    def test_every_text_comes_back(self, text: str) -> None:
        field = headers.unstructured("Subject", text)
        headers.check_block(field.encode("ascii"))
        message = parse(field)
        self.assertEqual(str(message["Subject"]), text)
        self.assertEqual(message.keys(), ["Subject"])


class AddressListTests(SynchronousTestCase):
    """From, To, Cc and Reply-To."""

    def field(self, *people: tuple[str, str]) -> str:
        return headers.address_list("To", people)

    def test_a_bare_address_has_no_brackets(self) -> None:
        self.assertEqual(self.field(("a@x.org", "")), "To: a@x.org\r\n")
        self.assertEqual(self.field(("a@x.org", " \x01")), "To: a@x.org\r\n")

    def test_one_who_is_alone_is_written_as_with_others(self) -> None:
        for width in range(1, 73):
            for display in (
                "x" * width,
                ("ab " * width)[:width].strip(" "),
                f"=?{'x' * width}",
                "J. D",
            ):
                person = ("some.user@example.org", display)
                lines = self.field(person).split("\r\n")
                # Another one's comma makes the last line longer by one.
                if len(lines[-2]) < 76:
                    with_others = self.field(person, ("b@x.org", ""))
                    self.assertTrue(with_others.startswith("\r\n".join(lines[:-1]) + ","))
                self.assertLessEqual(max(map(len, lines)), 76)

    def test_a_line_is_folded_no_sooner_than_it_must_be(self) -> None:
        room = 76 - len("To:  <a@x.org>")
        fits = "ab " * (room // 3) + "a" * (room % 3)
        self.assertEqual(len(fits), room)
        self.assertEqual(self.field(("a@x.org", fits)), f"To: {fits} <a@x.org>\r\n")
        self.assertEqual(self.field(("a@x.org", f"{fits}b")), f"To: {fits}b\r\n <a@x.org>\r\n")

    def test_ascii_names_are_atoms_or_quoted_strings(self) -> None:
        for name, written in {
            "Some User": "Some User",
            "O'Neill": "O'Neill",
            "J. Doe": '"J. Doe"',
            "Doe, J": '"Doe, J"',
            'a "b" \\': r'"a \"b\" \\"',
            "a  b": '"a  b"',
        }.items():
            self.assertEqual(self.field(("a@x.org", name)), f"To: {written} <a@x.org>\r\n")

    def test_names_that_a_receiver_would_decode_or_cut_are_encoded(self) -> None:
        for name in ("=?utf-8?Q?=0D=0AX:_y?=", "a, " * 30 + "b", "x" * 1000, "J\u00fcrgen"):
            self.assertRegex(self.field(("a@x.org", name)), _WORD)

    def test_a_short_foreign_name_is_one_word(self) -> None:
        """Python's parser shows a blank where a name is cut into two words."""
        field = self.field(("a@x.org", "\u00c4" * 10 + " " + "\u00c4" * 10))
        self.assertEqual(len(_WORD.findall(field)), 1)

    def test_many_are_separated_by_commas_and_folded(self) -> None:
        people = [(f"user{n}@example.org", f"User {n}") for n in range(50)]
        field = self.field(*people)
        self.assertLessEqual(max(map(len, field.split("\r\n"))), 76)
        found = [(a.addr_spec, a.display_name) for a in parse(field)["To"].addresses]
        self.assertEqual(found, people)

    def test_the_first_word_fits_behind_the_longest_name(self) -> None:
        field = headers.address_list("Reply-To", [("a@x.org", "\u4e2d" * 100)])
        self.assertLessEqual(max(map(len, field.split("\r\n"))), 76)

    @_property
    @given(st.lists(_texts, min_size=1, max_size=4))
    def test_every_name_comes_back(self, names: list[str]) -> None:
        field = self.field(*((f"u{n}@x.org", name) for n, name in enumerate(names)))
        headers.check_block(field.encode("ascii"))
        self.assertEqual(parse(field).keys(), ["To"])
        pairs = getaddresses([field.removeprefix("To:").replace("\r\n", "")])
        seen = [(str(make_header(decode_header(name))), email) for name, email in pairs]
        self.assertEqual(seen, [(name.strip(" "), f"u{n}@x.org") for n, name in enumerate(names)])


class StructuredTests(SynchronousTestCase):
    """MIME fields and their parameters."""

    def field(self, name: str) -> str:
        return headers.structured("Content-Disposition", "attachment", ("filename", name))

    def test_tokens_stay_bare_and_other_ascii_is_quoted(self) -> None:
        self.assertEqual(self.field("a.pdf"), "Content-Disposition: attachment; filename=a.pdf\r\n")
        self.assertIn('filename="a b(1).pdf"', self.field("a b(1).pdf"))

    def test_what_parsers_would_lose_the_name_by_is_quoted(self) -> None:
        for name in ("it's.pdf", "a'b'c.pdf", "a*b.txt", "100%*.txt", "*.txt"):
            field = self.field(name)
            self.assertEqual(field, f'Content-Disposition: attachment; filename="{name}"\r\n')
            self.assertEqual(parse(field).get_filename(), name)

    def test_names_easily_misread_are_extended_values(self) -> None:
        for name in ("\u00e4.pdf", 'a"b.pdf', "a\\b.pdf", "=?utf-8?q?a?=", " a", "a ", ""):
            self.assertIn("filename*=utf-8''", self.field(name))

    def test_long_names_are_continued_between_characters(self) -> None:
        name = "\u4e2d\U0001f389" * 60 + ".pdf"
        field = self.field(name)
        self.assertIn("filename*0*=utf-8''", field)
        self.assertLessEqual(max(map(len, field.split("\r\n"))), 76)
        for piece in re.findall(r"\*\d+\*=(?:utf-8'')?([^;\r]*)", field):
            self.assertNotRegex(piece, "^%[89AB]")
        self.assertEqual(parse(field)["Content-Disposition"].params["filename"], name)

    @_property
    @given(_texts.filter(bool))
    def test_every_name_comes_back(self, name: str) -> None:
        field = self.field(name)
        headers.check_block(field.encode("ascii"))
        message = parse(field)
        self.assertEqual(message["Content-Disposition"].params["filename"], name)
        self.assertEqual(message.keys(), ["Content-Disposition"])


class DateTests(SynchronousTestCase):
    """RFC 5322 dates."""

    def test_dates_are_utc_and_read_back(self) -> None:
        self.assertEqual(headers.date(0), "Thu, 01 Jan 1970 00:00:00 +0000")
        for seconds in range(0, 2_000_000_000, 99_999_999):
            read = parsedate_to_datetime(headers.date(seconds + 0.9))
            self.assertEqual(read.timestamp(), seconds)


class BlockTests(SynchronousTestCase):
    """The last look before a header goes out."""

    def test_sound_fields_pass(self) -> None:
        for block in (
            b"A: b\r\n",
            b"A:\r\n",
            b"A.b: .c\r\n .d\r\n",
            b"A: b\r\n c\r\nD-e: f\r\n  g\r\n",
            b"A: " + b"b" * 995 + b"\r\n",
        ):
            self.assertEqual(headers.check_block(block), block)

    def test_anything_else_does_not(self) -> None:
        for block in (
            b"", b"A: b", b"A: b\n", b"A: b\r", b"A: b\r\n\r\n", b"A: b\r\n \r\n", b" A: b\r\n",
            b"A b\r\n", b"A : b\r\n", b"A: b\nC: d\r\n", b"A: b\rC: d\r\n", b"A: \0\r\n",
            b"A: x\r\nB", b"A: b\r\n c",
            b".A: b\r\n", b"A: b\r\n.C: d\r\n", b"A: b\r\n.c\r\n",
            b"A: b\tc\r\n", b"A: \x1b\r\n", b"A: \xc3\xbc\r\n", b"A: " + b"b" * 996 + b"\r\n",
        ):  # fmt: skip
            self.assertRaises(MessageError, headers.check_block, block)

    def test_utf8_passes_only_when_asked_for(self) -> None:
        block = "To: \u00fc@x.org\r\n".encode()
        self.assertEqual(headers.check_block(block, utf8=True), block)
