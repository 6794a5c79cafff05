# SPDX-License-Identifier: MIT
"""What becomes of a mail after an attempt, and after a crash."""

from __future__ import annotations

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.model import DeliveryResult, Outcome, RecipientOutcome
from smtpmailer.core.queuestate import FRESH, MailState
from smtpmailer.core.retry import (
    MAX_CRASHES,
    Dead,
    Done,
    Moment,
    Retry,
    RetryPolicy,
    after_attempt,
    after_crash,
    without_attempt,
)

NOW = 1_000_000.0
MOMENT = Moment(now=NOW, accepted_at=NOW - 100, jitter=0.5)
POLICY = RetryPolicy(max_retries=3)


def result(**outcomes: Outcome) -> DeliveryResult:
    """Make a result; each keyword is a recipient."""
    rows = tuple(
        RecipientOutcome(recipient=f"{name}@x.test", outcome=kind, code=550, reply="no")
        for name, kind in outcomes.items()
    )
    return DeliveryResult(outcomes=rows, reason="SMTP Error: why", server="h:25", seconds=2.0)


class RetryPolicyTests(SynchronousTestCase):
    """How long to wait."""

    def test_delays_grow_up_to_their_limit(self) -> None:
        policy = RetryPolicy(max_retries=-1, delay=60, factor=2, max_delay=400)
        delays = [policy.delay_after(failures, 0.5) for failures in range(6)]
        self.assertEqual(delays, [60, 60, 120, 240, 400, 400])

    def test_jitter_spreads_by_a_fifth(self) -> None:
        self.assertEqual(POLICY.delay_after(1, 0.0), 48)
        self.assertAlmostEqual(POLICY.delay_after(1, 1.0), 72)

    @settings(deadline=None, max_examples=60, derandomize=True)
    @given(st.integers(0, 10**6), st.floats(1, 100), st.floats(0, 1))
    def test_no_number_of_failures_is_too_large(
        self, failures: int, factor: float, jitter: float
    ) -> None:
        policy = RetryPolicy(max_retries=-1, factor=factor)
        self.assertLessEqual(policy.delay_after(failures, jitter), 1.21 * policy.max_delay)


class AfterAttemptTests(SynchronousTestCase):
    """Each outcome has its verdict."""

    def test_delivered_to_all_is_done(self) -> None:
        verdict = after_attempt(FRESH, 0, result(a=Outcome.DELIVERED), POLICY, MOMENT)
        assert isinstance(verdict, Done)
        self.assertEqual(verdict.state.attempt_count, 1)
        self.assertEqual(verdict.state.attempts[0].at, NOW)
        self.assertEqual(verdict.state.attempts[0].server, "h:25")

    def test_delivered_to_all_comes_to_the_same_by_the_short_way_and_the_long_one(self) -> None:
        before = result(c=Outcome.DELIVERED).outcomes
        for marked in (FRESH, FRESH.doubting(("a@x.test",), 5.0), MailState(doubted=("a@x.test",))):
            short = after_attempt(marked, 0, result(a=Outcome.DELIVERED), POLICY, MOMENT)
            # Who has settled recipients goes the long way.
            state = attrs.evolve(marked, settled=before)
            verdict = after_attempt(state, 0, result(a=Outcome.DELIVERED), POLICY, MOMENT)
            self.assertIsInstance(verdict, Done)
            settled = verdict.state.settled[1:]
            self.assertEqual(short, Done(state=attrs.evolve(verdict.state, settled=settled)))

    def test_a_temporary_failure_is_tried_again_for_those_left(self) -> None:
        outcomes = result(a=Outcome.DELIVERED, b=Outcome.TEMPORARY, c=Outcome.PERMANENT)
        verdict = after_attempt(FRESH, 0, outcomes, POLICY, MOMENT)
        assert isinstance(verdict, Retry)
        self.assertEqual(verdict.failures, 1)
        self.assertEqual(verdict.state.next_at, NOW + 60)
        self.assertEqual(verdict.state.settled_addresses(), {"a@x.test", "c@x.test"})
        self.assertEqual((verdict.state.in_doubt, verdict.state.held), ((), ""))

    def test_settled_recipients_add_up_and_a_refusal_is_told_at_the_end(self) -> None:
        first = after_attempt(
            FRESH, 0, result(a=Outcome.PERMANENT, b=Outcome.TEMPORARY), POLICY, MOMENT
        )
        last = after_attempt(first.state, 1, result(b=Outcome.DELIVERED), POLICY, MOMENT)
        assert isinstance(last, Dead)
        self.assertEqual(last.why, "refused for good: a@x.test: 550 no")
        self.assertEqual(last.failures, 2)
        self.assertEqual(last.state.settled_addresses(), {"a@x.test", "b@x.test"})

    def test_permanent_failures_are_not_tried_again(self) -> None:
        verdict = after_attempt(FRESH, 0, result(a=Outcome.PERMANENT), POLICY, MOMENT)
        self.assertIsInstance(verdict, Dead)

    def test_retries_end_with_their_number(self) -> None:
        verdicts = [
            type(after_attempt(FRESH, failures, result(a=Outcome.TEMPORARY), POLICY, MOMENT))
            for failures in range(5)
        ]
        self.assertEqual(verdicts, [Retry, Retry, Retry, Dead, Dead])

    def test_no_retries_are_none(self) -> None:
        policy = attrs.evolve(POLICY, max_retries=0)
        verdict = after_attempt(FRESH, 0, result(a=Outcome.TEMPORARY), policy, MOMENT)
        assert isinstance(verdict, Dead)
        self.assertEqual(verdict.why, "given up after 1 attempts: SMTP Error: why")

    def test_retries_without_end_end_with_age(self) -> None:
        policy = RetryPolicy(max_retries=-1, max_age=3600)
        young = after_attempt(FRESH, 9, result(a=Outcome.TEMPORARY), policy, MOMENT)
        self.assertIsInstance(young, Dead)
        policy = RetryPolicy(max_retries=-1, max_age=3600, max_delay=3500)
        self.assertIsInstance(
            after_attempt(FRESH, 9, result(a=Outcome.TEMPORARY), policy, MOMENT), Retry
        )
        policy = RetryPolicy(max_retries=-1)
        self.assertIsInstance(
            after_attempt(FRESH, 10**6, result(a=Outcome.TEMPORARY), policy, MOMENT), Retry
        )

    def test_doubt_is_not_hurried(self) -> None:
        verdict = after_attempt(FRESH, 0, result(a=Outcome.UNCERTAIN), POLICY, MOMENT)
        assert isinstance(verdict, Retry)
        self.assertEqual(verdict.state.next_at, NOW + 600)
        self.assertEqual(verdict.state.in_doubt, ("a@x.test",))
        self.assertEqual(verdict.state.in_doubt_since, NOW)

    def test_doubt_is_held_when_told_to(self) -> None:
        policy = attrs.evolve(POLICY, hold_doubtful=True, max_retries=0)
        verdict = after_attempt(FRESH, 0, result(a=Outcome.UNCERTAIN), policy, MOMENT)
        assert isinstance(verdict, Retry)
        self.assertIn("QUEUE_ON_DOUBT", verdict.state.held)
        self.assertIsNone(verdict.state.next_at)

    def test_a_known_outcome_ends_the_doubt_about_its_attempt(self) -> None:
        state = MailState(in_doubt=("a@x.test",), in_doubt_since=5.0)
        verdict = after_attempt(state, 0, result(a=Outcome.TEMPORARY), POLICY, MOMENT)
        self.assertEqual((verdict.state.in_doubt, verdict.state.in_doubt_since), ((), 0.0))
        self.assertEqual(verdict.state.ever_in_doubt(), ())

    def test_who_was_ever_in_doubt_stays_named_whatever_comes_later(self) -> None:
        later = (Outcome.TEMPORARY, Outcome.UNCERTAIN, Outcome.DELIVERED, Outcome.PERMANENT)
        for kind in later:
            first = after_attempt(
                FRESH, 0, result(a=Outcome.UNCERTAIN, b=Outcome.TEMPORARY), POLICY, MOMENT
            )
            # As the mark of the next attempt has it.
            marked = attrs.evolve(first.state, in_doubt=("a@x.test", "b@x.test"))
            last = after_attempt(marked, 1, result(a=kind, b=Outcome.DELIVERED), POLICY, MOMENT)
            self.assertEqual(last.state.doubted, ("a@x.test",), kind)
            self.assertEqual(last.state.ever_in_doubt(), ("a@x.test",), kind)


