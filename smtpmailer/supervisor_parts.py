# SPDX-License-Identifier: MIT
"""The process that supervises the others, put together."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList

import smtpmailer
from smtpmailer.configuration import Gathered
from smtpmailer.core.board import Row
from smtpmailer.core.changes import FIXED_ALWAYS, Changes
from smtpmailer.core.cron import next_after
from smtpmailer.core.exposition import merged
from smtpmailer.core.respawn import Limits
from smtpmailer.core.settings import Settings
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import ControlError
from smtpmailer.health_parts import health_services
from smtpmailer.listener import open_socket
from smtpmailer.processes.child import Child, Launch, launch
from smtpmailer.processes.desk import ProcessState, overview
from smtpmailer.processes.endpoint import Endpoint
from smtpmailer.processes.inheritance import Descriptors, Part, keep_settings
from smtpmailer.processes.notify import Watchdog
from smtpmailer.processes.pulse import own_memory
from smtpmailer.processes.reload import SettingsReload
from smtpmailer.processes.rundir import RunDirectory
from smtpmailer.processes.sharing import make_memory, make_passage, open_shared
from smtpmailer.processes.supervisor import QUEUE, Staff, Supervisor
from smtpmailer.root import Root
from smtpmailer.surroundings import Surroundings
from smtpmailer.zones import local_zone

__all__ = ["build_supervisor", "wants_supervisor"]

#: MAILER_MAX_MEMORY where nobody has asked for anything.
_USUAL_MEMORY: Final = 64
_MIB: Final = 2**20
#: What the supervisor needs of the stop timeout for itself (seconds).
_OWN_TIME: Final = 5


def wants_supervisor(settings: Settings) -> bool:
    """Tell whether the settings ask for more than one process.

    With one worker that is so when it is to be recycled. Every process has a limit of memory;
    with one worker it takes another than the usual one to ask for that.
    """
    recycled = settings.mailer_max_request > 0 or settings.mailer_restart_cron
    limited = settings.mailer_max_memory != _USUAL_MEMORY
    return bool(settings.mailer_workers > 1 or recycled or limited)


def build_supervisor(
    settings: Settings, gathered: Gathered, reactor: Any, around: Surroundings
) -> Root:
    """Put it together; starts nothing. Raises OperatorError."""
    _check_certificates(settings)
    root = Root(reactor, settings, around.log, notifier=around.notifier, refused=around.refused)
    root.stop_limit = settings.mailer_stop_timeout + _OWN_TIME
    office = _Office(settings, gathered, reactor, around, root)
    root.on_reload = office.reload
    for part in (
        Endpoint(reactor, RunDirectory(settings.mailer_run_dir), office),
        Watchdog(reactor, around.notifier),
        *health_services(settings, reactor, office.figures, office.why_not_ready),
        office.supervisor,
        office.port,
    ):
        part.setServiceParent(root)
    return root


class _Port(Service):
    """Holds the listening socket, from the first moment to the last."""

    def __init__(self, address: str, port: int, given: socket.socket | None) -> None:
        self.setName("port")
        self._address = address
        self._port = port
        self.socket = given

    def privilegedStartService(self) -> None:
        """Open it, while the process may still be root. Raises SystemExit."""
        super().privilegedStartService()
        if self.socket is None:
            self.socket = open_socket(self._address, self._port)

    def stopService(self) -> None:
        """Close it; the workers do the same."""
        super().stopService()
        if self.socket is not None:
            self.socket.close()


class _Office:
    """What the supervisor knows, and what it answers for; see Desk."""

    def __init__(
        self,
        settings: Settings,
        gathered: Gathered,
        reactor: Any,
        around: Surroundings,
        root: Root,
    ) -> None:
        self._reactor = reactor
        self._around = around
        self._root = root
        self._began_at = reactor.seconds()
        self.port = _Port(settings.mailer_addr, settings.mailer_port, around.listening)
        self._memory = make_memory()
        self._shared = open_shared(self._memory)
        self._giving, self._taking = make_passage()
        self._settings = keep_settings(gathered)
        self._is_first = True
        self.supervisor = Supervisor(
            _staff(settings),
            self._shared,
            self._start_child,
            clock=reactor,
            now=time.time,
            ready=around.notifier.ready,
        )
        self._reload = SettingsReload(
            settings,
            read=around.read,
            apply=self._apply,
            fixed=FIXED_ALWAYS,
            notifier=around.notifier,
            clock=reactor,
        )

    def reload(self) -> Deferred[dict[str, Any]]:
        """Read the settings again, and replace all processes if they have changed."""
        return self._reload.reload()

    @returns_deferred
    async def status(self) -> dict[str, Any]:
        """Answer for all processes."""
        rows = {row.seat: row for row in self._shared.board.rows()}
        queue = await self._ask_some("queue")
        now = self._reactor.seconds()
        own = ProcessState(
            name="supervisor", process=os.getpid(), state="running", age=now - self._began_at
        )
        table = overview(
            [own, *(_state(child, rows.get(child.seat)) for child in self.supervisor.children)],
            self._shared.board,
            None if queue is None else queue["waiting"],
            self.supervisor.deaths,
        )
        table["processes"][0]["memory"] = own_memory()
        return table

    @returns_deferred
    async def connections(self) -> list[dict[str, Any]]:
        """Answer for all workers; one that does not answer is left out."""
        workers = [child for child in self.supervisor.children if not _runs_queue(child)]
        answers = await DeferredList(
            [child.channel.ask("connections") for child in workers], consumeErrors=True
        )
        return [
            {**connection, "process": child.name}
            for child, (worked, found) in zip(workers, answers, strict=True)
            if worked
            for connection in found
        ]

    async def figures(self) -> bytes:
        """Give the figures of all processes; one that does not answer is left out."""
        # Imported here as its library is large, and needed only where somebody looks.
        from smtpmailer.metrics import Figure, Metrics  # noqa: PLC0415

        children = [child for child in self.supervisor.children if child.ready]
        answers = await DeferredList(
            [child.channel.ask("figures") for child in children], consumeErrors=True
        )
        own = Metrics.of(
            [
                Figure(
                    "smtpmailer_restarts",
                    "Processes that died unasked and were replaced",
                    lambda: self.supervisor.deaths,
                )
            ]
        )
        texts = {"supervisor": own.decode()}
        for child, (worked, text) in zip(children, answers, strict=True):
            if worked:
                texts[child.name] = text
        return merged(texts).encode()

    async def why_not_ready(self) -> str:
        """Say why no connections are taken, if they are not."""
        ready = any(child.ready and not _runs_queue(child) for child in self.supervisor.children)
        return "" if ready else "no worker is ready"

    @returns_deferred
    async def stop(self, *, patient: bool) -> None:
        """Stop all processes, and this one."""
        if patient:
            self.supervisor.patient = True
            self._root.stop_limit = None
        # The answer goes out first.
        self._reactor.callLater(0, self._around.ending.begin)

    async def _ask_some(self, what: str) -> Any:
        """Ask the queue's process, or else any other; None when nobody knows."""
        ready = [child for child in self.supervisor.children if child.ready]
        for child in sorted(ready, key=_runs_queue, reverse=True):
            try:
                return await child.channel.ask(what, patience=2.0)
            except ControlError:
                continue
        return None

    @returns_deferred
    async def _apply(self, changes: Changes, gathered: Gathered) -> None:
        _check_certificates(changes.settings)
        self._around.log.renew(changes.settings)
        self.supervisor.tell("reload")
        if not changes.applied:
            return
        before, self._settings = self._settings, keep_settings(gathered)
        old, new = self.supervisor.staff, _staff(changes.settings)
        replaced = await self.supervisor.change(new)
        if replaced == new.names():
            os.close(before)
            return
        os.close(self._settings)
        self._settings = before
        self._around.log.renew(self._reload.settings)
        await self.supervisor.change(old, [name for name in replaced if name in old.names()])
        raise ControlError("a process did not start with the new settings; the log says why")

    def _start_child(self, name: str, seat: int) -> Child:
        assert self.port.socket is not None, "opened before"
        child = Child(name, seat, self._reactor)
        part = Part(name, seat, first=self._is_first)
        launch(
            self._reactor,
            child,
            Launch(
                command=(
                    *(sys.executable, "-m", "smtpmailer.twistd", "--nodaemon", "--pidfile="),
                    *self._around.twistd,
                    *("smtpmailer", "--child", str(part)),
                ),
                environ=_environ(),
                descriptors={
                    Descriptors.LISTENING: self.port.socket.fileno(),
                    Descriptors.MEMORY: self._memory,
                    Descriptors.SETTINGS: self._settings,
                    Descriptors.GIVING: self._giving.fileno(),
                    Descriptors.TAKING: self._taking.fileno(),
                },
            ),
        )
        self._is_first = False
        return child


