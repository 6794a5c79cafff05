# SPDX-License-Identifier: MIT
"""From a validated mail and the content of its files to one finished message."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import attrs

from smtpmailer.core import headers
from smtpmailer.core.addresses import is_address, to_wire
from smtpmailer.core.mediatypes import guess_type
from smtpmailer.core.model import (
    Address,
    Capabilities,
    Envelope,
    LoadedFile,
    MailRequest,
    OutgoingMail,
)
from smtpmailer.core.transfer import base64_lines, quoted_printable
from smtpmailer.core.wire import MAX_LINE, Wire, dot_stuff, has_line_over, normalise_newlines
from smtpmailer.errors import AddressError, MessageError, NoRecipientError

__all__ = ["CHARSETS", "ENCODINGS", "Letterhead", "MessageOptions", "Stamp", "compose", "is_sound"]

#: What MAIL_CHARSET and MAIL_ENCODING may say.
CHARSETS: Final = ("utf-8", "us-ascii", "iso-8859-1")
ENCODINGS: Final = ("7bit", "8bit", "base64", "binary", "quoted-printable")

_UTF8: Final = "utf-8"
#: No character of a text takes more bytes in a message: four in UTF-8, each encoded as three.
_BYTES_PER_CHARACTER: Final = 16
#: No address has more; nor have the fields that are the same in every mail, together.
_MAX_ADDRESS: Final = 254
_FRAME: Final = 1000
_FALLBACK_NAME: Final = "attachment"
_UNIQUE: Final = re.compile(r"[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*")
#: A boundary has at most 70 characters (RFC 2046 section 5.1.1), ours adds a few.
_MAX_UNIQUE: Final = 56
# RFC 2392 wants an address-like id; many clients' HTML says cid:logo, so any plain text will do.
_CONTENT_ID: Final = re.compile(r"[!-;=?-~](?:[ -;=?-~]{0,250}[!-;=?-~])?")


@attrs.frozen(kw_only=True)
class MessageOptions:
    """How text is written: MAIL_HTML, MAIL_CHARSET and MAIL_ENCODING; and MAIL_MAX_SIZE.

    ``max_bytes`` is the size of a whole message, all being encoded; 0 is no limit.
    """

    html: bool = True
    charset: str = attrs.field(default=_UTF8, validator=attrs.validators.in_(CHARSETS))
    encoding: str = attrs.field(default="8bit", validator=attrs.validators.in_(ENCODINGS))
    max_bytes: int = 0


@attrs.frozen(kw_only=True)
class Stamp:
    """What makes one message different from all others; the same at each attempt to deliver it.

    ``unique`` goes into Message-ID and boundaries, ``epoch_seconds`` (UTC) into Date.
    """

    unique: str = attrs.field()
    epoch_seconds: float

    @unique.validator
    def _sound(self, _attribute: attrs.Attribute[str], value: str) -> None:
        if _UNIQUE.fullmatch(value) is None:
            raise ValueError(f"a unique text is atoms of ASCII with dots between, not {value!a}")
        if len(value) > _MAX_UNIQUE:
            raise ValueError(f"a unique text has at most {_MAX_UNIQUE} characters")


class Letterhead(NamedTuple):
    """Who mails are from, as it stands in them: address in wire form, and header field.

    It is the same for very many mails, so it need not be written anew for each.
    """

    wire: str
    field: str

    @classmethod
    def of(cls, sender: Address) -> Letterhead:
        """Write it; raises AddressError or MessageError."""
        wire = to_wire(sender.email)
        return cls(wire, _people("From", [(wire, sender)]))


class _Entity(NamedTuple):
    """A MIME entity: its header fields and its body in pieces, as they go over the wire.

    ``dots`` are those that stuffing has added to its text. Nothing else has a line that begins
    with one: header fields don't (see ``check_block``), nor do delimiters and base64.
    """

    header: str
    body: tuple[bytes | bytearray, ...]
    eight_bit: bool = False
    dots: int = 0


class _Recipients(NamedTuple):
    """Everyone a mail goes to, once: who is in To is neither in Cc nor in Bcc again."""

    to: tuple[tuple[str, Address], ...]
    cc: tuple[tuple[str, Address], ...]
    bcc: tuple[tuple[str, Address], ...]


def compose(
    request: MailRequest,
    *,
    body: str,
    sender: Address | Letterhead,
    files: tuple[LoadedFile, ...],
    stamp: Stamp,
    options: MessageOptions,
) -> OutgoingMail:
    """Build the message of a mail: deterministic, and all but the text's encoding done once.

    ``body`` is the text as it is to go out (of the request or of its template), ``files`` are
    the request's attachments and embedded images, ``sender`` is who goes into From and MAIL FROM,
    as a Letterhead where that is known from mails before.
    The text always ends in a line end, unless it is empty.

    Raises AddressError, MessageError or NoRecipientError for what can't be built, here and not in
    ``wire``; except that ``wire`` raises AddressError when the envelope needs SMTPUTF8 and the
    capabilities lack it.
    """
    people = _unique_recipients(request)
    sender_wire = to_wire(sender.email) if isinstance(sender, Address) else sender.wire
    reply_to = [(to_wire(address.email), address) for address in request.reply_to]
    envelope = Envelope(
        sender=sender_wire,
        recipients=tuple([wire for group in people for wire, _ in group]),
        utf8_headers=not "".join([wire for wire, _ in reply_to]).isascii(),
    )
    if not envelope.recipients:
        raise NoRecipientError
    letterhead = Letterhead.of(sender) if isinstance(sender, Address) else sender
    layout = _Layout(
        header=_fields(request, letterhead, people, reply_to, stamp),
        text=_Text.of(body, options),
        inline=tuple([_file(file) for file in files if file.part.content_id is not None]),
        attached=tuple([_file(file) for file in files if file.part.content_id is None]),
        unique=stamp.unique,
    )
    best = layout.whole(eight_bit=True)
    header = best.header.encode()
    _check_size(header, best, options.max_bytes)
    international = envelope.needs_smtputf8
    headers.check_block(header, utf8=international)

    def wire(capabilities: Capabilities) -> Wire:
        if international and not capabilities.smtputf8:
            raise AddressError("an address of this mail needs a server that offers SMTPUTF8")
        fits = capabilities.eight_bit or not best.eight_bit
        return _finish(best if fits else layout.whole(eight_bit=False))

    return OutgoingMail(mail_id=stamp.unique, envelope=envelope, wire=wire)


def is_sound(request: MailRequest, *, sender: Address, options: MessageOptions) -> bool:
    """Whether ``compose`` is certain to succeed, told without building anything.

    False says nothing: the mail holds something that has to be tried.
    """
    people = (sender, *request.to, *request.cc, *request.bcc, *request.reply_to)
    texts = (request.subject, *(person.name for person in people))
    body = request.body or ""
    characters = len(body) + sum(map(len, texts)) + _MAX_ADDRESS * len(people)
    limit = options.max_bytes
    return (
        not (request.attachments or request.embedded)
        and len(people) > 1 + len(request.reply_to)
        and all(map(str.isprintable, texts))
        and not 0 < limit < _BYTES_PER_CHARACTER * characters + _FRAME
        and all(is_address(person.email) for person in people)
        and _is_encodable(body)
    )


def _is_encodable(body: str) -> bool:
    # What Latin-1 holds, ASCII above all, is told in a thirtieth of the time.
    for charset in ("latin-1", _UTF8):
        try:
            body.encode(charset)
        except UnicodeEncodeError:
            continue
        return True
    return False


def _check_size(header: bytes, message: _Entity, max_bytes: int) -> None:
    size = len(header) + 2 + sum(map(len, message.body)) - message.dots
    if 0 < max_bytes < size:
        raise MessageError(
            f"the message is too large: {size} bytes with all that is attached, and at most "
            f"{max_bytes} may be sent (MAIL_MAX_SIZE)"
        )


def _finish(message: _Entity) -> Wire:
    """Join a message; its header and the frames of its parts have no dots to be doubled."""
    return Wire(b"".join([message.header.encode(), b"\r\n", *message.body]), message.dots)


class _Text(NamedTuple):
    """The mail's text in its charset, with CRLF line ends."""

    content_type: str
    charset: str
    content: bytes
    is_ascii: bool
    encoding: str

    @classmethod
    def of(cls, body: str, options: MessageOptions) -> _Text:
        """Encode a text; a character that the charset lacks makes this mail UTF-8."""
        content, charset = _transcode(body, options.charset)
        content = normalise_newlines(content)
        if content and not content.endswith(b"\r\n"):
            content += b"\r\n"
        return cls(
            content_type="text/html" if options.html else "text/plain",
            charset=charset,
            content=content,
            # That of a text that is no ASCII neither is, and a text knows it without a look.
            is_ascii=body.isascii(),
            encoding=options.encoding,
        )

    def entity(self, *, eight_bit: bool) -> _Entity:
        """Give the text as a MIME entity for a server with or without 8BITMIME."""
        encoding = self._transfer_encoding(eight_bit=eight_bit)
        header = (
            f"Content-Type: {self.content_type}; charset={self.charset}\r\n"
            f"Content-Transfer-Encoding: {encoding}\r\n"
        )
        if encoding == "base64":
            return _Entity(header, (base64_lines(self.content),))
        plain = encoding != "quoted-printable"
        # As a whole, and what stands before it is its header's end: it begins a line.
        text, dots = dot_stuff(self.content if plain else quoted_printable(self.content))
        return _Entity(header, (text,), encoding == "8bit", dots)

    def _transfer_encoding(self, *, eight_bit: bool) -> str:
        """Choose what the setting asks for, or the nearest that can carry this text.

        ``binary`` is taken as 8bit: without BINARYMIME (RFC 3030) nobody could receive it.
        """
        if self.encoding in {"base64", "quoted-printable"}:
            return self.encoding
        if b"\0" in self.content:
            return "base64"
        if has_line_over(MAX_LINE, self.content):
            return "quoted-printable"
        if self.is_ascii:
            return "7bit"
        return "8bit" if eight_bit and self.encoding != "7bit" else "quoted-printable"


