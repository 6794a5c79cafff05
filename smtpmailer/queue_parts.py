# SPDX-License-Identifier: MIT
"""The queue's part of the composition root."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from smtpmailer.core.cron import next_after
from smtpmailer.core.retry import RetryPolicy
from smtpmailer.core.settings import Settings
from smtpmailer.interfaces import Handler, ICounters, IDeadLetters, IMailSearch, IQueue, IRedis
from smtpmailer.lifecycle import Part, counted
from smtpmailer.log import hidden_levels
from smtpmailer.queue_stores import cipher_of, open_stores
from smtpmailer.runner import QueueRunner, RunPlan
from smtpmailer.services.deadletters import DeadLetterService
from smtpmailer.services.explaining import ExplainService
from smtpmailer.services.mail import Requeue
from smtpmailer.services.postman import Postman, PostmanTools
from smtpmailer.services.queue import QueueService, QueueTools
from smtpmailer.services.traffic import Traffic
from smtpmailer.stores.sealed import SealedDeadLetters, SealedQueueStore, SealedSearch
from smtpmailer.zones import local_zone

__all__ = [
    "QueueFront",
    "QueueGround",
    "RunnerPart",
    "build_queue_front",
    "build_runner",
    "open_queue",
]

_log = Logger()


@attrs.frozen(kw_only=True)
class QueueGround:
    """The queue itself, and what else of it stays while settings change.

    ``services`` start before everything that uses the queue; ``ready`` fires once the store can be
    used. ``ahead`` is RunPlan's.
    """

    store: IQueue
    letters: IDeadLetters
    search: IMailSearch
    lists_when_empty: bool
    ahead: int
    traffic: Traffic
    services: tuple[IService, ...]
    ready: Callable[[], Deferred[None]]


@attrs.frozen(kw_only=True)
class QueueFront:
    """What the queue adds to the service, and is put together anew when settings change."""

    handlers: Mapping[str, Handler]
    requeue: Requeue
    postman: Postman


def open_queue(settings: Settings, reactor: Any, redis: IRedis | None = None) -> QueueGround:
    """Give the queue that the settings choose; touches nothing. ``redis`` is given if it is on."""
    stores = open_stores(settings, reactor, redis)
    cipher = cipher_of(settings)
    store = SealedQueueStore(stores.queue, cipher)
    starting = _Starting(store)
    return QueueGround(
        store=store,
        letters=SealedDeadLetters(stores.dead, cipher),
        search=SealedSearch(stores.search, cipher),
        lists_when_empty=stores.lists_when_empty,
        ahead=settings.queue_concurrency if stores.claims_ahead else 0,
        traffic=Traffic(store, settings.queue_concurrency, clock=reactor, now=time.time),
        services=(
            *stores.services,
            Part("queue store", start=starting.start, stop=store.stop),
        ),
        ready=starting.done,
    )


def build_queue_front(
    settings: Settings, ground: QueueGround, tools: QueueTools, counters: ICounters
) -> QueueFront:
    """Put together what uses the queue."""
    policy = _policy(settings)
    postman = Postman(
        ground.store,
        PostmanTools(
            parser=tools.parser,
            courier=tools.courier,
            counters=counters,
            policy=policy,
            now=time.time,
            jitter=random.random,
            hidden=hidden_levels(settings),
        ),
        ground.traffic,
    )
    queue = QueueService(ground.store, tools, lists_when_empty=ground.lists_when_empty)
    letters = DeadLetterService(ground.letters, ground.store.is_name)
    explain = ExplainService(ground.search, ground.store, time.time)
    return QueueFront(
        handlers={**queue.handlers(), **letters.handlers(), **explain.handlers()},
        requeue=Requeue(store=ground.store, policy=policy, now=time.time, jitter=random.random),
        postman=postman,
    )


def build_runner(
    settings: Settings, reactor: Any, ground: QueueGround, postman: Postman
) -> RunnerPart:
    """Give what runs the queue."""
    plan = RunPlan(
        next_scan=_schedule(settings),
        batch=settings.queue_max_batch_size,
        at_once=settings.queue_send_immediately,
        ahead=ground.ahead,
    )
    runner = QueueRunner(ground.store, postman, plan, clock=reactor, now=time.time)
    return RunnerPart(runner, ground.ready)


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


class RunnerPart(Service):
    """Starts the runner once the store has started, unless it is to stop by then."""

    def __init__(self, runner: QueueRunner, ready: Callable[[], Deferred[None]]) -> None:
        """``ready`` fires when the store has started."""
        self.setName("queue runner")
        self.runner = runner
        self._ready_to_run = ready

    def startService(self) -> None:
        """Start the runner when the store is ready."""
        super().startService()
        self._ready_to_run().addCallbacks(self._ready, _known)

    def stopService(self) -> Deferred[None]:
        """Stop the runner; fires when all its claims are settled."""
        super().stopService()
        return self.runner.stopService()

    def left(self) -> str:
        """Say how many mails are claimed; see Unfinished."""
        return counted(self.runner.in_flight, "mail of the queue", "mails of the queue")

    def cut(self) -> None:
        """Do nothing: claims are settled when their deliveries are cut short."""

    def _ready(self, _result: object) -> None:
        if self.running:
            self.runner.startService()


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
