# SPDX-License-Identifier: MIT
"""The two ends of a TLS connection in memory: Twisted's layer, and a server of OpenSSL alone."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from tests.delivery.certificates import authority, issue

__all__ = ["Heard", "TlsEnds", "server_secrets"]


class Heard(Protocol):
    """Keeps what it is told, piece by piece."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.pieces.append(data)


@implementer(IOpenSSLClientConnectionCreator)
class _Trusting:
    """Makes client connections that check nothing."""

    def __init__(self, version: int) -> None:
        self._context = SSL.Context(SSL.TLS_METHOD)
        self._context.set_max_proto_version(version)

    def clientConnectionForTLS(self, _: Any) -> SSL.Connection:
        return SSL.Connection(self._context, None)


@functools.cache
def server_secrets() -> dict[bytes, bytes]:
    """Give the secrets of the connection made last, by their names in key logs."""
    return {}


def _keep_secret(_connection: SSL.Connection, line: bytes) -> None:
    name, _, secret = line.split()
    server_secrets()[name] = bytes.fromhex(secret.decode())


@functools.cache
def _server_context() -> Any:
    """Give one for all, as keys take long to make."""
    context = issue("localhost", issuer=authority()).options().getContext()
    context.set_keylog_callback(_keep_secret)
    return context


class TlsEnds:
    """``layer`` writes to ``transport`` and gives what it reads to ``heard``; ``server`` is far."""

    def __init__(
        self,
        version: int = SSL.TLS1_3_VERSION,
        layer: type[TLSMemoryBIOProtocol] = TLSMemoryBIOProtocol,
    ) -> None:
        """Do nothing yet; ``shake_hands`` follows."""
        self.transport = StringTransport()
        self.heard = Heard()
        nothing: Any = None  # as Twisted's own startTLS does it
        factory = TLSMemoryBIOFactory(_Trusting(version), True, nothing, Clock())
        self.layer = layer(factory, self.heard, False)
        self.server = SSL.Connection(_server_context(), None)
        self.server.set_accept_state()
        self.layer.makeConnection(self.transport)

    def shake_hands(self, rounds: int = 3) -> None:
        """Go through the handshake; in one round all but what the server says after it."""
        for _ in range(rounds):
            self.server_takes()
            with contextlib.suppress(SSL.WantReadError):
                self.server.do_handshake()
            if sealed := self.from_server():
                self.layer.dataReceived(sealed)

    def server_takes(self) -> None:
        """Let what was written get to the server."""
        sealed = self.transport.value()
        self.transport.clear()
        if sealed:
            self.server.bio_write(sealed)

    def server_reads(self) -> bytes:
        """Give what the server can read now."""
        self.server_takes()
        texts = []
        with contextlib.suppress(SSL.WantReadError):
            while True:
                texts.append(self.server.recv(1 << 16))
        return b"".join(texts)

    def from_server(self) -> bytes:
        """Give what the server has sealed."""
        try:
            return self.server.bio_read(1 << 20)
        except SSL.WantReadError:
            return b""
