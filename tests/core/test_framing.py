# SPDX-License-Identifier: MIT
"""Tests of core.framing: documents out of bytes, however these are cut."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.framing import Framer
from smtpmailer.errors import BadDocumentError, FramingError, LimitError

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
_REQUESTS = st.lists(st.dictionaries(st.text(), _JSON, max_size=3), max_size=4)
_TRICKY = b'{"a\\"}{":"\\\\","b":["]\\\\\\"{",{}],"c":"\\u0022"}'
_MIB = 2**20


def _framer() -> Framer:
    return Framer(1000, 20)


def _feed(pieces: Sequence[bytes], framer: Framer | None = None) -> tuple[list[object], Framer]:
    """Feed all pieces; give the values (or the faults' texts) and the framer."""
    framer = framer or _framer()
    found: list[object] = []
    for piece in pieces:
        found += [d.value if d.error is None else str(d.error) for d in framer.feed(piece)]
    return found, framer


def _cuts(data: bytes) -> list[list[bytes]]:
    bytewise = [data[i : i + 1] for i in range(len(data))]
    return [[data], *([data[:i], data[i:]] for i in range(1, len(data))), bytewise]


class WholeTests(SynchronousTestCase):
    """Documents come out whole and in order."""

    def test_a_document_ends_where_its_braces_close_at_every_cut(self) -> None:
        expected = json.loads(_TRICKY)
        for end in (b"", b"\n", b"\r\n", b" \t\r\n "):
            for pieces in _cuts(_TRICKY + end):
                found, framer = _feed(pieces)
                self.assertEqual((found, framer.pending), ([expected], 0), pieces)

    def test_documents_follow_each_other_with_blanks_or_nothing_between(self) -> None:
        for blank in (b"", b"\n", b" \r\n\t"):
            for pieces in _cuts(b'{"a":1}' + blank + b'["]"]' + blank + b"{}"):
                self.assertEqual(_feed(pieces)[0], [{"a": 1}, ["]"], {}])

    def test_a_document_is_given_as_soon_as_it_is_whole(self) -> None:
        framer = _framer()
        self.assertEqual(framer.feed(b'{"a":'), [])
        self.assertEqual(framer.pending, 5)
        self.assertEqual([d.value for d in framer.feed(b'1}{"b"')], [{"a": 1}])
        self.assertEqual(framer.pending, 4)

    def test_balanced_nonsense_is_a_bad_document_and_framing_goes_on(self) -> None:
        for pieces in _cuts(b'{"a" 1}{"b":2}'):
            found, framer = _feed(pieces)
            self.assertIn("malformed JSON at byte 5", str(found[0]))
            self.assertEqual(found[1:], [{"b": 2}])
            self.assertIsNone(framer.error)

    def test_the_fast_way_and_the_scanner_agree(self) -> None:
        for raw in (b'{"a":"\\\\"}', b'{"a" 1}', b"{}{}", b'{"a":[1,{}]}'):
            self.assertEqual(_feed([raw])[0], _feed([b" " + raw])[0])

    @given(_REQUESTS, st.data())
    @settings(deadline=None, max_examples=100, derandomize=True)
    def test_any_requests_survive_any_cuts(
        self, requests: list[dict[str, object]], data: st.DataObject
    ) -> None:
        blank = data.draw(st.sampled_from(["", "\n", "\r\n"]))
        ascii_only = data.draw(st.booleans())
        raw = blank.join(json.dumps(r, ensure_ascii=ascii_only) for r in requests)
        stream = raw.encode("utf-8", "surrogatepass")
        at = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
        ends = [0, *at, len(stream)]
        pieces = [stream[a:b] for a, b in itertools.pairwise(ends)]
        framer = Framer(100_000, 64)
        documents = [d for piece in pieces for d in framer.feed(piece)]
        self.assertEqual(len(documents), len(requests))
        self.assertEqual(framer.pending, 0)
        for document, request in zip(documents, requests, strict=True):
            if document.error is None:
                self.assertEqual(document.value, json.loads(json.dumps(request)))


class FaultTests(SynchronousTestCase):
    """Faults are told where they are."""

    def test_what_can_never_become_an_object_is_told_at_its_first_byte(self) -> None:
        for raw in (b"null", b"5", b"garbage", b'"x"', b"}", b"\xff", b"\x00", b" \n true"):
            for pieces in _cuts(raw):
                found, framer = _feed(pieces)
                assert isinstance(framer.error, FramingError)
                self.assertEqual((found, framer.error.empty), ([], True))

    def test_documents_before_a_fault_are_given_first(self) -> None:
        for pieces in _cuts(b'{"a":1} {"b":2}x'):
            found, framer = _feed(pieces)
            self.assertEqual(found, [{"a": 1}, {"b": 2}])
            self.assertIsInstance(framer.error, FramingError)

    def test_mismatched_brackets_end_the_framing_with_their_offset(self) -> None:
        for raw, offset in ((b'{"a"]', 4), (b"[}", 1), (b'{"[":[1}', 7)):
            for pieces in _cuts(b"  " + raw):
                framer = _feed(pieces)[1]
                assert isinstance(framer.error, FramingError)
                self.assertFalse(framer.error.empty)
                expected = f"malformed JSON at byte {offset}: unexpected '{chr(raw[-1])}'"
                self.assertEqual(str(framer.error), expected)

    def test_control_characters_outside_strings_end_the_framing(self) -> None:
        for pieces in _cuts(b'{"\x01":\x00}'):
            framer = _feed(pieces)[1]
            self.assertEqual(
                str(framer.error),
                "malformed JSON at byte 5: unexpected control character 0x00",
            )

    def test_nothing_is_taken_after_a_fault(self) -> None:
        found, framer = _feed([b"x", b"{}", b'{"a":1}', b'{"a'])
        self.assertEqual((found, framer.pending), ([], 0))

    def test_the_end_of_input_inside_a_document_is_truncation(self) -> None:
        framer = _feed([b'{"a', b'":1'])[1]
        error = self.assertRaises(FramingError, framer.finish)
        self.assertEqual(str(error), "malformed JSON at byte 6: unexpected end of input")
        self.assertEqual(framer.pending, 0)

    def test_the_end_of_input_between_documents_is_no_fault(self) -> None:
        framer = _feed([b'{"a":1}\n'])[1]
        framer.finish()
        self.assertIsNone(framer.error)


class LimitTests(SynchronousTestCase):
    """Limits hold, and time stays linear."""

    def test_a_document_of_the_limit_passes_and_one_byte_more_does_not(self) -> None:
        fits, exceeds = b'{"a":"xx"}', b'{"a":"xxx"}'
        for pieces in _cuts(fits * 3):
            self.assertEqual(len(_feed(pieces, Framer(10, 20))[0]), 3)
        for pieces in _cuts(fits + exceeds):
            found, framer = _feed(pieces, Framer(10, 20))
            self.assertEqual(len(found), 1)
            self.assertIsInstance(framer.error, LimitError)
            self.assertIn("10 bytes (MAILER_MAX_REQUEST_SIZE)", str(framer.error))

    def test_an_endless_document_is_refused_at_the_limit(self) -> None:
        framer = Framer(100, 20)
        framer.feed(b'{"a":"' + b"x" * 94)
        self.assertIsNone(framer.error)
        framer.feed(b"x")
        self.assertIsInstance(framer.error, LimitError)
        self.assertEqual(framer.pending, 0)

    def test_nesting_of_the_limit_passes_and_one_level_more_does_not(self) -> None:
        for pieces in _cuts(b'{"a":[[{}]]}'):
            self.assertEqual(_feed(pieces, Framer(100, 4))[0], [{"a": [[{}]]}])
            framer = _feed(pieces, Framer(100, 3))[1]
            self.assertIn("deeper than 3", str(framer.error))

    def test_many_brackets_side_by_side_are_not_deep(self) -> None:
        found, framer = _feed([b'{"a":[[],[],[],[]]}'], Framer(100, 3))
        self.assertEqual((len(found), framer.error), (1, None))

    def test_a_large_request_takes_linear_time_however_cut(self) -> None:
        """Eight times the bytes may take no more than some twenty times as long."""

        def seconds(size_bytes: int, piece_bytes: int) -> float:
            raw = b'{"a":"' + b'<p class=\\"x\\">' * (size_bytes // 15) + b'"}'
            framer = Framer(2 * size_bytes, 20)
            start = time.process_time()
            documents = [
                d
                for i in range(0, len(raw), piece_bytes)
                for d in framer.feed(raw[i : i + piece_bytes])
            ]
            self.assertEqual([d.error for d in documents], [None])
            return time.process_time() - start

        for piece, small in ((1, _MIB // 64), (1460, _MIB), (65536, 4 * _MIB)):
            base = min(seconds(small, piece) for _ in range(3))
            self.assertLess(seconds(8 * small, piece), 20 * base + 0.05)

    def test_errors_of_documents_keep_their_kind(self) -> None:
        document = Framer(100, 20).feed(b'{"a":NaN}')[0]
        self.assertIsInstance(document.error, BadDocumentError)


class ValueTests(SynchronousTestCase):
    """A document may not hold more values than memory is meant for."""

    def feed(self, *pieces: bytes) -> tuple[list[object], Framer]:
        return _feed(pieces, Framer(100_000, 20, 100))

    def test_as_many_values_as_allowed_are_fine_and_one_more_is_not(self) -> None:
        for count, wrong in ((100, False), (101, True)):
            raw = b'{"a":[' + b"0," * (count - 2) + b"0]}"
            _, framer = self.feed(raw[:7], raw[7:])
            self.assertEqual(framer.error is not None, wrong, count)

    def test_each_kind_of_value_counts(self) -> None:
        for item in (b"[],", b"{},", b'"",', b"1,", b'"\\"",'):
            _, framer = self.feed(b"[", item * 100)
            assert framer.error is not None
            self.assertEqual(str(framer.error), "request holds more than 100 values")

    def test_each_document_is_counted_for_itself(self) -> None:
        raw = b"[" + b"0," * 60 + b"0]"
        found, framer = self.feed(b" ", raw + raw, raw + raw[:50], raw[50:])
        self.assertEqual((len(found), framer.error), (4, None))

    def test_commas_in_texts_are_no_values(self) -> None:
        found, framer = self.feed(b'{"a":"', b"," * 500, b'"}')
        self.assertEqual((len(found), framer.error), (1, None))

    def test_values_count_for_what_a_document_takes(self) -> None:
        framer = _framer()
        (small,) = framer.feed(b'{"a":"..."}')
        (large,) = framer.feed(b'{"a":[1,2]}')
        self.assertGreater(large.size_bytes, small.size_bytes)

    def test_values_count_wherever_they_are(self) -> None:
        many = b",".join([b"1"] * 500)
        nested = b'{"a":{"b":[[%s]]}}' % many
        for raw in (b'{"a":[%s]}' % many, nested, b'{"a":[%s]}' % b",".join([b"[]"] * 500)):
            (document,) = Framer(10**6, 600).feed(raw)
            self.assertGreater(document.size_bytes, len(raw) + 64 * 498)

    def test_values_of_repeated_keys_count_as_the_room_they_have_taken(self) -> None:
        for key in (b'"":0', b'"a":[]', b'"a":{"":0,"":0}'):
            raw = b'{"sendMail":{%s}}' % b",".join([key] * 1000)
            (document,) = Framer(10**6, 10**4).feed(raw)
            self.assertGreater(document.size_bytes, len(raw) + 64 * 998)
            self.assertGreater(document.size_bytes, sys.getsizeof(document.value["sendMail"]))

    def test_commas_in_a_text_are_no_values(self) -> None:
        raw = b'{"a":"%s"}' % (b"," * 500)
        (document,) = Framer(10**6, 5).feed(raw)
        self.assertLess(document.size_bytes, len(raw) + 64 * 10)

    def test_a_large_document_comes_out_of_its_blocks_whole(self) -> None:
        text = "".join(chr(97 + i % 26) for i in range(1_000_000))
        raw = json.dumps({"a": text}).encode()
        framer = Framer(2_000_000, 20)
        found = [d for i in range(0, len(raw), 70_001) for d in framer.feed(raw[i : i + 70_001])]
        self.assertEqual([d.value for d in found], [{"a": text}])
        self.assertEqual(framer.pending, 0)
