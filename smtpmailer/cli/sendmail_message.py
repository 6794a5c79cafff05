# SPDX-License-Identifier: MIT
"""Reads a message as programs hand it to sendmail: what of it the service can carry.

The service builds its own message from a mail object, so a message is taken apart here: addresses,
subject, one body, files. What has no place in a mail object is named in ``left_out``, or refused
where leaving it out would make another mail of it.
"""

from __future__ import annotations

import html as html_entities
import mimetypes
import re
from collections.abc import Iterable, Sequence
from email.message import Message as Part
from email.parser import BytesParser
from email.policy import Compat32
from typing import Any, Final, cast

import attrs

from smtpmailer.cli.recipients import Recipient
from smtpmailer.cli.sendmail_text import decode_bytes, decode_header, people

__all__ = ["Body", "File", "Message", "UncarriableError", "body_text", "read_message"]

NO_SUBJECT: Final = "(no subject)"

_ADDRESSES: Final = ("to", "cc", "bcc", "reply-to", "from")
#: Fields that a mail object holds, or whose work the service does itself.
_CARRIED: Final = frozenset(
    {*_ADDRESSES, "subject", "content-type", "content-transfer-encoding", "mime-version"}
)
#: Left out as well, but nobody misses them: the service makes its own, or they are for servers.
_IDLE: Final = frozenset(
    {
        "content-disposition",
        "content-length",
        "date",
        "lines",
        "message-id",
        "received",
        "return-path",
        "status",
        "user-agent",
    }
)
#: Kinds of messages that can't be built anew without breaking them.
_SEALED: Final = frozenset(
    {
        "application/pkcs7-mime",
        "application/x-pkcs7-mime",
        "multipart/encrypted",
        "multipart/signed",
    }
)
_DEEPEST: Final = 40
_LONGEST_NAME: Final = 200


class UncarriableError(Exception):
    """The message can't be sent through the service; the text says why."""


@attrs.frozen(kw_only=True)
class Body:
    """A piece of the message's text, as plain text, as HTML, or as both."""

    text: str | None = None
    html: str | None = None


@attrs.frozen(kw_only=True)
class File:
    """An attachment, or with a ``cid`` an image that the HTML shows."""

    name: str
    content: bytes = attrs.field(repr=False)
    cid: str | None = None


@attrs.frozen(kw_only=True)
class Message:
    """What a message says.

    ``left_out`` names what the service can't carry, ``missed`` those among it that somebody may
    miss.
    """

    sender: Recipient | None = None
    to: tuple[Recipient, ...] = ()
    cc: tuple[Recipient, ...] = ()
    bcc: tuple[Recipient, ...] = ()
    reply_to: tuple[Recipient, ...] = ()
    subject: str = NO_SUBJECT
    bodies: tuple[Body, ...] = attrs.field(default=(), repr=False)
    files: tuple[File, ...] = ()
    left_out: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()


def read_message(raw: bytes) -> Message:
    """Read a message (RFC 5322, RFC 2045); raises UncarriableError.

    Much is forgiven: no header at all, 8-bit headers, unknown charsets, broken MIME.
    """
    try:
        root = BytesParser(policy=_AsItIs()).parsebytes(raw)
    except RecursionError:
        raise UncarriableError("its parts are nested too deeply") from None
    if any(name.lower().startswith("resent-") for name in root):
        raise UncarriableError("it is resent (Resent- fields), and the service builds new messages")
    found: dict[str, list[Recipient]] = {name: [] for name in _ADDRESSES}
    subject = ""
    for name, value in root.items():
        if name.lower() in found:
            found[name.lower()] += people(value)
        elif name.lower() == "subject":
            subject = subject or decode_header(value)
    reader = _Reader()
    bodies = reader.read(root, 0)
    names = [name for name in dict.fromkeys(root.keys()) if name.lower() not in _CARRIED]
    senders = [f"From: {each.email}" for each in found["from"][1:]]
    return Message(
        sender=next(iter(found["from"]), None),
        to=tuple(found["to"]),
        cc=tuple(found["cc"]),
        bcc=tuple(found["bcc"]),
        reply_to=tuple(found["reply-to"]),
        subject=subject or NO_SUBJECT,
        bodies=tuple(bodies),
        files=tuple(reader.files),
        left_out=(*names, *senders, *reader.left_out),
        missed=(*filter(_is_missed, names), *senders, *reader.left_out),
    )


