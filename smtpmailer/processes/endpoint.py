# SPDX-License-Identifier: MIT
"""Takes the commands of ``smtpmailer status``, ``reload`` and others, from our own user alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from smtpmailer.errors import ControlError
from smtpmailer.processes.channel import Channel, Ears
from smtpmailer.processes.desk import Desk
from smtpmailer.processes.rundir import RunDirectory

__all__ = ["Endpoint"]


class Endpoint(Service):
    """Serves a desk from a run directory.

    A directory that can't be used is logged, and the service runs on without commands.
    """

    _log = Logger()

    def __init__(self, reactor: Any, directory: RunDirectory, desk: Desk) -> None:
        """Touch nothing yet."""
        self.setName("control")
        self._reactor = reactor
        self._directory = directory
        self._desk = desk
        self._port: Any = None
        self._open: set[Channel] = set()

    def startService(self) -> None:
        """Claim the directory and listen."""
        super().startService()
        try:
            address = self._directory.claim()
            factory = _Calls(self._reactor, self._asked, self._open)
            # Twisted makes a socket that it is only given one for the whole world.
            self._port = self._reactor.listenUNIX(address, factory, mode=0o600)
        except (ControlError, CannotListenError, OSError) as error:
            self._log.warn(
                "MAILER_RUN_DIR: no commands are taken (smtpmailer status, stop, reload): {why}",
                why=str(error),
            )

    def stopService(self) -> Deferred[Any]:
        """Take no more commands, and leave the directory; fires when that is done."""
        super().stopService()
        port, self._port = self._port, None
        for channel in tuple(self._open):
            channel.close()
        closed = succeed(None) if port is None else maybeDeferred(port.stopListening)
        return closed.addBoth(lambda _: self._directory.leave())

    def _asked(self, what: str, values: Mapping[str, Any]) -> Any:
        desk = self._desk
        known = {
            "status": desk.status,
            "connections": desk.connections,
            "reload": desk.reload,
            "stop": lambda: desk.stop(patient=values.get("patient") is True),
        }
        if what not in known:
            raise ControlError(f"unknown command {what[:40]!r}")
        return known[what]()


class _Calls(Factory):
    """Makes a channel for each caller."""

    noisy = False

    def __init__(self, reactor: Any, asked: Any, opened: set[Channel]) -> None:
        self._reactor = reactor
        self._asked = asked
        self._open = opened

    def buildProtocol(self, _addr: object) -> Channel:
        """Make one."""
        channel = Channel(
            self._reactor, Ears(asked=self._asked, lost=lambda: self._open.discard(channel))
        )
        self._open.add(channel)
        return channel
