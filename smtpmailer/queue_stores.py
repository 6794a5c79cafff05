# SPDX-License-Identifier: MIT
"""Where the queue is kept: in directories, or in Redis with other nodes."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import attrs
from twisted.application.service import IService
from twisted.internet.defer import succeed

from smtpmailer.core.names import file_name, name_of_file
from smtpmailer.core.settings import Settings
from smtpmailer.interfaces import (
    IDeadLetters,
    IMailSearch,
    IOnceStore,
    IQueue,
    IRedis,
    IThreads,
)
from smtpmailer.lifecycle import Part
from smtpmailer.stores.carrying import Place
from smtpmailer.stores.content import encode
from smtpmailer.stores.filequeue import QueueDirectories, make_file_queue
from smtpmailer.stores.once_files import FileOnceStore
from smtpmailer.stores.once_redis import RedisOnceStore
from smtpmailer.stores.redis_keys import Node
from smtpmailer.stores.redis_leases import LeasePlan
from smtpmailer.stores.redis_mails import encoded
from smtpmailer.stores.redisqueue import RedisQueue, SharedQueue, make_redis_queue
from smtpmailer.stores.sealed import QueueCipher
from smtpmailer.stores.watch import DirectoryWatch
from smtpmailer.sweeping import Sweeping
from smtpmailer.threads import InlineThreads, Threads

__all__ = [
    "OnceStore",
    "QueueStores",
    "cipher_of",
    "directories_of",
    "file_place",
    "open_once_store",
    "open_redis_queue",
    "open_stores",
    "redis_place",
]

_HOUR: Final = 3600


@attrs.frozen(kw_only=True)
class QueueStores:
    """The stores, which encrypt nothing yet; ``services`` start before them.

    ``lists_when_empty`` is QueueService's. ``claims_ahead``: a claimed mail whose turn has not
    come waits for nobody should its node die; where leases have to run out first, it would.
    """

    queue: IQueue
    dead: IDeadLetters
    search: IMailSearch
    services: tuple[IService, ...] = ()
    lists_when_empty: bool
    claims_ahead: bool


def open_stores(settings: Settings, reactor: Any, redis: IRedis | None) -> QueueStores:
    """Give the stores that the settings choose; ``redis`` is there when it is on."""
    if redis is not None and settings.redis_store_queue:
        shared = open_redis_queue(settings, reactor, redis)
        return QueueStores(
            queue=shared.store,
            dead=shared.dead,
            search=shared.search,
            lists_when_empty=False,
            claims_ahead=False,
        )
    threads = Threads(reactor, name="smtpmailer-queue", size=8)
    files = make_file_queue(
        directories_of(settings),
        threads,
        lambda changed, lost: DirectoryWatch(reactor, changed, lost),
        durable=settings.queue_fsync,
    )
    return QueueStores(
        queue=files.store,
        dead=files.dead,
        search=files.search,
        services=(Part("queue threads", start=threads.start, stop=threads.stop),),
        lists_when_empty=True,
        claims_ahead=True,
    )


@attrs.frozen(kw_only=True)
class OnceStore:
    """Where requests are remembered that are to be carried out once; unsealed."""

    store: IOnceStore
    services: tuple[IService, ...]


def open_once_store(
    settings: Settings, reactor: Any, redis: IRedis | None, threads: IThreads
) -> OnceStore:
    """Give what remembers requests, which is kept where the queue is, or would be if it were on."""
    keep = settings.mailer_once_keep
    if redis is not None and settings.redis_store_queue:
        shared = RedisOnceStore(redis, settings.redis_key_prefix, keep=keep, clock=reactor)
        return OnceStore(store=shared, services=(Part("requests' keys", stop=shared.stop),))
    directory = str(Path(settings.queue_dir, ".smtpmailer", "once"))
    files = FileOnceStore(directory, threads, durable=settings.queue_fsync)
    interval = min(keep, _HOUR)
    # Half of it: so each process finds its own last sweep long ago, however clocks differ.
    sweeping = Sweeping(lambda: files.sweep(time.time(), keep, interval / 2), reactor, interval)
    return OnceStore(store=files, services=(Part("requests' keys", stop=files.stop), sweeping))


def open_redis_queue(
    settings: Settings, reactor: Any, redis: IRedis, *, patience: float = 10.0
) -> RedisQueue:
    """Give the queue in Redis; ``patience`` is LeasePlan's. Asks nothing of Redis yet."""
    shared = SharedQueue(
        prefix=settings.redis_key_prefix,
        node=Node.own(secrets.token_hex(8)),
        leases=LeasePlan(seconds=settings.queue_lease, patience=patience),
    )
    return make_redis_queue(redis, shared, clock=reactor, now=time.time)


def file_place(settings: Settings) -> Place:
    """Give the file queue for carrying mails; it works in the thread that asks."""
    files = make_file_queue(
        directories_of(settings), InlineThreads(), _NoWatch, durable=settings.queue_fsync
    )
    return Place(
        queue=files.store,
        dead=files.graves,
        quarantine=files.quarantine,
        localize=file_name,
        globalize=name_of_file,
        encode=encode,
        claimed=lambda: succeed(0),
    )


def redis_place(settings: Settings, reactor: Any, redis: IRedis) -> Place:
    """Give the queue in Redis for carrying mails; other nodes have stopped."""
    shared = open_redis_queue(settings, reactor, redis, patience=0.0)
    return Place(
        queue=shared.store,
        dead=shared.graves,
        quarantine=shared.quarantine,
        localize=str,
        globalize=str,
        encode=encoded,
        claimed=shared.store.claimed,
    )


class _NoWatch:
    """Watches nothing: nobody else changes the queue meanwhile."""

    def __init__(self, changed: Callable[[str, bool], None], lost: Callable[[], None]) -> None:
        del changed, lost

    @property
    def watching(self) -> bool:
        """Say that all is well."""
        return True

    def start(self, path: str) -> bool:
        """Say that all is well."""
        return bool(path)

    def stop(self) -> None:
        """Do nothing."""


def directories_of(settings: Settings) -> QueueDirectories:
    """Give the directories of the file queue."""
    return QueueDirectories(
        waiting=settings.queue_dir,
        claimed=settings.queue_process_dir,
        failed=settings.queue_failed_dir,
    )


def cipher_of(settings: Settings) -> QueueCipher:
    """Give how the queue's documents are encrypted."""
    return QueueCipher(
        method=settings.queue_encrypt_method,
        keys=tuple(key for key in (settings.secret_key, *settings.secret_key_old) if key),
        whole=settings.queue_full_encrypt,
        make_nonce=os.urandom,
    )
