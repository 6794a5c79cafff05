# SPDX-License-Identifier: MIT
"""Tests for when mails in Redis are due: clocks that differ, looks, and calls."""

from __future__ import annotations

import time

from smtpmailer.core.queuestate import MailState
from tests.stores.queues import NOW, document, tried_state
from tests.stores.redis_nodes import KEYS, QueueNode, RedisQueueCase

HOUR = 3600.0


class ClockTests(RedisQueueCase):
    """What counts is Redis's clock, however wrong a node's is."""

    def names(self, node: QueueNode) -> list[str]:
        """Let a node claim what it takes to be due."""
        mails = self.claim(node, now=time.time() + node.skew + 1)
        return [mail.name for mail in mails]

    def due_at(self, name: str) -> float:
        """Tell in how many seconds a mail is due, by Redis's clock."""
        return float(self.server.call("ZSCORE", KEYS.due, name)) - time.time()

    def test_a_node_whose_clock_is_fast_sends_nothing_too_early(self) -> None:
        node = self.run_node(skew=HOUR)
        name = self.put(node, time.time() + 1.5 * HOUR)
        self.assertEqual(self.names(node), [])
        due = self.make_due(node)
        self.assertApproximates(due - time.time() - HOUR, 1.5 * HOUR, 5)
        self.assertApproximates(self.due_at(name), 1.5 * HOUR, 5)

    def make_due(self, node: QueueNode) -> float:
        """Give when the node takes the next mail to be due, by its own clock."""
        self.wait(node.queue.store._lookout.look())
        due = node.queue.store.next_due()
        assert due is not None
        return due

    def test_a_node_whose_clock_is_slow_sends_nothing_too_late(self) -> None:
        node = self.run_node(skew=-HOUR)
        name = self.put(node, time.time() - 10)
        self.assertApproximates(self.make_due(node), time.time() - HOUR - 10, 5)
        self.assertEqual(self.names(node), [name])

    def test_what_is_due_at_once_is_so_for_all_nodes(self) -> None:
        """Such a mail is named after the clock of the node that accepted it."""
        fast, other = self.run_node(1, skew=HOUR), self.run_node(2)
        name = self.put(fast, time.time() + HOUR)
        self.assertEqual(self.names(other), [name])

    def test_a_time_that_a_node_reckoned_is_the_same_for_all(self) -> None:
        fast, other = self.run_node(1, skew=HOUR), self.run_node(2)
        name = self.put(fast, time.time() + HOUR)
        self.names(fast)
        self.wait(self.settle(fast, name, MailState(next_at=time.time() + HOUR + 60)))
        self.assertApproximates(self.due_at(name), 60, 5)
        self.assertApproximates(self.make_due(other), time.time() + 60, 5)

    def test_a_second_more_or_less_counts_as_none(self) -> None:
        node = self.run_node(skew=-1.5)
        name = self.put(node, state=MailState(next_at=NOW + 60))
        self.assertEqual(float(self.server.call("ZSCORE", KEYS.due, name)), NOW + 60)

    def test_a_lease_lasts_as_long_for_any_clock(self) -> None:
        node, other = self.run_node(1, skew=-HOUR), self.run_node(2, skew=HOUR)
        name = self.put(node)
        self.names(node)
        self.assertEqual(self.names(other), [])
        self.wait(node.queue.store.mark(name, MailState(in_doubt=("b@example.test",))))
        self.assertEqual(self.names(other), [])


