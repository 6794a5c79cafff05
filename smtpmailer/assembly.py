# SPDX-License-Identifier: MIT
"""The parts of a process that serves the API, or runs the queue, or both."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from smtpmailer.account_parts import AccountsDesk
from smtpmailer.census import ServiceTally
from smtpmailer.core.board import Field, Seat
from smtpmailer.core.settings import Settings
from smtpmailer.coroutines import returns_deferred
from smtpmailer.delivery.counted import CountedSender
from smtpmailer.door_parts import TlsDoor, build_auth, protocol_limits
from smtpmailer.front_parts import Front, Ground, build_front, find_machine_name
from smtpmailer.garbage import GarbageCollector
from smtpmailer.keysfile import load_keys
from smtpmailer.lifecycle import Part, counted
from smtpmailer.listener import Listener
from smtpmailer.lookout import Lookout
from smtpmailer.once_parts import build_once
from smtpmailer.pacing import Pacer
from smtpmailer.processes.pulse import Pulse
from smtpmailer.processes.sharing import Shared
from smtpmailer.protocol import JsonFactory
from smtpmailer.queue_parts import RunnerPart, build_runner, open_queue
from smtpmailer.reloading import Reloader
from smtpmailer.remembering_parts import build_remembering
from smtpmailer.services.room import MemoryRoom
from smtpmailer.stamps import Stamps
from smtpmailer.stores.shared_counters import SharedCounters
from smtpmailer.switch import Switch
from smtpmailer.threads import Threads

if TYPE_CHECKING:
    from smtpmailer.metrics import Metrics
    from smtpmailer.redis_parts import RedisParts

__all__ = ["Assembly", "Place"]


def _nothing(_taking: bool) -> None:  # noqa: FBT001 - Listener's
    """Do nothing."""


@attrs.frozen(kw_only=True)
class Place:
    """What a process is to do, and where it counts.

    It is ``alone`` when there are no others. ``open_port`` gives the open port for a factory;
    without it one is opened. ``told`` hears when connections are taken, and when no more are.
    ``first``: what is done once when the whole service starts is done here.
    """

    shared: Shared
    seat: Seat
    alone: bool = False
    serves: bool = True
    runs_queue: bool = True
    open_port: Callable[[Any], Any] | None = None
    told: Callable[[bool], None] = _nothing
    first: bool = True


class Assembly:
    """The parts, put together; opens nothing, starts nothing."""

    _log = Logger()

    def __init__(self, settings: Settings, reactor: Any, place: Place) -> None:
        """Read keys, certificate and schemas; raises OperatorError."""
        # Importing it installs a reactor, so not before there is one.
        from smtpmailer.sender_parts import build_sender  # noqa: PLC0415

        self._reactor = reactor
        self._place = place
        self._pacer = Pacer(reactor)
        self._stamps = Stamps(os.urandom, time.time)
        self._threads = Threads(reactor, name="smtpmailer", size=8)
        self._sender = build_sender(
            settings, reactor, self._threads, pace=self._pacer.later, rates=place.shared.paces
        )
        self._remembering = build_remembering(settings, self._sender.paces, self._threads, reactor)
        self._redis = _redis(settings, reactor, resets=place.first)
        link = self._redis.redis if self._redis else None
        self.queue = open_queue(settings, reactor, link) if settings.mailer_queue else None
        self._once = build_once(
            settings, reactor, self.queue, link, self._threads, self._stamps.fresh
        )
        self._auth = build_auth(settings, reactor, place.shared.rates)
        self._tls = TlsDoor(settings)
        self._accounts = AccountsDesk(settings, find_machine_name())
        self._metrics = _metrics(settings, reactor)
        self._ground = self._make_ground()
        front = build_front(settings, self._ground)
        self._runner = self._make_runner(settings, front)
        self._switch = Switch(front.dispatcher)
        dispatcher = self._metrics.dispatcher(self._switch) if self._metrics else self._switch
        tally = None
        if not place.alone:
            tally = ServiceTally(place.shared.board, place.seat, place.shared.tally)
        self.factory = JsonFactory(dispatcher, reactor, protocol_limits(settings), tally)
        self.reloader = Reloader(reactor, self._reloads(settings))
        self.listener = Listener(
            reactor,
            (settings.mailer_addr, settings.mailer_port),
            self._tls.wrap(self.factory, reactor),
            self.ready,
            open_port=place.open_port,
            told=place.told,
        )
        self.pulse = Pulse(
            reactor,
            place.seat,
            {
                Field.CONNECTIONS: lambda: self.factory.connections,
                Field.REQUESTS: lambda: self.factory.load.requests_answered,
                Field.IN_FLIGHT: lambda: self.factory.requests_in_flight,
            },
        )

    def parts(self) -> tuple[IService, ...]:
        """Give all parts, in the order of their start."""
        return (
            self.pulse,
            Part("threads", start=self._threads.start, stop=self._threads.stop),
            self._auth.threads,
            *(self._redis.services if self._redis else ()),
            *(self.queue.services if self.queue else ()),
            *self._once.services,
            self._remembering,
            Part(
                "deliveries",
                stop=self._sender.drain,
                left=lambda: counted(self._sender.sessions, "SMTP session"),
                cut=self._sender.cut,
            ),
            *self._queue_services(),
            self.reloader,
            GarbageCollector(self._reactor, lambda: self.factory.requests_in_flight),
            Part("requests", stop=self._drain, left=self._open_requests),
            *((self.listener,) if self._place.serves else ()),
        )

    @returns_deferred
    async def ready(self) -> None:
        """Fire when requests can be answered; fails as what is needed for that does."""
        if self._redis:
            await self._redis.ready()
        if self.queue:
            await self.queue.ready()

    async def figures(self) -> bytes:
        """Give what was counted here, in Prometheus's form; nothing where nobody counts."""
        if self._metrics is None:
            return b""
        from smtpmailer.metrics_parts import Watched, figures_of  # noqa: PLC0415 - as _metrics

        watched = Watched(
            factory=self.factory,
            sender=self._sender,
            queue=self.queue,
            runner=self._runner,
            redis=self._redis.redis if self._redis else None,
        )
        return await figures_of(self._metrics, watched)

    def use(self, settings: Settings) -> None:
        """Let other settings count, where they can; raises OperatorError and changes nothing.

        Connections stay open, and requests that run are carried out as they began.
        """
        keys, accounts = load_keys(settings), self._accounts.read(settings)
        front = build_front(settings, self._ground)
        self._tls.use(settings)
        self._auth.auth.use(keys)
        self._accounts.use(accounts)
        self._sender.use_rate(settings.smtp_rate_limit)
        self._switch.current = front.dispatcher
        if self._runner is not None and front.postman is not None:
            self._runner.runner.use(front.postman)
        self.factory.use(protocol_limits(settings))
        self.reloader.use(self._reloads(settings))

    def _make_ground(self) -> Ground:
        place, redis = self._place, self._redis
        own = SharedCounters(place.shared.board, place.seat)
        sender = CountedSender(self._sender, place.seat)
        return Ground(
            threads=self._threads,
            sender=self._metrics.sender(sender) if self._metrics else sender,
            counters=redis.counters if redis else own,
            pace=self._pacer.wait,
            auth=self._auth.auth,
            redis=redis.redis if redis else None,
            queue=self.queue,
            machine_name=find_machine_name(),
            room=MemoryRoom(0),
            accounts=self._accounts,
            once=self._once.once,
            stamp=self._stamps.fresh,
        )

    def _make_runner(self, settings: Settings, front: Front) -> RunnerPart | None:
        if self.queue is None or front.postman is None or not self._place.runs_queue:
            return None
        return build_runner(settings, self._reactor, self.queue, front.postman)

    def _queue_services(self) -> tuple[IService, ...]:
        """Give what runs the queue, or what looks after it while another process does."""
        if self._runner is not None:
            return (self._runner,)
        if self.queue is None:
            return ()
        store, ready = self.queue.store, self.queue.ready
        return (Lookout(store, ready, clock=self._reactor, now=time.time),)

    def _reloads(self, settings: Settings) -> tuple[Any, ...]:
        return (
            *self._auth.reloads(settings),
            *self._tls.reloads(settings),
            *self._accounts.reloads(settings),
        )

    def _open_requests(self) -> str:
        """Say what clients wait for, or else that they don't take their answers."""
        requests = counted(self.factory.requests_in_flight, "request")
        return requests or counted(len(self.factory.open_connections), "connection")

    def _drain(self) -> Deferred[None]:
        self._sender.hurry()
        if self._runner is not None:
            # No mail is claimed while requests end; its own turn to be waited for comes later.
            self._runner.stopService().addErrback(self._log_fault)
        self._auth.auth.stop()
        self.factory.stop_reading()
        return self.factory.drained()

    def _log_fault(self, why: Failure) -> None:
        self._log.failure("fault while {what}", why, what="the queue's run ended")


def _metrics(settings: Settings, reactor: Any) -> Metrics | None:
    """Count, where there is a port at which somebody may look: it costs time and memory."""
    if not settings.mailer_metrics_port:
        return None
    from smtpmailer.metrics import Metrics  # noqa: PLC0415

    return Metrics(reactor)


def _redis(settings: Settings, reactor: Any, *, resets: bool) -> RedisParts | None:
    """Put Redis together when the settings want it."""
    if not settings.redis_enable:
        return None
    # Importing it installs a reactor, so not before there is one.
    from smtpmailer.redis_parts import build_redis  # noqa: PLC0415

    return build_redis(settings, reactor, resets=resets)
