# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.runner: when mails are claimed, and that each claim is settled."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface.verify import verifyObject

from smtpmailer.core.cron import next_after
from smtpmailer.core.model import Outcome
from smtpmailer.core.queued import Recovered
from smtpmailer.core.queuestate import MailState
from smtpmailer.core.retry import RetryPolicy
from smtpmailer.errors import StoreError
from smtpmailer.interfaces import IQueue
from smtpmailer.runner import QueueRunner, RunPlan
from tests.services.queueing import NOW, QueueCase

PLAN = RunPlan(next_scan=lambda _now: 60.0, batch=20, at_once=False)


class RunnerCase(QueueCase):
    """A runner; wall time can be set apart from the timers'."""

    policy = RetryPolicy(max_retries=-1)

    def setUp(self) -> None:
        super().setUp()
        self.offset = 0.0
        self.events = self.watch_log()

    def now(self) -> float:
        """Give the wall time."""
        return super().now() + self.offset

    def start(self, *, concurrency: int = 20, **changes: Any) -> QueueRunner:
        """Start a runner."""
        plan = attrs.evolve(PLAN, **changes)
        postman = self.postman(concurrency=concurrency)
        runner = QueueRunner(self.store, postman, plan, clock=self.clock, now=self.now)
        runner.startService()
        self.addCleanup(self.end, runner)
        return runner

    def end(self, runner: QueueRunner) -> None:
        """Stop it if it runs still, and see that nothing of it is left."""
        if runner.running:
            done = runner.stopService()
            self.server.release()
            self.clock.pump([2.0] * 3)
            self.successResultOf(done)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def pass_time(self, seconds: float, step: float = 0.5) -> None:
        """Let time go by in steps."""
        self.clock.pump([step] * round(seconds / step))

    def said(self, text: str) -> int:
        """Count log lines that hold a text."""
        formats = (str(event.get("log_format")) for event in self.events)
        return sum(text in line for line in formats)


class ScanTests(RunnerCase):
    """A scan delivers everything that is due, in bounds."""

    def test_the_queue_is_a_queue(self) -> None:
        verifyObject(IQueue, self.memory)

    def test_the_first_scan_comes_at_once_and_the_others_at_their_times(self) -> None:
        self.put()
        self.start()
        self.assertEqual(len(self.server.sent), 1)
        self.put()
        self.pass_time(59.5)
        self.assertEqual(len(self.server.sent), 1)
        self.pass_time(0.5)
        self.assertEqual(len(self.server.sent), 2)
        self.put()
        self.pass_time(60)
        self.assertEqual(len(self.server.sent), 3)

    def test_a_mail_that_is_not_due_stays(self) -> None:
        name = self.put(due=NOW + 61)
        self.start()
        self.pass_time(60)
        self.assertEqual(self.names(), [name])
        self.pass_time(60)
        self.assertEqual(len(self.server.sent), 1)

    def test_45_due_mails_go_out_in_one_scan(self) -> None:
        for number in range(45):
            self.put(due=NOW - number)
        self.start()
        self.assertEqual(len(self.server.sent), 45)
        self.assertEqual(self.names(), [])

    def test_longest_due_goes_first(self) -> None:
        for due in (NOW - 1, NOW - 3, NOW - 2):
            self.put(due=due)
        self.start()
        expected = [f"{number:016x}" for number in (2, 3, 1)]
        self.assertEqual(self.server.ids, expected)

    def test_a_claim_takes_a_batch_at_most(self) -> None:
        limits: list[int] = []
        claim = self.memory.claim

        def noting(now: float, limit: int) -> Any:
            limits.append(limit)
            return claim(now, limit)

        self.patch(self.memory, "claim", noting)
        for _ in range(7):
            self.put()
        self.start(batch=3)
        self.assertEqual((limits, len(self.server.sent)), ([3, 3, 3], 7))

    def test_no_more_than_allowed_are_delivered_at_a_time(self) -> None:
        self.server.always = "stuck"
        for _ in range(12):
            self.put()
        runner = self.start(concurrency=5)
        for waiting in (7, 2):
            self.assertEqual((runner.in_flight, len(self.names())), (5, waiting))
            self.server.release()
        self.assertEqual((runner.in_flight, len(self.names())), (2, 0))

    def test_each_end_makes_room_for_the_next(self) -> None:
        self.server.always = "stuck"
        for _ in range(4):
            self.put()
        runner = self.start(concurrency=2)
        self.server.stuck.pop(0).callback(Outcome.DELIVERED)
        self.assertEqual((runner.in_flight, len(self.server.sent)), (2, 3))

    def test_failing_mails_starve_no_others(self) -> None:
        self.server.script = [Outcome.TEMPORARY] * 30
        for _ in range(30):
            self.put(due=NOW - 10)
        good = [self.put() for _ in range(3)]
        self.start(concurrency=2, batch=2)
        self.assertEqual(len(self.server.sent), 33)
        self.assertFalse(set(good) & set(self.names()))

    def test_one_slow_server_delays_no_others(self) -> None:
        self.server.script = ["stuck"]
        for _ in range(10):
            self.put()
        self.start(concurrency=2)
        self.assertEqual((len(self.server.sent), self.names()), (10, []))

    def test_a_scan_that_is_over_claims_no_more(self) -> None:
        self.server.script = ["stuck"]
        self.put()
        self.start()
        self.put()
        self.server.release()
        self.assertEqual(len(self.server.sent), 1)

    def test_a_crontab_says_when(self) -> None:
        self.start(next_scan=lambda now: next_after("30 * * * *", now, UTC) - now)
        self.put()
        # 22:13:20.5
        self.pass_time(999)
        self.assertEqual(self.server.sent, [])
        self.pass_time(1)
        self.assertEqual(len(self.server.sent), 1)
        self.put()
        self.pass_time(3599, 1)
        self.assertEqual(len(self.server.sent), 1)
        self.pass_time(1)
        self.assertEqual(len(self.server.sent), 2)

    def test_a_clock_that_goes_back_does_not_stop_the_scans(self) -> None:
        self.start()
        self.offset = -3600
        self.put(due=NOW - 4000)
        self.pass_time(70)
        self.assertEqual(len(self.server.sent), 1)

    def test_a_clock_that_goes_forward_makes_due_what_is_due_then(self) -> None:
        self.start()
        self.put(due=NOW + 3000)
        self.offset = 3600
        self.pass_time(10)
        self.assertEqual(len(self.server.sent), 1)


