# SPDX-License-Identifier: MIT
"""What the mail trap reads: message bodies, and the arguments of MAIL and RCPT; pure."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["Body", "has_bare_ends", "option_fault", "parse_path"]

_END: Final = b"\r\n.\r\n"
_BARE: Final = re.compile(rb"(?<!\r)\n|\r(?!\n)")
_PATH: Final = re.compile(
    rb"(?:FROM|TO):\s*<(?:@[^<>:\s]*:)?(?P<path>(?:\"(?:[^\"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*\"@)?"
    rb"[^<>\"\x00-\x20\x7f]*)>(?:\s+(?P<options>.*))?",
    re.IGNORECASE,
)
#: The parameters of MAIL FROM and their values.
_OPTION_VALUES: Final = {
    "AUTH": re.compile(r"[!-~]+"),
    "BODY": re.compile(r"7BIT|8BITMIME", re.IGNORECASE),
    "SIZE": re.compile(r"[0-9]{1,20}"),
    "SMTPUTF8": re.compile(r""),
}


class Body:
    """Collects the bytes behind DATA up to the line with the single dot, however they are cut."""

    def __init__(self, limit_bytes: int) -> None:
        # The CRLF of the DATA command counts: an empty mail is a dot right behind it.
        self._raw = bytearray(b"\r\n")
        self._limit_bytes = limit_bytes
        self.too_large = False

    def feed(self, data: bytes) -> bytes | None:
        """Take bytes; give what follows the end once it is there, else None."""
        seen = len(self._raw)
        self._raw += data
        end = self._raw.find(_END, max(0, seen - len(_END) + 1))
        if end >= 0:
            rest = bytes(self._raw[end + len(_END) :])
            del self._raw[end + 2 :]
            self.too_large = self.too_large or len(self._raw) - 2 > self._limit_bytes
            return rest
        if len(self._raw) > self._limit_bytes + len(_END):
            # Only what can still begin the end is of interest now.
            self.too_large = True
            del self._raw[: -len(_END)]
        return None

    def content(self) -> bytes:
        """Give the message: leading dots removed once (RFC 5321 section 4.5.2)."""
        return bytes(self._raw).replace(b"\r\n.", b"\r\n")[2:]


def has_bare_ends(text: bytes) -> bool:
    """Tell whether a CR or LF stands alone (RFC 5321 section 2.3.8)."""
    return _BARE.search(text) is not None


def parse_path(rest: bytes, word: bytes) -> tuple[str, tuple[str, ...]] | None:
    """Cut ``FROM:<address> options``; None when it is not of that form (RFC 5321 section 4.1.2)."""
    if rest[: len(word)].upper() != word:
        return None
    match = _PATH.fullmatch(rest)
    if match is None:
        return None
    try:
        address = match["path"].decode("utf-8")
        options = (match["options"] or b"").decode("ascii").split()
    except UnicodeDecodeError:
        return None
    local, at, domain = address.rpartition("@")
    if address and address.lower() != "postmaster" and not (local and at and domain):
        return None
    return address, tuple(options)


def option_fault(options: tuple[str, ...], size_limit_bytes: int) -> tuple[int, bytes] | None:
    """Check MAIL FROM's parameters against what is advertised; give the refusal, if any."""
    seen: set[str] = set()
    for option in options:
        key, _, value = option.partition("=")
        known = _OPTION_VALUES.get(key.upper())
        if known is None:
            return 555, b"MAIL FROM parameter not recognized"
        if key.upper() in seen or not known.fullmatch(value):
            return 501, b"Bad value of a MAIL FROM parameter"
        if key.upper() == "SIZE" and int(value) > size_limit_bytes:
            return 552, b"Message exceeds %d bytes" % size_limit_bytes
        seen.add(key.upper())
    return None
