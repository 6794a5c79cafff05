# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.services.penalties: which connections are held, and for how long."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.standing import Standing
from smtpmailer.services import penalties
from smtpmailer.services.penalties import Penalties

_PEER = "192.0.2.1"
_OTHER = "198.51.100.7"


class PenaltiesCase(SynchronousTestCase):
    """Refusals on a clock that stands still."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.penalties = Penalties(self.clock)
        self.standing = Standing()

    def refuse(self, standing: Standing | None = None, peer: str = _PEER) -> Deferred[None]:
        standing = standing or self.standing
        return self.penalties.refuse(peer, "wrong", self.clock.seconds(), standing)

    def exhaust(self, peer: str = _PEER) -> None:
        """Let so many be delayed that the address is looked at no more."""
        for _ in range(32):
            self.refuse(Standing(), peer)


class HeldTests(PenaltiesCase):
    """A connection with delayed answers soon starts nothing more."""

    def test_it_is_held_while_eight_of_its_answers_are_delayed(self) -> None:
        held = []
        for _ in range(8):
            self.refuse()
            held.append(self.standing.held)
        self.assertEqual(held, [False] * 7 + [True])
        self.clock.advance(1)
        self.assertFalse(self.standing.held)

    def test_it_is_free_by_the_time_it_has_its_answer(self) -> None:
        """Who hears of the answer starts the next request."""
        self.patch(penalties, "_PER_CONNECTION", 1)
        held: list[bool] = []
        self.refuse().addCallback(lambda _: held.append(self.standing.held))
        self.clock.advance(1)
        self.assertEqual(held, [False])

    def test_other_connections_are_not_held(self) -> None:
        for _ in range(8):
            self.refuse()
        other = Standing()
        self.refuse(other)
        self.assertFalse(other.held)

    def test_where_many_of_an_address_are_delayed_one_is_enough(self) -> None:
        self.patch(penalties, "_CROWD", 40)
        self.exhaust()
        for expected in [False] * 7 + [True]:
            late, other = Standing(), Standing()
            self.refuse(late)
            self.refuse(other, _OTHER)
            self.assertEqual((late.held, other.held), (expected, False))

    def test_what_is_delayed_in_all_has_a_limit(self) -> None:
        self.patch(penalties, "_DELAYED", 30)
        answers = [self.refuse(Standing(), f"10.0.0.{i}") for i in range(100)]
        self.assertEqual(sum(not answer.called for answer in answers), 30)
        self.assertEqual(len(self.clock.getDelayedCalls()), 30)
        self.clock.advance(10)
        self.assertNoResult(self.refuse())


class LeavingTests(PenaltiesCase):
    """Who closes a connection after each guess does not fill the service with them."""

    def test_one_that_has_left_is_refused_late_too(self) -> None:
        """It may be that its client has only closed its own half."""
        answer = self.refuse()
        self.standing.left = True
        self.penalties.leave(self.standing)
        self.assertNoResult(answer)
        self.assertNoResult(self.refuse())
        self.clock.advance(1)
        self.successResultOf(answer)

    def test_those_of_an_exhausted_address_do_not_wait(self) -> None:
        self.exhaust()
        self.standing.left = True
        self.successResultOf(self.refuse())
        self.assertNoResult(self.refuse(Standing(left=True), _OTHER))
        self.assertNoResult(self.refuse(Standing()))

    def test_those_that_wait_when_it_leaves_do_not_wait_any_longer(self) -> None:
        answers = [self.refuse() for _ in range(8)]
        self.exhaust()
        self.standing.left = True
        self.penalties.leave(self.standing)
        self.assertEqual([answer.called for answer in answers], [True] * 8)
        self.assertFalse(self.standing.held)
        self.assertEqual(len(self.clock.getDelayedCalls()), 32)

    def test_leaving_without_a_refusal_is_nothing(self) -> None:
        self.exhaust()
        self.penalties.leave(self.standing)
        self.assertEqual(len(self.clock.getDelayedCalls()), 32)

    def test_the_end_of_the_service_answers_all(self) -> None:
        answers = [self.refuse(standing) for standing in (self.standing, Standing())]
        self.penalties.stop()
        answers.append(self.refuse())
        for answer in answers:
            self.successResultOf(answer)
        self.assertEqual((self.clock.getDelayedCalls(), self.standing.held), ([], False))
