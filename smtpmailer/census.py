# SPDX-License-Identifier: MIT
"""Which connections are open, and whether one more may be."""

from __future__ import annotations

from typing import Generic, TypeVar

from smtpmailer.core.limits import ProtocolLimits
from smtpmailer.errors import LimitError

__all__ = ["Census"]

_C = TypeVar("_C")


class Census(Generic[_C]):
    """Counts connections, in all and per client address.

    ``served`` are those that were not refused, ``everyone`` holds the refused ones too: they are
    told why, which takes a moment.
    """

    def __init__(self, limits: ProtocolLimits) -> None:
        """Nobody is there yet."""
        self._limits = limits
        self._per_peer: dict[str, int] = {}
        self.everyone: set[_C] = set()
        self.served = 0

    @property
    def refused(self) -> int:
        """How many are there only to be told why they are refused."""
        return len(self.everyone) - self.served

    def refusal(self, peer: str) -> LimitError | None:
        """Say why one more of this address is refused, or None."""
        return self._limits.too_many(self.served, self._per_peer.get(peer, 0))

    def add(self, connection: _C, peer: str, *, served: bool) -> None:
        """Count a connection."""
        self.everyone.add(connection)
        if served:
            self.served += 1
            self._per_peer[peer] = self._per_peer.get(peer, 0) + 1

    def remove(self, connection: _C, peer: str, *, served: bool) -> None:
        """Count a connection no longer."""
        self.everyone.discard(connection)
        if served:
            self.served -= 1
            left = self._per_peer.pop(peer) - 1
            if left:
                self._per_peer[peer] = left
