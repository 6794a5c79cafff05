# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.core.respawn."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.respawn import Growth, Limits, Patience, Usage, why_replace

_MIB = 2**20


class PatienceTests(SynchronousTestCase):
    """At once, unless they die one after another."""

    def test_the_first_death_costs_no_time_and_each_quick_one_after_it_twice_as_much(self) -> None:
        patience = Patience()
        delays = [patience.delay(1.0) for _ in range(12)]
        self.assertEqual(delays[:5], [0.0, 0.25, 0.5, 1.0, 2.0])
        self.assertEqual(delays[-2:], [30.0, 30.0])

    def test_a_long_life_is_a_new_beginning(self) -> None:
        patience = Patience()
        for _ in range(5):
            patience.delay(59.9)
        self.assertEqual([patience.delay(60.0), patience.delay(1.0)], [0.0, 0.25])


class GrowthTests(SynchronousTestCase):
    """Memory counts soon, unless processes grow beyond the limit one after another."""

    def test_each_one_that_was_replaced_soon_lets_the_next_live_twice_as_long(self) -> None:
        growth, ages = Growth(), []
        for _ in range(30):
            ages.append(growth.least_age())
            growth.replaced(growth.least_age() + 1.0)
        self.assertEqual(ages[:7], [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0])
        self.assertEqual(ages[-1], 60.0)

    def test_one_that_lived_longer_than_it_had_to_is_a_new_beginning(self) -> None:
        growth = Growth()
        for _ in range(9):
            growth.replaced(119.9)
        growth.replaced(120.0)
        self.assertEqual(growth.least_age(), 2.0)


class LimitTests(SynchronousTestCase):
    """Who has used enough is replaced."""

    def setUp(self) -> None:
        self.limits = Limits(memory_bytes=64 * _MIB, requests=100)
        self.usage = Usage(
            memory_bytes=50 * _MIB,
            first_memory_bytes=40 * _MIB,
            requests=99,
            age=60.0,
            idle=True,
        )

    def why(self, **changes: object) -> str:
        usage = attrs.evolve(self.usage, **changes)  # type: ignore[arg-type]
        return why_replace(usage, self.limits, 60.0)

    def test_within_the_limits_nobody_is(self) -> None:
        self.assertEqual(self.why(), "")

    def test_so_many_requests_are_enough_also_for_who_is_busy(self) -> None:
        why = "it has answered 100 requests (MAILER_MAX_REQUEST)"
        self.assertEqual(self.why(requests=100, idle=False, age=0.0), why)

    def test_0_requests_are_no_limit(self) -> None:
        self.limits = attrs.evolve(self.limits, requests=0)
        self.assertEqual(self.why(requests=10**9), "")

    def test_memory_counts_when_it_is_idle(self) -> None:
        too_much = 65 * _MIB
        self.assertEqual(self.why(memory_bytes=too_much, idle=False), "")
        self.assertEqual(
            self.why(memory_bytes=too_much), "it takes 65 MB of memory (MAILER_MAX_MEMORY)"
        )

    def test_memory_does_not_count_for_who_is_new_or_began_with_as_much(self) -> None:
        too_much = 65 * _MIB
        self.assertEqual(self.why(memory_bytes=too_much, age=59.0), "")
        self.assertEqual(self.why(memory_bytes=too_much, first_memory_bytes=64 * _MIB), "")
