# SPDX-License-Identifier: MIT
"""The env file's syntax, against what the predecessor's runtime made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.envfile import parse
from smtpmailer.errors import EnvFileError

_VECTORS = Path(__file__).parent.parent / "data" / "vectors" / "ini-typed.json"

#: Where the predecessor's reading is an accident: what we read instead.
_LITERALLY: dict[str, dict[str, Any]] = {
    "A = +5": {"A": "+5"},
    "A = 012": {"A": "012"},
    "A = 1.5": {"A": "1.5"},
    "A = .5": {"A": ".5"},
    "A = -0": {"A": "-0"},
    "A = a=b": {"A": "a=b"},
    "A = N7SNJsGAY1hku3PBjpqgDw==": {"A": "N7SNJsGAY1hku3PBjpqgDw=="},
    # Blanks around a bare value are no part of it.
    "A =    spaced   ": {"A": "spaced"},
    "\tA\t=\t1\t": {"A": 1},
    # A value that is not one quoted text as a whole keeps its quotes.
    "A = 'it''s'": {"A": "'it''s'"},
    'A = "a" "b"': {"A": '"a" "b"'},
    'A = "a"b': {"A": '"a"b'},
    "A = (x)": {"A": "(x)"},
    "A = a!b": {"A": "a!b"},
    "A = a|b": {"A": "a|b"},
    "A = a&b": {"A": "a&b"},
    "A = a~b": {"A": "a~b"},
    "A = a^b": {"A": "a^b"},
    "A = PHP_VERSION": {"A": "PHP_VERSION"},
    "A = E_ALL": {"A": "E_ALL"},
    # No key of ours: the settings refuse them by name.
    "A[] = 1": {"A[]": 1},
    "export A = 1": {"export A": 1},
    # A comment, as everywhere but in PHP.
    "# A = 1": {},
}
#: The predecessor passes over these lines; `MAILER_AUTH: true` must not be passed over.
_NO_ENTRIES = {"A", "A: 1"}


def _typed(entries: dict[str, Any]) -> list[tuple[str, type, Any]]:
    """Tell 1 from true."""
    return [(key, type(value), value) for key, value in entries.items()]


class VectorTests(SynchronousTestCase):
    """Every recorded line."""

    rows: list[dict[str, Any]] = json.loads(_VECTORS.read_text("utf-8"))

    def test_what_the_predecessor_reads_on_purpose_is_read_alike(self) -> None:
        followed = [row for row in self.rows if row["follow"]]
        self.assertEqual(len(followed), 76)
        for row in followed:
            got = parse(row["ini"], row.get("environment", {}))
            self.assertEqual(_typed(got), _typed(row["parsed"]), row["ini"])

    def test_its_accidents_are_read_literally(self) -> None:
        accidents = {row["ini"] for row in self.rows if not row["follow"]}
        self.assertEqual(accidents, _LITERALLY.keys() | _NO_ENTRIES)
        for ini, expected in _LITERALLY.items():
            self.assertEqual(_typed(parse(ini, {})), _typed(expected), ini)


class ValueTests(SynchronousTestCase):
    """Quotes, comments and variables."""

    def test_a_comment_may_follow_at_once(self) -> None:
        self.assertEqual(parse("A = 1; in secs\nB =; none\n", {}), {"A": 1, "B": ""})

    def test_an_apostrophe_in_a_bare_value_is_only_a_character(self) -> None:
        self.assertEqual(parse("A = it's ; isn't it", {}), {"A": "it's"})

    def test_a_semicolon_in_quotes_begins_no_comment(self) -> None:
        self.assertEqual(parse('A = x "y;z" ; c', {}), {"A": 'x "y;z"'})
        self.assertEqual(parse("A = 'x;'y' ; c", {}), {"A": "'x;'y'"})

    def test_backslashes_escape_quotes_and_themselves_only(self) -> None:
        self.assertEqual(parse(r'''A = "\"\'\\\d"''', {}), {"A": r""""'\\d"""})
        self.assertEqual(parse(r"A = 'C:\'", {}), {"A": "C:\\"})

    def test_variables_are_replaced_in_and_without_double_quotes(self) -> None:
        text = 'A = "x${V}y"\nB = x${V}y\nC = \'x${V}y\'\nD = "x\\${V}y"\nE = ${NONE}\nF = ${'
        self.assertEqual(
            parse(text, {"V": "${W};"}),
            {"A": "x${W};y", "B": "x${W};y", "C": "x${V}y", "D": r"x\${V}y", "E": "", "F": "${"},
        )

    def test_integers_are_those_of_64_bits(self) -> None:
        text = f"A = {2**63 - 1}\nB = {-(2**63)}\nC = {2**63}\nD = {'9' * 5000}"
        self.assertEqual(
            parse(text, {}),
            {"A": 2**63 - 1, "B": -(2**63), "C": str(2**63), "D": "9" * 5000},
        )

    def test_sections_and_comments_and_blank_lines_hold_nothing(self) -> None:
        self.assertEqual(parse("\n \t\n[a] ; x\n[b=c]\n;x=1\n  # y=2\nA=1", {}), {"A": 1})

    def test_any_line_end_ends_a_line(self) -> None:
        self.assertEqual(parse("A=1\rB=2\r\nC=3\n", {}), {"A": 1, "B": 2, "C": 3})

    @settings(deadline=None, max_examples=100, derandomize=True)
    @given(st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"])))
    def test_a_text_in_quotes_comes_back_as_it_was(self, text: str) -> None:
        quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "$")
        self.assertEqual(parse(f'A = "{quoted}" ; c', {}), {"A": text.replace("${", "$")})


class FaultTests(SynchronousTestCase):
    """Nothing sensible can be read."""

    def test_every_line_that_is_no_entry_is_named(self) -> None:
        error = self.assertRaises(
            EnvFileError, parse, "A = 1\nMAILER_AUTH: true\n\n= 3\n[s\nB ; = 4\n", {}
        )
        lines = str(error).split("\n")
        self.assertEqual(
            [line.split(" is ")[0] for line in lines], [f"line {n}" for n in (2, 4, 5, 6)]
        )
        self.assertIn("write KEY = value", lines[0])

    def test_an_open_quote_is_named_where_it_opens(self) -> None:
        for text in ("\nA = 'x\nB = 2", '\nA = "x\nB = "y"', '\nA = "x\\"'):
            error = self.assertRaises(EnvFileError, parse, text, {})
            self.assertIn("line 2 opens a quote", str(error), text)

    @settings(deadline=None, max_examples=100, derandomize=True)
    @given(st.text(st.sampled_from("A=\"'\\;#[]${} \t\n1")))
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        try:
            parse(text, {})
        except EnvFileError as error:
            self.assertRegex(str(error), r"\Aline \d+ ")
