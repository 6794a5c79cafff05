# SPDX-License-Identifier: MIT
"""Tests for several nodes on one Redis: leases, their ends, and who may still settle what."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import gatherResults

from smtpmailer.core.queuestate import FRESH, MailState
from smtpmailer.errors import NoSuchMailError, RedisAwayError, StoreError
from smtpmailer.stores.redis_claim_scripts import CLAIM, RENEW, UNCLAIM
from tests.stores.queues import NOW, document, tried_state
from tests.stores.redis_nodes import KEYS, LEASE, QueueNode, RedisQueueCase

SETTLEMENTS: Sequence[Mapping[str, Any]] = (
    {"done": True},
    {"dead": "x"},
    {"corrupt": "x"},
    {"document": document("x")},
)
DOUBT = MailState(in_doubt=("b@example.test",), in_doubt_since=NOW)


class LeaseCase(RedisQueueCase):
    """Has two nodes that deliver."""

    def setUp(self) -> None:
        super().setUp()
        self.one, self.two = self.run_node(1), self.run_node(2)

    def claimed(self, node: QueueNode, number: int = 0, state: MailState = FRESH) -> str:
        """Put a mail and claim it."""
        name = self.put(node, number=number, state=state)
        self.assertEqual([mail.name for mail in self.claim(node)], [name])
        return name

    def lease_of(self, name: str) -> float:
        """Give the seconds until a lease ends."""
        score = self.server.call("ZSCORE", KEYS.leases, name)
        seconds, micro = self.server.call("TIME")
        return float(score) - int(seconds) - int(micro) / 1e6

    def mark(self, node: QueueNode, name: str, state: MailState = DOUBT) -> None:
        self.wait(node.queue.store.mark(name, state))

    def fails_to_mark(self, node: QueueNode, name: str, error: type[Exception]) -> None:
        self.failureResultOf(node.queue.store.mark(name, DOUBT), error)


class RaceTests(LeaseCase):
    """No two nodes have the same mail."""

    def test_each_mail_goes_to_one_node(self) -> None:
        names = [self.put(self.one, number=number) for number in range(60)]
        nodes = [self.one, self.two, self.run_node(3)]
        claims = [nodes[turn % 3].queue.store.claim(NOW, 3) for turn in range(30)]
        found = [mail.name for mails in self.wait(gatherResults(claims)) for mail in mails]
        self.assertEqual((sorted(found), len(set(found))), (names, 60))

    def test_all_of_them_share_the_work(self) -> None:
        for number in range(9):
            self.put(self.one, number=number)
        nodes = [self.one, self.two, self.run_node(3)]
        claims = [node.queue.store.claim(NOW, 3) for node in nodes]
        self.assertEqual([len(mails) for mails in self.wait(gatherResults(claims))], [3, 3, 3])

    def test_a_claim_holds_no_more_than_some_megabytes(self) -> None:
        for number in range(5):
            name = self.one.queue.store.make_name(NOW, f"{number:016x}")
            big = document(body="x" * 3_000_000)
            self.wait(self.one.queue.store.put(name, big, FRESH))
        self.assertEqual([len(self.claim(self.two)) for _ in range(3)], [3, 2, 0])

    def test_a_claim_gives_no_more_mails_than_were_asked_for(self) -> None:
        names = [self.put(self.one, number=number) for number in range(6)]
        self.claim(self.one, limit=2)
        self.end_leases(*names[:2])
        found = self.claim(self.two, limit=3)
        self.assertEqual([mail.name for mail in found], names[:3])
        self.assertEqual([mail.abandoned for mail in found], [True, True, False])

    def test_one_node_s_mail_is_out_of_reach_of_the_other(self) -> None:
        name = self.claimed(self.one, state=DOUBT)
        self.assertEqual(self.claim(self.two), [])
        self.fails_to_mark(self.two, name, NoSuchMailError)
        self.failureResultOf(self.settle(self.two, name, done=True), NoSuchMailError)
        self.failureResultOf(self.two.queue.store.remove(name), NoSuchMailError)
        other = self.two.queue.store.put(name, document("other"), FRESH)
        self.failureResultOf(other, StoreError)
        self.end_leases(name)
        self.assertEqual([mail.state for mail in self.claim(self.two)], [DOUBT])


class ExpiryTests(LeaseCase):
    """A mail whose lease has ended goes to another node, and stays with it."""

    def expired(self, state: MailState | None = None) -> str:
        """Let the first node claim a mail, and mark it, and not be heard of any more."""
        name = self.claimed(self.one)
        if state is not None:
            self.mark(self.one, name, state)
        self.end_leases(name)
        return name

    def test_another_node_claims_it_as_abandoned_with_its_mark(self) -> None:
        name = self.expired(DOUBT)
        (mail,) = self.claim(self.two)
        self.assertEqual((mail.name, mail.state, mail.abandoned), (name, DOUBT, True))
        self.assertEqual(mail.document, document("0"))
        self.assertEqual(self.claim(self.two), [])

    def test_it_is_noticed_by_looking(self) -> None:
        self.expired()
        self.wait(self.two.queue.store._lookout.look())
        self.assertEqual(self.two.queue.store.next_due(), 0.0)

    def test_a_node_that_starts_recovers_it(self) -> None:
        name = self.expired(DOUBT)
        node = self.make_node(3)
        self.wait(node.queue.store.acquire())
        (mail,) = self.wait(node.queue.store.recover()).claims
        self.assertEqual((mail.name, mail.state), (name, DOUBT))

    def test_the_first_node_can_send_and_settle_it_no_more(self) -> None:
        name = self.expired()
        self.claim(self.two)
        before = self.server.dump()
        self.fails_to_mark(self.one, name, NoSuchMailError)
        for what in SETTLEMENTS:
            self.failureResultOf(self.settle(self.one, name, **what), NoSuchMailError)
        self.assertEqual(self.server.dump(), before)
        self.wait(self.settle(self.two, name, done=True))
        self.assertEqual(self.server.dump(), {})

    def test_a_late_settlement_does_not_undo_what_the_other_node_decided(self) -> None:
        name = self.expired()
        self.claim(self.two)
        self.wait(self.settle(self.two, name, tried_state(next_at=NOW + 60)))
        self.failureResultOf(self.settle(self.one, name, done=True), NoSuchMailError)
        self.assertEqual(self.waiting(self.one), [name])

    def test_what_nobody_wanted_is_still_the_first_node_s(self) -> None:
        name = self.expired()
        self.mark(self.one, name)
        self.assertGreater(self.lease_of(name), LEASE - 10)
        self.assertEqual(self.claim(self.two), [])
        self.wait(self.settle(self.one, name, done=True))

    def test_a_mark_that_takes_half_a_lease_does_not_count(self) -> None:
        """Stopped between the mark and its answer, a node can't know what happened meanwhile."""
        name = self.claimed(self.one)
        marked = self.one.queue.store.mark(name, DOUBT)
        self.one.redis.scripts.clear()
        self.one.clock.rightNow += LEASE / 2 + 1
        self.failureResultOf(marked, StoreError)

    def test_a_mail_that_this_node_still_delivers_is_not_given_to_it_again(self) -> None:
        name = self.expired()
        self.claim(self.two)
        self.wait(self.settle(self.two, name))
        self.assertEqual(self.claim(self.one), [])
        # The lease of that claim ends by itself.
        self.failureResultOf(self.settle(self.one, name, done=True), NoSuchMailError)
        self.end_leases(name)
        self.assertEqual([mail.name for mail in self.claim(self.two)], [name])

    def test_mails_are_left_to_nodes_that_come_back_with_redis(self) -> None:
        name = self.expired()
        for node in (self.one, self.two):
            node.redis.since = time.time()
        self.assertEqual(self.claim(self.two), [])
        self.wait(self.two.queue.store._lookout.look())
        self.assertIsNone(self.two.queue.store.next_due())
        self.two.redis.since = time.time() - 11
        self.assertEqual([mail.name for mail in self.claim(self.two)], [name])

    def test_many_are_taken_over_a_part_at_a_time(self) -> None:
        names = [self.put(self.one, number=number) for number in range(230)]
        self.assertEqual(len(self.claim(self.one, limit=230)), 230)
        self.end_leases(*names)
        node = self.make_node(3)
        self.wait(node.queue.store.acquire())
        found = self.wait(node.queue.store.recover()).claims
        self.assertEqual([mail.name for mail in found], names)
        self.assertEqual(node.redis.scripts.count(CLAIM), 4)


