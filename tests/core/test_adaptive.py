# SPDX-License-Identifier: MIT
"""Tests of core.adaptive: limits that give way and come back."""

from __future__ import annotations

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.adaptive import GROWTH, LEAST, REACTION, Lowered, Meter, Pace

QUICK = settings(deadline=None, max_examples=100, derandomize=True)
#: Seconds in which a limit grows from nothing to its full value.
WHOLE = 1 / GROWTH


class PaceTests(SynchronousTestCase):
    """One account."""

    def setUp(self) -> None:
        self.pace = Pace(10, 20.0)

    def slow(self, now: float, *, sessions: int = 10, measured: float = 20.0) -> bool:
        return self.pace.slow_down(now, sessions=sessions, measured=measured)

    def limits(self, now: float) -> tuple[int, float | None]:
        rate = self.pace.rate_at(now)
        return self.pace.connections_at(now), None if rate is None else round(rate, 6)

    def test_it_begins_with_what_is_configured(self) -> None:
        self.assertEqual(self.limits(0), (10, 20))
        self.assertFalse(self.pace.is_lowered(0))

    def test_an_answer_halves_both(self) -> None:
        self.assertTrue(self.slow(0))
        self.assertEqual(self.limits(0), (5, 10))
        self.assertTrue(self.pace.is_lowered(0))

    def test_answers_about_the_same_excess_count_once(self) -> None:
        told = [self.slow(second) for second in (0, 1, 4.9)]
        self.assertEqual((told, self.limits(4.9)[0]), ([True, False, False], 5))
        self.assertTrue(self.slow(REACTION))
        self.assertEqual(self.limits(REACTION)[0], 2)

    def test_what_is_halved_is_what_was_used(self) -> None:
        self.slow(0, sessions=4, measured=6)
        self.assertEqual(self.limits(0), (2, 3))

    def test_mails_that_come_seldom_do_not_make_it_crawl(self) -> None:
        self.slow(0, sessions=0, measured=0.01)
        self.assertEqual(self.limits(0), (1, 0.5))

    def test_a_configured_rate_below_that_is_halved_all_the_same(self) -> None:
        self.pace.rate = 0.1
        self.slow(0, measured=0.1)
        self.assertEqual(self.pace.rate_at(0), 0.05)

    def test_they_grow_back_by_a_tenth_in_half_a_minute(self) -> None:
        self.slow(0)
        self.assertEqual(self.limits(30), (6, 12))
        self.assertEqual(self.limits(60), (7, 14))
        self.assertEqual(self.limits(150), (10, 20))
        self.assertFalse(self.pace.is_lowered(150))

    def test_each_new_excess_lowers_what_has_grown_back(self) -> None:
        self.slow(0)
        self.slow(60)
        self.assertEqual(self.limits(60), (3, 7))

    def test_without_a_configured_rate_the_measured_one_counts_until_it_is_reached(self) -> None:
        self.pace.rate = None
        self.slow(0, measured=40)
        self.assertEqual(self.limits(0), (5, 20))
        self.assertEqual(self.limits(30)[1], 24)
        self.slow(30, measured=24)
        self.assertEqual(self.limits(30)[1], 12)
        self.assertEqual(self.limits(1000), (10, None))

    def test_a_connection_refused_beside_others_leaves_those_there_are(self) -> None:
        self.assertTrue(self.pace.crowd(0, sessions=3))
        self.assertEqual(self.limits(0), (3, 20))
        self.assertFalse(self.pace.crowd(0, sessions=3))
        self.assertEqual(self.limits(30)[0], 4)

    def test_a_crowd_does_not_lift_a_lowered_rate(self) -> None:
        self.slow(0)
        self.pace.crowd(6, sessions=1)
        self.assertAlmostEqual(self.pace.rate_at(6) or 0, 10 + 20 * 6 * GROWTH)

    def test_what_is_remembered_has_grown_meanwhile(self) -> None:
        self.slow(0)
        note = self.pace.remember(10)
        again = Pace(10, 20.0)
        again.recall(attrs.evolve(note, age=note.age + 20), 1000)
        self.assertEqual((again.connections_at(1000), again.rate_at(1000)), self.limits(30))
        self.assertTrue(attrs.evolve(note, age=160.0).is_over)
        self.assertFalse(note.is_over)

    @QUICK
    @given(
        st.integers(1, 50),
        st.none() | st.floats(0.001, 1000),
        st.lists(
            st.tuples(st.floats(0, 100), st.booleans(), st.integers(0, 60), st.floats(0, 2000)),
            max_size=40,
        ),
    )
    def test_whatever_happens_limits_stay_in_bounds_and_come_back(
        self, full: int, rate: float | None, events: list[tuple[float, bool, int, float]]
    ) -> None:
        pace, now = Pace(full, rate), 0.0
        for pause, crowded, sessions, measured in events:
            now += pause
            before = pace.connections_at(now), pace.rate_at(now) or float("inf")
            if crowded:
                pace.crowd(now, sessions=sessions)
            else:
                pace.slow_down(now, sessions=sessions, measured=measured)
            after = pace.connections_at(now), pace.rate_at(now) or float("inf")
            self.assertLessEqual(after[0], before[0])
            self.assertLessEqual(after[1], before[1] * (1 + 1e-9))
            self.assertGreaterEqual(after[0], 1)
            if rate is not None:
                self.assertGreaterEqual(after[1], rate * LEAST * (1 - 1e-9))
            later = pace.connections_at(now + 7)
            self.assertGreaterEqual(later, after[0])
        self.assertFalse(pace.is_lowered(now + WHOLE))
        self.assertEqual(pace.connections_at(now + WHOLE), full)
        self.assertEqual(pace.rate_at(now + WHOLE), rate)

    def test_notes_that_are_full_are_over(self) -> None:
        self.assertTrue(Lowered().is_over)


class MeterTests(SynchronousTestCase):
    """Mails a second."""

    def test_a_steady_flow_is_measured(self) -> None:
        meter = Meter()
        for tenth in range(400):
            meter.add(tenth / 10)
        self.assertAlmostEqual(meter.rate(40), 10, delta=0.5)

    def test_a_flow_that_begins_is_measured_soon(self) -> None:
        meter = Meter()
        for hundredth in range(200):
            meter.add(hundredth / 100)
        self.assertAlmostEqual(meter.rate(2), 100, delta=5)

    def test_what_is_long_ago_does_not_count(self) -> None:
        meter = Meter()
        self.assertEqual(meter.rate(0), 0)
        for _ in range(100):
            meter.add(0)
        self.assertEqual(meter.rate(15), 10)
        self.assertEqual(meter.rate(20), 0)
        meter.add(100)
        self.assertEqual(meter.rate(100), 1)
