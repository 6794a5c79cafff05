# SPDX-License-Identifier: MIT
"""Tests for base64 and quoted-printable."""

from __future__ import annotations

import base64
import quopri

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.transfer import base64_lines, base64_size, quoted_printable

_property = settings(deadline=None, max_examples=100, derandomize=True)


class Base64Tests(SynchronousTestCase):
    """The standard library's encoder says what is right."""

    def test_every_border_of_lines_and_blocks_is_right(self) -> None:
        block = 1024 * 57
        data = bytes(range(256)) * 1000
        for size in (0, 1, 2, 3, 56, 57, 58, 114, block - 1, block, block + 1, block * 4 + 100):
            expected = base64.encodebytes(data[:size]).replace(b"\n", b"\r\n")
            self.assertEqual(base64_lines(data[:size]), expected, size)

    def test_its_size_is_known_beforehand(self) -> None:
        for size in (*range(200), 57 * 1024 - 1, 57 * 1024, 57 * 1024 + 1, 200_000):
            self.assertEqual(base64_size(size), len(base64_lines(b"x" * size)), size)


class QuotedPrintableTests(SynchronousTestCase):
    """The standard library's decoder reads it back; RFC 2045 section 6.7 has the rules."""

    @_property
    @given(
        st.lists(
            st.sampled_from([b"\r\n", b" ", b"\t", b".", b"=", b"\0", b"\x7f", b"\xc3", b"x" * 25])
        )
    )
    def test_it_reads_back_and_keeps_the_rules(self, pieces: list[bytes]) -> None:
        text = b"".join(pieces)
        encoded = quoted_printable(text)
        self.assertEqual(quopri.decodestring(encoded), text)
        for line in encoded.split(b"\r\n"):
            self.assertLessEqual(len(line), 76)
            self.assertFalse(line.endswith((b" ", b"\t")))
            self.assertEqual(line.translate(None, b"\r\n\0\x7f\xc3"), line)

    def test_a_blank_at_a_full_line_s_end_does_not_make_it_longer(self) -> None:
        for width in range(70, 80):
            text = b"x" * width + b" \r\n" + b"y" * width + b"\t"
            encoded = quoted_printable(text)
            self.assertEqual(quopri.decodestring(encoded), text)
            self.assertLessEqual(max(map(len, encoded.split(b"\r\n"))), 76)

    def test_one_long_line_is_broken_by_crlf(self) -> None:
        encoded = quoted_printable(b"x" * 200)
        self.assertIn(b"=\r\n", encoded)
        self.assertNotIn(b"\n", encoded.replace(b"\r\n", b""))
