# SPDX-License-Identifier: MIT
"""Bounds of the sessions to one route."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.delivery.limits import PoolLimits


class SessionTests(SynchronousTestCase):
    """How many mails each session carries."""

    @settings(deadline=None, max_examples=100, derandomize=True)
    @given(st.integers(1, 100_000), st.integers(0, 10**9))
    def test_none_carries_more_than_the_limit_nor_much_fewer(self, most: int, number: int) -> None:
        limits = PoolLimits(mails_per_connection=most, depth=7)
        own = limits.of_session(number)
        self.assertLessEqual(own.mails_per_connection, most)
        self.assertGreaterEqual(own.mails_per_connection, max(1, most * 2 // 3))
        self.assertEqual(own.depth, 7)

    def test_sessions_that_begin_together_end_one_after_another(self) -> None:
        limits = PoolLimits(mails_per_connection=100)
        ends = sorted(limits.of_session(n).mails_per_connection for n in range(20))
        for most in range(67, 100):
            together = [end for end in ends if most - 5 < end <= most]
            self.assertLessEqual(len(together), 5)
        self.assertEqual(ends[-1], 100)
