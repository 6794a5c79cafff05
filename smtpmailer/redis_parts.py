# SPDX-License-Identifier: MIT
"""Redis's part of the composition root: the link to it, and the counters in it.

Importing it installs a reactor (txredisapi does).
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from typing import Any, Final

import attrs
from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.logger import Logger

from smtpmailer.core.settings import Settings
from smtpmailer.coroutines import returns_deferred
from smtpmailer.interfaces import ICounters, IRedis
from smtpmailer.lifecycle import Part
from smtpmailer.stores.redis_connection import Limits, Login
from smtpmailer.stores.redis_counters import RedisCounters
from smtpmailer.stores.redis_link import LinkPlan, RedisLink
from smtpmailer.stores.redis_servers import FixedServer, Network, Place, Sentinels
from smtpmailer.stores.redis_tls import RedisTls

__all__ = ["RedisParts", "build_link", "build_redis"]

#: Seconds for which the service waits at its start; without Redis it answers all the same.
_PATIENCE: Final = 2.0
#: Seconds in the place of REDIS_TIMEOUT = 0 and REDIS_READ_TIMEOUT = 0: every wait has a limit.
_CONNECT_LIMIT: Final = 10
_ANSWER_LIMIT: Final = 300


_log = Logger()


@attrs.frozen(kw_only=True)
class RedisParts:
    """What Redis adds to the service.

    ``services`` start before everything that uses Redis. ``ready`` fires when the first attempt
    to connect has ended, well or not, and does not wait long for it.
    """

    redis: IRedis
    counters: ICounters
    services: tuple[IService, ...]
    ready: Callable[[], Deferred[None]]


def build_redis(settings: Settings, reactor: Any, *, resets: bool = True) -> RedisParts:
    """Put link and counters together; connects nothing. Raises TlsConfigError.

    Of several processes that make up a service one ``resets`` the counters, and only when the
    whole service starts.
    """
    link = build_link(settings, reactor)
    if settings.redis_store_queue or settings.redis_store_template:
        link.watch(lambda: _warn_of_loss(link))
    counters = RedisCounters(
        link,
        settings.redis_key_prefix,
        reactor,
        reset=resets and settings.redis_reset_stats_on_start,
    )

    @returns_deferred
    async def ready() -> None:
        with contextlib.suppress(DeferredTimeoutError):
            await link.tried().addTimeout(_PATIENCE, reactor)

    return RedisParts(
        redis=link,
        counters=counters,
        services=(
            Part("Redis", start=link.start, stop=link.stop),
            Part("counters", start=counters.start, stop=counters.stop),
        ),
        ready=ready,
    )


def _warn_of_loss(redis: IRedis) -> None:
    if redis.state().append_only is False:
        _log.warn("Redis has appendonly off: it loses the last changes when it ends unexpectedly")


def build_link(settings: Settings, reactor: Any) -> RedisLink:
    """Make the link that the settings describe. Raises TlsConfigError."""
    tls = RedisTls(settings.redis_ca_file).options if settings.redis_proto == "tls" else None
    network = Network(
        reactor=reactor, connect_limit=settings.redis_timeout or _CONNECT_LIMIT, tls=tls
    )
    plan = LinkPlan(
        login=Login(
            user=settings.redis_user,
            password=settings.redis_password,
            database=settings.redis_db,
        ),
        limits=Limits(
            answer=settings.redis_read_timeout or _ANSWER_LIMIT,
            replicas=settings.redis_wait_replicas,
        ),
        pause=settings.redis_retry_interval / 1000,
        now=time.time,
        jitter=random.random,
    )
    return RedisLink(_place(settings, network), network, plan)


def _place(settings: Settings, network: Network) -> Place:
    if not settings.redis_sentinels:
        return FixedServer((settings.redis_addr, settings.redis_port))
    login = Login(user=settings.redis_sentinel_user, password=settings.redis_sentinel_password)
    return Sentinels(settings.redis_sentinels, settings.redis_sentinel_master, login, network)
