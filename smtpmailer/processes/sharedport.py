# SPDX-License-Identifier: MIT
"""A port that several processes take connections from."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet import tcp

from smtpmailer.processes.turns import Turns, Waiting

__all__ = ["SharedPort", "adopt_port"]


class SharedPort(tcp.Port):
    """Takes one connection at a time, and only when it is our turn.

    Twisted's own takes all there are: the first process to wake up would have them all.
    """

    waiting: Waiting

    def doRead(self) -> None:
        """Take one connection."""
        if self.waiting.may_take():
            self.numberAccepts = 1
            super().doRead()

    def go_on(self) -> None:
        """Look at the socket again, unless it was closed meanwhile."""
        if self.connected and not self.disconnecting:
            self.startReading()


def adopt_port(reactor: Any, descriptor: int, factory: Any, turns: Turns) -> SharedPort:
    """Serve a socket that listens already; the descriptor is closed, another one stays open."""
    family = socket.socket(fileno=os.dup(descriptor)).family
    port: SharedPort = SharedPort._fromListeningDescriptor(reactor, descriptor, family, factory)  # noqa: SLF001 - IReactorSocket.adoptStreamPort does this with tcp.Port
    os.close(descriptor)
    port.waiting = turns.waiting(port.stopReading, port.go_on)
    port.startListening()
    return port
