# SPDX-License-Identifier: MIT
"""The TLS side of the listening port: who does not speak TLS is told so, once and soon.

In TLS 1.3 a server sends session tickets behind the handshake (RFC 8446 section 4.6.1), though
nobody asked. A client that writes a request and closes without reading leaves them unread in its
kernel, which then resets the connection and throws away what it has not sent yet: of requests of
500 KB written so, one in ten arrived. pyOpenSSL has no way to turn the tickets off, so they wait
here until there is something else to send.
"""

from __future__ import annotations

from typing import Any, Final

from OpenSSL import SSL
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocolFactory,
    IReactorTime,
    ITransport,
)
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from smtpmailer.core.bucket import Lines
from smtpmailer.core.replies import error

__all__ = ["HANDSHAKE_TIMEOUT", "TlsPortFactory"]

#: Seconds from the connection to the end of the handshake.
HANDSHAKE_TIMEOUT: Final = 10.0

#: What every TLS connection begins with: a record of the type handshake (RFC 8446 section 5.1).
_HANDSHAKE: Final = b"\x16"
_PLAIN: Final = error("this port speaks TLS only (MAILER_PROTO = ssl)", "invalid payload")


class _TlsPortProtocol(TLSMemoryBIOProtocol):
    """One TLS connection; keeps its tickets until the first answer or the end."""

    _log = Logger()

    factory: TlsPortFactory
    transport: Any

    _speaks = False
    _peer = "local"
    _timer: IDelayedCall | None = None
    # The bytes that came first have been looked at.
    _begun = False
    # Why there was no TLS, where that is known.
    _refusal = ""

    def makeConnection(self, transport: ITransport) -> None:
        """Begin, with a limit on how long the handshake takes."""
        self._peer = getattr(transport.getPeer(), "host", self._peer)
        self._timer = self.factory.clock.callLater(HANDSHAKE_TIMEOUT, self._late)
        super().makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        """Take bytes of TLS; a client that sends others is answered in its own way."""
        if not self._begun:
            self._begun = True
            if not data.startswith(_HANDSHAKE):
                self._refuse("it does not speak TLS", _PLAIN.encode())
                return
        if not self._refusal:
            super().dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Say why there was no TLS."""
        self._stop_timer()
        if not self._handshakeDone:
            self._report(self._refusal or _why(self._reason or reason))
        super().connectionLost(reason)

    def _refuse(self, why: str, words: bytes = b"") -> None:
        """End the connection below TLS, with these last words."""
        self._refusal = why
        self._stop_timer()
        if words:
            self.transport.write(words)
            self.transport.loseConnection()
        else:
            self.transport.abortConnection()

    def _report(self, why: str) -> None:
        more = self.factory.lines.next(self.factory.clock.seconds()) if why else None
        if more is not None:
            self._log.warn("no TLS with {peer}: {why}{more}", peer=self._peer, why=why, more=more)

    def _late(self) -> None:
        self._timer = None
        self._refuse(f"the handshake took longer than {HANDSHAKE_TIMEOUT:g} seconds")

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _checkHandshakeStatus(self) -> None:
        super()._checkHandshakeStatus()
        if self._handshakeDone:
            self._stop_timer()

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
    """Wraps a factory of ours in TLS."""

    protocol = _TlsPortProtocol

    def __init__(self, tls: Any, factory: IProtocolFactory, clock: IReactorTime) -> None:
        """``tls`` makes the connections' TLS side (CertificateOptions, ServerTls)."""
        super().__init__(tls, False, factory, clock)
        self.clock = clock
        self.lines = Lines()


def _why(reason: Failure) -> str:
    """Say what OpenSSL did not like; empty when the client only went."""
    fault = reason.value
    if not isinstance(fault, SSL.Error) or not fault.args or not isinstance(fault.args[0], list):
        return ""
    return ", ".join(str(entry[-1]) for entry in fault.args[0] if entry) or "no reason given"
