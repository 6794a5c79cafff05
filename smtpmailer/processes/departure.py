# SPDX-License-Identifier: MIT
"""How a process that is replaced parts with its connections."""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from smtpmailer.moving import MovableConnection
from smtpmailer.protocol import JsonFactory

__all__ = ["Departure"]

#: Seconds between looks at the connections: in the first second, and later.
_SOON: Final = 0.01
_LATER: Final = 0.25
_FIRST: Final = 1.0
#: A connection that can't move is closed when it has had nothing to do for so long (seconds).
_QUIET: Final = 5.0


class Departure:
    """Gives connections to other processes, between two requests of each.

    Those that can't move are served until their client closes them or is quiet for some seconds.
    After ``limit`` seconds every one that is left ends with the answers to its present requests.
    """

    _log = Logger()

    def __init__(
        self,
        factory: JsonFactory,
        give: Callable[[socket.socket, bytes], bool],
        *,
        clock: IReactorTime,
        writers: Callable[[], Collection[object]],
        limit: float,
    ) -> None:
        """``give`` is Giver's; ``writers`` gives the transports that have something to write."""
        self._factory = factory
        self._give = give
        self._clock = clock
        self._writers = writers
        self._limit = limit
        self._begun_at = 0.0
        self._over: Deferred[None] | None = None
        self._broken = False

    def begin(self) -> Deferred[None]:
        """Begin; fires when no connection and no request is left. The port has to be closed."""
        over: Deferred[None] = Deferred()
        self._over = over
        self._begun_at = self._clock.seconds()
        for connection in self._factory.open_connections:
            connection.leave()
        self._look()
        return over

    def _look(self) -> None:
        age = self._clock.seconds() - self._begun_at
        try:
            self._move_some()
            for connection in self._factory.open_connections:
                quiet = connection.is_fixed and connection.quiet_seconds() >= _QUIET
                if quiet or age >= self._limit:
                    connection.stop_reading()
        except Exception:  # noqa: BLE001 - the next look may do better
            self._log.failure("fault while connections move to another process")
        if self._factory.open_connections or self._factory.requests_in_flight:
            self._clock.callLater(_SOON if age < _FIRST else _LATER, self._look)
        elif self._over is not None:
            over, self._over = self._over, None
            over.callback(None)

    def _move_some(self) -> None:
        """Give away as many as the kernel takes."""
        writing = set(map(id, self._writers()))
        for connection in self._factory.open_connections:
            free = connection.can_move() and id(connection.transport) not in writing
            if free and (self._broken or not self._moved(connection)):
                return

    def _moved(self, connection: MovableConnection) -> bool:
        try:
            return connection.move(self._give)
        except OSError as error:
            self._log.warn("connections can't be given away: {why}", why=error.strerror)
            self._broken = True
            return False