def _check_certificates(settings: Settings) -> None:
    """Raise OperatorError for files that would end the start of every process."""
    # Importing these installs a reactor, so not before there is one.
    if settings.mailer_proto == "ssl":
        from smtpmailer.delivery.tls import ServerTls  # noqa: PLC0415

        ServerTls(settings.mailer_ssl_cert, settings.mailer_ssl_key, settings.mailer_ssl_client_ca)
    if settings.redis_enable and settings.redis_proto == "tls":
        from smtpmailer.stores.redis_tls import RedisTls  # noqa: PLC0415

        RedisTls(settings.redis_ca_file)


def _runs_queue(child: Child) -> bool:
    return child.name == QUEUE


def _state(child: Child, row: Row | None) -> ProcessState:
    return ProcessState(
        name=child.name, process=child.process_id, state=child.state, age=child.age, row=row
    )


def _staff(settings: Settings) -> Staff:
    cron, zone = settings.mailer_restart_cron, local_zone(os.environ.get("TZ", ""))
    return Staff(
        workers=settings.mailer_workers,
        queue=settings.mailer_queue,
        limits=Limits(
            memory_bytes=settings.mailer_max_memory * _MIB,
            requests=max(0, settings.mailer_max_request),
        ),
        next_restart=lambda now: next_after(cron, now, zone) if cron else None,
        stop_limit=settings.mailer_stop_timeout,
    )


def _environ() -> dict[str, str]:
    """Give a child's environment: ours, and where to find this package."""
    root = str(Path(smtpmailer.__file__).resolve().parent.parent)
    known = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, known] if known else [root])}
