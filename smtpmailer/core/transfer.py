# SPDX-License-Identifier: MIT
"""Content transfer encodings for whole bodies (RFC 2045 section 6)."""

from __future__ import annotations

import binascii
import re
import struct
from typing import Final

from smtpmailer.core.wire import has_line_over

__all__ = ["base64_lines", "base64_size", "quoted_printable"]

_MAX_ENCODED: Final = 76  # characters in a line of quoted-printable
_LINE: Final = 57  # octets that make a line of 76 characters
_BLOCK: Final = 1024 * _LINE
# Cutting 1,024 lines in one call takes about half the time of a call for each line.
_CUT: Final = struct.Struct("76s" * 1024)
_OVERLONG: Final = re.compile(rb"^([^\r\n]{74,})(=20|=09)(?=\r\n|\Z)", re.MULTILINE)


def base64_lines(data: bytes) -> bytearray:
    """Encode as base64 in lines of 76 characters, each ending in CRLF; of nothing, nothing."""
    view = memoryview(data)
    whole = len(data) - len(data) % _BLOCK
    # Written in place: pieces that are joined in the end take the memory twice.
    lines = bytearray(base64_size(len(data)))
    at = 0
    for start in range(0, whole, _BLOCK):
        block = b"\r\n".join((*_CUT.unpack(_base64(view[start : start + _BLOCK])), b""))
        lines[at : at + len(block)] = block
        at += len(block)
    for start in range(whole, len(data), _LINE):
        line = _base64(view[start : start + _LINE]) + b"\r\n"
        lines[at : at + len(line)] = line
        at += len(line)
    return lines


def base64_size(size_bytes: int) -> int:
    """Give how many bytes ``base64_lines`` makes of so many."""
    return (size_bytes + 2) // 3 * 4 + 2 * ((size_bytes + _LINE - 1) // _LINE)


def quoted_printable(text: bytes) -> bytes:
    """Encode text with CRLF line ends as quoted-printable; its line ends stay, all others too.

    Lines have at most 76 characters; blanks at line ends, NUL and other controls are encoded.
    """
    encoded = binascii.b2a_qp(text, istext=True)
    # Without a line end to learn from, binascii breaks long lines by a bare LF.
    if b"\r\n" not in encoded:
        encoded = encoded.replace(b"\n", b"\r\n")
    if not has_line_over(_MAX_ENCODED, encoded):
        return encoded
    # It encodes a blank at a line's end without a look at the length that makes.
    return _OVERLONG.sub(rb"\1=\r\n\2", encoded)


def _base64(data: memoryview) -> bytes:
    """Encode without any line end."""
    return binascii.b2a_base64(data, newline=False)
