# SPDX-License-Identifier: MIT
"""The service in one process, put together."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred

from smtpmailer.assembly import Assembly, Place
from smtpmailer.configuration import Gathered
from smtpmailer.core.changes import FIXED_ALONE, Changes
from smtpmailer.core.exposition import merged
from smtpmailer.core.settings import Settings
from smtpmailer.coroutines import returns_deferred
from smtpmailer.health_parts import health_services
from smtpmailer.processes.desk import ProcessState, overview
from smtpmailer.processes.endpoint import Endpoint
from smtpmailer.processes.notify import Watchdog
from smtpmailer.processes.reload import SettingsReload
from smtpmailer.processes.rundir import RunDirectory
from smtpmailer.processes.sharing import alone
from smtpmailer.root import Root
from smtpmailer.surroundings import Surroundings

__all__ = ["build_single"]


def build_single(settings: Settings, reactor: Any, around: Surroundings) -> Root:
    """Put it together; opens nothing, starts nothing. Raises OperatorError."""
    service = _Single(settings, reactor, around)
    service.root.on_reload = service.reload
    for part in (
        Endpoint(reactor, RunDirectory(settings.mailer_run_dir), service),
        Watchdog(reactor, around.notifier),
        *health_services(settings, reactor, service.figures, service.why_not_ready),
        *service.assembly.parts(),
    ):
        part.setServiceParent(service.root)
    return service.root


class _Single:
    """The service; answers for itself, see Desk."""

    def __init__(self, settings: Settings, reactor: Any, around: Surroundings) -> None:
        self._reactor = reactor
        self._around = around
        self._began_at = reactor.seconds()
        self._accepting = False
        shared = alone()
        self._board = shared.board
        place = Place(
            shared=shared,
            seat=shared.board.seat(shared.board.give(os.getpid())),
            alone=True,
            open_port=self._adopt if around.listening is not None else None,
            told=self._told,
        )
        self.assembly = Assembly(settings, reactor, place)
        self.root = Root(
            reactor, settings, around.log, notifier=around.notifier, refused=around.refused
        )
        self._reload = SettingsReload(
            settings,
            read=around.read,
            apply=self._apply,
            fixed=FIXED_ALONE,
            notifier=around.notifier,
            clock=reactor,
        )

    def reload(self) -> Deferred[dict[str, Any]]:
        """Read the settings again, and let count what can."""
        return self._reload.reload()

    @returns_deferred
    async def status(self) -> dict[str, Any]:
        """Answer for this process."""
        self.assembly.pulse.beat()
        own = ProcessState(
            name="service",
            process=os.getpid(),
            state="running",
            age=self._reactor.seconds() - self._began_at,
            row=next(self._board.rows()),
        )
        queue = self.assembly.queue
        queued = None if queue is None else (await queue.store.page(1, 0)).total
        return overview([own], self._board, queued, 0)

    async def figures(self) -> bytes:
        """Give the figures of this process."""
        text = (await self.assembly.figures()).decode()
        return merged({"service": text}).encode()

    async def why_not_ready(self) -> str:
        """Say why no connections are taken, if they are not."""
        return "" if self._accepting else "no connections are taken"

    def _told(self, taking: bool) -> None:  # noqa: FBT001 - Listener's
        self._accepting = taking
        if taking:
            self._around.notifier.ready()

    @returns_deferred
    async def connections(self) -> list[dict[str, Any]]:
        """Answer for this process."""
        found = self.assembly.factory.open_connections
        return [{**each.describe(), "process": "service"} for each in found]

    @returns_deferred
    async def stop(self, *, patient: bool) -> None:
        """Stop the service."""
        if patient:
            self.root.stop_limit = None
        # The answer goes out first.
        self._reactor.callLater(0, self._around.ending.begin)

    @returns_deferred
    async def _apply(self, changes: Changes, _gathered: Gathered) -> None:
        self.assembly.use(changes.settings)
        self._around.log.renew(changes.settings)
        self.assembly.reloader.reload()
        self.root.stop_limit = changes.settings.mailer_stop_timeout

    def _adopt(self, factory: Any) -> Any:
        listening = self._around.listening
        assert listening is not None, "looked at before"
        with listening:
            family = listening.family
            return self._reactor.adoptStreamPort(listening.fileno(), family, factory)
