# SPDX-License-Identifier: MIT
"""Tests of core.bucket: so much in a time, and no more."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.bucket import Bucket, Lines


class BucketTests(SynchronousTestCase):
    """A token is there or not."""

    def test_it_begins_full_and_fills_with_time(self) -> None:
        bucket = Bucket(2, 0.5)
        self.assertEqual([bucket.take(100) for _ in range(3)], [True, True, False])
        self.assertFalse(bucket.take(101))
        self.assertTrue(bucket.take(102))
        self.assertFalse(bucket.take(102))

    def test_it_holds_no_more_than_its_size(self) -> None:
        bucket = Bucket(2, 1)
        self.assertEqual([bucket.take(1e9) for _ in range(3)], [True, True, False])

    @settings(deadline=None, max_examples=50, derandomize=True)
    @given(st.lists(st.floats(0, 10), max_size=60))
    def test_never_more_go_out_than_came_in(self, waits: list[float]) -> None:
        bucket, now, taken = Bucket(5, 2), 0.0, 0
        for wait in waits:
            now += wait
            taken += bucket.take(now)
        self.assertLessEqual(taken, 5 + 2 * now + 1e-6)


class LinesTests(SynchronousTestCase):
    """Lines that clients cause at will are few."""

    def test_a_second_has_ten_and_the_next_says_how_many_were_left_out(self) -> None:
        lines = Lines()
        said = [lines.next(0) for _ in range(25)]
        self.assertEqual(said, [""] * 10 + [None] * 15)
        self.assertEqual(lines.next(1), " (15 such lines left out before)")
        self.assertEqual(lines.next(1), "")
