# SPDX-License-Identifier: MIT
"""Seal and open what the queue stores: AES-128-GCM, AES-256-GCM, XChaCha20-Poly1305.

Compat: base64 of nonce, tag, ciphertext (AES) or of nonce and libsodium's own output (XChaCha20).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nacl import bindings
from nacl.exceptions import CryptoError

from smtpmailer.errors import CipherError

__all__ = ["KEY_BYTES", "NONCE_BYTES", "open_sealed", "seal"]

#: How long a key is, by QUEUE_ENCRYPT_METHOD.
KEY_BYTES: Final = {"AES128": 16, "AES256": 32, "XChaCha20": 32}

#: How long a nonce is, by QUEUE_ENCRYPT_METHOD; never use one twice.
NONCE_BYTES: Final = {"AES128": 12, "AES256": 12, "XChaCha20": 24}

_TAG: Final = 16
_XCHACHA: Final = "XChaCha20"


def seal(method: str, key: bytes, nonce: bytes, plain: bytes) -> str:
    """Encrypt to base64 text."""
    assert len(key) == KEY_BYTES[method]
    assert len(nonce) == NONCE_BYTES[method]
    if method == _XCHACHA:
        data = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(plain, b"", nonce, key)
    else:
        sealed = AESGCM(key).encrypt(nonce, plain, None)
        data = sealed[-_TAG:] + sealed[:-_TAG]
    return base64.b64encode(nonce + data).decode("ascii")


def open_sealed(text: str, keys: Sequence[bytes]) -> bytes:
    """Decrypt what any method wrote with any of the keys; the first that fits counts.

    Compat: the predecessor padded a key of wrong length with zeros, or cut it; such keys fit too.
    Raises CipherError when none fits, or the text was changed or is none of ours.
    """
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise CipherError("not base64") from None
    for key in keys:
        for method in KEY_BYTES:
            plain = _try_open(method, key, data)
            if plain is not None:
                return plain
    raise CipherError("no key fits: SECRET_KEY is another than the mail was written with")


def _try_open(method: str, key: bytes, data: bytes) -> bytes | None:
    size = NONCE_BYTES[method]
    if len(data) < size + _TAG:
        return None
    fitted = key[: KEY_BYTES[method]].ljust(KEY_BYTES[method], b"\0")
    nonce, rest = data[:size], data[size:]
    try:
        if method == _XCHACHA:
            return bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(rest, b"", nonce, fitted)
        return AESGCM(fitted).decrypt(nonce, rest[_TAG:] + rest[:_TAG], None)
    except (InvalidTag, CryptoError):
        return None
