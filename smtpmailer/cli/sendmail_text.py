# SPDX-License-Identifier: MIT
"""Texts in messages: what bytes, encoded words and address lists mean."""

from __future__ import annotations

import base64
import binascii
import quopri
import re
from collections.abc import Iterator
from typing import Final

from smtpmailer.cli.recipients import Recipient

__all__ = ["decode_bytes", "decode_header", "people"]

#: RFC 2047 section 2, and blanks between two of them, which don't count (section 6.2).
_WORD: Final = re.compile(r"=\?([^?\s*]+)(?:\*[^?\s]*)?\?([bBqQ])\?([^?\s]*)\?=")
_WORDS: Final = re.compile(rf"{_WORD.pattern}(?:\s+{_WORD.pattern})*")
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_COMMENT: Final = re.compile(r"\(((?:[^()\\]|\\.)*)\)")
_ANGLES: Final = re.compile(r"<([^<>]*)>\s*$")


def decode_bytes(raw: bytes, charset: str | None) -> str:
    """Decode a text in the charset it claims, else as UTF-8, else as Latin-1: never fails."""
    for candidate in (charset, "utf-8"):
        try:
            return raw.decode(candidate or "utf-8")
        except (LookupError, ValueError):
            continue
    return raw.decode("latin-1")


def decode_header(value: str) -> str:
    """Give a header field's text on one line, encoded words decoded (RFC 2047).

    8-bit text comes from the parser with surrogate escapes; it is UTF-8, or else Latin-1.
    """
    return _CONTROLS.sub(" ", _WORDS.sub(_decoded, _unfolded(value))).strip()


def people(value: str) -> list[Recipient]:
    """Read an address field (RFC 5322 section 3.4); groups count as their members.

    An address is not checked, and may be the name of a local user.
    """
    found = (_person(piece) for piece in _pieces(_CONTROLS.sub(" ", _unfolded(value))))
    return [person for person in found if person.email]


def _unfolded(value: str) -> str:
    """Give a field on one line (RFC 5322 section 2.2.3)."""
    plain = decode_bytes(value.encode("utf-8", "surrogateescape"), "utf-8")
    return plain.replace("\r", "").replace("\n", "")


def _decoded(match: re.Match[str]) -> str:
    """Decode neighbouring encoded words; a character may be cut between two of one charset."""
    text, raw, last = "", b"", ""
    for charset, kind, content in _WORD.findall(match[0]):
        if raw and charset.lower() != last:
            text += decode_bytes(raw, last)
            raw = b""
        last = charset.lower()
        raw += _unpacked(kind, content)
    return text + decode_bytes(raw, last)


def _unpacked(kind: str, content: str) -> bytes:
    packed = content.encode("utf-8")
    if kind in "qQ":
        return quopri.decodestring(packed, header=True)
    try:
        return base64.b64decode(packed + b"=" * (-len(packed) % 4))
    except binascii.Error:
        return packed


def _pieces(text: str) -> Iterator[str]:
    """Cut an address list at commas, leaving out the names of groups."""
    start = at = depth = 0
    closing = ""
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 1
        elif closing:
            closing = "" if char == closing else closing
        elif char in "()":
            depth = max(0, depth + (1 if char == "(" else -1))
        elif depth:
            pass
        elif char in '"<[':
            closing = {'"': '"', "<": ">", "[": "]"}[char]
        elif char in ",;:":
            if char != ":":
                yield text[start:at]
            start = at + 1
        at += 1
    yield text[start:]


def _person(text: str) -> Recipient:
    """Read ``addr``, ``Name <addr>`` or ``addr (Name)``."""
    angles = _ANGLES.search(text)
    if angles is not None:
        name, email = text[: angles.start()], angles[1]
        if not name.strip().startswith('"'):
            name = _COMMENT.sub(" ", name)
    else:
        comments = _COMMENT.findall(text)
        name, email = (comments or [""])[-1], _COMMENT.sub(" ", text)
    return Recipient(email=email.strip(), name=decode_header(_unquoted(name)))


def _unquoted(name: str) -> str:
    """Take the quotes off a phrase's words."""
    plain = re.sub(r'"((?:[^"\\]|\\.)*)"', r"\1", name)
    return re.sub(r"\\(.)", r"\1", plain).strip()
