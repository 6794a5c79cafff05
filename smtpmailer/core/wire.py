# SPDX-License-Identifier: MIT
"""A message's last step: line ends and dots as SMTP wants them (RFC 5321 sections 2.3.8, 4.5.2)."""

from __future__ import annotations

from typing import Final

__all__ = ["MAX_LINE", "dot_stuff", "has_line_over", "normalise_newlines", "to_wire"]

#: The longest line a message may have, in octets without its CRLF (RFC 5322 section 2.1.1).
MAX_LINE: Final = 998


def normalise_newlines(data: bytes) -> bytes:
    """Make every CRLF, bare CR and bare LF one CRLF; nothing is added at the end."""
    plain = data.replace(b"\r", b"")
    right = plain.replace(b"\n", b"\r\n")
    # With a CR before each LF and nowhere else, or with no CR, which is nearly always, that is it:
    # two passes, each of which looks for one byte, take half the time of cutting it into lines.
    if data in (right, plain):
        return right
    # Of bytes it knows just these three ends, and takes half the time of replacing each.
    whole = b"\r\n".join(data.splitlines())
    return whole + b"\r\n" if data.endswith((b"\r", b"\n")) else whole


def dot_stuff(data: bytes) -> bytes:
    """Double the dot at the start of every line.

    ``data`` has CRLF line ends only and begins at the start of a line: a message is stuffed as a
    whole, never chunk by chunk, or a dot at a chunk's border goes out bare and ends the mail.
    """
    # Few messages have such a line, and to look for one backwards costs less than to replace it.
    stuffed = data.replace(b"\r\n.", b"\r\n..") if data.rfind(b"\r\n.") >= 0 else data
    return b"." + stuffed if stuffed.startswith(b".") else stuffed


def has_line_over(limit: int, data: bytes) -> bool:
    """Whether data with CRLF line ends has a line of more than ``limit`` octets, CRLF not counted.

    Looks at the last line end of each stretch only, so the cost hardly depends on the lines.
    """
    start = 0
    while len(data) - start > limit:
        end = data.rfind(b"\r\n", start, start + limit + 2)
        if end < 0:
            return True
        start = end + 2
    return False


def to_wire(message: bytes) -> bytes:
    """Give a message as DATA takes it: CRLF, dots stuffed, ending in CRLF, no final dot."""
    stuffed = dot_stuff(normalise_newlines(message))
    return stuffed if stuffed.endswith(b"\r\n") else stuffed + b"\r\n"
