# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.runner: no delivery waits for a disk that claims or settles others."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from smtpmailer.core.model import Outcome
from smtpmailer.core.queued import Settlement
from smtpmailer.runner import QueueRunner
from tests.test_runner import RunnerCase
from tests.test_runner_crowd import HEALTHY, STALLED, CrowdCase


class AheadTests(RunnerCase):
    """Mails are claimed before their turn, and settled after it."""

    def setUp(self) -> None:
        super().setUp()
        self.limits: list[int] = []
        self.settling: list[Deferred[None]] = []
        self.claims, self.settles = self.memory.claim, self.memory.settle

    def start(self, *, concurrency: int = 2, **changes: Any) -> QueueRunner:
        return super().start(concurrency=concurrency, **{"ahead": 4, **changes})

    def note_claims(self) -> None:
        """Remember how many mails each claim asked for."""

        def claim(now: float, limit: int) -> Any:
            self.limits.append(limit)
            return self.claims(now, limit)

        self.patch(self.memory, "claim", claim)

    def hold_settling(self) -> None:
        """Let the store settle nothing before ``release_settling``."""

        def settle(name: str, settlement: Settlement) -> Any:
            self.settling.append(Deferred())
            return self.settling[-1].addCallback(lambda _: self.settles(name, settlement))

        self.patch(self.memory, "settle", settle)

    def release_settling(self) -> None:
        held, self.settling = self.settling, []
        for each in held:
            each.callback(None)

    def test_some_are_claimed_before_there_is_a_slot_for_them(self) -> None:
        self.server.always = "stuck"
        for _ in range(10):
            self.put()
        runner = self.start()
        self.assertEqual((len(self.server.sent), runner.in_flight, len(self.names())), (2, 6, 4))

    def test_they_take_the_next_slots_without_another_claim(self) -> None:
        self.server.always = "stuck"
        for _ in range(10):
            self.put()
        self.note_claims()
        self.start()
        self.assertEqual(self.limits, [6])
        self.server.stuck.pop(0).callback(Outcome.DELIVERED)
        self.assertEqual((len(self.server.sent), self.limits), (3, [6]))

    def test_many_are_claimed_at_a_time_rather_than_one_after_another(self) -> None:
        self.server.always = "stuck"
        for _ in range(12):
            self.put()
        self.note_claims()
        self.start()
        for _ in range(6):
            self.server.stuck.pop(0).callback(Outcome.DELIVERED)
        self.assertEqual((self.limits, len(self.server.sent)), ([6, 2, 2, 2], 8))

    def test_what_is_being_settled_keeps_no_slot(self) -> None:
        self.hold_settling()
        for _ in range(6):
            self.put()
        runner = self.start()
        self.assertEqual((len(self.server.sent), runner.in_flight), (6, 6))
        self.release_settling()
        self.assertEqual((self.memory._claimed, runner.in_flight), ({}, 0))

    def test_a_store_that_settles_nothing_ends_the_sending(self) -> None:
        """Each mail sent and not settled is one in doubt should the service die."""
        self.hold_settling()
        for _ in range(30):
            self.put()
        self.start()
        # As many as there are slots, and as many more as may be settled beside them.
        self.assertEqual(len(self.server.sent), 6)
        self.release_settling()
        self.assertEqual(len(self.server.sent), 12)
        while self.settling:
            self.release_settling()
        self.assertEqual((len(self.server.sent), self.names()), (30, []))

    def test_a_stop_returns_those_whose_turn_has_not_come(self) -> None:
        self.server.always = "stuck"
        for _ in range(6):
            self.put()
        runner = self.start()
        done = runner.stopService()
        self.assertNoResult(done)
        self.assertEqual((len(self.server.sent), len(self.names())), (2, 4))
        self.server.release()
        self.successResultOf(done)
        self.assertEqual((self.memory._claimed, len(self.names())), ({}, 4))
        state = self.successResultOf(self.store.get(self.names()[0])).state
        self.assertEqual((state.attempt_count, state.in_doubt, state.crashes), (0, (), 0))


class AheadInACrowdTests(CrowdCase):
    """Those claimed before their turn keep nobody waiting either."""

    def test_mails_to_another_server_leave_promptly_though_a_hundred_are_stuck(self) -> None:
        self.put_many(100, STALLED)
        self.put_many(20, HEALTHY)
        self.start(ahead=20)
        self.assertEqual(self.server.sent_to(STALLED), 20)
        self.pass_time(8)
        self.assertEqual((self.server.sent_to(HEALTHY), self.server.sent_to(STALLED)), (20, 20))

    def test_one_server_alone_has_all_slots(self) -> None:
        self.put_many(60, STALLED)
        self.start(ahead=20)
        self.pass_time(30)
        self.assertEqual(self.server.sent_to(STALLED), 20)
