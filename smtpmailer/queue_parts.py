# SPDX-License-Identifier: MIT
"""The queue's part of the composition root."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import attrs
from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from smtpmailer.core.cron import next_after
from smtpmailer.core.retry import RetryPolicy
from smtpmailer.core.settings import Settings
from smtpmailer.dispatcher import Handler
from smtpmailer.interfaces import ICounters, IQueue, IQueueStore
from smtpmailer.lifecycle import Part
from smtpmailer.runner import QueueRunner, RunPlan
from smtpmailer.services.deadletters import DeadLetterService
from smtpmailer.services.mail import Requeue
from smtpmailer.services.postman import Postman, PostmanTools
from smtpmailer.services.queue import QueueService, QueueTools
from smtpmailer.stores.filequeue import QueueDirectories, make_file_queue
from smtpmailer.stores.sealed import QueueCipher, SealedDeadLetters, SealedQueueStore
from smtpmailer.stores.watch import DirectoryWatch
from smtpmailer.threads import Threads

__all__ = ["QueueParts", "build_queue", "local_zone"]

_log = Logger()


@attrs.frozen(kw_only=True)
class QueueParts:
    """What the queue adds to the service.

    ``stores`` start before everything that uses the queue, ``runner`` after; ``ready`` fires once
    the store can be used.
    """

    handlers: Mapping[str, Handler]
    requeue: Requeue
    store: IQueue
    stores: tuple[IService, ...]
    runner: IService
    ready: Callable[[], Deferred[None]]


def build_queue(
    settings: Settings, reactor: Any, tools: QueueTools, counters: ICounters
) -> QueueParts:
    """Put the queue together; touches nothing."""
    threads = Threads(reactor, name="smtpmailer-queue", size=6)
    files = make_file_queue(
        QueueDirectories(
            waiting=settings.queue_dir,
            claimed=settings.queue_process_dir,
            failed=settings.queue_failed_dir,
        ),
        threads,
        lambda changed, lost: DirectoryWatch(reactor, changed, lost),
        durable=settings.queue_fsync,
    )
    cipher = QueueCipher(
        method=settings.queue_encrypt_method,
        keys=(settings.secret_key, *settings.secret_key_old),
        whole=settings.queue_full_encrypt,
        make_nonce=os.urandom,
    )
    store = SealedQueueStore(files.store, cipher)
    policy = _policy(settings)
    postman = Postman(
        store,
        PostmanTools(
            parser=tools.parser,
            courier=tools.courier,
            counters=counters,
            policy=policy,
            now=time.time,
            jitter=random.random,
        ),
    )
    plan = RunPlan(
        next_scan=_schedule(settings),
        batch=settings.queue_max_batch_size,
        concurrency=settings.queue_concurrency,
        at_once=settings.queue_send_immediately,
    )
    starting = _Starting(store)
    runner = QueueRunner(store, postman, plan, clock=reactor, now=time.time)
    letters = SealedDeadLetters(files.dead, cipher)
    return QueueParts(
        handlers=_handlers(store, DeadLetterService(letters, store.is_name), tools),
        requeue=Requeue(store=store, policy=policy, now=time.time, jitter=random.random),
        store=store,
        stores=(
            Part("queue threads", start=threads.start, stop=threads.stop),
            Part("queue store", start=starting.start, stop=store.stop),
        ),
        runner=_RunnerPart(runner, starting),
        ready=starting.done,
    )


class _Starting:
    """Starts a store and tells everybody who asks when it has started, or why not."""

    def __init__(self, store: IQueue) -> None:
        self._store = store
        self._result: Any = None
        self._over = False
        self._waiting: list[Deferred[Any]] = []

    def start(self) -> None:
        """Start the store."""
        self._store.start().addBoth(self._ended)

    def done(self) -> Deferred[None]:
        """Fire when the store has started; fails as its start did."""
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        if self._over:
            self._tell()
        return waiting

    def _ended(self, result: Any) -> None:
        self._over, self._result = True, result
        self._tell()

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(self._result)


class _RunnerPart(Service):
    """Starts the runner once the store has started, unless it is to stop by then."""

    def __init__(self, runner: QueueRunner, starting: _Starting) -> None:
        self.setName("queue runner")
        self._runner = runner
        self._starting = starting

    def startService(self) -> None:
        """Start the runner when the store is ready."""
        super().startService()
        self._starting.done().addCallbacks(self._ready, _known)

    def stopService(self) -> Deferred[None]:
        """Stop the runner; fires when all its claims are settled."""
        super().stopService()
        return self._runner.stopService()

    def _ready(self, _result: object) -> None:
        if self.running:
            self._runner.startService()


def _known(_failure: Failure) -> None:
    """Do nothing: the listener logs why the queue can't be used."""


def _policy(settings: Settings) -> RetryPolicy:
    return RetryPolicy(
        max_retries=settings.queue_max_failed_retry,
        delay=settings.queue_retry_delay,
        factor=settings.queue_retry_factor,
        max_delay=settings.queue_retry_max_delay,
        max_age=settings.queue_max_age,
        hold_doubtful=settings.queue_on_doubt == "hold",
    )


def _schedule(settings: Settings) -> Callable[[float], float]:
    """Give the wait until the next scan; crontab times are the machine's local ones."""
    if settings.queue_scan_mode == "interval":
        return lambda _now: settings.queue_scan_interval
    zone = local_zone(os.environ.get("TZ", ""))
    return lambda now: next_after(settings.queue_scan_cron, now, zone) - now


def local_zone(name: str) -> tzinfo:
    """Give the machine's time zone, daylight saving included.

    ``name`` is the TZ variable: a zone's name or a file's path, either behind a colon or not.
    Without one that is known, /etc/localtime counts; without that, UTC. (A rule in POSIX form,
    such as CET-1CEST, is no name.)
    """
    name = name.removeprefix(":")
    if name and not name.startswith("/"):
        with contextlib.suppress(ZoneInfoNotFoundError, ValueError):
            return ZoneInfo(name)
        _log.warn("TZ = {name} is no zone's name: /etc/localtime counts", name=name)
    for path in (name, "/etc/localtime"):
        with contextlib.suppress(OSError, ValueError), Path(path or "/").open("rb") as file:
            return ZoneInfo.from_file(file)
    return UTC


def _handlers(
    store: IQueueStore, letters: DeadLetterService, tools: QueueTools
) -> Mapping[str, Handler]:
    queue = QueueService(store, tools)
    return {
        "queueMail": queue.queue_mail,
        "getQueueList": queue.get_list,
        "getQueuedMail": queue.get,
        "updateQueuedMail": queue.update,
        "removeQueuedMail": queue.remove,
        "clearQueue": queue.clear,
        "getFailedList": letters.get_list,
        "getFailedMail": letters.get,
        "retryFailedMail": letters.retry,
        "removeFailedMail": letters.remove,
        "clearFailed": letters.clear,
    }
