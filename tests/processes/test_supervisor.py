# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.processes.supervisor."""

from __future__ import annotations

import signal
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.board import Field
from smtpmailer.core.respawn import Limits
from smtpmailer.processes.sharing import alone
from smtpmailer.processes.supervisor import Staff, Supervisor
from tests.processes.family import Body, Family

_MIB = 2**20
ALL = ["queue", "worker-1", "worker-2"]


class SupervisorCase(SynchronousTestCase):
    """Two workers and a queue, and time that the tests move."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(5000)
        self.wall = 0.0
        self.family = Family(self.clock)
        self.shared = alone()
        self.ready = 0
        self.staff = Staff(
            workers=2,
            queue=True,
            limits=Limits(memory_bytes=64 * _MIB),
            next_restart=lambda _: None,
            stop_limit=30,
        )
        self.supervisor = self.make(self.staff)

    def make(self, staff: Staff) -> Supervisor:
        return Supervisor(
            staff,
            self.shared,
            self.family.start,
            clock=self.clock,
            now=lambda: self.clock.seconds() + self.wall,
            ready=self.get_ready,
        )

    def get_ready(self) -> None:
        self.ready += 1

    def started(self, **changes: Any) -> None:
        """Start it, and let all get ready."""
        self.supervisor = self.make(attrs.evolve(self.staff, **changes))
        self.supervisor.startService()
        self.settle()

    def settle(self) -> None:
        """Let everybody who lives be ready, and beat, until nobody new comes."""
        while True:
            self.clock.advance(0)
            waiting = [b for b in self.family.bodies if not (b.child.ready or b.child.ended)]
            if not waiting:
                break
            for body in waiting:
                body.get_ready()
        self.beat()

    def beat(self, *, but: str = "") -> None:
        """Let all who live show that they turn."""
        for body in self.family.bodies:
            if not body.child.ended and body.child.name != but:
                seat = self.shared.board.seat(body.child.seat)
                seat.add(Field.BEAT)
                seat[Field.MEMORY] = seat[Field.MEMORY] or 40 * _MIB

    def look(self, times: int = 1, *, but: str = "") -> None:
        """Let it look at living processes."""
        for _ in range(times):
            self.beat(but=but)
            self.clock.advance(1)

    def only(self, name: str) -> Body:
        (body,) = self.family.living(name)
        return body

    def seat(self, name: str) -> Any:
        return self.shared.board.seat(self.only(name).child.seat)


class StartTests(SupervisorCase):
    """Who is started, and when all serve."""

    def test_the_others_follow_when_the_first_is_ready(self) -> None:
        self.supervisor.startService()
        self.assertEqual(self.family.names(), ["worker-1"])
        self.only("worker-1").get_ready()
        self.assertEqual((self.family.names(), self.ready), (ALL, 0))
        self.settle()
        self.assertEqual(self.ready, 1)

    def test_they_follow_too_when_the_first_fails(self) -> None:
        self.supervisor.startService()
        self.only("worker-1").end(status=1)
        self.clock.advance(0)
        self.assertEqual((self.family.names(), self.ready), (ALL, 0))
        self.settle()
        self.assertEqual(self.ready, 1)

    def test_it_is_ready_once(self) -> None:
        self.started()
        self.only("worker-1").end(signal=9)
        self.settle()
        self.assertEqual(self.ready, 1)

    def test_without_a_queue_nobody_runs_it(self) -> None:
        self.started(queue=False, workers=1)
        self.assertEqual((self.family.names(), self.ready), (["worker-1"], 1))

    def test_each_has_a_seat_of_its_own_and_leaves_it_with_its_end(self) -> None:
        self.started()
        seats = {body.child.seat for body in self.family.bodies}
        self.assertEqual(len(seats), 3)
        seat = self.seat("worker-1")
        seat[Field.SENT] = 5
        self.shared.tally.add("peer", seat.number, 2)
        self.only("worker-1").end(signal=9)
        self.assertEqual(self.shared.board.total(Field.SENT), 5)
        self.assertEqual((seat[Field.PROCESS], self.shared.tally.total("peer")), (0, 0))
        self.settle()
        self.assertEqual((len(list(self.shared.board.rows())), self.supervisor.deaths), (3, 1))

    def test_a_seat_is_free_again_when_nobody_could_be_started(self) -> None:
        self.family.trouble = OSError("no")
        self.supervisor.startService()
        self.assertEqual(list(self.shared.board.rows()), [])


class StopTests(SupervisorCase):
    """Nobody is left behind."""

    def stop(self) -> Deferred[None]:
        return self.supervisor.stopService()

    def test_all_are_asked_to_end_and_waited_for(self) -> None:
        self.started()
        stopped = self.stop()
        for body in list(self.family.bodies):
            self.assertEqual(body.orders, [("stop", {"limit": 30})])
            self.assertNoResult(stopped)
            body.end()
        self.successResultOf(stopped)
        self.clock.advance(100)
        self.assertEqual(self.family.names(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_who_does_not_end_in_time_is_killed(self) -> None:
        self.started(workers=1, queue=False)
        stopped = self.stop()
        self.clock.advance(32)
        self.assertEqual(self.only("worker-1").signals, [])
        self.clock.advance(1)
        self.assertEqual(self.only("worker-1").signals, [signal.SIGKILL])
        self.only("worker-1").end(signal=9)
        self.successResultOf(stopped)

    def test_patience_has_no_end(self) -> None:
        self.started(workers=1, queue=False)
        self.supervisor.patient = True
        stopped = self.stop()
        self.clock.advance(10_000)
        self.assertEqual(self.only("worker-1").orders, [("stop", {"limit": None})])
        self.assertEqual(self.only("worker-1").signals, [])
        self.only("worker-1").end()
        self.successResultOf(stopped)

    def test_those_that_retire_or_only_start_are_waited_for_too(self) -> None:
        self.started(workers=1, queue=False)
        self.supervisor.change(self.supervisor.staff)
        old, new = self.family.living("worker-1")
        new.get_ready()
        self.supervisor.change(self.supervisor.staff)
        *_, newest = self.family.living("worker-1")
        stopped = self.stop()
        self.assertEqual(newest.signals, [signal.SIGTERM])
        for body in (old, new, newest):
            self.assertNoResult(stopped)
            body.end()
        self.successResultOf(stopped)
        self.assertEqual(self.family.names(), [])

    def test_stopped_before_the_first_is_ready_it_starts_no_others(self) -> None:
        self.supervisor.startService()
        stopped = self.stop()
        self.only("worker-1").end(signal=15)
        self.successResultOf(stopped)
        self.assertEqual((self.family.names(), self.ready), ([], 0))


class ChangeTests(SupervisorCase):
    """Replacing all, one after another."""

    def test_one_is_replaced_at_a_time(self) -> None:
        self.started()
        changed = self.supervisor.change(self.staff)
        for name in ("worker-1", "worker-2", "queue"):
            old, new = self.family.living(name)
            self.assertEqual((len(self.family.names()), old.orders), (4, []))
            new.get_ready()
            self.assertEqual(old.orders, [("retire", {})])
            old.end()
        self.assertEqual(self.successResultOf(changed), ["worker-1", "worker-2", "queue"])
        self.assertEqual((self.family.names(), self.supervisor.deaths), (ALL, 0))

    def test_more_are_added_and_those_too_many_retire(self) -> None:
        self.started()
        self.supervisor.change(attrs.evolve(self.staff, workers=3, queue=False))
        self.settle()
        retired = sorted(b.child.name for b in self.family.bodies if b.child.retiring)
        self.assertEqual(retired, ["queue", "worker-1", "worker-2"])
        for body in [b for b in self.family.bodies if b.child.retiring]:
            body.end()
        self.clock.advance(60)
        self.assertEqual(self.family.names(), ["worker-1", "worker-2", "worker-3"])
        self.assertEqual(self.supervisor.deaths, 0)

    def test_it_stops_at_the_first_that_can_not_be_replaced(self) -> None:
        self.started()
        changed = self.supervisor.change(self.staff)
        self.family.living("worker-1")[1].get_ready()
        self.family.living("worker-1")[0].end()
        self.family.living("worker-2")[1].end(status=1)
        self.assertEqual(self.successResultOf(changed), ["worker-1"])
        self.assertEqual(self.family.names(), ALL)

    def test_what_was_changed_can_be_changed_back(self) -> None:
        self.started()
        self.supervisor.change(attrs.evolve(self.staff, workers=3))
        for name in ("worker-1", "worker-2"):
            self.family.living(name)[1].get_ready()
            self.family.living(name)[0].end()
        self.only("worker-3").end(status=1)
        changed = self.supervisor.change(self.staff, ["worker-1"])
        self.family.living("worker-1")[1].get_ready()
        self.family.living("worker-1")[0].end()
        self.assertEqual(self.successResultOf(changed), ["worker-1"])
        self.clock.advance(60)
        self.assertEqual(self.family.names(), ALL)

    def test_all_are_told(self) -> None:
        self.started()
        self.supervisor.tell("reload")
        self.assertEqual([body.orders for body in self.family.bodies], [[("reload", {})]] * 3)


class CareTests(SupervisorCase):
    """Looking after them."""

    def test_who_has_answered_enough_requests_is_replaced(self) -> None:
        self.started(limits=Limits(memory_bytes=64 * _MIB, requests=10))
        self.look()
        for name in ("worker-1", "worker-2"):
            self.seat(name)[Field.REQUESTS] = 10
        self.look()
        old, new = self.family.living("worker-1")
        self.look(3)
        self.assertEqual(len(self.family.living("worker-2")), 1)
        new.get_ready()
        self.look()
        self.assertEqual(old.orders, [("retire", {})])
        self.assertEqual(len(self.family.living("worker-2")), 2)

    def test_when_that_does_not_work_it_is_not_tried_again_at_once(self) -> None:
        self.started(limits=Limits(memory_bytes=64 * _MIB, requests=10), workers=1)
        self.seat("worker-1")[Field.REQUESTS] = 10
        self.look()
        old, new = self.family.living("worker-1")
        new.end(status=1)
        self.look(59)
        self.assertEqual(self.family.living("worker-1"), [old])
        self.look(2)
        self.assertEqual(len(self.family.living("worker-1")), 2)

    def test_who_takes_too_much_memory_is_replaced_once_it_is_idle(self) -> None:
        self.started()
        self.look(3)
        seat = self.seat("queue")
        seat[Field.MEMORY], seat[Field.DELIVERIES] = 65 * _MIB, 1
        self.look(5)
        self.assertEqual(len(self.family.living("queue")), 1)
        seat[Field.DELIVERIES] = 0
        self.look()
        self.assertEqual(len(self.family.living("queue")), 2)

    def test_where_memory_is_soon_too_much_each_time_it_is_waited_longer(self) -> None:
        """It begins with 40 MB, and takes more than the limit from its second look on."""
        self.started(limits=Limits(memory_bytes=41 * _MIB), workers=1, queue=False)
        lives = []
        for _ in range(7):
            body = self.only("worker-1")
            self.look()
            self.seat("worker-1")[Field.MEMORY] = 42 * _MIB
            while len(self.family.living("worker-1")) == 1:
                self.look()
            lives.append(round(body.child.age))
            self.settle()
            body.end()
        self.assertEqual(lives, [2, 4, 8, 16, 32, 60, 60])

    def test_a_limit_that_is_less_than_the_beginning_is_said_once_and_replaces_nobody(self) -> None:
        with capturedLogs() as events:
            self.started(limits=Limits(memory_bytes=39 * _MIB))
            self.look(200)
        self.assertEqual(len(self.family.bodies), 3)
        said = [event for event in events if "MAILER_MAX_MEMORY" in event["log_format"]]
        self.assertEqual([(event["limit"], event["n"]) for event in said], [(39, 40)])

    def test_who_does_not_turn_any_more_is_killed(self) -> None:
        self.started()
        self.look(30)
        self.look(59, but="worker-2")
        self.assertEqual(self.only("worker-2").signals, [])
        self.look(5, but="worker-2")
        self.assertEqual(self.only("worker-2").signals, [signal.SIGKILL])
        self.assertEqual([self.only(name).signals for name in ("queue", "worker-1")], [[], []])

    def test_who_turns_again_is_left_alone(self) -> None:
        self.started()
        for _ in range(3):
            self.look(40, but="worker-2")
            self.look()
        self.assertEqual(self.only("worker-2").signals, [])

    def test_a_fault_while_looking_does_not_end_it(self) -> None:
        self.started(limits=None)
        self.look(2)
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 2)


class RestartTests(SupervisorCase):
    """MAILER_RESTART_CRON: every 100 seconds of the wall clock, here."""

    def setUp(self) -> None:
        super().setUp()
        self.started(next_restart=lambda now: (now // 100 + 1) * 100, workers=1)

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.look()

    def test_all_are_replaced_when_it_is_time(self) -> None:
        self.pass_time(99)
        self.assertEqual(len(self.family.names()), 2)
        self.pass_time(1)
        self.assertEqual(len(self.family.living("worker-1")), 2)
        self.settle()
        self.assertEqual(len(self.family.living("queue")), 2)
        for body in [b for b in self.family.bodies if b.child.retiring]:
            body.end()
        self.pass_time(100)
        self.settle()
        self.assertEqual(len(self.family.living("worker-1")), 2)

    def test_a_time_that_comes_while_they_are_being_replaced_is_left_out(self) -> None:
        with capturedLogs() as events:
            self.pass_time(305)
        self.assertEqual(len(self.family.living("worker-1")), 2)
        self.assertEqual(sum("too dense" in event["log_format"] for event in events), 2)

    def test_when_the_clock_is_set_back_the_earlier_time_counts(self) -> None:
        self.pass_time(5)
        self.wall = -1000
        self.pass_time(105)
        self.assertEqual(len(self.family.living("worker-1")), 2)

    def test_when_it_is_set_forward_they_are_replaced_once(self) -> None:
        self.pass_time(5)
        self.wall = 10_000
        self.pass_time(12)
        self.settle()
        self.assertEqual(len(self.family.living("worker-1")), 2)

    def test_new_settings_may_have_another_time_or_none(self) -> None:
        self.supervisor.change(attrs.evolve(self.supervisor.staff, next_restart=lambda _: None))
        self.settle()
        before = len(self.family.bodies)
        self.pass_time(250)
        self.assertEqual(len(self.family.bodies), before)
