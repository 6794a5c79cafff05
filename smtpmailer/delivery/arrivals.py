# SPDX-License-Identifier: MIT
"""Reading under TLS: what comes in at a time is handed on at a time, and asked for once."""

from __future__ import annotations

from typing import Any, Final

from OpenSSL import SSL
from twisted.protocols.tls import TLSMemoryBIOProtocol

__all__ = ["Arrivals"]

#: The header of a TLS record ends with the length of what follows (RFC 8446 section 5.1).
_HEADER: Final = 5
_APPLICATION_DATA: Final = 23
#: The most that a record holds.
_RECORD: Final = 2**14


class Arrivals:
    """Reads TLS records for a protocol where they are whole, as nearly all are.

    Twisted's TLS asks OpenSSL for more until it refuses, and then whether it has to say something
    itself: two exceptions a read, which cost as much as all else. Who has counted the records
    knows when to stop. The protocol gets what they hold in one piece. All other input, and every
    end of a connection, is left to Twisted, whose ``layer`` this is.
    """

    def __init__(self, layer: TLSMemoryBIOProtocol) -> None:
        """Count from the first byte of TLS on; ``begin`` to read."""
        self.layer = layer
        self._past_layer: Any = layer.transport
        self._pass_on = layer.dataReceived
        self._connection: Any = None
        # What is there of a header, and how much of a record is still to come.
        self._header = b""
        self._missing = 0
        layer.dataReceived = self.take  # type: ignore[method-assign] # Twisted does so for write

    @classmethod
    def of(cls, transport: Any) -> Arrivals | None:
        """Give that of a transport whose TLS has just begun; None if it is not Twisted's."""
        layer = getattr(transport, "protocol", None)
        return cls(layer) if isinstance(layer, TLSMemoryBIOProtocol) else None

    def begin(self) -> None:
        """Read from now on; the handshake has to be over."""
        # What was written by now goes out before what is written past the layer.
        collected = getattr(self.layer, "_aggregator", None)
        if collected is not None:
            collected.flush()
        self._connection = self.layer.getHandle()

    def take(self, data: bytes) -> None:
        """Take bytes that the server sent."""
        count = self._count(data)
        # What Twisted could not seal waits until it reads: OpenSSL may take it after these bytes.
        if not count or self._connection is None or getattr(self.layer, "_appSendBuffer", True):
            self._pass_on(data)
            return
        texts, ended = self._read(data, count)
        if texts:
            self.layer.wrappedProtocol.dataReceived(b"".join(texts))
        if ended:
            self._pass_on(b"\0")  # OpenSSL reads no more. So Twisted asks it, too, and hears why.

    def _read(self, data: bytes, count: int) -> tuple[list[bytes], bool]:
        """Give what so many records hold, and whether they end the connection."""
        connection, texts = self._connection, []
        connection.bio_write(data)
        for _ in range(count):
            try:
                texts.append(connection.recv(_RECORD))
            except SSL.WantReadError:  # A record of TLS itself was among them.
                self._answer()
            except SSL.Error:
                return texts, True
        return texts, False

    def _answer(self) -> None:
        """Send what TLS has to say to a record of its own."""
        try:
            sealed = self._connection.bio_read(_RECORD)
        except SSL.WantReadError:
            return
        self._past_layer.write(sealed)

    def _count(self, data: bytes) -> int:
        """Count records; 0 where one is not whole, or is openly about TLS itself."""
        plain = not (self._header or self._missing)
        at, data = self._missing, self._header + data
        count, end = 0, len(data)
        while at + _HEADER <= end:
            plain &= data[at] == _APPLICATION_DATA
            at += _HEADER + (data[at + 3] << 8 | data[at + 4])
            count += 1
        self._missing = max(0, at - end)
        self._header = data[at:]
        return count if plain and at == end else 0
