# SPDX-License-Identifier: MIT
"""Tests for a queue on a Redis that is away, restarted, full, or short of replicas."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar

from twisted.internet.defer import Deferred

from smtpmailer.core.queuestate import FRESH, MailState
from smtpmailer.errors import (
    NoSuchMailError,
    RedisAwayError,
    RedisRefusedError,
    RedisUnreplicatedError,
    StoreError,
)
from smtpmailer.stores.redis_connection import Limits
from smtpmailer.stores.redis_scripts import TAKE_BACK
from tests.redis_server import RedisServer
from tests.stores.queues import NOW, document, tried_state
from tests.stores.redis_nodes import KEYS, QueueNode, RedisQueueCase

DOUBT = MailState(in_doubt=("b@example.test",), in_doubt_since=NOW)


class AwayTests(RedisQueueCase):
    """While Redis is away each step fails at once."""

    def test_all_steps_fail_and_none_is_made_later(self) -> None:
        node = self.run_node()
        store, dead = node.queue.store, node.queue.dead
        name = self.put(node)
        self.claim(node)
        self.server.kill()
        self.until("Redis is away", lambda: not node.redis.state().up)
        new = store.make_name(NOW, "1" * 16)
        asked: list[Deferred[Any]] = [
            store.put(new, document(), FRESH),
            store.page(1, 0),
            store.get(name),
            store.replace(name, new, document()),
            store.remove(name),
            store.clear(),
            store.claim(NOW, 1),
            store.mark(name, DOUBT),
            self.settle(node, name, done=True),
            dead.page_failed(1, 0),
            dead.get_failed(name),
            dead.retry_failed(name, document()),
            dead.remove_failed(name),
            dead.clear_failed(),
        ]
        for each in asked:
            self.assertIsInstance(self.failureResultOf(each, RedisAwayError).value, StoreError)


class RestartTests(RedisQueueCase):
    """With the durability that the documentation asks for, a restart loses nothing."""

    settings: ClassVar[Mapping[str, object]] = {"appendonly": "yes", "appendfsync": "always"}

    def test_each_mail_is_where_it_was(self) -> None:
        node, other = self.run_node(1), self.run_node(2)
        names = [self.put(node, number=number) for number in range(5)]
        self.claim(node, limit=3)
        self.wait(node.queue.store.mark(names[0], DOUBT))
        self.wait(self.settle(node, names[1], tried_state(next_at=NOW + 60), dead="x"))
        self.server.kill()
        self.until("Redis is away", lambda: not node.redis.state().up)
        self.failureResultOf(self.settle(node, names[0], done=True), RedisAwayError)
        self.server.start()
        self.until("Redis is back", lambda: node.redis.state().up and other.redis.state().up)
        self.assertEqual(self.waiting(other), names[3:])
        self.assertEqual(self.claim(other, limit=0), [])
        self.wait(self.settle(node, names[0], done=True))
        self.wait(self.settle(node, names[2]))
        self.assertEqual([mail.name for mail in self.claim(other)], names[2:])
        self.assertEqual(self.wait(other.queue.dead.page_failed(9, 0)).names, (names[1],))


class FullTests(RedisQueueCase):
    """A Redis without memory takes no mail, and lets all others go."""

    def setUp(self) -> None:
        super().setUp()
        self.node = self.run_node()
        self.store = self.node.queue.store

    def fill(self) -> None:
        """Let Redis have no memory left."""
        self.server.call("CONFIG", "SET", "maxmemory", "1mb")

    def refused(self, asked: Deferred[Any]) -> None:
        before = self.server.dump()
        self.assertEqual(self.failureResultOf(asked, RedisRefusedError).value.code, "OOM")
        self.assertEqual(self.server.dump(), before)

    def test_what_adds_is_refused_whole(self) -> None:
        name, new = self.put(self.node), self.store.make_name(NOW, "1" * 16)
        self.fill()
        state = tried_state(next_at=NOW)
        self.refused(self.store.put(new, document(), state))
        self.refused(self.store.replace(name, new, document()))
        self.claim(self.node)
        self.refused(self.settle(self.node, name, dead="x"))

    def test_reviving_is_refused_whole(self) -> None:
        name = self.put(self.node)
        self.claim(self.node)
        self.wait(self.settle(self.node, name, dead="x"))
        self.fill()
        self.refused(self.node.queue.dead.retry_failed(name, document()))

    def test_mails_are_sent_all_the_same(self) -> None:
        names = [self.put(self.node, number=number) for number in range(3)]
        self.fill()
        self.claim(self.node, limit=2)
        self.wait(self.store.mark(names[0], DOUBT))
        self.wait(self.settle(self.node, names[0], done=True))
        state = tried_state(next_at=NOW)
        self.wait(self.settle(self.node, names[1], state, document=document("new")))
        found = self.claim(self.node)
        self.assertEqual([mail.name for mail in found], names[1:])
        self.assertEqual(found[0].state, state)
        self.assertEqual(found[0].document, document("1"))

    def test_abandoned_mails_are_taken_over_and_names_without_mails_passed_over(self) -> None:
        name = self.put(self.node)
        self.claim(self.node)
        other = self.run_node(2)
        self.server.call("ZADD", KEYS.index, 0, f'"{name[:-1]}f"')
        self.wait(other.queue.store._lookout.look_through())
        self.end_leases(name)
        self.fill()
        self.wait(self.node.queue.store._leases._renew(1.0))
        self.assertEqual(self.server.call("ZCOUNT", KEYS.leases, 0, 1), 0)
        self.server.call("CONFIG", "SET", "maxmemory", "0")
        self.end_leases(name)
        self.server.call("ZADD", KEYS.index, 0, f'"{name[:-1]}e"')
        self.fill()
        self.wait(other.queue.store._lookout.look_through())
        self.assertEqual([mail.name for mail in self.claim(other)], [name])

    def test_a_claim_without_an_answer_is_undone(self) -> None:
        name = self.put(self.node)
        self.node.redis.losses = 1
        self.failureResultOf(self.store.claim(NOW, 1), RedisAwayError)
        self.fill()
        found = self.claim(self.node, now=time.time() + 1)
        self.assertEqual([mail.name for mail in found], [name])


class ReplicaTests(RedisQueueCase):
    """With REDIS_WAIT_REPLICAS a mail is accepted once replicas have it."""

    settings: ClassVar[Mapping[str, object]] = {"repl_diskless_sync_delay": 0}

    def make_node(self, number: int = 1, *, skew: float = 0.0) -> QueueNode:
        """Make a node that wants one replica."""
        node = super().make_node(number, skew=skew)
        limits = Limits(answer=1.0, replicas=1)
        node.redis._link = self.start_link(self.server, limits=limits)
        return node

    def run_plain(self) -> QueueNode:
        """Run a node that wants none."""
        node = super().make_node(2)
        self.wait(node.queue.store.acquire())
        self.wait(node.queue.store.recover())
        return node

    def start_replica(self) -> RedisServer:
        replica = self.start_server(replicaof=f"127.0.0.1 {self.server.port}")
        self.until("the replica follows", lambda: replica.call("ROLE")[3] == b"connected")
        return replica

    def test_a_mail_is_accepted_when_a_replica_has_it(self) -> None:
        replica = self.start_replica()
        name = self.put(self.run_node())
        self.assertEqual(replica.call("EXISTS", KEYS.queue(name)), 1)

    def test_without_one_it_is_refused_and_taken_back(self) -> None:
        store = self.run_node().queue.store
        name = store.make_name(NOW, "0" * 16)
        put = store.put(name, document(), tried_state(next_at=NOW))
        self.failureResultOf(put, RedisUnreplicatedError)
        self.assertEqual(self.server.dump(), {})

    def test_another_s_mail_is_not_taken_back(self) -> None:
        store = self.run_node().queue.store
        name = store.make_name(NOW, "0" * 16)
        self.server.call("SET", KEYS.queue(name), "{}")
        self.failureResultOf(store.put(name, document(), FRESH), RedisUnreplicatedError, StoreError)
        self.assertEqual(list(self.server.dump()), [KEYS.queue(name)])

    def test_what_is_being_sent_is_not_taken_back(self) -> None:
        node, other = self.run_node(1), self.run_plain()
        name = node.queue.store.make_name(NOW, "0" * 16)
        put = node.queue.store.put(name, document(), FRESH)
        self.until("it is put", lambda: self.server.call("EXISTS", KEYS.queue(name)))
        self.claim(other)
        self.failureResultOf(put, RedisUnreplicatedError)
        self.assertIn(TAKE_BACK, node.redis.scripts)
        self.wait(self.settle(other, name, done=True))

    def test_without_one_mails_are_sent_all_the_same(self) -> None:
        node, plain = self.run_node(1), self.run_plain()
        name = self.put(plain)
        self.claim(node)
        self.wait(node.queue.store.mark(name, DOUBT))
        self.end_leases(name)
        self.wait(self.settle(node, name, done=True))
        self.assertEqual(self.server.dump(), {})

    def test_without_one_a_lost_lease_is_lost_all_the_same(self) -> None:
        node, plain = self.run_node(1), self.run_plain()
        name = self.put(plain)
        self.claim(node)
        self.end_leases(name)
        self.claim(plain)
        self.failureResultOf(node.queue.store.mark(name, DOUBT), NoSuchMailError)


class ManyTests(RedisQueueCase):
    """Many mails are dealt with a part at a time."""

    def test_clearing_takes_all_that_were_there(self) -> None:
        node = self.run_node()
        done = [
            node.queue.store.put(node.queue.store.make_name(NOW, f"{n:016x}"), document(), FRESH)
            for n in range(1234)
        ]
        self.results_of(done)
        self.assertEqual(self.wait(node.queue.store.page(1, 0)).total, 1234)
        self.assertEqual(self.wait(node.queue.store.clear()), 1234)
        self.assertEqual(self.server.dump(), {})

    def test_clearing_goes_past_what_is_no_name(self) -> None:
        node = self.run_node()
        for number in range(700):
            self.server.call("ZADD", KEYS.index, 0, f'"00-{number}"')
        name = self.put(node)
        self.assertEqual(self.wait(node.queue.store.clear()), 1)
        self.assertFalse(self.server.call("EXISTS", KEYS.queue(name)))
