# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.services.postman: mails of which nobody knows whether they arrived."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.logger import formatEvent
from twisted.python.failure import Failure

from smtpmailer.core.model import DeliveryResult, Outcome, OutgoingMail
from smtpmailer.core.queued import StoredMail
from smtpmailer.core.queuestate import MailState
from smtpmailer.core.retry import RetryPolicy
from smtpmailer.errors import StoreError
from smtpmailer.services.replies import buried_detail, waiting_detail
from tests.services.parts import result_of
from tests.services.queueing import NOW, AfterMark, mail
from tests.services.test_postman import PostmanCase

_USER = "user@example.test"


class DoubtTests(PostmanCase):
    """Before the final dot a mark is durable; it goes with the outcome."""

    def marked(self) -> MailState:
        """Give the state of the claimed mail."""
        (each,) = self.memory._claimed.values()
        return each.state

    def test_the_mark_comes_before_the_dot(self) -> None:
        seen: list[MailState] = []
        self.server.at_mark = lambda: seen.append(self.marked())
        self.put()
        self.deliver()
        self.assertEqual([(s.in_doubt, s.in_doubt_since) for s in seen], [((_USER,), NOW)])

    def test_it_may_be_made_early_unless_who_is_in_doubt_is_held(self) -> None:
        for hold in (False, True):
            self.put()
            self.deliver(self.postman(RetryPolicy(max_retries=0, hold_doubtful=hold)))
            message, _ = self.server.sent[-1]
            self.assertIs(message.early, not hold)

    def test_an_outcome_that_comes_before_its_mark_leaves_no_doubt(self) -> None:
        marks: list[Deferred[None]] = []

        async def refuse(message: OutgoingMail, _what: object) -> DeliveryResult:
            assert message.before_dot is not None
            marking = message.before_dot((_USER,))
            assert isinstance(marking, Deferred)
            marking.addErrback(lambda failure: failure.trap(StoreError))
            return result_of(Outcome.TEMPORARY, _USER)

        def slow(_name: str, _state: MailState) -> Deferred[None]:
            marks.append(Deferred())
            return marks[-1]

        self.patch(self.server, "_converse", refuse)
        self.patch(self.faulty, "mark", slow)
        for late in (None, Failure(StoreError("a sync failed"))):
            self.put()
            settlement = self.deliver()
            self.assertEqual(settlement.state.ever_in_doubt(), ())
            self.assertEqual(settlement.state.attempt_count, 1)
            marks[-1].callback(late)

    def test_the_mark_goes_with_the_outcome(self) -> None:
        self.server.script = [Outcome.TEMPORARY]
        name = self.put()
        self.deliver()
        self.assertEqual(self.successResultOf(self.store.get(name)).state.in_doubt, ())

    def test_a_mail_that_can_not_be_marked_is_not_sent_and_no_attempt_counted(self) -> None:
        self.faulty.faults["mark"] = [StoreError("the disk is full")]
        name = self.put()
        settlement = self.deliver(self.postman(RetryPolicy(max_retries=0)))
        self.assertEqual(settlement.state.next_at, NOW + 60)
        waiting = self.successResultOf(self.store.get(name))
        self.assertEqual((waiting.state.attempt_count, waiting.document), (0, mail()))
        self.assertEqual((self.counters.sent, self.counters.failed), (0, 0))

    def test_a_mark_that_failed_counts_for_nothing_once_another_held(self) -> None:
        """The mail went on over another session, or to another server."""

        async def converse(message: OutgoingMail, what: Any) -> DeliveryResult:
            assert message.before_dot is not None
            with self.assertRaises(StoreError):
                await message.before_dot((_USER,))
            await message.before_dot((_USER,))
            return result_of(what, _USER)

        self.patch(self.server, "_converse", converse)
        for outcome in (Outcome.DELIVERED, Outcome.TEMPORARY):
            self.faulty.faults["mark"] = [StoreError("a sync failed")]
            self.server.script = [outcome]
            self.put()
            settlement = self.deliver()
            self.assertEqual(settlement.done, outcome is Outcome.DELIVERED)
            self.assertEqual(settlement.state.attempt_count, 1)

    def test_a_mark_that_held_counts_for_nothing_where_the_last_one_failed(self) -> None:
        """Nothing was sent: the session died before, and the mail could not go on."""

        async def converse(message: OutgoingMail, _what: object) -> DeliveryResult:
            assert message.before_dot is not None
            await message.before_dot((_USER,))
            self.faulty.faults["mark"] = [StoreError("a sync failed")]
            with self.assertRaises(StoreError):
                await message.before_dot((_USER,))
            return result_of(Outcome.TEMPORARY, _USER)

        self.patch(self.server, "_converse", converse)
        self.put()
        settlement = self.deliver()
        self.assertEqual(settlement.state.next_at, NOW + 60)
        self.assertEqual(settlement.state.ever_in_doubt(), ())

    def test_what_is_settled_stays_so_where_the_last_mark_failed(self) -> None:
        async def converse(message: OutgoingMail, _what: object) -> DeliveryResult:
            assert message.before_dot is not None
            await message.before_dot((_USER,))
            with self.assertRaises(StoreError):
                await message.before_dot((_USER,))
            return result_of(Outcome.DELIVERED, _USER)

        self.patch(self.server, "_converse", converse)
        mark, calls = self.faulty.mark, []

        def second_fails(name: str, state: MailState) -> Deferred[None]:
            calls.append(name)
            return fail(StoreError("a sync failed")) if len(calls) > 1 else mark(name, state)

        self.patch(self.faulty, "mark", second_fails)
        self.put()
        self.assertTrue(self.deliver().done)

    def test_a_lost_final_reply_waits_and_is_sent_again(self) -> None:
        self.server.script = [Outcome.UNCERTAIN]
        self.put()
        settlement = self.deliver()
        self.assertEqual(settlement.state.next_at, NOW + 600)
        self.assertEqual(settlement.state.in_doubt, (_USER,))
        self.until_next()
        self.assertTrue(self.deliver().done)

    def test_a_lost_final_reply_is_held_where_the_operator_wants_that(self) -> None:
        self.server.script = [Outcome.UNCERTAIN]
        name = self.put()
        self.deliver(self.postman(RetryPolicy(max_retries=3, hold_doubtful=True)))
        self.assertIsNone(self.store.next_due())
        state = self.successResultOf(self.store.get(name)).state
        self.assertIn("QUEUE_ON_DOUBT", state.held)

    def test_after_a_crash_an_unmarked_mail_is_unsent_and_due_at_once(self) -> None:
        self.put()
        settlement = self.carrier.decide_crash(self.claim())
        state = settlement.state
        self.assertEqual((state.next_at, state.in_doubt, state.crashes), (NOW, (), 1))

    def test_after_a_crash_a_marked_mail_is_in_doubt(self) -> None:
        state = MailState(in_doubt=(_USER,), in_doubt_since=NOW)
        crashed = attrs.evolve(self._claimed(), state=state)
        self.assertEqual(self.carrier.decide_crash(crashed).state.in_doubt, (_USER,))
        holding = self.postman(RetryPolicy(max_retries=1, hold_doubtful=True))
        self.assertIn("QUEUE_ON_DOUBT", holding.decide_crash(crashed).state.held)

    def test_a_fault_after_the_mark_leaves_the_mail_in_doubt(self) -> None:
        self.server.script = [AfterMark(ZeroDivisionError())]
        self.put()
        settlement = self.deliver()
        self.assertEqual((settlement.state.in_doubt, settlement.state.crashes), ((_USER,), 1))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def _claimed(self) -> StoredMail:
        self.put()
        return self.claim()


