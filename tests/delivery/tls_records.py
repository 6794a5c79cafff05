# SPDX-License-Identifier: MIT
"""A server's TLS 1.3 records made by hand: what OpenSSL does not say at will (RFC 8446)."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from tests.delivery.tls_ends import TlsEnds, server_secrets

__all__ = ["ALERT", "APPLICATION_DATA", "HANDSHAKE", "Sealer", "ready_ends", "ticket"]

ALERT, HANDSHAKE, APPLICATION_DATA = 21, 22, 23
_TAG_BYTES = 16
#: What OpenSSL's server has sealed when the handshake is over: two tickets.
_TICKETS = 2


def ready_ends(make: Any = TlsEnds) -> tuple[Any, Sealer]:
    """Give ends whose handshake is over, and who seals for the server from then on."""
    ends = make()
    ends.shake_hands()
    ends.server_takes()
    return ends, Sealer(ends.server.get_cipher_name(), server_secrets()[b"SERVER_TRAFFIC_SECRET_0"])


class Sealer:
    """Seals records as the server would (RFC 8446 section 5.2)."""

    def __init__(self, cipher: str, secret: bytes) -> None:
        """Seal with the keys that come of ``secret`` (section 7.3)."""
        self._hash = hashes.SHA384() if "384" in cipher else hashes.SHA256()
        self._key_bytes = 16 if "128" in cipher else 32
        self._cipher: Any = ChaCha20Poly1305 if "CHACHA" in cipher else AESGCM
        self._use(secret, sealed=_TICKETS)

    def seal(self, kind: int, content: bytes, padding: int = 0) -> bytes:
        """Give a record."""
        inner = content + bytes([kind]) + bytes(padding)
        header = b"\x17\x03\x03" + (len(inner) + _TAG_BYTES).to_bytes(2, "big")
        pairs = zip(self._iv, self._sealed.to_bytes(12, "big"), strict=True)
        self._sealed += 1
        sealed: bytes = self._aead.encrypt(bytes(a ^ b for a, b in pairs), inner, header)
        return header + sealed

    def update(self, *, asked: bool) -> bytes:
        """Give a record that says that new keys follow (section 4.6.3), ``asked`` for too."""
        record = self.seal(HANDSHAKE, b"\x18\0\0\1" + bytes([asked]))
        self._use(self._derived(b"traffic upd", self._hash.digest_size), sealed=0)
        return record

    def _use(self, secret: bytes, *, sealed: int) -> None:
        self._secret, self._sealed = secret, sealed
        self._aead = self._cipher(self._derived(b"key", self._key_bytes))
        self._iv = self._derived(b"iv", 12)

    def _derived(self, label: bytes, length: int) -> bytes:
        """HKDF-Expand-Label without context (section 7.1)."""
        full = b"tls13 " + label
        info = length.to_bytes(2, "big") + bytes([len(full)]) + full + b"\0"
        return HKDFExpand(self._hash, length, info).derive(self._secret)


def ticket(size_bytes: int = 100) -> bytes:
    """Give a NewSessionTicket (section 4.6.1)."""
    lifetime_and_age = (7200).to_bytes(4, "big") + (1).to_bytes(4, "big")
    body = lifetime_and_age + b"\1\0" + size_bytes.to_bytes(2, "big") + b"t" * size_bytes + b"\0\0"
    return b"\4" + len(body).to_bytes(3, "big") + body