class AtOnceTests(RunnerCase):
    """QUEUE_SEND_IMMEDIATELY: a mail leaves when it is due."""

    def start(self, **changes: Any) -> QueueRunner:
        return super().start(**{"at_once": True, "next_scan": lambda _now: 1e6, **changes})

    def test_a_mail_due_now_is_sent_at_once(self) -> None:
        self.start()
        self.put()
        self.assertEqual(len(self.server.sent), 1)

    def test_without_it_a_mail_waits_for_the_scan(self) -> None:
        self.start(at_once=False)
        self.put()
        self.pass_time(30)
        self.assertEqual(self.server.sent, [])

    def test_scheduled_mails_leave_when_their_second_begins(self) -> None:
        """All of one second together: the fractions in their names are of the moment of accept."""
        self.start()
        left: dict[str, float] = {}
        dues = {}
        for due in (NOW + 3.25, NOW + 100.75, NOW + 40, NOW + 3.5):
            dues[self.put(due=due)] = math.floor(due)
        while self.names():
            before = set(self.names())
            self.pass_time(0.25, 0.25)
            left.update(dict.fromkeys(before - set(self.names()), self.now()))
        for name, due in dues.items():
            self.assertTrue(0 <= left[name] - due <= 0.25, (due, left[name]))

    def test_a_mail_that_is_due_before_the_others_does_not_wait_for_them(self) -> None:
        self.start()
        for due in (8, 2):
            self.put(due=NOW + due)
        self.pass_time(2)
        self.assertEqual(len(self.server.sent), 1)

    def test_ever_nearer_mails_pile_up_no_timers(self) -> None:
        self.start()
        for number in range(50):
            self.put(due=NOW + 9 - number / 10)
        self.assertEqual(len(self.clock.getDelayedCalls()), 2)

    def test_mails_that_wait_at_the_start_leave_at_their_time(self) -> None:
        self.put(due=NOW + 30)
        self.start()
        self.pass_time(31)
        self.assertEqual(len(self.server.sent), 1)

    def test_a_retry_comes_at_its_time(self) -> None:
        self.server.script = [Outcome.TEMPORARY]
        self.start()
        self.put()
        self.pass_time(59.5)
        self.assertEqual(len(self.server.sent), 1)
        self.pass_time(1)
        self.assertEqual(len(self.server.sent), 2)

    def test_mails_beyond_the_room_follow_as_it_is_made(self) -> None:
        self.server.always = "stuck"
        runner = self.start(concurrency=2)
        for _ in range(5):
            self.put()
        for sent in (2, 4, 5):
            self.assertEqual(len(self.server.sent), sent)
            self.server.release()
        self.assertEqual(runner.in_flight, 0)

    def test_a_clock_that_goes_forward_is_noticed(self) -> None:
        self.start()
        self.put(due=NOW + 3000)
        self.offset = 3600
        self.pass_time(10)
        self.assertEqual(len(self.server.sent), 1)

    def test_what_the_store_is_not_told_of_is_noticed_within_seconds(self) -> None:
        """As in a directory that can't be watched."""
        foreign: list[str] = []
        looks: list[float] = []

        def look_around(now: float) -> Deferred[None]:
            looks.append(now)
            while foreign:
                self.put(name=foreign.pop())
            return succeed(None)

        self.patch(self.memory, "look_around", look_around)
        self.start()
        foreign.append(self.store.make_name(NOW, "a"))
        self.pass_time(5)
        self.assertEqual(len(self.server.sent), 1)
        self.pass_time(55)
        self.assertLessEqual(len(looks), 12)

    def test_looks_that_fail_or_take_long_are_no_matter(self) -> None:
        slow: Deferred[None] = Deferred()
        answers = [fail(StoreError("away")), fail(ZeroDivisionError()), slow]
        self.patch(self.memory, "look_around", lambda _now: answers.pop(0))
        runner = self.start()
        self.pass_time(60)
        self.assertEqual((answers, self.said("can't be looked through")), ([], 1))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        done = runner.stopService()
        self.assertNoResult(done)
        slow.callback(None)
        self.successResultOf(done)

    def test_more_claims_of_the_dead_than_there_is_room_do_no_harm(self) -> None:
        for _ in range(5):
            self.put()
        self.own()
        self.successResultOf(self.store.claim(NOW, 5))
        self.put()
        settle = self.memory.settle
        held: list[Callable[[], object]] = []

        def slow(*arguments: Any) -> Any:
            done: Deferred[None] = Deferred()
            held.append(lambda: settle(*arguments).chainDeferred(done))
            return done

        self.patch(self.memory, "settle", slow)
        runner = self.start(concurrency=2)
        self.assertEqual((runner.in_flight, self.server.sent), (5, []))
        while held:
            held.pop(0)()
        self.assertEqual((len(self.server.sent), self.names()), (6, []))


