# SPDX-License-Identifier: MIT
"""The listening socket of the API."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorTCP
from twisted.logger import Logger

__all__ = ["Listener", "at_once", "open_socket"]

#: Connections that the kernel holds until we take them.
_BACKLOG = 1024


def _nothing(_taking: bool) -> None:  # noqa: FBT001 - a callback's
    """Do nothing."""


def at_once() -> Deferred[None]:
    """Fire."""
    return succeed(None)


class Listener(Service):
    """Listens on one address; a busy or foreign one ends the process with a clear line.

    Twisted's StreamServerEndpointService would log the error and run on, deaf. The port is open
    from the beginning, connections are taken from it once ``ready`` has fired.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTCP,
        address: tuple[str, int],
        factory: Any,
        ready: Callable[[], Deferred[None]] = at_once,
        *,
        open_port: Callable[[Any], Any] | None = None,
        told: Callable[[bool], None] = _nothing,
    ) -> None:
        """Listen on an IP address, or on what a host name resolves to; with port 0 on any free one.

        ``ready`` is asked at the start; when it fails, what is there is served all the same.
        ``open_port`` gives the port for a factory where somebody has opened it already. ``told``
        is called with True when connections are taken, and with False when no more are.
        """
        self.setName("listener")
        self._reactor = reactor
        self._address, self._port = address
        self._factory = factory
        self._ready = ready
        self._open_port = open_port or self._listen
        self._told = told
        self._listening: Any = None  # a tcp.Port, or a test's

    def privilegedStartService(self) -> None:
        """Open the port; while the process may still be root. Raises SystemExit."""
        super().privilegedStartService()
        self._open()

    def startService(self) -> None:
        """Open the port unless that has been done."""
        super().startService()
        self._open()
        ready = self._ready()
        waits = not ready.called
        if waits:
            self._listening.stopReading()
        ready.addErrback(lambda failure: self._log.failure("not all is ready", failure))
        ready.addCallback(lambda _: self._serve(waited=waits))

    def _serve(self, *, waited: bool) -> None:
        if self._listening is None:
            return
        if waited:
            self._listening.startReading()
        self._log.info("listening on {address}", address=self.address(), notice=True)
        self._told(True)

    def stopService(self) -> Deferred[Any]:
        """Close the port; fires when it is closed."""
        super().stopService()
        listening, self._listening = self._listening, None
        if listening is None:
            return succeed(None)
        self._told(False)
        return maybeDeferred(listening.stopListening)

    def address(self) -> str:
        """Say where it listens, as ``host:port``; of port 0 the one that was found."""
        port = self._port
        if self._listening is not None:
            port = getattr(self._listening.getHost(), "port", port)
        return f"[{self._address}]:{port}" if ":" in self._address else f"{self._address}:{port}"

    def _open(self) -> None:
        if self._listening is not None:
            return
        try:
            self._listening = self._open_port(self._factory)
        except (CannotListenError, OSError) as error:
            raise SystemExit(
                f"smtpmailer: can't listen on {self.address()}: {_why(error)}"
            ) from None

    def _listen(self, factory: Any) -> Any:
        return self._reactor.listenTCP(
            self._port, factory, backlog=_BACKLOG, interface=_resolve(self._address)
        )


def open_socket(address: str, port: int) -> socket.socket:
    """Give a socket that listens there, for processes that share it; raises SystemExit.

    Nothing is taken from it yet.
    """
    shown = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    try:
        host = _resolve(address)
        made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((host, port))
            made.listen(_BACKLOG)
            made.setblocking(False)
        except OSError:
            made.close()
            raise
    except OSError as error:
        raise SystemExit(f"smtpmailer: can't listen on {shown}: {_why(error)}") from None
    return made


def _resolve(address: str) -> str:
    """Give a host name's first address: Twisted takes names for IPv4 only."""
    return str(socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)[0][4][0])


def _why(error: Exception) -> str:
    cause = error.socketError if isinstance(error, CannotListenError) else error
    if isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE:
        return "another program listens there (MAILER_ADDR, MAILER_PORT)"
    text = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
    return f"{text} (MAILER_ADDR, MAILER_PORT)"
