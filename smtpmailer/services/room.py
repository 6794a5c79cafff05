# SPDX-License-Identifier: MIT
"""Memory for large messages: those for which there is none now wait, in the order they came."""

from __future__ import annotations

from collections import deque
from typing import Final

from twisted.internet.defer import Deferred, succeed

__all__ = ["MemoryRoom"]

#: What takes no more than so many bytes never waits; it counts all the same.
_SMALL: Final = 2**20


class MemoryRoom:
    """So many bytes, of which those who build and send messages take a part for the time."""

    def __init__(self, limit: int) -> None:
        """``limit`` is in bytes, 0 for none; it may be changed at any time."""
        self.limit = limit
        self.taken = 0
        self._waiting: deque[tuple[int, Deferred[None]]] = deque()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def take(self, size: int) -> Deferred[None]:
        """Fire once there is room for so many bytes; then they have to be given back.

        What is larger than all the room waits until it is alone. Cancelling ends the wait.
        """
        if size <= _SMALL or (not self._waiting and self._fits(size)):
            self.taken += size
            return succeed(None)
        ready: Deferred[None] = Deferred(self._leave)
        self._waiting.append((size, ready))
        return ready

    def give(self, size: int) -> None:
        """Give back what was taken."""
        self.taken -= size
        while self._waiting and self._fits(self._waiting[0][0]):
            size, ready = self._waiting.popleft()
            self.taken += size
            ready.callback(None)

    def _fits(self, size: int) -> bool:
        return not self.limit or not self.taken or self.taken + size <= self.limit

    def _leave(self, ready: Deferred[None]) -> None:
        self._waiting = deque(each for each in self._waiting if each[1] is not ready)
