# SPDX-License-Identifier: MIT
"""Password hashes of the three kinds the API accepts: bcrypt, argon2i, argon2id.

Verifying costs tens of milliseconds of CPU on purpose: call it through IThreads.
"""

from __future__ import annotations

import re
from typing import Final

import bcrypt
from nacl import exceptions as nacl_exceptions
from nacl import pwhash

__all__ = ["MAX_PASSWORD_BYTES", "hash_method", "verify"]

#: No password that is longer is looked at.
MAX_PASSWORD_BYTES: Final = 1024

#: bcrypt looks at no more of a password.
_BCRYPT_BYTES: Final = 72

_KINDS: Final = (
    ("bcrypt", re.compile(r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}")),
    ("argon2i", re.compile(r"\$argon2i\$[\x21-\x7e]+")),
    ("sodium", re.compile(r"\$argon2id\$[\x21-\x7e]+")),
)


def hash_method(password_hash: str) -> str | None:
    """Tell a hash's kind in the words of MAILER_AUTH_HASH_METHOD; None when it is none of them."""
    for method, pattern in _KINDS:
        if pattern.fullmatch(password_hash):
            return method
    return None


def verify(password: str, password_hash: str) -> bool:
    r"""Tell whether a password belongs to a hash; never raises.

    A password with a NUL, or longer than the hash looks at, never matches: bcrypt would take
    "right\0junk" and anything behind 72 bytes. (Compat: the predecessor took both.)
    """
    try:
        data = password.encode("utf-8")
    except UnicodeEncodeError:
        return False
    if not data or len(data) > MAX_PASSWORD_BYTES or b"\0" in data:
        return False
    if hash_method(password_hash) == "bcrypt":
        return _verify_bcrypt(data, password_hash)
    try:
        return pwhash.verify(password_hash.encode("utf-8"), data)
    except (nacl_exceptions.CryptoError, ValueError):
        return False


def _verify_bcrypt(data: bytes, password_hash: str) -> bool:
    # $2y$ is PHP's name for what everybody else calls $2b$.
    stored = "$2b$" + password_hash[4:]
    try:
        return len(data) <= _BCRYPT_BYTES and bcrypt.checkpw(data, stored.encode("ascii"))
    except ValueError:  # a cost that bcrypt does not know
        return False
