# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.core.redisvalues."""

from __future__ import annotations

import hashlib
import json

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.redisvalues import RedisScript, compatible_json

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


class CompatibleJsonTests(SynchronousTestCase):
    """JSON as the predecessor writes it."""

    def test_it_is_what_the_predecessor_wrote(self) -> None:
        for value, text in (
            ("t1.html", '"t1.html"'),
            ("<html>{{NAME}} é</html>", r'"\u003Chtml\u003E{{NAME}} \u00e9\u003C\/html\u003E"'),
            (
                {
                    "bccList": [["b@example.test", "Bé"]],
                    "subject": "s/ü",
                    "body": "<p>x</p>",
                    "n": 0,
                },
                (
                    r'{"bccList":[["b@example.test","B\u00e9"]],"subject":"s\/\u00fc",'
                    r'"body":"\u003Cp\u003Ex\u003C\/p\u003E","n":0}'
                ),
            ),
            ("\"\\\n\t\x01'&😀", r'"\"\\\n\t\u0001' + "'&" + r'\ud83d\ude00"'),
            (r"\u003C\/", r'"\\u003C\\\/"'),
        ):
            self.assertEqual(compatible_json(value), text)

    @settings(deadline=None, max_examples=100, derandomize=True)
    @given(_JSON)
    def test_it_is_equal_json_and_one_line_of_ascii(self, value: object) -> None:
        text = compatible_json(value)
        self.assertEqual(json.loads(text), value)
        self.assertTrue(text.isascii() and text.isprintable())

    def test_what_is_no_json_is_refused(self) -> None:
        self.assertRaises(ValueError, compatible_json, float("nan"))


class ScriptTests(SynchronousTestCase):
    """A script and its sum."""

    def test_the_sum_is_that_of_the_text_in_utf_8(self) -> None:
        script = RedisScript("return 'é'")
        self.assertEqual(script.sha1, hashlib.sha1("return 'é'".encode()).hexdigest())  # noqa: S324 - it names, it protects nothing
        self.assertNotIn("return", repr(script))