class EverInDoubtTests(PostmanCase):
    """Whatever a later attempt comes to: who was once in doubt may have the mail twice."""

    def setUp(self) -> None:
        super().setUp()
        self.events = self.watch_log()

    def lines(self, outcome: Outcome) -> list[str]:
        """Give the log lines of three attempts: in doubt, refused for now, and this."""
        self.server.script = [Outcome.UNCERTAIN, Outcome.TEMPORARY, outcome]
        self.put()
        for _ in range(3):
            self.deliver()
            if self.names():
                self.until_next()
        said = [formatEvent(event) for event in self.events]
        return [text for text in said if ", attempt " in text]

    def test_each_further_attempt_says_so_and_the_last(self) -> None:
        for outcome in (Outcome.DELIVERED, Outcome.PERMANENT):
            self.events.clear()
            lines = self.lines(outcome)
            self.assertEqual(len(lines), 3)
            for line in lines:
                doubt = f"; in doubt, may be delivered twice: {_USER}"
                self.assertTrue(line.endswith(doubt), line)

    def test_details_of_a_waiting_mail_name_them(self) -> None:
        self.server.script = [Outcome.UNCERTAIN, Outcome.TEMPORARY]
        name = self.put()
        for _ in range(2):
            self.deliver()
            self.until_next()
        state = self.successResultOf(self.store.get(name)).state
        self.assertEqual(waiting_detail(name, state)["inDoubt"], [_USER])

    def test_details_of_a_dead_letter_name_them_and_it_may_be_tried_again(self) -> None:
        self.lines(Outcome.PERMANENT)
        (name,) = self.successResultOf(self.letters.page_failed(9, 0)).names
        buried = self.successResultOf(self.letters.get_failed(name))
        state = buried.mail.state
        self.assertEqual(state.doubted, (_USER,))
        self.assertEqual(buried_detail(buried)["inDoubt"], [_USER])
        self.successResultOf(self.letters.retry_failed(name, mail()))
        self.deliver()
        self.assertIn(
            f"sent (250 2.0.0 fine); in doubt, may be delivered twice: {_USER}", self.last_line()
        )

    def test_a_mail_that_is_given_up_while_it_waits_says_so(self) -> None:
        carrier = self.postman(RetryPolicy(max_retries=-1, max_age=100))
        self.server.script = ["unreachable"] * 3
        for _ in range(3):
            self.put()
            self.deliver(carrier)
        self.put(MailState(doubted=(_USER,)), due=NOW - 95)
        self.deliver(carrier)
        self.assertIn("is a dead letter: given up after 100 seconds", self.last_line())
        self.assertIn(f"in doubt, may be delivered twice: {_USER}", self.last_line())

    def test_a_mail_that_the_service_died_of_once_too_often_is_told(self) -> None:
        self.put(MailState(crashes=5))
        settlement = self.carrier.decide_crash(self.claim())
        self.assertIn("died 6 times", settlement.dead)
        self.assertIn("dead letter: the service died 6 times", self.last_line())

    def last_line(self) -> str:
        return str(formatEvent(self.events[-1]))
