# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.runner: servers that stall, or are gone, keep nobody else waiting."""

from __future__ import annotations

from typing import Any

from smtpmailer.core.model import Outcome
from smtpmailer.runner import QueueRunner
from tests.services.queueing import NOW, mail
from tests.test_runner import RunnerCase

STALLED, HEALTHY = "stalled.example.test", "healthy.example.test"


class CrowdCase(RunnerCase):
    """A server that accepts connections and then stalls, and one that answers."""

    #: Whether mails wait for the next scan.
    at_once = True

    def setUp(self) -> None:
        super().setUp()
        self.server.stalling = {STALLED}

    def start(self, **changes: Any) -> QueueRunner:
        return super().start(**{"at_once": self.at_once, **changes})

    def put_many(self, count: int, host: str, due: float = NOW) -> list[str]:
        """Put mails to one server."""
        return [self.put(due=due, smtpHost=host) for _ in range(count)]


class CrowdTests(CrowdCase):
    """One server may have all slots, but never keeps others from theirs."""

    def test_mails_to_another_server_leave_promptly_though_a_hundred_are_stuck(self) -> None:
        stuck = self.put_many(100, STALLED, NOW - 10)
        self.put_many(20, HEALTHY)
        runner = self.start()
        self.assertEqual((runner.in_flight, self.server.sent_to(STALLED)), (20, 20))
        self.pass_time(6)
        self.assertEqual(self.server.sent_to(HEALTHY), 20)
        # Those beyond wait in the queue, and nothing was counted against them.
        self.assertEqual((runner.in_flight, self.names()), (20, stuck[20:]))
        waiting = self.successResultOf(self.store.get(stuck[99]))
        document = mail(smtpHost=STALLED)
        self.assertEqual((waiting.state.attempt_count, waiting.document), (0, document))
        self.assertEqual(self.counters.failed, 0)

    def test_and_so_does_whatever_comes_later(self) -> None:
        self.put_many(100, STALLED)
        self.start()
        self.pass_time(8)
        for _ in range(3):
            self.put_many(2, HEALTHY, self.now())
            self.pass_time(60)
        self.assertEqual((self.server.sent_to(HEALTHY), self.server.sent_to(STALLED)), (6, 20))

    def test_a_mail_that_is_due_while_all_are_stuck_leaves_promptly(self) -> None:
        self.put_many(20, STALLED)
        self.put_many(1, HEALTHY, NOW + 30)
        self.start()
        self.pass_time(29)
        self.assertEqual(self.server.sent_to(HEALTHY), 0)
        self.pass_time(2)
        self.assertEqual(self.server.sent_to(HEALTHY), int(self.at_once))

    def test_several_servers_that_stall_leave_room_for_others(self) -> None:
        hosts = [f"{number}.{STALLED}" for number in range(3)]
        self.server.stalling = set(hosts)
        for host in hosts:
            self.put_many(50, host)
        self.put_many(10, HEALTHY)
        runner = self.start()
        self.pass_time(30)
        self.assertEqual(self.server.sent_to(HEALTHY), 10)
        self.assertEqual([self.server.sent_to(host) for host in hosts], [20, 5, 5])
        self.assertEqual(runner.in_flight, 30)

    def test_one_server_alone_has_all_slots_however_slow_it_is(self) -> None:
        self.put_many(60, STALLED)
        runner = self.start()
        for sent in range(20, 60):
            self.assertEqual((runner.in_flight, self.server.sent_to(STALLED)), (20, sent))
            self.pass_time(7)
            self.server.stuck.pop(0).callback(Outcome.DELIVERED)
        self.assertEqual((runner.in_flight, self.names()), (20, []))

    def test_those_that_waited_leave_as_soon_as_the_server_answers(self) -> None:
        self.put_many(100, STALLED)
        self.start()
        self.pass_time(20)
        self.server.stalling = set()
        self.server.release()
        self.assertEqual((self.server.sent_to(STALLED), self.names()), (100, []))

    def test_a_stop_in_a_crowd_waits_for_all_of_it_and_leaves_no_timer(self) -> None:
        self.server.stalling.add(HEALTHY)
        self.put_many(30, STALLED, NOW - 10)
        self.put_many(10, HEALTHY)
        runner = self.start()
        self.pass_time(8)
        self.assertEqual(runner.in_flight, 25)
        done = runner.stopService()
        self.server.stuck.pop().callback(Outcome.DELIVERED)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertNoResult(done)
        self.server.release()
        self.successResultOf(done)
        self.assertEqual((len(self.server.sent), len(self.names())), (25, 15))

    def test_no_timer_runs_while_nothing_is_due(self) -> None:
        self.put_many(20, STALLED)
        self.start()
        before = len(self.clock.getDelayedCalls())
        self.put_many(1, HEALTHY, NOW + 1000)
        self.assertLessEqual(len(self.clock.getDelayedCalls()), before + 1)


class CrowdedScanTests(CrowdTests):
    """The same where mails wait for the scan."""

    at_once = False

    def test_and_so_does_whatever_comes_later(self) -> None:
        self.put_many(100, STALLED)
        self.start()
        self.pass_time(8)
        self.put_many(2, HEALTHY, self.now())
        self.pass_time(52)
        self.assertEqual((self.server.sent_to(HEALTHY), self.server.sent_to(STALLED)), (2, 20))


class DeadServerTests(CrowdCase):
    """Mails behind a dead server are no crowd: one probes, the others follow once it is back."""

    def setUp(self) -> None:
        super().setUp()
        self.server.stalling = set()
        self.server.always = "unreachable"

    def test_one_mail_at_a_time_probes(self) -> None:
        self.put_many(300, STALLED)
        self.start(concurrency=2)
        self.assertEqual(self.server.sent_to(STALLED), 3)
        before = 3
        for pause in (10, 20, 40, 80, 160, 300):
            self.pass_time(pause + 1)
            attempts = self.server.sent_to(STALLED) - before
            self.assertLessEqual(attempts, 2, pause)
            before += attempts
        self.assertGreaterEqual(before, 9)

    def test_they_do_not_all_wake_at_the_same_moment(self) -> None:
        self.put_many(300, STALLED)
        self.start(concurrency=2)
        waiting = (self.successResultOf(self.store.get(name)).state for name in self.names())
        times = [state.next_at for state in waiting if not state.attempts]
        self.assertGreater(len(set(times)), 290)

    def test_once_the_server_is_back_all_leave_promptly(self) -> None:
        self.put_many(300, STALLED)
        self.start()
        self.pass_time(100)
        self.assertEqual(self.server.sent_to(HEALTHY), 0)
        self.server.always = Outcome.DELIVERED
        tried = self.server.sent_to(STALLED)
        while self.server.sent_to(STALLED) == tried:
            self.pass_time(0.5)
        # Not those that failed before: their retries have times of their own.
        self.assertLess(len(self.names()), tried)