class RenewalTests(LeaseCase):
    """A lease lasts as long as its mail is in hand."""

    def advance(self, node: QueueNode, seconds: float) -> None:
        """Let a node's clock go on, and what is renewed then be renewed."""
        node.clock.advance(seconds)
        loop = node.queue.store._leases._loop
        self.until("its leases were renewed", lambda: loop.call is not None)

    def test_leases_are_renewed_thrice_in_their_time(self) -> None:
        name = self.claimed(self.one)
        for _ in range(4):
            self.end_leases(name)
            self.advance(self.one, LEASE / 3)
            self.assertGreater(self.lease_of(name), LEASE - 10)

    def test_many_are_renewed_a_part_at_a_time(self) -> None:
        names = [self.put(self.one, number=number) for number in range(600)]
        self.claim(self.one, limit=600)
        self.end_leases(*names)
        self.advance(self.one, LEASE / 3)
        self.assertEqual(self.server.call("ZCOUNT", KEYS.leases, 0, 1), 0)
        self.assertEqual(self.one.redis.scripts.count(RENEW), 2)

    def test_a_mail_that_is_settled_has_no_lease_to_renew(self) -> None:
        name = self.claimed(self.one)
        self.wait(self.settle(self.one, name))
        self.advance(self.one, LEASE / 3)
        self.assertEqual(self.one.redis.scripts.count(RENEW), 0)

    def test_another_s_lease_is_not_renewed(self) -> None:
        name = self.claimed(self.one)
        self.end_leases(name)
        self.claim(self.two)
        self.end_leases(name)
        self.advance(self.one, LEASE / 3)
        self.assertLess(self.lease_of(name), 0)

    def test_a_node_renews_late_leases_before_it_claims(self) -> None:
        """Its own mails, in hand, must not seem abandoned to itself."""
        name = self.claimed(self.one)
        self.end_leases(name)
        self.one.clock.rightNow += LEASE / 2 + 1
        self.assertEqual(self.claim(self.one), [])
        self.assertGreater(self.lease_of(name), LEASE - 10)
        self.wait(self.settle(self.one, name, done=True))

    def test_leases_that_were_renewed_in_time_are_not_before_a_claim(self) -> None:
        self.claimed(self.one)
        for _ in range(4):
            self.advance(self.one, LEASE / 3)
        self.assertEqual(self.claim(self.one), [])
        self.assertEqual(self.one.redis.scripts.count(RENEW), 4)

    def test_while_redis_is_away_renewing_is_tried_again(self) -> None:
        name = self.claimed(self.one)
        self.end_leases(name)
        self.one.redis.losses = 1
        self.advance(self.one, LEASE / 3)
        self.end_leases(name)
        self.advance(self.one, LEASE / 3)
        self.assertGreater(self.lease_of(name), LEASE - 10)

    def test_a_node_that_stops_gives_its_mails_up(self) -> None:
        name = self.claimed(self.one)
        self.two.redis.since = time.time()
        self.wait(self.one.queue.store.stop())
        (mail,) = self.claim(self.two)
        self.assertEqual((mail.name, mail.abandoned), (name, True))

    def test_stopping_twice_or_without_redis_is_fine(self) -> None:
        name = self.claimed(self.one)
        self.server.kill()
        self.wait(self.one.queue.store.stop())
        self.wait(self.one.queue.store.stop())
        self.failureResultOf(self.settle(self.one, name, done=True), NoSuchMailError)


