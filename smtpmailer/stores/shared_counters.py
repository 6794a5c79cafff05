# SPDX-License-Identifier: MIT
"""The counters of mails sent and failed, of all processes of the service together."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from smtpmailer.core.board import Board, Field, Seat
from smtpmailer.interfaces import ICounters

__all__ = ["SharedCounters"]


@implementer(ICounters)
class SharedCounters:
    """Counts on the board; what a process had counted stays when it is gone.

    Compat: they begin at zero with the service, as the predecessor's without Redis.
    """

    def __init__(self, board: Board, seat: Seat) -> None:
        """Count on our ``seat``; read all."""
        self._board = board
        self._seat = seat

    def add_sent(self) -> Deferred[None]:
        """Count one mail as sent."""
        self._seat.add(Field.SENT)
        return succeed(None)

    def add_failed(self) -> Deferred[None]:
        """Count one mail as failed."""
        self._seat.add(Field.FAILED)
        return succeed(None)

    def read(self) -> Deferred[tuple[int, int]]:
        """Fire with (sent, failed) of all processes."""
        return succeed((self._board.total(Field.SENT), self._board.total(Field.FAILED)))
