# SPDX-License-Identifier: MIT
"""Header fields as text: RFC 2047 words, RFC 2231 parameters, folding (RFC 5322 section 2.2.3).

Nothing here parses what a caller sent: every text that is not plain is encoded, so no encoded
word of a caller's can turn into a header (CVE-2024-6923).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email import base64mime, quoprimime
from typing import Final
from urllib.parse import quote

from smtpmailer.core.wire import MAX_LINE, has_line_over
from smtpmailer.errors import MessageError

__all__ = [
    "address_list",
    "check_block",
    "clean",
    "date",
    "structured",
    "unstructured",
]

# RFC 2047 section 2; all lines keep to it, though others might have 78 characters.
_WIDTH: Final = 76
_WORD_WIDTH: Final = 75
_WORD_FRAME: Final = len("=?utf-8?q??=")
# A longer run without a blank would not fit into a line of 998, so it is encoded.
_MAX_TOKEN: Final = 900
_MAX_QUOTED: Final = 72
_MAX_PLAIN_VALUE: Final = 60
_SEGMENT: Final = 50

_REFUSED: Final = re.compile(r"[\r\n\0\ud800-\udfff]")
_STRIPPED: Final = re.compile(r"[\x01-\x1f\x7f-\x9f\u2028\u2029]")
_TOKENS: Final = re.compile(r" *[^ ]+")
_ATOMS: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
# Apostrophe, asterisk and percent may stand in a token, yet parsers take them for RFC 2231's.
_MIME_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$&+.^_`{|}~-]+")
_PLAIN_VALUE: Final = re.compile(r"[!#-\[\]-~](?:[ !#-\[\]-~]*[!#-\[\]-~])?")
_ATTRIBUTE_CHARS: Final = "!#$&+-.^_`|~"
# No name begins with a dot, which would have to be stuffed. Repetitions of characters are
# possessive: what follows is never one of them. Those of groups are not: Python 3.11.2 matches
# such wrongly.
_BLOCK: Final = re.compile(
    rb"(?:[!-\-/-9;-~][!-9;-~]*+:[ -~\x80-\xff]*+\r\n"
    rb"(?: ++[!-~\x80-\xff][ -~\x80-\xff]*+\r\n)*)+"
)
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)


def clean(text: str, what: str) -> str:
    """Give ``text`` without control characters; a tab becomes a blank.

    Line breaks, NUL and half surrogate pairs are refused: MessageError, which calls the text
    ``what``. C0, C1 and the Unicode line and paragraph separators are left out.
    """
    if text.isprintable():
        return text
    bad = _REFUSED.search(text)
    if bad is not None:
        raise MessageError(f"the {what} must not hold the character U+{ord(bad.group()):04X}")
    return _STRIPPED.sub("", text.replace("\t", " "))


def unstructured(name: str, text: str) -> str:
    """Write a field of free text, such as Subject; ends in CRLF.

    ASCII text stays as it is, unless a receiver would decode it (``=?``), lose its outer blanks
    or break its lines. Raises MessageError as ``clean`` does.
    """
    text = clean(text, name.lower())
    if _is_short(name, text):
        return f"{name}: {text}\r\n"
    tokens = _TOKENS.findall(f" {text}") if text else []
    if _needs_words(text, tokens) or text != text.strip(" "):
        tokens = _words(name, text)
    return _fold(name, tokens)


def address_list(name: str, people: Sequence[tuple[str, str]]) -> str:
    """Write a field of mailboxes; ends in CRLF.

    ``people`` are pairs of an address in wire form and a display name, which may be empty. Names
    go out as atoms, quoted strings or RFC 2047 words. Raises MessageError as ``clean`` does.
    """
    if len(people) == 1:
        ((address, display),) = people
        if _is_short_phrase(name, address, display):
            return f"{name}: {display} <{address}>\r\n"
    tokens: list[str] = []
    for address, display in people:
        if tokens:
            tokens[-1] += ","
        plain = clean(display, "display name").strip(" ")
        tokens += [*_phrase(name, plain), f" <{address}>"] if plain else [f" {address}"]
    return _fold(name, tokens)


def structured(name: str, value: str, *parameters: tuple[str, str]) -> str:
    """Write a MIME field with parameters, such as Content-Type; ends in CRLF.

    Parameter values go out as tokens or quoted strings, as RFC 2231 extended values when they
    are not ASCII, long, or easily misread. ``name`` and ``value`` are ours, not a caller's.
    """
    tokens = [f" {value}"]
    for attribute, text in parameters:
        for piece in _parameter(attribute, clean(text, attribute)):
            tokens[-1] += ";"
            tokens.append(piece)
    return _fold(name, tokens)


def date(epoch_seconds: float) -> str:
    """Give a date and time as RFC 5322 section 3.3 writes them, in UTC."""
    when = datetime.fromtimestamp(epoch_seconds, UTC)
    day, month = _DAYS[when.weekday()], _MONTHS[when.month - 1]
    time = when.hour, when.minute, when.second
    # An f-string takes half as long again to fill up with zeros.
    form = "%s, %02d %s %04d %02d:%02d:%02d +0000"
    return form % (day, when.day, month, when.year, *time)


def check_block(block: bytes, *, utf8: bool = False) -> bytes:
    """Give back finished header fields when they are sound, else raise MessageError.

    The last look before the bytes go out: nothing but fields, folded rightly, ASCII (or UTF-8
    with ``utf8``, RFC 6532), no line over 998 octets, none that begins with a dot.
    """
    if _BLOCK.fullmatch(block) is None or not (utf8 or block.isascii()):
        raise MessageError("the mail's header is malformed; it was not sent")
    if has_line_over(MAX_LINE, block):
        raise MessageError(f"the mail's header has a line of more than {MAX_LINE} octets")
    return block


def _fold(name: str, tokens: Sequence[str]) -> str:
    """Put pieces behind a field's name, breaking lines before blanks to stay within 76."""
    if len(tokens) == 1:
        return f"{name}:{tokens[0]}\r\n"
    lines: list[str] = []
    line = f"{name}:"
    for number, token in enumerate(tokens):
        # A first line of nothing but the name is legal, yet some receivers misread it.
        if number and len(line) + len(token) > _WIDTH:
            lines.append(line)
            line = token
        else:
            line += token
    return "\r\n".join([*lines, line, ""])


