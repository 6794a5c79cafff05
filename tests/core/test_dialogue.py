# SPDX-License-Identifier: MIT
"""Lines of a dialogue, and how many of them are kept."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.dialogue import (
    MAX_CHARACTERS,
    MAX_LINES,
    bounded,
    command,
    happened,
    reply,
)


class BoundedTests(SynchronousTestCase):
    """What is kept is bounded, whatever was said."""

    def test_a_short_dialogue_is_kept_as_it_is(self) -> None:
        lines = (command("MAIL FROM:<a@b>"), reply(250, "ok"), reply(354, ""), happened("lost"))
        self.assertEqual(lines, ("C: MAIL FROM:<a@b>", "S: 250 ok", "S: 354", "-- lost"))
        self.assertEqual(bounded(lines), lines)
        self.assertEqual(bounded(()), ())

    def test_of_many_lines_the_last_are_kept_and_the_others_counted(self) -> None:
        lines = [str(number) for number in range(MAX_LINES + 10)]
        first, *others = bounded(lines)
        self.assertEqual(first, "-- 11 lines before are not kept")
        self.assertEqual(others, lines[11:])
        self.assertEqual(len(bounded(lines[:MAX_LINES])), MAX_LINES)

    def test_a_long_line_is_cut(self) -> None:
        (line,) = bounded(["x" * 10_000])
        self.assertEqual(line, "x" * 509 + "...")

    @settings(deadline=None, max_examples=100, derandomize=True)
    @given(st.lists(st.integers(0, 2000).map(lambda size: "x" * size), max_size=200))
    def test_lines_and_characters_have_a_limit(self, lines: list[str]) -> None:
        kept = bounded(lines)
        self.assertLessEqual(len(kept), MAX_LINES)
        self.assertLessEqual(sum(map(len, kept)), MAX_CHARACTERS + 40)
        if lines:
            self.assertEqual(kept[-1][:500], lines[-1][:500])
