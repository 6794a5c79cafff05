# SPDX-License-Identifier: MIT
"""The connections of the API: made, counted, refused when there are too many, and drained."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.logger import Logger

from smtpmailer.census import Census, Tally
from smtpmailer.connection import JsonProtocol
from smtpmailer.core.bucket import Lines
from smtpmailer.core.limits import ProtocolLimits
from smtpmailer.interfaces import IDispatcher
from smtpmailer.moving import MovableConnection
from smtpmailer.pipeline import Load

__all__ = ["JsonFactory", "JsonProtocol", "ProtocolLimits"]

#: So many refused connections are told why at the same time; more are just closed.
_MAX_REFUSED: Final = 100


class _Dropped(Protocol):
    """A connection that ends without a word."""

    transport: Any

    def connectionMade(self) -> None:
        """End it."""
        self.transport.abortConnection()


class JsonFactory(ServerFactory):
    """Makes the connections; ``load`` says what they hold together."""

    noisy = False
    _log = Logger()

    def __init__(
        self,
        dispatcher: IDispatcher,
        clock: IReactorTime,
        limits: ProtocolLimits,
        tally: Tally | None = None,
    ) -> None:
        """Serve nothing yet; ``tally`` counts the connections of all processes of the service."""
        self.dispatcher = dispatcher
        self.clock = clock
        self.limits = limits
        self.load = Load()
        self.lines = Lines()
        self._census: Census[JsonProtocol] = Census(limits, tally)
        self._stopping = False
        self._waiting: list[Deferred[None]] = []

    @property
    def connections(self) -> int:
        """How many connections are being served."""
        return self._census.served

    @property
    def open_connections(self) -> tuple[MovableConnection, ...]:
        """Every connection, those that are only told why they are refused included."""
        everyone = self._census.everyone
        return tuple(each for each in everyone if isinstance(each, MovableConnection))

    @property
    def requests_in_flight(self) -> int:
        """How many requests were received and are not yet answered."""
        return self.load.requests_in_flight

    def use(self, limits: ProtocolLimits) -> None:
        """Keep to these limits, for connections that come from now on."""
        self.limits = self._census.limits = limits

    def adopt(self, addr: IAddress | None) -> MovableConnection:
        """Make a connection that another process has let in already."""
        return MovableConnection(self, getattr(addr, "host", "local"))

    def buildProtocol(self, addr: IAddress | None) -> MovableConnection | _Dropped:
        """Make a connection; one too many is only told so, or dropped when many are."""
        peer = getattr(addr, "host", "local")
        refusal = self._census.refusal(peer)
        if refusal is not None and self._census.refused >= _MAX_REFUSED:
            self.warn("connection from {peer} dropped: {why}{more}", peer=peer, why=str(refusal))
            return _Dropped()
        return MovableConnection(self, peer, refusal)

    def drained(self) -> Deferred[None]:
        """Fire with None once no request is in flight.

        After ``stop_reading`` every connection is closed by then too, the last answers being out;
        a client that does not take them is waited for no longer than the idle timeout.
        """
        if self._is_drained():
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def stop_reading(self) -> None:
        """Take no more requests; each connection is closed when its present ones are answered."""
        self._stopping = True
        for connection in tuple(self._census.everyone):
            connection.stop_reading()

    def warn(self, text: str, **fields: object) -> None:
        """Log what clients can cause at will: not more than some lines a second."""
        more = self.lines.next(self.clock.seconds())
        if more is not None:
            self._log.warn(text, more=more, **fields)

    def opened(self, connection: JsonProtocol) -> None:
        """Count a connection."""
        self._census.add(connection, connection.peer, served=connection.refusal is None)

    def closed(self, connection: JsonProtocol) -> None:
        """Count a connection no longer."""
        self._census.remove(connection, connection.peer, served=connection.refusal is None)

    def progressed(self) -> None:
        """Tell those who wait for it when nothing is in flight."""
        if self._waiting and self._is_drained():
            waiting, self._waiting = self._waiting, []
            for deferred in waiting:
                deferred.callback(None)

    def _is_drained(self) -> bool:
        return not self.load.requests_in_flight and not (self._stopping and self._census.everyone)
