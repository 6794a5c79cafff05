# SPDX-License-Identifier: MIT
"""Connections that can move to another process, and tell about themselves."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ISystemHandle
from twisted.python.failure import Failure

from smtpmailer.connection import JsonProtocol

__all__ = ["LARGEST_REST", "MovableConnection"]

#: Bytes of an unfinished request with which a connection moves; a longer one is read to its end.
LARGEST_REST: Final = 64 * 1024


class MovableConnection(JsonProtocol):
    """One client's connection, which another process can go on with.

    It moves between two requests, and with the beginning of one at most. Under TLS it can't: the
    session's keys are OpenSSL's.
    """

    _leaving = False
    _since = 0.0

    def connectionMade(self) -> None:
        """Begin."""
        self._since = self._clock.seconds()
        super().connectionMade()

    @property
    def is_fixed(self) -> bool:
        """Whether it can't move at all."""
        return self._is_tls or not ISystemHandle.providedBy(self.transport)

    def leave(self) -> None:
        """Read no further, so that it can move once its requests are answered."""
        self._leaving = True
        self._throttle()

    def can_move(self) -> bool:
        """Tell whether it can move now; its transport must have nothing to write either."""
        waits = self._pipeline.open_requests or self._backed_up_since is not None
        ends = self._input_over or self.refusal is not None
        return not (waits or ends or self.is_fixed or self._pending_bytes > LARGEST_REST)

    def move(self, give: Callable[[socket.socket, bytes], bool]) -> bool:
        """Have it given away, with the beginning of a request; False when ``give`` could not."""
        handle: socket.socket = self.transport.getHandle()
        if not give(handle, self._framer.unfinished):
            return False
        self._log.debug("connection from {peer} goes on in another process", peer=self.peer)
        # The transport must not end the connection, which goes on elsewhere.
        self.transport.unregisterProducer()
        self.transport.stopReading()
        self.transport.stopWriting()
        handle.close()
        self.connectionLost(Failure(ConnectionDone("it went to another process")))
        return True

    def quiet_seconds(self) -> float:
        """Tell for how long it has had nothing to do; 0 while a request is open."""
        if self._pipeline.open_requests or self._pending_bytes:
            return 0.0
        return self._clock.seconds() - self._active_at

    def describe(self) -> dict[str, Any]:
        """Tell about it, for people; times are seconds."""
        peer = self.transport.getPeer()
        return {
            "peer": self.peer,
            "port": getattr(peer, "port", None),
            "tls": self._is_tls,
            "age": round(self._clock.seconds() - self._since, 1),
            "quiet": round(self.quiet_seconds(), 1),
            "requests": self._pipeline.answered,
            "open": self._pipeline.open_requests,
        }

    def _throttle(self) -> None:
        """Read on, or don't."""
        if not self._leaving or self.is_fixed or self._pending_bytes > LARGEST_REST:
            super()._throttle()
        elif not (self._input_over or self._paused):
            self._paused = True
            self.transport.pauseProducing()