class _Layout(NamedTuple):
    """The parts of a message, of which only the text's transfer encoding is still open."""

    header: str
    text: _Text
    inline: tuple[_Entity, ...]
    attached: tuple[_Entity, ...]
    unique: str

    def whole(self, *, eight_bit: bool) -> _Entity:
        """Put text and files together: mixed around related (RFC 2046, RFC 2387)."""
        entity = self.text.entity(eight_bit=eight_bit)
        if self.inline:
            entity = self._multipart(
                "related", [entity, *self.inline], ("type", self.text.content_type)
            )
        if self.attached:
            entity = self._multipart("mixed", [entity, *self.attached])
        header = f"{self.header}MIME-Version: 1.0\r\n{entity.header}"
        return _Entity(header, entity.body, entity.eight_bit, entity.dots)

    def _multipart(
        self, subtype: str, parts: Sequence[_Entity], *parameters: tuple[str, str]
    ) -> _Entity:
        """Put entities into a multipart one."""
        boundary = self._boundary(subtype)
        eight_bit = any(part.eight_bit for part in parts)
        header = headers.structured(
            "Content-Type", f"multipart/{subtype}", *parameters, ("boundary", boundary)
        )
        if eight_bit:  # RFC 2045 section 6.4: no part may hold more than the whole admits
            header += "Content-Transfer-Encoding: 8bit\r\n"
        delimiter = f"\r\n--{boundary}".encode()
        body: list[bytes | bytearray] = [delimiter[2:]]
        for part in parts:
            body += (b"\r\n", part.header.encode(), b"\r\n", *part.body, delimiter)
        return _Entity(header, (*body, b"--\r\n"), eight_bit, sum(part.dots for part in parts))

    def _boundary(self, subtype: str) -> str:
        """Give a boundary that occurs nowhere in the mail.

        Base64 and quoted-printable can't hold ``=_``; a text that goes out as it is is searched.
        """
        number = 0
        while True:
            boundary = f"=_{subtype[0]}{number}_{self.unique}"
            if boundary.encode() not in self.text.content:
                return boundary
            number += 1


