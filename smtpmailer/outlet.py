# SPDX-License-Identifier: MIT
"""Writing to a transport at once, where the kernel takes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import ISSLTransport, ISystemHandle, ITCPTransport

__all__ = ["Outlet"]


class Outlet:
    """Hands small pieces to the kernel, and what it does not take to the transport.

    A transport's own ``write`` waits for the reactor's next turn, and asks it for that and takes it
    back: half the cost of a small write. Under TLS, and on what is no TCP, it is used all the same.
    """

    def __init__(self, transport: Any) -> None:
        """Everything written to the transport before has to be out."""
        self._transport = transport
        self._send: Callable[[bytes], int] | None = None
        is_plain = ITCPTransport.providedBy(transport) and not ISSLTransport.providedBy(transport)
        if is_plain and ISystemHandle.providedBy(transport):
            handle: Any = transport.getHandle()
            self._send = handle.send

    @property
    def is_empty(self) -> bool:
        """Whether all that was written is with the kernel for certain."""
        return self._send is not None

    def write(self, data: bytes) -> None:
        """Write all of it, now or when the transport can, behind what was written before."""
        if self._send is not None:
            try:
                taken = self._send(data)
            except OSError:  # There is no room, or the connection is gone: it will find out too.
                taken = 0
            if taken == len(data):
                return
            self.leave()
            data = data[taken:]
        self._transport.write(data)

    def drop(self) -> None:
        """Write nothing that was held back; that is nothing, here."""

    def leave(self) -> None:
        """Leave all that follows to the transport: it has something that is not out yet."""
        self._send = None
