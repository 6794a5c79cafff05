# SPDX-License-Identifier: MIT
"""A process that has a supervisor, put together: one that serves the API, or runs the queue."""

from __future__ import annotations

import os
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred

from smtpmailer.assembly import Assembly, Place
from smtpmailer.core.board import Field
from smtpmailer.core.settings import Settings
from smtpmailer.coroutines import returns_deferred
from smtpmailer.processes.child import CHANNEL
from smtpmailer.processes.departure import Departure
from smtpmailer.processes.handover import Giver, Taker
from smtpmailer.processes.inheritance import Descriptors, Part
from smtpmailer.processes.link import Duties, Link
from smtpmailer.processes.sharedport import adopt_port
from smtpmailer.processes.sharing import open_shared
from smtpmailer.processes.supervisor import QUEUE
from smtpmailer.processes.turns import Turns
from smtpmailer.root import Log, Root
from smtpmailer.signals import Ending

__all__ = ["build_worker"]


def build_worker(settings: Settings, reactor: Any, part: Part, log: Log, ending: Ending) -> Root:
    """Put the process together; raises OperatorError."""
    worker = _Worker(settings, reactor, part, log, ending)
    worker.root.on_reload = worker.reload
    for each in worker.parts():
        each.setServiceParent(worker.root)
    return worker.root


class _Worker:
    """What the supervisor can tell this process to do."""

    def __init__(
        self, settings: Settings, reactor: Any, part: Part, log: Log, ending: Ending
    ) -> None:
        self._settings = settings
        self._reactor = reactor
        self._log = log
        self._ending = ending
        self._retiring = False
        shared = open_shared(Descriptors.MEMORY)
        self._seat = shared.board.seat(part.seat)
        self._serves = part.name != QUEUE
        turns = Turns(shared.board, self._seat, reactor)
        place = Place(
            shared=shared,
            seat=self._seat,
            serves=self._serves,
            runs_queue=not self._serves,
            open_port=lambda factory: adopt_port(reactor, Descriptors.LISTENING, factory, turns),
            told=self._takes,
            first=part.first,
        )
        self._assembly = Assembly(settings, reactor, place)
        self._taker = Taker(reactor, Descriptors.TAKING, self._assembly.factory, turns)
        self._departure = Departure(
            self._assembly.factory,
            Giver(Descriptors.GIVING).give,
            clock=reactor,
            writers=reactor.getWriters,
            limit=settings.mailer_idle_timeout,
        )
        if not self._serves:
            # The port would stay open for as long as this process runs.
            os.close(Descriptors.LISTENING)
        self.root = Root(reactor, settings, log, name=part.name)
        self._link = Link(reactor, CHANNEL, self._duties(), settings.mailer_stop_timeout)

    def parts(self) -> tuple[Any, ...]:
        """Give all parts; the link first, so that it is told of everything to the end."""
        parts = (self._link, *self._assembly.parts())
        return parts if self._serves else (*parts, _WhenReady(self._assembly, self._link))

    def reload(self) -> Deferred[None]:
        """Read certificates and keys again, and open the log's file again."""
        self._log.renew(self._settings)
        self._assembly.reloader.reload()
        done: Deferred[None] = Deferred()
        done.callback(None)
        return done

    def _duties(self) -> Duties:
        return Duties(
            retire=self._retire,
            stop=self._stop,
            reload=self.root.reload,
            answers={
                "connections": self._connections,
                "figures": self._figures,
                "queue": self._queue,
            },
        )

    def _takes(self, taking: bool) -> None:  # noqa: FBT001 - Listener's
        """Take connections of other processes too, as long as our port is open."""
        self._seat[Field.ACCEPTING] = int(taking)
        if taking:
            self._taker.start()
            self._link.ready()
        else:
            self._taker.stop()

    def _retire(self) -> None:
        if self._retiring:
            return
        self._retiring = True
        if not self._serves:
            self._ending.begin()
            return
        self._assembly.listener.stopService()
        self._departure.begin().addCallback(lambda _: self._ending.begin())

    def _stop(self, limit: float | None) -> None:
        self.root.stop_limit = limit
        self._ending.begin()

    def _connections(self) -> list[dict[str, Any]]:
        return [each.describe() for each in self._assembly.factory.open_connections]

    @returns_deferred
    async def _figures(self) -> str:
        return (await self._assembly.figures()).decode()

    @returns_deferred
    async def _queue(self) -> dict[str, Any] | None:
        queue = self._assembly.queue
        return None if queue is None else {"waiting": (await queue.store.page(1, 0)).total}


class _WhenReady(Service):
    """Tells the supervisor when the queue can be used, or can't for good."""

    def __init__(self, assembly: Assembly, link: Link) -> None:
        self.setName("readiness")
        self._assembly = assembly
        self._link = link

    def startService(self) -> None:
        """Wait for the queue."""
        super().startService()
        self._assembly.ready().addBoth(lambda _: self._link.ready())
