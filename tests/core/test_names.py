# SPDX-License-Identifier: MIT
"""Names of queued mails."""

from __future__ import annotations

import math
import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core import names

#: The forms that the predecessor takes; in its file queue without an end anchor.
PREDECESSOR = re.compile(r"^mail_[0-9]+\.[0-9]+_[a-z0-9]+\.json$")
SAMPLE = "0000000001657084500.39823600_9e51fa6fad25da44"


class NameTests(SynchronousTestCase):
    """Made, taken apart, and nothing else let through."""

    def test_a_name_is_time_fraction_and_id(self) -> None:
        self.assertEqual(names.make_name(1657084500, 39823600, "9e51fa6fad25da44"), SAMPLE)

    def test_a_file_s_name_is_made_from_a_time(self) -> None:
        name = names.make_file_name(1657084500.25, "9e51fa6fad25da44")
        self.assertEqual(name, "mail_0000000001657084500.25000000_9e51fa6fad25da44.json")

    def test_what_is_no_name_is_not_made(self) -> None:
        for parts in ((-1, 0, "aa"), (1, 0, "../x"), (1, 0, ""), (1, -1, "aa")):
            with self.assertRaises(AssertionError):
                names.make_name(*parts)

    @settings(deadline=None, max_examples=100, derandomize=True)
    @given(st.floats(0, names.MAX_SECONDS), st.integers(0, 2**64 - 1))
    def test_every_name_made_is_the_predecessor_s_and_ours(self, due: float, unique: int) -> None:
        name = names.make_file_name(due, f"{unique:016x}")
        self.assertRegex(name, PREDECESSOR)
        self.assertTrue(names.is_file_name(name))
        self.assertTrue(names.is_name(names.name_of_file(name)))
        self.assertEqual(names.file_name(names.name_of_file(name)), name)
        self.assertEqual(names.due_of(name), math.floor(due))

    @settings(deadline=None, max_examples=100, derandomize=True)
    @given(st.tuples(st.floats(0, 1e11), st.floats(0, 1e11)))
    def test_name_order_is_due_order(self, dues: tuple[float, float]) -> None:
        first, second = (names.make_file_name(due, "0" * 16) for due in sorted(dues))
        self.assertLessEqual(first, second)
        self.assertLessEqual(names.due_of(first), names.due_of(second))

    def test_the_predecessor_s_wider_forms_are_taken(self) -> None:
        for text in ("1.2_a", "00000000000000000000009.1_zz9", SAMPLE):
            self.assertTrue(names.is_name(text), text)
            self.assertTrue(names.is_file_name(f"mail_{text}.json"), text)

    def test_nothing_else_is_taken(self) -> None:
        wrong = (
            "",
            "1_a",
            "1.2",
            "1.2_A",
            "1.2_a/b",
            "../1.2_a",
            "1.2_a\n",
            "-5.2_a",
            "1.2_é",
            "\u0661.2_a",
            f"1.2_{'a' * 300}",
            "1.2_a\0",
        )
        for text in wrong:
            self.assertFalse(names.is_name(text), text)
            self.assertFalse(names.is_file_name(f"mail_{text}.json"), text)
        for text in (f"mail_{SAMPLE}.json.tmp", f"mail_{SAMPLE}.json\n", f".mail_{SAMPLE}.json"):
            self.assertFalse(names.is_file_name(text), text)

    def test_a_name_beyond_the_end_of_time_is_due_then(self) -> None:
        self.assertEqual(names.due_of(f"mail_{'9' * 100}.5_a.json"), names.MAX_SECONDS)
        self.assertEqual(names.due_of(f"{'9' * 100}.5_a"), names.MAX_SECONDS)

    def test_the_id_is_the_name_s_end(self) -> None:
        self.assertEqual(names.unique_of(f"mail_{SAMPLE}.json"), "9e51fa6fad25da44")
        self.assertEqual(names.unique_of(SAMPLE), "9e51fa6fad25da44")

    def test_a_variant_is_another_file_in_the_same_place_of_the_order(self) -> None:
        file = f"mail_{SAMPLE}.json"
        variants = [names.variant_of(file, number) for number in (2, 3, 4000)]
        self.assertEqual(len({file, *variants}), 4)
        for variant in variants:
            self.assertTrue(names.is_file_name(variant), variant)
            self.assertEqual(names.due_of(variant), names.due_of(file))

    def test_a_variant_of_the_longest_name_is_a_name(self) -> None:
        for file in (f"mail_1.5_{'a' * 186}.json", f"mail_{'1' * 186}.5_a.json"):
            self.assertTrue(names.is_file_name(file), file)
            variants = {names.variant_of(file, number) for number in range(12)}
            self.assertEqual((len(variants), file in variants), (12, False))
            self.assertTrue(all(map(names.is_file_name, variants)), variants)
