# SPDX-License-Identifier: MIT
"""Stores in memory: for one process, or for tests that need a real store without a disk."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from smtpmailer.interfaces import ICounters

__all__ = ["MemoryCounters"]


@implementer(ICounters)
class MemoryCounters:
    """Counters that begin at zero with the process. Compat: as the predecessor without Redis."""

    def __init__(self) -> None:
        """Begin at zero."""
        self._sent = 0
        self._failed = 0

    def add_sent(self) -> Deferred[None]:
        """Count one mail as sent."""
        self._sent += 1
        return succeed(None)

    def add_failed(self) -> Deferred[None]:
        """Count one mail as failed."""
        self._failed += 1
        return succeed(None)

    def read(self) -> Deferred[tuple[int, int]]:
        """Fire with (sent, failed)."""
        return succeed((self._sent, self._failed))
