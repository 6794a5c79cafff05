# SPDX-License-Identifier: MIT
"""Tests for the queue in Redis: the contract, as it is and sealed."""

from __future__ import annotations

from smtpmailer.interfaces import IDeadLetters, IMailSearch, IQueue
from smtpmailer.stores.sealed import SealedDeadLetters, SealedQueueStore, SealedSearch
from tests.stores.contract import QueueContract
from tests.stores.redis_nodes import KEYS, RedisNodesCase
from tests.stores.search_contract import SearchContract
from tests.stores.test_contract import make_cipher


class RedisContractTests(QueueContract, SearchContract, RedisNodesCase):
    """The queue in Redis."""

    named = "{}"

    def setUp(self) -> None:
        RedisNodesCase.setUp(self)
        node = self.make_node()
        self.queue: IQueue = node.queue.store
        self.dead: IDeadLetters = node.queue.dead
        self.search: IMailSearch = node.queue.search
        self.wait(self.queue.start())

    def spoil(self, name: str) -> None:
        self.server.call("SET", KEYS.queue(name), '{"subject": "Hel')


class SealedRedisContractTests(RedisContractTests):
    """The queue in Redis, passwords encrypted."""

    cipher = make_cipher()

    def setUp(self) -> None:
        super().setUp()
        self.queue = SealedQueueStore(self.queue, self.cipher)
        self.dead = SealedDeadLetters(self.dead, self.cipher)
        self.search = SealedSearch(self.search, self.cipher)


class WholeSealedRedisContractTests(SealedRedisContractTests):
    """The queue in Redis, whole documents encrypted."""

    cipher = make_cipher("AES256", whole=True)