class LookTests(RedisQueueCase):
    """A node hears of its own mails at once, and of others' by looking."""

    def setUp(self) -> None:
        super().setUp()
        self.one, self.two = self.run_node(1), self.run_node(2)
        self.calls = 0
        self.two.queue.store.watch(self.called)

    def called(self) -> None:
        self.calls += 1

    def look(self, node: QueueNode, seconds: float = 0.5) -> None:
        """Let a node's clock go on, and what it looks for then be found."""
        node.clock.advance(seconds)
        loop = node.queue.store._lookout._loop
        self.until("it has looked", lambda: loop.call is not None)

    def test_another_node_s_mail_is_noticed_within_half_a_second(self) -> None:
        self.put(self.one)
        self.assertEqual(self.one.queue.store.next_due(), NOW)
        self.assertIsNone(self.two.queue.store.next_due())
        self.look(self.two)
        self.assertEqual((self.two.queue.store.next_due(), self.calls), (NOW, 1))

    def test_so_is_that_it_has_gone(self) -> None:
        name = self.put(self.one)
        self.look(self.two)
        self.wait(self.one.queue.store.remove(name))
        self.look(self.two)
        self.assertIsNone(self.two.queue.store.next_due())

    def test_nobody_is_called_when_nothing_waits(self) -> None:
        self.put(self.one, state=MailState(held="in doubt"))
        self.look(self.two)
        self.assertEqual((self.two.queue.store.next_due(), self.calls), (None, 0))

    def test_an_older_answer_does_not_hide_what_came_since(self) -> None:
        lookout = self.two.queue.store._lookout
        self.put(self.one, NOW + 60)
        looked = lookout.look()
        lookout.expect(NOW)
        self.wait(looked)
        self.assertEqual(lookout.next_due, NOW)
        self.wait(lookout.look())
        self.assertEqual(lookout.next_due, NOW + 60)

    def test_while_redis_is_away_nothing_is_due(self) -> None:
        self.put(self.two)
        self.server.kill()
        self.look(self.two)
        self.assertIsNone(self.two.queue.store.next_due())
        self.server.start()
        nodes = (self.one, self.two)
        self.until("Redis is back", lambda: all(node.redis.state().up for node in nodes))
        self.put(self.one, NOW + 9)
        self.look(self.two)
        self.assertEqual(self.two.queue.store.next_due(), NOW + 9)

    def test_a_look_that_is_refused_is_logged_and_not_the_last(self) -> None:
        self.server.call("SET", KEYS.index, "no sorted set")
        self.look(self.two)
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        self.server.call("DEL", KEYS.index)
        self.put(self.one)
        self.look(self.two)
        self.assertEqual(self.two.queue.store.next_due(), NOW)

    def test_a_node_that_was_released_looks_no_more(self) -> None:
        self.wait(self.two.queue.store.release())
        self.put(self.one)
        self.two.clock.advance(5)
        self.wait(self.two.redis.call("PING"))
        self.assertIsNone(self.two.queue.store.next_due())

    def test_a_node_that_starts_without_redis_looks_through_all_when_it_is_back(self) -> None:
        names = [self.one.queue.store.make_name(NOW, f"{number:016x}") for number in range(2500)]
        self.server.kill()
        node = self.make_node(3)
        self.wait(node.queue.store.acquire())
        self.assertEqual(self.wait(node.queue.store.recover()).claims, ())
        self.server.start()
        self.until("Redis is back", lambda: node.redis.state().up)
        for name in names:
            self.server.call("ZADD", KEYS.index, 0, f'"{name}"')
        self.look(node)
        self.assertEqual(self.server.call("ZCARD", KEYS.due), 2500)


class CallTests(RedisQueueCase):
    """A mail that this node put off can be called."""

    def setUp(self) -> None:
        super().setUp()
        self.one, self.two = self.run_node(1), self.run_node(2)
        self.store = self.one.queue.store

    def put_off(self, number: int = 0, state: MailState | None = None) -> str:
        """Put a mail, claim it, and put it back for later."""
        name = self.put(self.one, number=number)
        self.claim(self.one)
        self.wait(self.settle(self.one, name, state or tried_state(next_at=NOW + 60)))
        return name

    def test_it_is_due_then_and_its_state_untouched(self) -> None:
        name = self.put_off()
        calls: list[None] = []
        self.store.watch(lambda: calls.append(None))
        self.assertTrue(self.store.hasten(name, NOW))
        self.assertEqual((self.store.next_due(), len(calls)), (NOW, 1))
        (mail,) = self.claim(self.one)
        self.assertEqual((mail.name, mail.state), (name, tried_state(next_at=NOW + 60)))

    def test_redis_is_told_once_and_again_when_it_did_not_answer(self) -> None:
        name = self.put_off()
        self.store.hasten(name, NOW)
        self.one.redis.losses = 1
        self.failureResultOf(self.store.claim(NOW, 0))
        self.assertEqual(self.store._hastened, {name: NOW})
        self.claim(self.one, limit=0)
        self.assertEqual(self.store._hastened, {})
        self.assertEqual([mail.name for mail in self.claim(self.two)], [name])

    def test_no_mail_waits_longer_for_it(self) -> None:
        name = self.put_off()
        self.assertTrue(self.store.hasten(name, NOW + 90))
        self.assertEqual([mail.name for mail in self.claim(self.one, now=NOW + 60)], [name])

    def test_held_claimed_gone_and_strange_ones_are_not_called(self) -> None:
        held = self.put_off(1, MailState(held="in doubt"))
        claimed = self.put_off(2)
        self.claim(self.one, now=NOW + 60)
        gone = self.put_off(3)
        self.claim(self.one, now=NOW + 60)
        self.wait(self.settle(self.one, gone, done=True))
        strange = self.put(self.two, NOW + 60, 4)
        for name in (held, claimed, gone, strange, "nonsense"):
            self.assertFalse(self.store.hasten(name, NOW), name)

    def test_what_was_removed_or_held_since_is_not_brought_back(self) -> None:
        removed, replaced = self.put_off(1), self.put_off(2)
        new = self.store.make_name(NOW + 60, "3" * 16)
        self.wait(self.two.queue.store.remove(removed))
        self.wait(self.two.queue.store.replace(replaced, new, document()))
        held = self.put_off(4)
        self.server.call("ZADD", KEYS.due, "XX", "inf", held)
        for name in (removed, replaced, held):
            self.store.hasten(name, NOW)
        self.assertEqual(self.claim(self.one), [])
        self.assertEqual(self.store.next_due(), NOW + 60)
        self.assertEqual(self.waiting(self.one), sorted((new, held)))
