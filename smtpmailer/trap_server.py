# SPDX-License-Identifier: MIT
"""The mail trap as a program: its ports, its directory, and when it ends."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import DeferredList
from twisted.internet.error import CannotListenError

from smtpmailer.trap import TrapFactory, TrapPolicy
from smtpmailer.trap_store import CaughtMail, TrapStore, describe_mail

__all__ = ["TrapServer"]

#: Seconds that open sessions have to end when the trap stops by itself.
_GRACE: Final = 5.0


class TrapServer:
    """Runs the trap on a reactor that it owns.

    ``report`` is called with a line for each mail. With ``count`` the trap stops after so many
    mails, once the sessions that are open have ended. ``now`` gives Unix seconds. ``caught`` is
    the number of mails so far.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        directory: Path,
        now: Callable[[], float],
        report: Callable[[str], None],
        count: int | None = None,
    ) -> None:
        self.caught = 0
        self._reactor = reactor
        self._store = TrapStore(directory)
        self._now = now
        self._report = report
        self._count = count
        self._ports: list[Any] = []
        self._factories: list[TrapFactory] = []

    def listen(self, address: str, port: int, policy: TrapPolicy) -> str:
        """Open a port, 0 for any free one; give ``address:port``; raises OSError when busy."""
        factory = TrapFactory(self._keep, clock=self._reactor, now=self._now, policy=policy)
        try:
            if policy.implicit_tls:
                opened = self._reactor.listenSSL(port, factory, policy.tls, interface=address)
            else:
                opened = self._reactor.listenTCP(port, factory, interface=address)
        except CannotListenError as error:
            raise OSError(f"could not listen on {address}:{port}: {error.socketError}") from error
        self._ports.append(opened)
        self._factories.append(factory)
        host = opened.getHost()
        return f"[{host.host}]:{host.port}" if ":" in host.host else f"{host.host}:{host.port}"

    def run(self) -> None:
        """Serve until SIGINT, SIGTERM, or the last mail."""
        self._reactor.run()

    def _keep(self, mail: CaughtMail) -> None:
        path = self._store.keep(mail)
        self.caught += 1
        self._report(describe_mail(mail, path, datetime.fromtimestamp))
        if self.caught == self._count:
            # Later: the client has yet to hear that its mail was taken.
            self._reactor.callLater(0, self._finish)

    def _finish(self) -> None:
        for port in self._ports:
            port.stopListening()
        ended = DeferredList([one.idle() for one in self._factories], consumeErrors=True)
        ended.addTimeout(_GRACE, self._reactor)
        ended.addBoth(lambda _: self._reactor.stop() if self._reactor.running else None)
