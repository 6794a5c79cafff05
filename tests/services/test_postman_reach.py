# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.services.postman: servers that are out of reach."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from smtpmailer.core.model import NOT_REACHED, DeliveryResult, Outcome, RecipientOutcome
from smtpmailer.core.retry import RetryPolicy
from tests.services.queueing import NOW, mail
from tests.services.test_postman import PostmanCase


class OutOfReachTests(PostmanCase):
    """Mails to a server that is out of reach wait, without losing attempts."""

    def fail_thrice(self, **fields: Any) -> None:
        """Let a server be out of reach."""
        self.server.script = ["unreachable"] * 3
        for _ in range(3):
            self.put(**fields)
            self.deliver()

    def test_further_mails_wait_uncounted(self) -> None:
        self.fail_thrice()
        name = self.put()
        self.assertEqual(self.deliver().state.next_at, NOW + 10)
        waiting = self.successResultOf(self.store.get(name))
        self.assertEqual((waiting.state.attempt_count, waiting.document), (0, mail()))
        self.assertEqual((len(self.server.sent), self.counters.failed), (3, 3))

    def test_other_servers_are_not_concerned(self) -> None:
        self.fail_thrice()
        self.put(smtpHost="other.example.test")
        self.assertTrue(self.deliver().done)

    def test_after_a_while_one_mail_probes_and_opens_the_way(self) -> None:
        self.fail_thrice()
        for _ in range(2):
            self.put()
        self.clock.advance(10)
        self.server.script = ["stuck"]
        first, second = self.successResultOf(self.store.claim(self.now(), 10))
        probe = Deferred.fromCoroutine(self.carrier.decide(first))
        self.assertEqual(self.settle(second).state.next_at, NOW + 20)
        self.server.release()
        self.assertTrue(self.successResultOf(probe).done)
        self.put(due=NOW + 10)
        self.clock.advance(10)
        for claimed in self.successResultOf(self.store.claim(self.now(), 10)):
            self.assertTrue(self.settle(claimed).done)

    def test_a_probe_that_never_connects_leaves_the_probing_to_others(self) -> None:
        self.fail_thrice()
        self.clock.advance(10)
        self.put(attachments=[["gone.pdf"]])
        self.put()
        first, second = self.successResultOf(self.store.claim(self.now(), 10))
        self.assertIn("gone.pdf", self.settle(first).dead)
        self.assertTrue(self.settle(second).done)

    def test_a_mail_that_can_not_be_built_does_not_open_the_way(self) -> None:
        self.server.script = ["unreachable"] * 3
        for number in range(3):
            if number == 2:
                self.put(attachments=[["gone.pdf"]])
                self.deliver()
            self.put()
            self.deliver()
        self.put()
        self.assertEqual(self.deliver().state.next_at, NOW + 10)

    def test_only_failures_in_a_row_count(self) -> None:
        self.server.script = ["unreachable", "unreachable", Outcome.TEMPORARY] * 2
        for _ in range(6):
            self.put()
            self.deliver()
        self.assertEqual(len(self.server.sent), 6)

    def test_faults_of_our_own_are_not_the_servers(self) -> None:
        self.server.script = [ZeroDivisionError() for _ in range(3)]
        for _ in range(3):
            self.put()
            self.deliver()
        self.put()
        self.assertTrue(self.deliver().done)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)

    def test_a_mail_that_waits_for_a_server_too_long_is_dead(self) -> None:
        carrier = self.postman(RetryPolicy(max_retries=-1, max_age=100))
        self.server.script = ["unreachable"] * 3
        for _ in range(3):
            self.put()
            self.deliver(carrier)
        self.put(due=NOW - 95)
        settlement = self.deliver(carrier)
        self.assertIn("given up after 100 seconds", settlement.dead)
        self.assertIn("out of reach", settlement.dead)

    def test_one_that_was_not_tried_and_may_go_at_once_is_not_dead(self) -> None:
        carrier = self.postman(RetryPolicy(max_retries=-1, max_age=100))
        untried = RecipientOutcome(recipient="user@example.test", outcome=Outcome.TEMPORARY)
        self.server.script = [DeliveryResult(outcomes=(untried,), reason="x", again_in=0.0)]
        self.put(due=NOW - 200)
        settlement = self.deliver(carrier)
        self.assertEqual((settlement.dead, settlement.state.next_at), ("", NOW))

    def test_a_clock_that_goes_back_does_not_lock_a_server_out(self) -> None:
        self.fail_thrice()
        self.clock.rightNow = NOW - 86_400
        self.put()
        self.assertTrue(self.deliver().done)


class UntriedTests(PostmanCase):
    """A mail that the sender gives back untried has lost no attempt."""

    def untried(self, again_in: float) -> DeliveryResult:
        outcome = RecipientOutcome(
            recipient="user@example.test", outcome=Outcome.TEMPORARY, reply="not its turn"
        )
        return DeliveryResult(outcomes=(outcome,), reason=NOT_REACHED, again_in=again_in)

    def test_it_waits_as_long_as_it_is_told_and_counts_nowhere(self) -> None:
        self.server.script = [self.untried(7)]
        name = self.put()
        settlement = self.deliver()
        self.assertEqual((settlement.state.next_at, settlement.dead), (NOW + 7, ""))
        waiting = self.successResultOf(self.store.get(name))
        self.assertEqual((waiting.state.attempt_count, waiting.document), (0, mail()))
        self.assertEqual(waiting.state.waits, "not its turn")
        self.assertEqual(waiting.state.ever_in_doubt(), (), "it was marked, and is with nobody")
        self.assertEqual((self.counters.sent, self.counters.failed), (0, 0))
        self.clock.advance(7)
        self.assertTrue(self.deliver().done)

    def test_one_whose_turn_has_not_come_says_nothing_about_the_server(self) -> None:
        self.server.script = [self.untried(0)] * 5
        self.put()
        for _ in range(6):
            last = self.deliver()
        self.assertTrue(last.done)

    def test_servers_that_are_not_tried_are_out_of_reach_for_the_queue_as_well(self) -> None:
        self.server.script = [self.untried(2)] * 3
        for _ in range(3):
            self.put()
            self.deliver()
        self.put()
        self.assertEqual(self.deliver().state.next_at, NOW + 10)
