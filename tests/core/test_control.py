# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.core.control."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.control import Answer, Ask, Message, Tell, decode, encode
from smtpmailer.errors import ControlError

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
_VALUES = st.dictionaries(st.text(max_size=5), _JSON, max_size=3)
_NUMBER = st.integers(0, 2**31)
_MESSAGES = (
    st.builds(Ask, _NUMBER, st.text(max_size=10), _VALUES)
    | st.builds(Answer, _NUMBER, _JSON)
    | st.builds(lambda number, fault: Answer(number, fault=fault), _NUMBER, st.text(min_size=1))
    | st.builds(Tell, st.text(max_size=10), _VALUES)
)


class MessageTests(SynchronousTestCase):
    """A message is a line, and a line is a message or a fault."""

    @settings(deadline=None, max_examples=100, derandomize=True)
    @given(_MESSAGES)
    def test_what_is_written_is_read_the_same(self, message: Message) -> None:
        line = encode(message)
        self.assertNotIn(b"\n", line)
        self.assertEqual(decode(line), message)

    def test_a_refusal_always_has_a_reason(self) -> None:
        self.assertEqual(decode(b'{"answer":1,"fault":""}'), Answer(1, fault="no reason given"))

    def test_anything_else_is_a_fault(self) -> None:
        for line in (
            b"",
            b"nonsense",
            b"[]",
            b"{}",
            b'{"ask":1}',
            b'{"ask":"1","what":"x","values":{}}',
            b'{"ask":1,"what":2,"values":{}}',
            b'{"ask":1,"what":"x","values":[]}',
            b'{"tell":"x"}',
            b'{"answer":1}',
            b'{"answer":1,"fault":2}',
            b"\xff",
        ):
            with self.assertRaises(ControlError, msg=line):
                decode(line)
