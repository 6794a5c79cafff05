# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.core.tallies."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.board import CELL_BYTES, SEATS
from smtpmailer.core.bucket import Bucket
from smtpmailer.core.tallies import RATES_CELLS, TALLY_CELLS, SharedRates, SharedTally, own_rates

_NAMES = st.sampled_from([f"192.0.2.{number}" for number in range(8)])


class TallyTests(SynchronousTestCase):
    """Counts by name and process."""

    def setUp(self) -> None:
        self.memory = memoryview(bytearray(TALLY_CELLS * CELL_BYTES)).cast("q")
        self.tally = SharedTally(self.memory, nullcontext())

    def test_all_processes_count_together(self) -> None:
        other = SharedTally(self.memory, nullcontext())
        self.tally.add("a", 0, 2)
        other.add("a", SEATS - 1, 3)
        other.add("b", 0, 1)
        self.assertEqual([self.tally.total(name) for name in "abc"], [5, 1, 0])

    def test_what_a_dead_process_had_counts_no_longer(self) -> None:
        self.tally.add("a", 0, 2)
        self.tally.add("a", 1, 3)
        self.tally.add("b", 1, 1)
        self.tally.clear(1)
        self.assertEqual([self.tally.total(name) for name in "ab"], [2, 0])

    @settings(deadline=None, max_examples=50, derandomize=True)
    @given(st.lists(st.tuples(_NAMES, st.integers(0, SEATS - 1)), max_size=60), st.data())
    def test_it_counts_as_a_dictionary_would(
        self, opened: list[tuple[str, int]], data: st.DataObject
    ) -> None:
        self.setUp()
        closed = data.draw(st.permutations(opened))[: len(opened) // 2]
        for name, seat in opened:
            self.tally.add(name, seat, 1)
        for name, seat in closed:
            self.tally.add(name, seat, -1)
        expected = Counter(name for name, _ in opened)
        expected.subtract(name for name, _ in closed)
        for name, count in expected.items():
            self.assertEqual(self.tally.total(name), count)

    def test_any_number_of_names_can_come_and_go(self) -> None:
        for number in range(5000):
            name = str(number)
            self.tally.add(name, 3, 1)
            self.assertEqual(self.tally.total(name), 1)
            self.tally.add(name, 3, -1)

    def test_without_room_for_a_name_nothing_is_counted_and_none_is_mistaken(self) -> None:
        names = [str(number) for number in range(4000)]
        for name in names:
            self.tally.add(name, 0, 1)
        counts = Counter(self.tally.total(name) for name in names)
        self.assertEqual(counts.keys(), {0, 1})
        self.assertGreater(counts[1], 1500)
        for name in names:
            self.tally.add(name, 0, -1)
        self.assertEqual(sum(self.tally.total(name) for name in names), 0)


class RateTests(SynchronousTestCase):
    """So many mails a minute, for all processes together."""

    def setUp(self) -> None:
        memory = memoryview(bytearray(RATES_CELLS * CELL_BYTES))
        self.rates, self.other = (
            SharedRates(memory.cast("q"), memory.cast("d"), nullcontext()) for _ in range(2)
        )

    def test_processes_take_from_the_same_bucket(self) -> None:
        taken = [rates.take("key", 3, 10.0) for rates in (self.rates, self.other) * 2]
        self.assertEqual(taken, [True, True, True, False])
        self.assertTrue(self.other.take("another", 3, 10.0))

    def test_mails_come_back_with_time(self) -> None:
        for _ in range(60):
            self.assertTrue(self.rates.take("key", 60, 0.0))
        self.assertFalse(self.rates.take("key", 60, 0.5))
        self.assertTrue(self.other.take("key", 60, 1.0))
        self.assertFalse(self.rates.take("key", 60, 1.9))

    def test_a_smaller_rate_counts_at_once(self) -> None:
        self.assertTrue(self.rates.take("key", 100, 0.0))
        self.assertTrue(self.rates.take("key", 1, 0.0))
        self.assertFalse(self.rates.take("key", 1, 0.0))

    def test_who_draws_in_vain_hears_how_long_to_wait(self) -> None:
        self.assertEqual(self.rates.draw("x", 1, 0.5, 0), 0)
        self.assertEqual(self.other.draw("x", 1, 0.5, 0.5), 1.5)
        self.assertEqual(self.other.look("x", 1, 0.5, 1), 0.5)
        self.assertEqual(self.rates.draw("x", 1, 0.5, 2), 0)

    def test_who_looks_takes_nothing(self) -> None:
        self.assertEqual([self.rates.look("x", 5, 1, 0) for _ in range(3)], [5] * 3)
        self.rates.draw("x", 5, 1, 0)
        self.assertEqual([self.other.look("x", 5, 1, 0) for _ in range(3)], [4] * 3)

    @settings(deadline=None, max_examples=50, derandomize=True)
    @given(st.integers(1, 200), st.lists(st.floats(0, 20), max_size=60))
    def test_it_takes_as_a_bucket_does(self, rate: int, pauses: list[float]) -> None:
        rates, bucket, now = own_rates(), Bucket(rate, rate / 60), 5.0
        for pause in pauses:
            now += pause
            self.assertEqual(rates.take("key", rate, now), bucket.take(now))

    def test_names_that_anybody_makes_up_push_out_no_others(self) -> None:
        aside = self.rates.aside()
        self.assertTrue(self.rates.take("quiet", 1, 0.0))
        self.assertTrue(aside.take("quiet", 1, 0.0), "it is another one there")
        for number in range(6000):
            self.assertTrue(aside.take(str(number), 1, 1.0))
        self.assertFalse(self.rates.take("quiet", 1, 1.0))
        self.assertFalse(self.other.aside().take("5999", 1, 1.0), "all processes share it")

    def test_of_very_many_keys_the_quietest_begins_anew(self) -> None:
        self.assertTrue(self.rates.take("busy", 1, 0.0))
        for number in range(4000):
            now = number / 1000
            self.assertTrue(self.rates.take(str(number), 1, now))
            self.assertFalse(self.rates.take("busy", 1, now))
