# SPDX-License-Identifier: MIT
"""How many deliveries run at a time, and how many of them to one server."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

import attrs

__all__ = ["Slot", "Slots"]

#: A delivery that takes longer than this (seconds) is slow: its server may have stalled.
_SLOW: Final = 5.0

#: One of so many parts of all slots is a server's share.
_PARTS: Final = 4


@attrs.frozen
class Slot:
    """A delivery under way, and since when (seconds of a clock that never goes back)."""

    server: str
    since: float


class Slots:
    """The deliveries under way, by server.

    While there are free slots any server may have them, be it all. What a server has beyond its
    share is lent: where its deliveries turn out to be slow, others need not wait for them. Then
    more than ``total`` run, but only deliveries within their own server's share are added.
    """

    def __init__(self, total: int) -> None:
        """Begin with all of them free."""
        self.total = total
        self._share = max(1, total // _PARTS)
        self._taken = 0
        # For each server, since when each of its slots is taken, ascending.
        self._since: dict[str, list[float]] = {}

    def free_for(self, server: str) -> int:
        """Give how many deliveries to a server may begin now."""
        own = self._share - len(self._since.get(server, ()))
        return max(self.total - self._taken, own, 0)

    def take(self, server: str, now: float) -> Slot:
        """Begin a delivery; ``free_for`` has told that it may."""
        self._taken += 1
        self._since.setdefault(server, []).append(now)
        return Slot(server, now)

    def give_back(self, slot: Slot) -> None:
        """End a delivery."""
        self._taken -= 1
        since = self._since[slot.server]
        since.remove(slot.since)
        if not since:
            del self._since[slot.server]

    def lent_too_long(self, now: float) -> int:
        """Count the slots that servers have beyond their share, in slow deliveries."""
        slow, count = now - _SLOW, 0
        for since in self._since.values():
            # That a server is fast is seen at once: this is asked whenever a delivery ends.
            if since[0] <= slow and len(since) > self._share:
                count += min(bisect_right(since, slow), len(since) - self._share)
        return count
