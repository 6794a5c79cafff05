# SPDX-License-Identifier: MIT
"""Writing a large message, as fast as the transport takes it and no faster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

__all__ = ["CHUNK", "BodyWriter"]

#: Bytes handed to the transport at a time; a message up to this size goes out in one write.
CHUNK = 64 * 1024


@implementer(IPushProducer)
class BodyWriter:
    """Writes bytes unchanged, then their end: the final dot, or nothing after BDAT.

    ``progress`` is called before each chunk; ``last`` right before the write that contains the
    end: from then on the server may take the message. ``done`` is called when all is written.
    """

    def __init__(
        self,
        wire: bytes,
        end: bytes,
        transport: Any,
        *,
        progress: Callable[[], None],
        last: Callable[[], None],
        done: Callable[[], None],
    ) -> None:
        self._wire = wire
        self._end = end
        self._transport = transport
        self._progress = progress
        self._last = last
        self._done = done
        self._offset = 0
        self._paused = False
        self._busy = False
        self.ended = False

    def start(self) -> None:
        """Begin to write, as the transport's producer."""
        self._transport.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        """Write on; called by the transport when it has room."""
        self._paused = False
        if self._busy:  # A write made the transport pause and resume: the loop below goes on.
            return
        self._busy = True
        while not self._paused and not self.ended:
            self._write_chunk()
        self._busy = False

    def pauseProducing(self) -> None:
        """Stop for now; called by the transport when its buffer is full."""
        self._paused = True

    def stopProducing(self) -> None:
        """Write no more; called by the transport when the connection is gone."""
        self.ended = True

    def abandon(self) -> None:
        """Write no more and let go of the transport; without the end nothing is delivered."""
        if not self.ended:
            self.ended = True
            self._transport.unregisterProducer()

    def _write_chunk(self) -> None:
        chunk = self._wire[self._offset : self._offset + CHUNK]
        self._offset += len(chunk)
        self._progress()
        if self._offset < len(self._wire):
            self._transport.write(chunk)
            return
        self.ended = True
        self._last()
        self._transport.write(chunk + self._end)
        self._transport.unregisterProducer()
        self._done()