def _transcode(body: str, charset: str) -> tuple[bytes, str]:
    """Encode a text in a charset or else in UTF-8; give the bytes and the charset's name."""
    for candidate in (charset, _UTF8):
        try:
            return body.encode(candidate), candidate
        except UnicodeEncodeError:
            continue
    raise MessageError("the body must not hold half a surrogate pair (U+D800 to U+DFFF)")


def _unique_recipients(request: MailRequest) -> _Recipients:
    """Check every recipient's address and keep the first of equal ones."""
    seen: set[str] = set()
    to = _fresh(request.to, seen)
    return _Recipients(to, _fresh(request.cc, seen), _fresh(request.bcc, seen))


def _fresh(addresses: Iterable[Address], seen: set[str]) -> tuple[tuple[str, Address], ...]:
    """Give the addresses that were not ``seen`` before, in wire form and as they are."""
    fresh = []
    for address in addresses:
        # The wire form is the key by which addresses are compared, too (see dedupe_key).
        wire = to_wire(address.email)
        if wire not in seen:
            seen.add(wire)
            fresh.append((wire, address))
    return tuple(fresh)


def _fields(
    request: MailRequest,
    sender: Letterhead,
    people: _Recipients,
    reply_to: Sequence[tuple[str, Address]],
    stamp: Stamp,
) -> str:
    """Write the fields that a mail has whatever its content; Bcc never goes out."""
    domain = sender.wire.rpartition("@")[2]
    shown = people.to or people.cc
    to = _people("To", people.to) if shown else "To: undisclosed-recipients:;\r\n"
    cc = _people("Cc", people.cc)
    answers = _people("Reply-To", reply_to)
    subject = headers.unstructured("Subject", request.subject)
    return (
        f"Date: {headers.date(stamp.epoch_seconds)}\r\n{sender.field}{to}{cc}{answers}{subject}"
        f"Message-ID: <{stamp.unique}@{domain}>\r\n"
    )