def body_text(bodies: Sequence[Body], *, html: bool) -> str:
    """Give the whole body as HTML or as plain text; never empty.

    Plain text becomes HTML that looks the same. Raises UncarriableError when plain text is wanted
    and there is only HTML.
    """
    if html:
        text = "".join(filter(None, (_as_html(body) for body in bodies)))
    else:
        text = "\n".join(filter(None, (_as_text(body) for body in bodies)))
    return text if text.strip() else "<p></p>\n" if html else "\n"


def _is_missed(name: str) -> bool:
    return name.lower() not in _IDLE and not name.lower().startswith("x-")


def _as_html(body: Body) -> str:
    if body.html is not None:
        return body.html
    if not (body.text or "").strip():
        return ""
    shown = html_entities.escape(body.text or "", quote=False)
    return f'<pre style="white-space: pre-wrap">{shown}</pre>\n'


def _as_text(body: Body) -> str:
    if body.text is None and body.html is not None:
        raise UncarriableError("its text is HTML only, and the service sends plain text")
    return body.text or ""


class _AsItIs(Compat32):
    """Gives header fields with their 8-bit bytes as surrogate escapes, instead of losing them."""

    def header_fetch_parse(self, name: str, value: Any) -> Any:  # noqa: ARG002 - the email package's
        """Give a field's value as it was read."""
        return value


class _Reader:
    """Walks through a message's parts; collects its files and what can't be carried."""

    def __init__(self) -> None:
        self.files: list[File] = []
        self.left_out: list[str] = []

    def read(self, part: Part, depth: int) -> list[Body]:
        """Give the text of a part and of those in it."""
        kind = part.get_content_type()
        if kind in _SEALED:
            raise UncarriableError(
                f"it is signed or encrypted ({kind}), which a new message breaks"
            )
        if depth > _DEEPEST:
            raise UncarriableError("its parts are nested too deeply")
        if kind.startswith("message/") or not part.is_multipart():
            return self._leaf(part, kind)
        parts = cast(list[Part], part.get_payload())
        if kind == "multipart/alternative":
            return self._alternative([self.read(each, depth + 1) for each in parts])
        if kind == "multipart/related":
            return self._related(parts, depth)
        return [body for each in parts for body in self.read(each, depth + 1)]

    def _leaf(self, part: Part, kind: str) -> list[Body]:
        """Give a text; keep anything else as a file."""
        # A multipart without a boundary, or whose boundary never comes, has no parts.
        is_text = kind in ("text/plain", "text/html") or part.get_content_maintype() == "multipart"
        if not is_text or part.get_content_disposition() == "attachment" or part.get_filename():
            self.files.append(_file(part, kind))
            return []
        text = _text(part)
        return [Body(html=text) if kind == "text/html" else Body(text=text)]

    def _alternative(self, units: Iterable[Sequence[Body]]) -> list[Body]:
        """Keep one plain text and one HTML of what all say the same (RFC 2046 section 5.1.4)."""
        text = html = None
        for unit in filter(None, units):
            if any(body.html is not None for body in unit):
                html = "".join(map(_as_html, unit))
            if all(body.text is not None for body in unit):
                text = "\n".join(body.text or "" for body in unit)
        return [] if text is None and html is None else [Body(text=text, html=html)]

    def _related(self, parts: Sequence[Part], depth: int) -> list[Body]:
        """Read the first part as the text, the others as what it shows (RFC 2387)."""
        bodies = self.read(parts[0], depth + 1) if parts else []
        for part in parts[1:]:
            cid = decode_header(part.get("Content-ID", "")).strip().strip("<>")
            if cid and not part.is_multipart():
                file = _file(part, part.get_content_type())
                self.files.append(attrs.evolve(file, cid=cid))
            else:
                bodies += self.read(part, depth + 1)
        return bodies


def _text(part: Part) -> str:
    text = decode_bytes(_content(part), part.get_content_charset())
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _content(part: Part) -> bytes:
    """Give a part's bytes, its transfer encoding undone."""
    if part.is_multipart():  # message/*: whole messages in it
        return b"".join(each.as_bytes() for each in cast(list[Part], part.get_payload()))
    return cast(bytes, part.get_payload(decode=True) or b"")


def _file(part: Part, kind: str) -> File:
    return File(name=_file_name(part, kind), content=_content(part))


def _file_name(part: Part, kind: str) -> str:
    """Give a name without directories; its ending says the type, as the service goes by that."""
    raw = part.get_filename() or ""
    name = re.split(r"[/\\]", decode_header(raw))[-1].strip(" .")[-_LONGEST_NAME:]
    ending = ".eml" if kind == "message/rfc822" else mimetypes.guess_extension(kind) or ""
    if not name:
        return f"attachment{ending}"
    return name if "." in name else f"{name}{ending}"
