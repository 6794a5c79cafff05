# SPDX-License-Identifier: MIT
"""Tests of core.documents: what is JSON, and where it stops being it."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.documents import broken, parse, read
from smtpmailer.errors import BadDocumentError, FramingError

#: Text, offset in bytes, a word of the reason.
_BAD = (
    (b'{"a" 1}', 5, "':'"),
    ('{"é" 1}'.encode(), 6, "':'"),
    (b'{"a":1,}', 6, "comma"),
    (b'{"a":NaN}', 5, "value"),
    (b'{"a":-Infinity}', 6, ""),
    (b'{"a":1e999}', 5, "infinity"),
    (b'{"a":"\\ud800"}', 6, "surrogate"),
    (b'{"a":"\xff"}', 6, "UTF-8"),
    (b'{"a":"x\ny"}', 7, "control"),
    (b'{"a":' + b"9" * 5000 + b"}", 5, "infinity"),
    (b"{a:1}", 1, "key"),
    (b"\xef\xbb\xbf{}", 0, "BOM"),
    (b'{"a":01}', 5, "zero"),
)


class ParseTests(SynchronousTestCase):
    """JSON text becomes a value or an error."""

    def test_bad_json_is_located_in_bytes(self) -> None:
        for raw, offset, word in _BAD:
            error = self.assertRaises(BadDocumentError, parse, raw)
            self.assertEqual((raw, error.offset), (raw, offset))
            self.assertIn(word, error.why)

    def test_the_message_is_the_api_s(self) -> None:
        error = self.assertRaises(BadDocumentError, parse, b'{"a":NaN}')
        self.assertTrue(str(error).startswith("malformed JSON at byte 5: "))

    def test_nesting_beyond_the_parser_s_limit_is_an_error_not_a_crash(self) -> None:
        deep = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
        self.assertRaises(BadDocumentError, parse, deep)

    def test_of_a_repeated_key_the_last_value_counts_in_the_first_place(self) -> None:
        value = parse(b'{"ping":1,"b":2,"ping":3}')
        self.assertEqual(list(value.items()), [("ping", 3), ("b", 2)])

    def test_integers_beyond_64_bits_become_floats(self) -> None:
        self.assertEqual(parse(b'{"a":123456789012345678901}'), {"a": 123456789012345678901.0})

    @given(st.recursive(st.none() | st.booleans() | st.text() | st.floats(-1e9, 1e9), st.lists))
    @settings(deadline=None, max_examples=50, derandomize=True)
    def test_it_reads_what_the_standard_library_writes(self, value: object) -> None:
        self.assertEqual(parse(json.dumps(value).encode()), value)


class ReadTests(SynchronousTestCase):
    """A document carries its value or its error."""

    def test_a_good_document_has_its_value_and_size(self) -> None:
        document = read(bytearray(b'{"a":1}'))
        self.assertEqual((document.value, document.error, document.size_bytes), ({"a": 1}, None, 7))

    def test_a_bad_one_has_its_error_and_size(self) -> None:
        document = read(b'{"a":}')
        self.assertIsInstance(document.error, BadDocumentError)
        self.assertEqual(document.size_bytes, 6)

    def test_a_fault_without_document_makes_one(self) -> None:
        fault = FramingError("x")
        self.assertIs(broken(fault).error, fault)