def _people(name: str, people: Sequence[tuple[str, Address]]) -> str:
    """Write an address field; nothing when there is nobody in it."""
    if not people:
        return ""
    return headers.address_list(name, [(wire, address.name) for wire, address in people])


def _file(file: LoadedFile) -> _Entity:
    """Make a file an entity in base64: an inline image when it has a cid, else an attachment."""
    part = file.part
    base = part.path.rpartition("/")[2]
    name = headers.clean(part.name or base, "file name").strip(" ") or _FALLBACK_NAME
    kind = guess_type(name, base)
    header = headers.structured("Content-Type", kind, ("name", name))
    header += "Content-Transfer-Encoding: base64\r\n"
    if part.content_id is None:
        header += headers.structured("Content-Disposition", "attachment", ("filename", name))
    else:
        header += f"Content-ID: <{_content_id(part.content_id)}>\r\n"
        header += headers.structured("Content-Disposition", "inline", ("filename", name))
    headers.check_block(header.encode())
    return _Entity(header, (base64_lines(file.content),))


def _content_id(text: str) -> str:
    """Check a cid: printable ASCII without angle brackets, at most 252 characters."""
    if _CONTENT_ID.fullmatch(text) is None:
        raise MessageError(
            f"the cid {text[:100]!a} must be 1 to 252 printable ASCII characters "
            "without < and > and without blanks at its ends"
        )
    return text