class LostAnswerTests(LeaseCase):
    """Whatever answer is lost, no mail is, and nothing is done twice."""

    def lose(self, node: QueueNode, count: int = 1) -> None:
        node.redis.losses = count

    def test_a_put_may_be_repeated(self) -> None:
        name = self.one.queue.store.make_name(NOW, "0" * 16)
        state = tried_state(next_at=NOW)
        self.lose(self.one)
        self.failureResultOf(self.one.queue.store.put(name, document(), state), RedisAwayError)
        self.wait(self.one.queue.store.put(name, document(), state))
        self.failureResultOf(self.one.queue.store.put(name, document(), FRESH), StoreError)
        self.assertEqual(self.wait(self.one.queue.store.get(name)).state, state)

    def test_a_claim_is_undone_before_the_next(self) -> None:
        state = tried_state(next_at=NOW)
        names = [self.put(self.one, number=number, state=state) for number in range(3)]
        self.lose(self.one)
        self.failureResultOf(self.one.queue.store.claim(NOW, 2), RedisAwayError)
        self.assertIsNone(self.one.queue.store.next_due())
        self.assertEqual(self.waiting(self.two), names[2:])
        # They are due as of now.
        found = self.claim(self.one, now=time.time() + 1)
        self.assertEqual(sorted(mail.name for mail in found), names)
        self.assertEqual({(mail.state, mail.abandoned) for mail in found}, {(state, False)})
        self.claim(self.one)
        self.assertEqual(self.one.redis.scripts.count(UNCLAIM), 1)

    def test_a_claim_is_undone_when_the_node_stops(self) -> None:
        name = self.put(self.one)
        self.lose(self.one)
        self.failureResultOf(self.one.queue.store.claim(NOW, 2), RedisAwayError)
        self.wait(self.one.queue.store.stop())
        self.assertEqual(self.waiting(self.two), [name])
        self.wait(self.two.queue.store.remove(name))
        self.assertEqual(self.server.dump(), {})

    def test_what_was_abandoned_stays_abandoned(self) -> None:
        name = self.claimed(self.one)
        self.mark(self.one, name)
        self.end_leases(name)
        self.lose(self.two)
        self.failureResultOf(self.two.queue.store.claim(NOW, 2), RedisAwayError)
        (mail,) = self.claim(self.two)
        self.assertEqual((mail.name, mail.state, mail.abandoned), (name, DOUBT, True))

    def test_a_mark_without_an_answer_is_none(self) -> None:
        name = self.claimed(self.one)
        self.lose(self.one)
        self.fails_to_mark(self.one, name, RedisAwayError)
        self.wait(self.settle(self.one, name))
        self.assertEqual([mail.state for mail in self.claim(self.two)], [FRESH])

    def test_settling_may_be_repeated(self) -> None:
        for number, what in enumerate(SETTLEMENTS):
            name = self.claimed(self.one, number)
            self.lose(self.one)
            self.failureResultOf(self.settle(self.one, name, **what), RedisAwayError)
            before = self.server.dump()
            self.wait(self.settle(self.one, name, **what))
            self.assertEqual(self.server.dump(), before)
            self.failureResultOf(self.settle(self.one, name, **what), NoSuchMailError)

    def test_what_others_did_since_is_not_undone(self) -> None:
        name = self.claimed(self.one)
        self.lose(self.one)
        self.failureResultOf(self.settle(self.one, name), RedisAwayError)
        self.assertEqual([mail.name for mail in self.claim(self.two)], [name])
        self.wait(self.settle(self.one, name, tried_state(next_at=NOW + 60)))
        self.mark(self.two, name)
        self.wait(self.settle(self.two, name, done=True))
        self.assertEqual(self.server.dump(), {})
