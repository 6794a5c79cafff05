# SPDX-License-Identifier: MIT
"""Which servers are out of reach, so that mails to others don't wait behind theirs."""

from __future__ import annotations

from typing import Final

import attrs

__all__ = ["THRESHOLD", "Breaker"]

#: So many failures to connect in a row make a server one that is out of reach.
THRESHOLD: Final = 3

#: Waits between probes of a server that is out of reach (seconds): the first and the longest.
_FIRST: Final = 10.0
_LONGEST: Final = 300.0

#: Those who wait for a server come back one after another (seconds), over this long at most.
_STEP: Final = 0.01
_SPREAD: Final = 60.0

#: So many servers are remembered.
_MOST: Final = 1000


@attrs.define
class _Server:
    failures: int = 0
    next_probe: float = 0.0
    probing: bool = False
    told: int = 0

    def stagger(self) -> float:
        """Give how much later than the first of those who wait the next one is to come back."""
        self.told += 1
        return (self.told - 1) * _STEP % _SPREAD


class Breaker:
    """Remembers failures to connect, by server.

    A server that was out of reach several times in a row is tried by one mail at a time, with
    growing waits in between; the others are told when to come back, not all at the same moment.
    """

    def __init__(self, first: float = _FIRST, longest: float = _LONGEST) -> None:
        """Think well of all servers; ``first`` and ``longest`` are the waits between probes (s)."""
        self._first = first
        self._longest = longest
        self._servers: dict[str, _Server] = {}

    def is_out_of_reach(self, server: str) -> bool:
        """Whether a server is to be tried by one mail at a time only."""
        known = self._servers.get(server)
        return known is not None and known.failures >= THRESHOLD

    def failures(self, server: str) -> int:
        """Give how many times in a row there was no connection; probes count, too."""
        known = self._servers.get(server)
        return 0 if known is None else known.failures

    def wait_until(self, server: str, now: float) -> float | None:
        """Give the time (seconds of the clock of ``now``) to come back; None to try now.

        Who is told to try has to tell ``succeeded``, ``failed`` or ``untold``.
        """
        known = self._servers.get(server)
        if known is None or known.failures < THRESHOLD:
            return None
        if known.probing:
            return now + self._first + known.stagger()
        # A probe that lies further away was set before the clock went back.
        if now < known.next_probe <= now + self._longest:
            return known.next_probe + known.stagger()
        known.probing = True
        known.told = 0
        return None

    def succeeded(self, server: str) -> None:
        """Remember that a connection came about."""
        self._servers.pop(server, None)

    def untold(self, server: str) -> None:
        """Remember that the try told nothing: it ended before there was a connection to make."""
        if server in self._servers:
            self._servers[server].probing = False

    def failed(self, server: str, now: float) -> None:
        """Remember that none did."""
        known = self._servers.setdefault(server, _Server())
        if known.failures >= THRESHOLD and not known.probing:
            # One of many that were under way when it went out of reach: nothing new.
            return
        known.failures += 1
        known.probing = False
        known.told = 0
        growth = 2.0 ** min(max(known.failures - THRESHOLD, 0), 10)
        known.next_probe = now + min(self._first * growth, self._longest)
        if len(self._servers) > _MOST:
            # Clients may name any host: the one that was tried longest ago goes.
            del self._servers[min(self._servers, key=lambda name: self._servers[name].next_probe)]
