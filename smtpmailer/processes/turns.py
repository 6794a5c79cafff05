# SPDX-License-Identifier: MIT
"""Whose turn it is to take the next connection, where several processes could."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime

from smtpmailer.core.board import Board, Field, Seat

__all__ = ["Turns", "Waiting"]

#: Seconds that a busier process leaves to the others, before it takes the connection itself.
_COURTESY: Final = 0.005
#: Who has not said for so long (milliseconds) that it turns gets no courtesy.
_STALE_MS: Final = 3000


class Turns:
    """It is the turn of the process that has the fewest connections.

    The others wait a moment, in case it is busy: a connection is not kept waiting for long.
    """

    def __init__(self, board: Board, seat: Seat, clock: IReactorTime) -> None:
        """``seat`` is ours; ``clock`` is the machine's monotonic one."""
        self._board = board
        self._seat = seat
        self._clock = clock

    def is_ours(self) -> bool:
        """Tell whether nobody has fewer connections."""
        ours = self._seat[Field.CONNECTIONS]
        fresh = self._clock.seconds() * 1000 - _STALE_MS
        accepting = self._board.column(Field.ACCEPTING)
        connections = self._board.column(Field.CONNECTIONS)
        beats = self._board.column(Field.BEAT)
        return not any(
            accepting[number] and connections[number] < ours and beats[number] >= fresh
            for number in range(len(accepting))
        )

    def waiting(self, pause: Callable[[], object], resume: Callable[[], object]) -> Waiting:
        """Give what decides for one socket; see Waiting."""
        return Waiting(self, self._clock, pause, resume)


class Waiting:
    """Decides for one socket whether to take what is there; courtesy has an end."""

    def __init__(
        self,
        turns: Turns,
        clock: IReactorTime,
        pause: Callable[[], object],
        resume: Callable[[], object],
    ) -> None:
        """``pause`` and ``resume`` stop and go on looking at the socket."""
        self._turns = turns
        self._clock = clock
        self._pause = pause
        self._resume = resume
        self._waited = False
        self._timer: Any = None

    def may_take(self) -> bool:
        """Tell whether to take one now; when not the socket is left alone for a moment."""
        if self._waited or self._turns.is_ours():
            self._waited = False
            return True
        self._pause()
        self._timer = self._clock.callLater(_COURTESY, self._over)
        return False

    def stop(self) -> None:
        """Look at the socket no more."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _over(self) -> None:
        self._waited = True
        self._resume()