class WithoutAttemptTests(SynchronousTestCase):
    """A crash, or nobody left to send to."""

    def test_a_crash_costs_no_attempt(self) -> None:
        verdict = after_crash(FRESH, POLICY, failures=2, now=NOW)
        self.assertEqual(verdict, Retry(state=MailState(next_at=NOW, crashes=1), failures=2))

    def test_a_doubtful_crash_is_sent_again_or_held(self) -> None:
        state = MailState(in_doubt=("a@x.test",), in_doubt_since=NOW - 700)
        again = after_crash(state, POLICY, failures=0, now=NOW)
        self.assertEqual((again.state.next_at, again.state.held), (NOW, ""))
        self.assertEqual(again.state.doubted, ("a@x.test",))
        policy = attrs.evolve(POLICY, hold_doubtful=True)
        held = after_crash(state, policy, failures=0, now=NOW)
        self.assertIsNone(held.state.next_at)
        self.assertNotEqual(held.state.held, "")
        self.assertIsInstance(held, Retry)

    def test_a_doubtful_crash_leaves_the_server_its_time_for_the_final_reply(self) -> None:
        waits = {}
        # The last one was marked before the clock went back.
        for ago in (0, 10, 599, 600, 86_400, -86_400):
            state = MailState(in_doubt=("a@x.test",), in_doubt_since=NOW - ago)
            next_at = after_crash(state, POLICY, failures=0, now=NOW).state.next_at
            assert next_at is not None
            waits[ago] = next_at - NOW
        self.assertEqual(waits, {0: 600, 10: 590, 599: 1, 600: 0, 86_400: 0, -86_400: 600})

    def test_a_mail_that_kills_the_service_is_given_up(self) -> None:
        state = MailState(crashes=MAX_CRASHES)
        verdict = after_crash(state, POLICY, failures=1, now=NOW)
        assert isinstance(verdict, Dead)
        self.assertIn("died 6 times", verdict.why)
        almost = MailState(crashes=MAX_CRASHES - 1)
        self.assertIsInstance(after_crash(almost, POLICY, failures=1, now=NOW), Retry)

    def test_with_nobody_left_it_is_done_or_dead(self) -> None:
        rows = result(a=Outcome.DELIVERED, b=Outcome.PERMANENT).outcomes
        delivered, mixed = MailState(settled=rows[:1]), MailState(settled=rows)
        self.assertEqual(without_attempt(delivered, 1), Done(state=delivered))
        verdict = without_attempt(mixed, 1)
        assert isinstance(verdict, Dead)
        self.assertEqual((verdict.failures, verdict.state), (1, mixed))
        self.assertIn("b@x.test", verdict.why)
