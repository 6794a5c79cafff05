# SPDX-License-Identifier: MIT
"""Nodes for tests: queues on one Redis, each with a link, a name and clocks of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from smtpmailer.core.queued import Settlement, StoredMail
from smtpmailer.core.queuestate import FRESH, MailState
from smtpmailer.core.redisvalues import RedisScript, RedisState
from smtpmailer.errors import RedisAwayError
from smtpmailer.interfaces import IRedis
from smtpmailer.stores.redis_keys import Node, QueueKeys
from smtpmailer.stores.redis_leases import LeasePlan
from smtpmailer.stores.redisqueue import RedisQueue, SharedQueue, make_redis_queue
from tests.redis_server import RedisServer
from tests.stores.queues import NOW, document
from tests.stores.redis_case import PREFIX, RedisTestCase

__all__ = ["KEYS", "LEASE", "LossyRedis", "QueueNode", "RedisNodesCase", "RedisQueueCase"]

KEYS = QueueKeys(PREFIX)

#: Seconds of a lease.
LEASE = 600.0


@implementer(IRedis)
class LossyRedis:
    """A link that can lose answers: the ``losses`` next commands are carried out unanswered."""

    def __init__(self, link: IRedis) -> None:
        self._link = link
        self.losses = 0
        self.since: float | None = None
        #: Each script that was run.
        self.scripts: list[RedisScript] = []

    def call(self, *words: Any) -> Deferred[Any]:
        return self._link.call(*words).addCallback(self._lose)

    def run(self, script: RedisScript, *words: Any, **more: Any) -> Deferred[Any]:
        self.scripts.append(script)
        return self._link.run(script, *words, **more).addCallback(self._lose)

    def state(self) -> RedisState:
        state = self._link.state()
        return state if self.since is None else attrs.evolve(state, since=self.since)

    def tried(self) -> Deferred[None]:
        return self._link.tried()

    def watch(self, changed: Callable[[], None]) -> None:
        self._link.watch(changed)

    def _lose(self, answer: Any) -> Any:
        if self.losses:
            self.losses -= 1
            raise RedisAwayError("Redis is away: the answer was lost", sent=True)
        return answer


@attrs.define
class QueueNode:
    """One node's queue; ``skew`` is by how much its clock is fast (seconds)."""

    number: int
    redis: LossyRedis
    clock: Clock
    skew: float = 0.0
    queue: RedisQueue = attrs.field(init=False)

    @queue.default
    def _make_queue(self) -> RedisQueue:
        shared = SharedQueue(
            prefix=PREFIX,
            node=Node("host", self.number, f"{self.number:04x}"),
            leases=LeasePlan(seconds=LEASE),
        )
        # Redis has been there for long, unless the test says otherwise.
        self.redis.since = 0.0
        return make_redis_queue(
            self.redis, shared, clock=self.clock, now=lambda: time.time() + self.skew
        )


class RedisNodesCase(RedisTestCase):
    """Has a server, and nodes on it."""

    server: RedisServer
    #: Settings of redis.conf.
    settings: ClassVar[Mapping[str, object]] = {}

    def setUp(self) -> None:
        super().setUp()
        self.server = self.start_server(**self.settings)

    def make_node(self, number: int = 1, *, skew: float = 0.0) -> QueueNode:
        """Make a node; at the test's end it is stopped."""
        node = QueueNode(number, LossyRedis(self.start_link(self.server)), Clock(), skew)
        self.addCleanup(lambda: self.wait(node.queue.store.stop()))
        return node

    def run_node(self, number: int = 1, *, skew: float = 0.0) -> QueueNode:
        """Make a node that delivers."""
        node = self.make_node(number, skew=skew)
        self.wait(node.queue.store.acquire())
        self.wait(node.queue.store.recover())
        return node

    def end_leases(self, *names: str) -> None:
        """Let leases have ended long ago, by Redis's clock."""
        for name in names:
            self.server.call("ZADD", KEYS.leases, "XX", 1, name)


class RedisQueueCase(RedisNodesCase):
    """Has the steps on them."""

    def put(
        self, node: QueueNode, due: float = NOW, number: int = 0, state: MailState = FRESH
    ) -> str:
        """Put a mail whose subject is its number."""
        name = node.queue.store.make_name(due, f"{number:016x}")
        self.wait(node.queue.store.put(name, document(str(number)), state))
        return name

    def claim(self, node: QueueNode, now: float = NOW, limit: int = 100) -> list[StoredMail]:
        return list(self.wait(node.queue.store.claim(now, limit)))

    def settle(
        self, node: QueueNode, name: str, state: MailState = FRESH, **what: Any
    ) -> Deferred[None]:
        settlement = Settlement(at=NOW, state=state, **what)
        done: Deferred[None] = node.queue.store.settle(name, settlement)
        return done

    def waiting(self, node: QueueNode) -> list[str]:
        return list(self.wait(node.queue.store.page(500, 0)).names)
