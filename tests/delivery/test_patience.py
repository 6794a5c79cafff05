# SPDX-License-Identifier: MIT
"""How long a session waits for its server."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.delivery.patience import STALE_LIMIT, Patience


class PatienceTests(SynchronousTestCase):
    """One limit at a time, the last one that was set."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.expired: list[float] = []
        self.patience = Patience(self.clock, self._expire)

    def _expire(self) -> None:
        self.expired.append(self.clock.seconds())
        self.patience.end()

    def assert_expires_at(self, when: float) -> None:
        self.clock.advance(when - self.clock.seconds() - 0.01)
        self.assertEqual(self.expired, [])
        self.clock.advance(0.01)
        self.assertEqual(len(self.expired), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_wait_begins_anew_each_time(self) -> None:
        self.patience.wait(300)
        self.clock.advance(299)
        self.patience.wait(300)
        self.assert_expires_at(599)

    def test_a_shorter_limit_counts_at_once(self) -> None:
        self.patience.wait(300)
        self.patience.wait(7)
        self.assert_expires_at(7)

    def test_while_it_is_our_turn_nothing_expires(self) -> None:
        self.patience.wait(10)
        self.patience.pause()
        self.clock.advance(1000)
        self.assertEqual(self.expired, [])
        self.patience.wait(10)
        self.assert_expires_at(1010)

    def test_after_a_rest_the_first_answer_has_to_come_soon(self) -> None:
        self.patience.rest(30)
        self.clock.advance(5)
        self.patience.wait(300)
        self.assert_expires_at(5 + STALE_LIMIT)

    def test_a_short_timeout_is_not_prolonged_by_that(self) -> None:
        self.patience.rest(30)
        self.patience.wait(3)
        self.assert_expires_at(3)

    def test_once_the_server_was_heard_the_whole_limit_counts(self) -> None:
        self.patience.rest(30)
        self.patience.wait(300)
        self.patience.heard()
        self.patience.wait(300)
        self.assert_expires_at(300)
