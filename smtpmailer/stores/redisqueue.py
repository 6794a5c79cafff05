# SPDX-License-Identifier: MIT
"""A queue in Redis put together from its parts."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IReactorTime

from smtpmailer.interfaces import IRedis
from smtpmailer.stores.redis_graves import RedisDeadLetters, RedisGraves
from smtpmailer.stores.redis_keys import Node, QueueKeys
from smtpmailer.stores.redis_leases import LeasePlan
from smtpmailer.stores.redis_queue import RedisQueueStore
from smtpmailer.stores.redis_search import RedisSearch

__all__ = ["RedisQueue", "SharedQueue", "make_redis_queue"]


@attrs.frozen(kw_only=True)
class SharedQueue:
    """Which queue, and as whom: REDIS_KEY_PREFIX, this process, its leases."""

    prefix: str
    node: Node
    leases: LeasePlan


@attrs.frozen(kw_only=True)
class RedisQueue:
    """A queue in Redis: the mails, the dead letters, and what could not be read."""

    store: RedisQueueStore
    dead: RedisDeadLetters
    graves: RedisGraves
    quarantine: RedisGraves
    search: RedisSearch


def make_redis_queue(
    redis: IRedis, shared: SharedQueue, *, clock: IReactorTime, now: Callable[[], float]
) -> RedisQueue:
    """Put a queue together; ``now`` gives Unix seconds. Nothing is asked of Redis yet."""
    keys = QueueKeys(shared.prefix)
    store = RedisQueueStore(redis, keys, shared.node, plan=shared.leases, clock=clock, now=now)
    graves = RedisGraves(redis, keys, keys.dead, now)
    return RedisQueue(
        store=store,
        dead=RedisDeadLetters(graves, store.waits),
        graves=graves,
        quarantine=RedisGraves(redis, keys, keys.quarantine, now),
        search=RedisSearch(redis, keys),
    )
