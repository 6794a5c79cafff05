# SPDX-License-Identifier: MIT
"""Writing to a transport at once, where the kernel takes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import ISSLTransport, ITCPTransport

__all__ = ["Outlet"]


class Outlet:
    """Hands small pieces to the kernel, and what it does not take to the transport.

    A transport's own ``write`` waits for the reactor's next turn, and asks it for that and takes it
    back: half the cost of a small write. Under TLS, and on what is no TCP, it is used all the same.
    """

    def __init__(self, transport: Any) -> None:
        """Everything written to the transport before has to be out."""
        self._transport = transport
        self._write_some: Callable[[bytes], int | BaseException] | None = None
        if ITCPTransport.providedBy(transport) and not ISSLTransport.providedBy(transport):
            self._write_some = getattr(transport, "writeSomeData", None)

    @property
    def is_empty(self) -> bool:
        """Whether all that was written is with the kernel for certain."""
        return self._write_some is not None

    def write(self, data: bytes) -> None:
        """Write all of it, now or when the transport can, behind what was written before."""
        if self._write_some is not None:
            taken = self._write_some(data)
            if taken == len(data):
                return
            self.leave()
            # What is no number says that the connection is gone; the transport will find out too.
            data = data[taken:] if isinstance(taken, int) else data
        self._transport.write(data)

    def drop(self) -> None:
        """Write nothing that was held back; that is nothing, here."""

    def leave(self) -> None:
        """Leave all that follows to the transport: it has something that is not out yet."""
        self._write_some = None
