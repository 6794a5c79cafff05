# SPDX-License-Identifier: MIT
"""A message's last step: line ends and dots as SMTP wants them (RFC 5321 sections 2.3.8, 4.5.2)."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["MAX_LINE", "Wire", "dot_stuff", "has_line_over", "normalise_newlines", "to_wire"]

#: The longest line a message may have, in octets without its CRLF (RFC 5322 section 2.1.1).
MAX_LINE: Final = 998


class Wire(NamedTuple):
    """Bytes as DATA takes them, dots stuffed, and how many ``dots`` that has added.

    Who stuffs a message knows their number: nobody has to look for them at each attempt to
    deliver it, for its size or to take them away again.
    """

    data: bytes
    dots: int

    @property
    def size(self) -> int:
        """How many bytes there are without the dots of stuffing (RFC 1870 section 3)."""
        return len(self.data) - self.dots

    def plain(self) -> bytes:
        """Give the bytes without the dots of stuffing, as a server keeps them."""
        if not self.dots:
            return self.data
        inside = self.data.replace(b"\r\n..", b"\r\n.")
        return inside[1:] if inside.startswith(b".") else inside


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


def dot_stuff(data: bytes) -> Wire:
    """Double the dot at the start of every line.

    ``data`` has CRLF line ends only and begins at the start of a line: a text is stuffed as a
    whole, never chunk by chunk, or a dot at a chunk's border goes out bare and ends the mail.
    """
    # Few texts have such a line, and to look for one backwards costs less than to replace it.
    stuffed = data.replace(b"\r\n.", b"\r\n..") if data.rfind(b"\r\n.") >= 0 else data
    if stuffed.startswith(b"."):
        stuffed = b"." + stuffed
    return Wire(stuffed, len(stuffed) - len(data))


def has_line_over(limit: int, data: bytes) -> bool:
    """Whether data with CRLF line ends has a line of more than ``limit`` octets, CRLF not counted.

    Looks at the last line end of each stretch only, so the cost hardly depends on the lines.
    """
    start, short = 0, len(data) - limit
    while start < short:
        # Of a CRLF the LF alone is looked for: for one byte that is quicker.
        start = data.rfind(b"\n", start, start + limit + 2) + 1
        if not start:
            return True
    return False


def to_wire(message: bytes) -> Wire:
    """Give a message as DATA takes it: CRLF, dots stuffed, ending in CRLF, no final dot."""
    whole = normalise_newlines(message)
    return dot_stuff(whole if whole.endswith(b"\r\n") else whole + b"\r\n")
