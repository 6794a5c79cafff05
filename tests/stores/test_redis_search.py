# SPDX-License-Identifier: MIT
"""Finding a mail among very many in Redis, and while it moves."""

from __future__ import annotations

from typing import Any

from smtpmailer.core.lookup import Wanted
from smtpmailer.core.queued import MailPlace
from smtpmailer.core.queuestate import FRESH
from smtpmailer.errors import NoSuchMailError, RedisAwayError
from smtpmailer.stores.redis_keys import member
from smtpmailer.stores.redis_search import RedisSearch
from tests.stores.queues import NOW, document
from tests.stores.redis_nodes import KEYS, RedisNodesCase


class _Moving:
    """A link that does something before the first mail is read."""

    def __init__(self, link: Any, move: Any) -> None:
        self._link, self._move = link, move

    def call(self, *words: Any) -> Any:
        return self._link.call(*words)

    def run(self, *words: Any) -> Any:
        move, self._move = self._move, bool
        move()
        return self._link.run(*words)


class RedisSearchTests(RedisNodesCase):
    """Beyond what the contract asks of every store."""

    def setUp(self) -> None:
        super().setUp()
        self.node = self.make_node()
        self.store = self.node.queue.store

    def put(self, number: int = 1) -> str:
        name = self.store.make_name(NOW, f"{number:016x}")
        self.wait(self.store.put(name, document(), FRESH))
        return name

    def test_it_is_found_among_thousands(self) -> None:
        name = self.put()
        names = [f"{number:019d}.00000000_{number:016x}" for number in range(10, 5010)]
        words = [word for each in names for word in ("0", member(each))]
        self.server.call("ZADD", KEYS.index, *words)
        found = self.wait(self.node.queue.search.find(Wanted(f"{1:016x}")))
        self.assertEqual((found.place, found.mail.name), (MailPlace.WAITING, name))
        self.failureResultOf(self.node.queue.search.find(Wanted("nobody")), NoSuchMailError)

    def test_one_that_comes_back_under_another_name_is_looked_for_again(self) -> None:
        name = self.put()
        new = name.replace("00_", "01_")
        move = lambda: self.wait(self.store.replace(name, new, document()))  # noqa: E731
        search = RedisSearch(_Moving(self.node.redis, move), KEYS)  # type: ignore[arg-type]
        found = self.wait(search.find(Wanted(f"{1:016x}")))
        self.assertEqual(found.mail.name, new)

    def test_while_redis_is_away_nobody_knows(self) -> None:
        self.put()
        self.server.stop()
        self.failureResultOf(self.node.queue.search.find(Wanted(f"{1:016x}")), RedisAwayError)
