# SPDX-License-Identifier: MIT
"""The TLS side of the listening port: nothing is sent before it has to be.

In TLS 1.3 a server sends session tickets behind the handshake (RFC 8446 section 4.6.1), though
nobody asked. A client that writes a request and closes without reading leaves them unread in its
kernel, which then resets the connection and throws away what it has not sent yet: of requests of
500 KB written so, one in ten arrived. pyOpenSSL has no way to turn the tickets off, so they wait
here until there is something else to send.
"""

from __future__ import annotations

from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol

__all__ = ["TlsPortFactory"]


class _TlsPortProtocol(TLSMemoryBIOProtocol):
    """One TLS connection; keeps its tickets until the first answer or the end."""

    _speaks = False

    def _flushSendBIO(self) -> None:
        if self._speaks or not self._handshakeDone or not self._has_tickets():
            super()._flushSendBIO()

    def _has_tickets(self) -> bool:
        version: str = self._tlsConnection.get_protocol_version_name()
        return version == "TLSv1.3"

    def _write(self, octets: bytes) -> None:
        self._speaks = True
        super()._write(octets)

    def _shutdownTLS(self) -> None:
        self._speaks = True
        super()._shutdownTLS()


class TlsPortFactory(TLSMemoryBIOFactory):
    """Wraps a factory of ours in TLS; takes what TLSMemoryBIOFactory takes."""

    protocol = _TlsPortProtocol
