# SPDX-License-Identifier: MIT
"""Writing under TLS: what all sessions write in a turn of the reactor goes out at its end."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from OpenSSL import SSL
from twisted.internet.interfaces import IReactorTime
from twisted.protocols.tls import TLSMemoryBIOProtocol

__all__ = ["Departures", "TlsOutlet"]

#: The most that a TLS record holds (RFC 8446 section 5.1).
_RECORD: Final = 2**14
#: More than a record grows by when it is sealed (RFC 8446 section 5.2).
_SEAL: Final = 256


class Departures:
    """Lets outlets write together, when all is said that comes of a turn of the reactor.

    A server that is just waking up is not woken again: so it costs both sides less than to write
    each time there is something.
    """

    def __init__(self, clock: IReactorTime) -> None:
        """Begin with nobody."""
        self._clock = clock
        self._waiting: deque[TlsOutlet] = deque()

    def add(self, outlet: TlsOutlet) -> None:
        """Flush an outlet before the reactor waits for anything."""
        if not self._waiting:
            self._clock.callLater(0, self._depart)
        self._waiting.append(outlet)

    def _depart(self) -> None:
        try:
            while self._waiting:
                self._waiting.popleft().flush()
        finally:
            if self._waiting:  # One had a fault, which the reactor tells of; the others go on.
                self._clock.callLater(0, self._depart)


class TlsOutlet:
    """Seals what is written and hands it to the kernel, and what it does not take to the transport.

    Twisted's TLS collects what is written and seals it later too, but with a timer for each
    connection, in pieces, and writes it another turn later: most of what a small write costs. Here
    that is one step. Whatever is not plain sailing is left to Twisted, for good.
    """

    def __init__(self, transport: Any, layer: TLSMemoryBIOProtocol, departures: Departures) -> None:
        """``layer`` seals for ``transport``, and has sealed all that was written before."""
        self._transport = transport
        self._departures = departures
        self._past_layer: Any = layer.transport
        self._connection: Any = layer.getHandle()
        self._write_some = getattr(transport, "writeSomeData", None)
        self._held: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Write all of it soon, behind what was written before."""
        if self._connection is None:
            self._transport.write(data)
            return
        if not self._held:
            self._departures.add(self)
        self._held.append(data)

    def leave(self) -> None:
        """Leave all that follows to the transport."""
        self.flush()
        self._connection = None

    def drop(self) -> None:
        """Write nothing that is held: the connection is to end."""
        self._held.clear()

    def flush(self) -> None:
        """Write what is held now."""
        held, self._held = self._held, []
        transport = self._transport
        # Of a connection that is gone Twisted leaves nothing to write to.
        if held and not transport.disconnecting and getattr(transport, "connected", True):
            try:
                self._write(held[0] if len(held) == 1 else b"".join(held))
            except BaseException:
                transport.abortConnection()  # Nobody knows what of it is out.
                raise

    def _write(self, data: bytes) -> None:
        view, at, end = memoryview(data), 0, len(data)
        connection = self._connection
        try:
            while at < end:
                at += connection.send(view[at : at + _RECORD])
        except SSL.Error:  # It may not write before it has read, or is broken: Twisted knows how.
            self._connection = None
        self._pass_on(_sealed(connection, end + (end // _RECORD + 1) * _SEAL))
        if at < end:
            self._transport.write(data[at:])

    def _pass_on(self, sealed: bytes) -> None:
        """Write what is sealed past the layer that seals."""
        transport = self._transport
        if not sealed:
            return
        # What TLS said by itself may wait there, or what the kernel did not take before. Where one
        # can't tell, something does.
        waits = getattr(transport, "_tempDataLen", 1) or getattr(transport, "dataBuffer", b"?")
        if self._write_some is not None and not waits:
            taken = self._write_some(sealed)
            if taken == len(sealed):
                return
            # What is no number says that the connection is gone; the transport will find out too.
            sealed = sealed[taken:] if isinstance(taken, int) else sealed
        self._past_layer.write(sealed)


def _sealed(connection: Any, most: int) -> bytes:
    """Give all that a TLS connection wants to send; usually it is less than ``most`` bytes."""
    pieces = []
    try:
        while True:
            pieces.append(connection.bio_read(most))
            if len(pieces[-1]) < most:  # To ask in vain costs an exception.
                break
    except SSL.WantReadError:
        pass  # There is no more, or nothing.
    return b"".join(pieces)
