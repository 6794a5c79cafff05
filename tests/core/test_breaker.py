# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.core.breaker."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.breaker import Breaker


class BreakerTests(SynchronousTestCase):
    """A server out of reach is probed by one at a time; others are not touched."""

    def setUp(self) -> None:
        self.breaker = Breaker()

    def lose(self, times: int, now: float = 0.0, server: str = "a:25") -> None:
        for _ in range(times):
            self.breaker.failed(server, now)

    def test_an_unknown_server_is_tried(self) -> None:
        self.assertIsNone(self.breaker.wait_until("a:25", 0))

    def test_two_failures_are_no_pattern(self) -> None:
        self.lose(2)
        self.assertIsNone(self.breaker.wait_until("a:25", 0))

    def test_three_failures_in_a_row_make_others_wait(self) -> None:
        self.lose(3)
        self.assertEqual(self.breaker.wait_until("a:25", 1), 10)
        self.assertIsNone(self.breaker.wait_until("b:25", 1))

    def test_after_the_wait_one_is_let_through_and_the_others_wait_for_it(self) -> None:
        self.lose(3)
        self.assertIsNone(self.breaker.wait_until("a:25", 10))
        self.assertEqual(self.breaker.wait_until("a:25", 10), 20)

    def test_those_who_wait_come_back_one_after_another(self) -> None:
        self.lose(3)
        told = [self.breaker.wait_until("a:25", 0) for _ in range(500)]
        # The first is there in time to probe.
        self.assertEqual((told[0], len(set(told))), (10, 500))
        self.assertIsNone(self.breaker.wait_until("a:25", 10))
        during = [self.breaker.wait_until("a:25", 10) for _ in range(500)]
        self.assertEqual((during[0], len(set(during))), (20, 500))
        self.assertLessEqual(max(filter(None, told + during)), 25)

    def test_however_many_wait_they_are_back_a_minute_later(self) -> None:
        self.lose(3)
        told = [self.breaker.wait_until("a:25", 0) for _ in range(20_000)]
        self.assertLess(max(filter(None, told)), 70)

    def test_each_wait_begins_with_one_who_is_there_in_time(self) -> None:
        self.lose(3)
        for _ in range(5):
            self.breaker.wait_until("a:25", 0)
        self.assertIsNone(self.breaker.wait_until("a:25", 10))
        self.lose(1, 10)
        self.assertEqual(self.breaker.wait_until("a:25", 10), 30)

    def test_it_tells_who_is_out_of_reach(self) -> None:
        self.lose(2)
        self.assertFalse(self.breaker.is_out_of_reach("a:25"))
        self.lose(1)
        self.assertTrue(self.breaker.is_out_of_reach("a:25"))
        self.breaker.succeeded("a:25")
        self.assertFalse(self.breaker.is_out_of_reach("a:25"))

    def test_waits_grow_up_to_five_minutes(self) -> None:
        waits = []
        now = 0.0
        self.lose(2)
        for _ in range(8):
            self.lose(1, now)
            until = self.breaker.wait_until("a:25", now)
            assert until is not None
            waits.append(until - now)
            now = until
            self.assertIsNone(self.breaker.wait_until("a:25", now))
        self.assertEqual(waits, [10, 20, 40, 80, 160, 300, 300, 300])

    def test_the_pauses_can_be_others(self) -> None:
        self.breaker = Breaker(2, 5)
        self.lose(2)
        waits, now = [], 0.0
        for _ in range(4):
            self.lose(1, now)
            until = self.breaker.wait_until("a:25", now)
            assert until is not None
            waits.append(until - now)
            now = until
            self.assertIsNone(self.breaker.wait_until("a:25", now))
        self.assertEqual((waits, self.breaker.wait_until("a:25", now)), ([2, 4, 5, 5], now + 2))

    def test_it_tells_how_often_in_a_row(self) -> None:
        self.assertEqual(self.breaker.failures("a:25"), 0)
        self.lose(2)
        self.assertEqual(self.breaker.failures("a:25"), 2)

    def test_attempts_that_were_under_way_tell_nothing_new(self) -> None:
        self.lose(20)
        self.assertEqual(self.breaker.wait_until("a:25", 0), 10)

    def test_a_probe_that_told_nothing_leaves_the_next_to_another_mail(self) -> None:
        self.lose(3)
        self.breaker.untold("b:25")
        self.assertIsNone(self.breaker.wait_until("a:25", 10))
        self.breaker.untold("a:25")
        self.assertIsNone(self.breaker.wait_until("a:25", 10))
        self.assertEqual(self.breaker.wait_until("a:25", 10), 20)

    def test_a_clock_that_goes_back_makes_nobody_wait_for_it(self) -> None:
        self.lose(3, 1e6)
        self.assertIsNone(self.breaker.wait_until("a:25", 0))

    def test_a_connection_makes_all_good_again(self) -> None:
        self.lose(9)
        self.breaker.succeeded("a:25")
        self.lose(2)
        self.assertIsNone(self.breaker.wait_until("a:25", 0))

    def test_hosts_that_clients_make_up_do_not_fill_the_memory(self) -> None:
        for number in range(1500):
            self.lose(1, float(number), f"{number}:25")
        self.assertEqual(len(self.breaker._servers), 1000)
        self.lose(2, 1500.0, "1499:25")
        self.assertIsNotNone(self.breaker.wait_until("1499:25", 1500.0))
