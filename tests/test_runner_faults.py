# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.runner: faults of the store, and the end."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from smtpmailer.core.model import Outcome
from smtpmailer.core.queued import Settlement, StoredMail
from smtpmailer.core.queuestate import FRESH
from smtpmailer.errors import NoSuchMailError, StoreError, ThreadsStoppedError
from smtpmailer.lifecycle import OrderedService
from smtpmailer.runner import QueueRunner
from smtpmailer.services.postman import Postman
from smtpmailer.services.traffic import Traffic
from tests.services.queueing import NOW, outcomes
from tests.test_runner import PLAN, RunnerCase


class FaultTests(RunnerCase):
    """A store that fails now is asked again later."""

    def test_claiming_is_tried_again(self) -> None:
        self.put()
        self.faulty.faults["claim"] = [StoreError("full"), ZeroDivisionError()]
        self.start(at_once=True)
        self.assertEqual((self.server.sent, self.said("no mail can be claimed")), ([], 1))
        self.pass_time(4, 2)
        self.assertEqual(len(self.server.sent), 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_settling_is_tried_again_and_the_mail_not_sent_twice(self) -> None:
        self.put()
        self.faulty.faults["settle"] = [StoreError("full"), StoreError("full")]
        runner = self.start()
        self.assertEqual((len(self.server.sent), runner.in_flight), (1, 1))
        self.assertEqual(self.said("can't be settled"), 1)
        self.pass_time(4, 2)
        self.assertEqual((len(self.server.sent), runner.in_flight), (1, 0))
        self.assertEqual(self.memory._claimed, {})

    def test_a_claim_that_vanished_is_only_logged(self) -> None:
        self.put()
        self.faulty.faults["settle"] = [NoSuchMailError("x")]
        runner = self.start()
        self.assertEqual((runner.in_flight, self.said("vanished")), (0, 1))

    def test_an_unexpected_fault_of_one_mail_keeps_no_other(self) -> None:
        self.put()
        self.put()
        self.faulty.faults["settle"] = [ZeroDivisionError()]
        runner = self.start(concurrency=1)
        self.assertEqual((len(self.server.sent), runner.in_flight), (2, 0))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_fault_while_settling_brings_the_mail_back_without_sending_it_again(self) -> None:
        self.put()
        self.faulty.faults["settle"] = [ZeroDivisionError()]
        runner = self.start()
        self.assertEqual((len(self.server.sent), len(self.names())), (1, 1))
        self.pass_time(60, 2)
        self.assertEqual((len(self.server.sent), self.names(), runner.in_flight), (1, [], 0))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_mail_that_can_not_be_buried_goes_back_and_holds_up_nobody(self) -> None:
        self.put(subject="")
        self.put()
        self.faulty.faults["settle"] = [StoreError("full")] * 3
        runner = self.start(concurrency=1)
        self.pass_time(6, 2)
        self.assertEqual((len(self.server.sent), runner.in_flight), (1, 0))
        self.assertEqual(len(self.names()), 1)


class BeginningTests(RunnerCase):
    """A fault while the run begins does not end it."""

    def test_a_plan_that_fails_is_asked_again(self) -> None:

        def next_scan(_now: float) -> float:
            return 1 / 0

        self.put()
        runner = self.start(next_scan=next_scan)
        self.assertEqual((runner.owner, len(self.server.sent)), (True, 1))
        self.put()
        self.pass_time(70, 1)
        self.assertEqual(len(self.server.sent), 2)
        self.assertGreater(len(self.flushLoggedErrors(ZeroDivisionError)), 0)

    def test_a_fault_after_the_take_over_leads_to_another_try(self) -> None:
        inherited = self.put()
        self.own()
        self.claim()
        self.put()
        room, faults = Traffic.room, [ZeroDivisionError() for _ in range(2)]

        def faulty(traffic: Traffic, in_flight: int) -> int:
            if faults:
                raise faults.pop()
            return room(traffic, in_flight)

        self.patch(Traffic, "room", faulty)
        self.server.always = Outcome.TEMPORARY
        runner = self.start()
        self.assertEqual((runner.owner, self.server.sent), (True, []))
        self.pass_time(4)
        self.assertEqual(len(self.server.sent), 2)
        self.assertEqual((self.said("the queue can't be run"), runner.in_flight), (2, 0))
        self.assertEqual(self.said("when the service died"), 1, inherited)
        # What was taken over stays so; it looks no more, and scans once a minute.
        self.assertEqual(self.faulty.calls.count("recover"), 2)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_a_claim_that_can_not_be_judged_is_held_and_keeps_no_other(self) -> None:
        first, _ = self.put(), self.put()
        self.own()
        self.successResultOf(self.store.claim(NOW, 2))
        decide = Postman.decide_crash

        def judge(postman: Postman, mail: StoredMail) -> Settlement:
            if mail.name == first:
                raise ZeroDivisionError
            return decide(postman, mail)

        self.patch(Postman, "decide_crash", judge)
        runner = self.start(at_once=True)
        self.assertEqual((len(self.server.sent), runner.in_flight, self.names()), (1, 0, [first]))
        self.assertIn("judged", self.successResultOf(self.store.get(first)).state.held)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class StopTests(RunnerCase):
    """Stopping claims no more, waits for what is under way, and lets others run the queue."""

    def test_it_waits_for_deliveries_and_releases_then(self) -> None:
        self.server.always = "stuck"
        self.put()
        runner = self.start()
        done = runner.stopService()
        self.put()
        self.assertNoResult(done)
        self.assertNotIn("release", self.faulty.calls)
        self.server.release()
        self.successResultOf(done)
        self.assertEqual((len(self.server.sent), len(self.names())), (1, 1))
        self.assertIn("release", self.faulty.calls)
        self.assertFalse(runner.owner)

    def test_a_stop_that_is_cut_short_lets_nobody_else_run_the_queue(self) -> None:
        """The mail may still be delivered by this process; see also the stores."""
        self.server.always = "stuck"
        self.put()
        limits = Clock()
        service = OrderedService(limits, 30.0)
        runner = self.start()
        runner.setServiceParent(service)
        done = service.stopService()
        limits.advance(31)
        self.successResultOf(done)
        self.assertEqual(self.said("the time to stop is over"), 1)
        self.assertNotIn("release", self.faulty.calls)
        # A reply that comes all the same is recorded as long as the store can.
        self.server.release()
        self.assertEqual((self.memory._claimed, self.names(), runner.in_flight), ({}, [], 0))
        self.assertNotIn("release", self.faulty.calls)

    def test_a_reply_that_comes_after_the_end_is_no_fault(self) -> None:
        self.server.always = "stuck"
        self.put()
        runner = self.start()
        done = runner.stopService()
        self.faulty.faults["settle"] = [ThreadsStoppedError()]
        self.server.release()
        self.successResultOf(done)
        self.assertEqual((self.said("can't be settled"), len(self.memory._claimed)), (1, 1))

    def test_claims_that_come_too_late_are_given_back_unsent(self) -> None:
        claim = self.memory.claim
        late: Deferred[None] = Deferred()
        self.patch(
            self.memory, "claim", lambda now, limit: late.addCallback(lambda _: claim(now, limit))
        )
        name = self.put()
        runner = self.start()
        done = runner.stopService()
        self.assertNoResult(done)
        late.callback(None)
        self.successResultOf(done)
        self.assertEqual((self.server.sent, self.names()), ([], [name]))
        self.assertEqual(self.successResultOf(self.store.get(name)).state, FRESH)

    def test_a_take_over_that_comes_too_late_gives_the_queue_free(self) -> None:
        late: Deferred[bool] = Deferred()
        self.patch(self.memory, "acquire", lambda: late)
        runner = self.start()
        done = runner.stopService()
        self.assertNoResult(done)
        late.callback(True)
        self.successResultOf(done)
        self.assertEqual(self.faulty.calls, ["acquire", "release"])
        self.assertFalse(runner.owner)

    def test_a_stop_while_the_queue_is_recovered_settles_what_was_found(self) -> None:
        self.put()
        self.own()
        self.claim()
        recover = self.memory.recover
        late: Deferred[None] = Deferred()
        self.patch(self.memory, "recover", lambda: late.addCallback(lambda _: recover()))
        runner = self.start(at_once=True)
        done = runner.stopService()
        self.assertNoResult(done)
        late.callback(None)
        self.successResultOf(done)
        self.assertEqual((self.server.sent, len(self.names())), ([], 1))
        self.assertEqual(self.faulty.calls.count("release"), 1)

    def test_mails_that_come_before_or_after_the_run_are_left_alone(self) -> None:
        late: Deferred[bool] = Deferred()
        self.patch(self.memory, "acquire", lambda: late)
        runner = self.start(at_once=True)
        self.put()
        done = runner.stopService()
        late.callback(False)
        self.successResultOf(done)
        self.put()
        self.assertEqual((self.server.sent, len(self.names())), ([], 2))

    def test_a_store_that_can_not_settle_holds_nobody_up(self) -> None:
        self.put()
        self.faulty.faults["settle"] = [StoreError("full")] * 9
        runner = self.start()
        done = runner.stopService()
        self.clock.advance(2)
        self.successResultOf(done)
        self.assertEqual(len(self.memory._claimed), 1)

    def test_it_may_be_called_twice_or_before_the_start(self) -> None:
        runner = self.start()
        self.successResultOf(runner.stopService())
        self.successResultOf(runner.stopService())
        fresh = QueueRunner(self.store, self.postman(), PLAN, clock=self.clock, now=self.now)
        self.successResultOf(fresh.stopService())
        self.assertEqual(self.faulty.calls.count("release"), 1)

    def test_it_can_be_started_again(self) -> None:
        runner = self.start()
        self.successResultOf(runner.stopService())
        self.put()
        runner.startService()
        self.assertEqual(len(self.server.sent), 1)

    def test_a_failed_mail_is_settled_also_while_stopping(self) -> None:
        self.server.always = "stuck"
        name = self.put()
        runner = self.start()
        done = runner.stopService()
        self.server.release(Outcome.TEMPORARY)
        self.successResultOf(done)
        state = self.successResultOf(self.store.get(name)).state
        expected = outcomes(Outcome.TEMPORARY, "user@example.test").outcomes
        self.assertEqual(state.attempts[0].outcomes, expected)