def _is_short(name: str, text: str) -> bool:
    """Whether a text can go out as it is, on the line with its field's name; most can."""
    fits = len(name) + len(text) + 2 <= _WIDTH
    return fits and text.isascii() and "=?" not in text and text != "" and text == text.strip(" ")


def _is_short_phrase(name: str, address: str, display: str) -> bool:
    """Whether a mailbox can go out as it is, on the line with its field's name; most can."""
    fits = len(name) + len(display) + len(address) + 5 <= _WIDTH
    return fits and "=?" not in display and _ATOMS.fullmatch(display) is not None


def _needs_words(text: str, tokens: Sequence[str]) -> bool:
    """Whether a text has to be encoded."""
    if not text.isascii() or "=?" in text:
        return True
    return len(text) > _MAX_TOKEN and max(map(len, tokens)) > _MAX_TOKEN


def _phrase(field: str, name: str) -> list[str]:
    """Give a display name's pieces: atoms, else one quoted string, else words.

    A quoted string is never folded, so a long one goes out as words: some parsers end it there.
    """
    atoms: list[str] = _TOKENS.findall(f" {name}")
    if _needs_words(name, atoms):
        return _words(field, name)
    if _ATOMS.fullmatch(name):
        return atoms
    quoted = name.replace("\\", r"\\").replace('"', r"\"")
    return [f' "{quoted}"'] if len(quoted) <= _MAX_QUOTED else _words(field, name)


def _words(field: str, text: str) -> list[str]:
    """Give a text as RFC 2047 words, the shorter of Q and B, each with a blank in front.

    The first fits behind the field's name. Words are as long as can be, hence as few: parsers
    that take the blank between two words for one of the text's exist (Python's among them).
    """
    octets = text.encode()
    rooms = [min(_WORD_WIDTH, _WIDTH - len(field) - 2) - _WORD_FRAME, _WORD_WIDTH - _WORD_FRAME]
    if quoprimime.header_length(octets) <= base64mime.header_length(octets):
        parts = _cut(text, quoprimime.header_length, rooms)
        return [f" {quoprimime.header_encode(part, 'utf-8')}" for part in parts]
    parts = _cut(text, len, [room // 4 * 3 for room in rooms])
    return [f" {base64mime.header_encode(part, 'utf-8')}" for part in parts]


def _cut(text: str, cost: Callable[[bytes], int], rooms: Sequence[int]) -> list[bytes]:
    """Cut a text between characters into UTF-8 parts.

    They cost at most as much as there is room: the first one ``rooms[0]``, others ``rooms[-1]``.
    """
    parts: list[bytes] = []
    part, left = b"", rooms[0]
    for character in text:
        octets = character.encode()
        price = cost(octets)
        if price > left:
            parts.append(part)
            part, left = b"", rooms[-1]
        part += octets
        left -= price
    return [*parts, part]


def _parameter(attribute: str, value: str) -> list[str]:
    """Give one parameter in one or more pieces (RFC 2045 section 5.1, RFC 2231)."""
    if len(value) <= _MAX_PLAIN_VALUE and "=?" not in value:
        if _MIME_TOKEN.fullmatch(value):
            return [f" {attribute}={value}"]
        if _PLAIN_VALUE.fullmatch(value):
            return [f' {attribute}="{value}"']
    parts = [quote(part, _ATTRIBUTE_CHARS) for part in _cut(value, _percent_cost, [_SEGMENT])]
    if len(parts) == 1:
        return [f" {attribute}*=utf-8''{parts[0]}"]
    rest = [f" {attribute}*{number}*={part}" for number, part in enumerate(parts[1:], 1)]
    return [f" {attribute}*0*=utf-8''{parts[0]}", *rest]


def _percent_cost(octets: bytes) -> int:
    """Count the characters of percent-encoded octets."""
    return len(quote(octets, _ATTRIBUTE_CHARS))
