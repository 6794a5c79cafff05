# SPDX-License-Identifier: MIT
"""One whole JSON document: from its bytes to its value, or to what is wrong and where."""

from __future__ import annotations

from typing import Any, Final

import attrs
import orjson

from smtpmailer.errors import BadDocumentError, ClientError

__all__ = ["BLANKS", "Document", "broken", "kept_bytes", "parse", "read"]

#: JSON's insignificant whitespace (RFC 8259 section 2).
BLANKS: Final = b" \t\r\n"

#: What a value takes in memory besides its text, roughly.
_VALUE_BYTES: Final = 64


@attrs.frozen
class Document:
    """A document as it came over a connection, parsed once.

    ``error`` is None when ``value`` is the JSON value. ``size_bytes`` is what it takes to keep,
    see ``kept_bytes``.
    """

    value: Any = attrs.field(repr=False)
    error: ClientError | None
    size_bytes: int


def broken(error: ClientError, size_bytes: int = 0) -> Document:
    """Make a document of which only the fault is known."""
    return Document(None, error, size_bytes)


def kept_bytes(raw: bytes | bytearray, values: int) -> int:
    """Estimate what a document of so many values takes in memory."""
    return len(raw) + values * _VALUE_BYTES


def read(raw: bytes | bytearray, values: int = 0) -> Document:
    """Parse a document, which holds about so many values; a fault becomes its ``error``."""
    try:
        return Document(parse(raw), None, kept_bytes(raw, values))
    except BadDocumentError as error:
        return broken(error, len(raw))


def parse(raw: bytes | bytearray) -> Any:
    """Parse JSON text (RFC 8259).

    NaN, Infinity, numbers beyond a double, lone surrogates and a byte order mark are refused.
    An integer beyond 64 bits becomes a float. Of a repeated key the last value counts, in the
    first one's place. Compat: as the predecessor's runtime has it.

    Raises BadDocumentError with the offset in bytes.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise _locate(raw, error) from None


def _locate(raw: bytes | bytearray, error: orjson.JSONDecodeError) -> BadDocumentError:
    """Turn the parser's offset, which counts characters, into one of bytes."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as fault:
        return BadDocumentError(fault.start, "invalid UTF-8")
    return BadDocumentError(len(text[: error.pos].encode()), error.msg)