class OwnerTests(RunnerCase):
    """One process runs a queue; the others look until it is free."""

    def lock(self, *answers: bool) -> list[bool]:
        """Let the lock be as told, and then free."""
        left = list(answers)
        self.patch(self.memory, "runner", lambda: succeed("process 7 on host"))
        acquire = self.memory.acquire

        def answer() -> Deferred[bool]:
            return succeed(False) if left and not left.pop(0) else acquire()

        self.patch(self.memory, "acquire", answer)
        return left

    def test_nothing_is_claimed_while_another_process_runs_the_queue(self) -> None:
        self.lock(False, False, False)
        self.put()
        runner = self.start(at_once=True)
        self.pass_time(4)
        self.assertEqual((runner.owner, self.server.sent), (False, []))
        self.pass_time(2)
        self.assertEqual((runner.owner, len(self.server.sent)), (True, 1))

    def test_one_that_does_not_run_the_queue_notices_what_others_do_to_it(self) -> None:
        """Its lists are to be true as well."""
        self.lock(False, False, False)
        self.start()
        self.pass_time(4)
        self.assertEqual(self.faulty.calls.count("look_around"), 3)

    def test_who_runs_the_queue_is_said_once(self) -> None:
        self.lock(False, False, False)
        self.start()
        self.pass_time(10)
        self.assertEqual(self.said("the queue is run by {other}"), 1)
        self.assertEqual(self.said("this process runs the queue"), 1)

    def test_claims_of_a_dead_process_are_judged(self) -> None:
        name = self.put()
        self.own()
        self.claim()
        state = MailState(in_doubt=("user@example.test",), in_doubt_since=NOW)
        self.successResultOf(self.store.mark(name, state))
        self.start(at_once=True)
        self.assertEqual(self.said("when the service died"), 1)
        state = self.successResultOf(self.store.get(name)).state
        self.assertEqual((state.crashes, self.server.sent), (1, []))
        self.pass_time(599, 1)
        self.assertEqual(self.server.sent, [])
        self.pass_time(2)
        self.assertEqual(len(self.server.sent), 1)

    def test_leftovers_are_listed_and_left_alone(self) -> None:
        paths = tuple(f"/q/mail_{number}" for number in range(30))
        self.patch(self.memory, "recover", lambda: succeed(Recovered(claims=(), leftovers=paths)))
        self.start()
        (event,) = (event for event in self.events if event.get("n") == 30)
        self.assertIn("/q/mail_19", event["names"])
        self.assertNotIn("/q/mail_20", event["names"])
        self.assertIn("queue rescue", event["log_format"])

    def test_a_store_that_can_not_be_run_is_tried_again_whatever_it_says(self) -> None:
        self.faulty.faults["acquire"] = [StoreError("away"), ZeroDivisionError()]
        self.faulty.faults["recover"] = [StoreError("away"), ZeroDivisionError()]
        runner = self.start()
        for _ in range(3):
            self.assertFalse(runner.owner)
            self.pass_time(2, 2)
        self.assertFalse(runner.owner)
        self.pass_time(2, 2)
        self.assertTrue(runner.owner)
        self.assertEqual(self.faulty.calls.count("release"), 2)
        self.assertEqual(self.said("the queue can't be run"), 4)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
