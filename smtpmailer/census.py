# SPDX-License-Identifier: MIT
"""Which connections are open, and whether one more may be."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from smtpmailer.core.board import Board, Field, Seat
from smtpmailer.core.limits import ProtocolLimits
from smtpmailer.core.tallies import SharedTally
from smtpmailer.errors import LimitError

__all__ = ["Census", "OwnTally", "ServiceTally", "Tally"]

_C = TypeVar("_C")


class Tally(Protocol):
    """Counts what counts for the limits."""

    def change(self, peer: str, number: int) -> None:
        """Add a number of connections of this address, which may be negative."""

    def of(self, peer: str) -> int:
        """Give the connections of this address."""

    def in_all(self) -> int:
        """Give all connections."""


class OwnTally:
    """Counts the connections of this process, where it is the only one."""

    def __init__(self) -> None:
        """Begin at 0."""
        self._per_peer: dict[str, int] = {}
        self._in_all = 0

    def change(self, peer: str, number: int) -> None:
        """Add; see Tally."""
        self._in_all += number
        count = self._per_peer.pop(peer, 0) + number
        if count:
            self._per_peer[peer] = count

    def of(self, peer: str) -> int:
        """Give those of an address."""
        return self._per_peer.get(peer, 0)

    def in_all(self) -> int:
        """Give all."""
        return self._in_all


class ServiceTally:
    """Counts the connections of all processes of the service."""

    def __init__(self, board: Board, seat: Seat, tally: SharedTally) -> None:
        """``seat`` is that of this process."""
        self._board = board
        self._seat = seat
        self._tally = tally

    def change(self, peer: str, number: int) -> None:
        """Add; see Tally."""
        self._seat.add(Field.CONNECTIONS, number)
        self._tally.add(peer, self._seat.number, number)

    def of(self, peer: str) -> int:
        """Give those of an address."""
        return self._tally.total(peer)

    def in_all(self) -> int:
        """Give all."""
        return sum(self._board.column(Field.CONNECTIONS))


class Census(Generic[_C]):
    """Counts connections, in all and per client address.

    ``served`` are those of this process that were not refused, ``everyone`` holds the refused ones
    too: they are told why, which takes a moment.
    """

    def __init__(self, limits: ProtocolLimits, tally: Tally | None = None) -> None:
        """Nobody is there yet; ``tally`` counts for the limits."""
        self.limits = limits
        self._tally: Tally = tally or OwnTally()
        self.everyone: set[_C] = set()
        self.served = 0

    @property
    def refused(self) -> int:
        """How many are there only to be told why they are refused."""
        return len(self.everyone) - self.served

    def refusal(self, peer: str) -> LimitError | None:
        """Say why one more of this address is refused, or None."""
        return self.limits.too_many(self._tally.in_all(), self._tally.of(peer))

    def add(self, connection: _C, peer: str, *, served: bool) -> None:
        """Count a connection."""
        self.everyone.add(connection)
        if served:
            self.served += 1
            self._tally.change(peer, 1)

    def remove(self, connection: _C, peer: str, *, served: bool) -> None:
        """Count a connection no longer."""
        self.everyone.discard(connection)
        if served:
            self.served -= 1
            self._tally.change(peer, -1)
