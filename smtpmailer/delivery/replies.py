# SPDX-License-Identifier: MIT
"""What an SMTP server says: strict parsing (RFC 5321 section 4.2), bounded and cleaned."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

import attrs

from smtpmailer.errors import SmtpProtocolError

__all__ = [
    "MAX_REPLY_BYTES",
    "MAX_REPLY_LINES",
    "MAX_TEXT",
    "LineBuffer",
    "ReplyParser",
    "Secrets",
    "SmtpReply",
    "clean_text",
    "parse_extensions",
]

#: Bounds of one reply with all its lines, and of the text kept of it (characters).
MAX_REPLY_BYTES = 64 * 1024
MAX_REPLY_LINES = 100
MAX_TEXT = 1000
#: So many characters are shown of a line that is no reply.
_QUOTED = 200

_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)
_ENHANCED = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}(?=\s|$)")
_ZERO = ord("0")
_CODES = {b"%d " % code: code for code in range(200, 600)}
#: Secrets shorter than this are only hidden as whole words: else they garble every text.
_SHORT = 4


def _show_all(text: str) -> str:
    """Hide nothing."""
    return text


@attrs.define
class SmtpReply:
    """A whole reply; ``lines`` are as received, without codes.

    Most replies are only asked for their code, so the texts are made when they are wanted.
    """

    code: int
    lines: tuple[bytes, ...] = attrs.field(default=(), repr=False)
    _hide: Callable[[str], str] = attrs.field(default=_show_all, repr=False)
    _texts: tuple[str, str] | None = attrs.field(default=None, init=False, repr=False, eq=False)

    @property
    def text(self) -> str:
        """What it says, safe to show: clean, without secrets, at most 1,000 characters."""
        return self.texts()[1]

    @property
    def enhanced(self) -> str:
        """The RFC 3463 code that it begins with, or nothing."""
        return self.texts()[0]

    def texts(self) -> tuple[str, str]:
        """Give ``enhanced`` and ``text``."""
        return self._texts or self._read()

    def brief(self) -> SmtpReply:
        """Give it in about 1,000 characters at most, to be kept."""
        if len(self.lines) == 1 and len(self.lines[0]) <= MAX_TEXT:
            return self  # Nearly all are like that.
        return SmtpReply(self.code, (self.text.encode(),))

    def _read(self) -> tuple[str, str]:
        lines = self.lines
        whole = lines[0] if len(lines) == 1 else b"\n".join(lines)
        text = self._hide(whole.decode("utf-8", "replace"))
        match = _ENHANCED.match(text)
        # RFC 2034 section 4: its class must be the reply's.
        enhanced = match[0] if match and ord(text[0]) - _ZERO == self.code // 100 else ""
        if enhanced and len(lines) > 1:
            # Many servers repeat it on each line; once is enough for a reader.
            text = enhanced + re.sub(rf"^{re.escape(enhanced)}\b", "", text, flags=re.MULTILINE)
        self._texts = enhanced, clean_text(text)
        return self._texts


def clean_text(text: str) -> str:
    """Make a text safe to log and answer: printable, one line, at most 1,000 characters."""
    if len(text) <= MAX_TEXT and text.isascii() and text.isprintable():
        # Nearly all are like that: of all blanks they can only have spaces.
        return " ".join(text.split()) if "  " in text else text.strip(" ")
    printable = "".join(
        " " if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} else char
        for char in text[: 4 * MAX_TEXT]
    )
    return " ".join(printable.split())[:MAX_TEXT]


class Secrets:
    """Texts that must not leave the session, whatever the server echoes."""

    def __init__(self, *texts: str) -> None:
        self._texts: list[str] = []
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Hide ``text`` from now on."""
        if text and text not in self._texts:
            self._texts.append(text)
            self._texts.sort(key=len, reverse=True)

    def hide(self, text: str) -> str:
        """Give ``text`` with every secret replaced by ``***``."""
        for secret in self._texts:
            if secret not in text:
                continue  # Nearly always.
            if len(secret) < _SHORT:
                text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
            else:
                text = text.replace(secret, "***")
        return text


class LineBuffer:
    """Cuts what comes in into lines; ``rest`` is the beginning of the next one."""

    rest = b""

    def split(self, data: bytes) -> list[bytes]:
        """Give the lines that are whole now, without their ends.

        Raises SmtpProtocolError for a line that no reply can have. Useless after that.
        """
        lines = (self.rest + data).split(b"\r\n")
        self.rest = lines.pop()
        if len(self.rest) > MAX_REPLY_BYTES:
            raise SmtpProtocolError(f"a reply line is over {MAX_REPLY_BYTES} bytes")
        return lines


class ReplyParser:
    """Puts reply lines together; ``hide`` is applied to a reply's text before it is kept."""

    def __init__(self, hide: Callable[[str], str]) -> None:
        self._hide = hide
        self._code = b""
        self._lines: list[bytes] = []
        self._bytes = 0

    @property
    def within(self) -> bool:
        """Whether a reply has begun that is not whole."""
        return bool(self._lines)

    def quote(self, line: bytes, most: int = MAX_TEXT) -> str:
        """Give a line as text that may be shown, of at most so many characters."""
        # Cut last: half a secret is not found.
        return clean_text(self._hide(line.decode("utf-8", "replace")))[:most]

    def feed(self, line: bytes) -> SmtpReply | None:
        """Take a line without its CRLF; give the reply that it completes, if it does.

        Raises SmtpProtocolError for a line without three-digit code, for a code that changes
        inside a reply, and for a reply over 100 lines or 64 KiB. Useless after that.
        """
        code = _CODES.get(line[:4])
        if code is not None and not self._lines and len(line) + 2 <= MAX_REPLY_BYTES:
            return SmtpReply(code, (line[4:],), self._hide)  # Nearly all are like that.
        match = _LINE.fullmatch(line)
        if match is None:
            raise SmtpProtocolError(f"no SMTP reply: {self.quote(line, _QUOTED)}")
        digits, separator, text = match.groups()
        if self._lines and digits != self._code:
            said = self.quote(line, _QUOTED)
            raise SmtpProtocolError(f"the code changes inside a reply: {said}")
        self._bytes += len(line) + 2
        self._lines.append(text or b"")
        if len(self._lines) > MAX_REPLY_LINES or self._bytes > MAX_REPLY_BYTES:
            raise SmtpProtocolError(
                f"a reply is longer than {MAX_REPLY_LINES} lines or {MAX_REPLY_BYTES} bytes"
            )
        self._code = digits
        return None if separator == b"-" else self._whole()

    def _whole(self) -> SmtpReply:
        lines, self._lines, self._bytes = tuple(self._lines), [], 0
        return SmtpReply(int(self._code), lines, self._hide)


def parse_extensions(lines: Sequence[bytes]) -> dict[str, str]:
    """Read the EHLO reply (RFC 5321 section 4.1.1.1): upper-case keyword to its parameters.

    The first line is the greeting, not an extension. ``AUTH=`` is an old way to write ``AUTH ``.
    """
    extensions: dict[str, str] = {}
    for line in lines[1:]:
        keyword, _, parameters = line.decode("ascii", "replace").strip().partition(" ")
        keyword = keyword.upper()
        if keyword.startswith("AUTH="):
            keyword, parameters = "AUTH", f"{keyword[5:]} {parameters}"
        if keyword:
            extensions[keyword] = f"{extensions.get(keyword, '')} {parameters}".strip()
    return extensions
