# SPDX-License-Identifier: MIT
"""A table of messages with everything that makes mail hard, and what a receiver has to see.

Each case can be composed here, or sent through the service with its files written to disk; in both
ways ``differences`` compares what arrived, as the standard library's parser understands it.
"""

from __future__ import annotations

from email import policy
from email.header import decode_header, make_header
from email.message import EmailMessage, Message
from email.parser import BytesParser, HeaderParser
from email.utils import getaddresses
from typing import cast

import attrs

from smtpmailer.core.mime import MessageOptions, Stamp, compose
from smtpmailer.core.model import Address, FilePart, LoadedFile, MailRequest, OutgoingMail

__all__ = ["CASES", "STAMP", "MessageCase", "differences", "parse", "unstuff"]

STAMP = Stamp(unique="0001700000000.12345678_0123456789abcdef", epoch_seconds=1_700_000_000.5)

_SENDER = Address(email="sender@example.com", name="Some Sender")
_HTML = MessageOptions()


@attrs.frozen(kw_only=True)
class MessageCase:
    """One message: what goes in, and what differs from it on purpose when it comes out.

    ``files`` hold attachments and embedded images in this order. ``smtputf8`` says that the mail
    can only go to a server that offers it.
    """

    name: str
    to: tuple[Address, ...] = (Address(email="user@example.org"),)
    cc: tuple[Address, ...] = ()
    bcc: tuple[Address, ...] = ()
    reply_to: tuple[Address, ...] = ()
    sender: Address = _SENDER
    subject: str = "A plain subject"
    body: str = attrs.field(default="<p>Hello</p>\n", repr=False)
    files: tuple[LoadedFile, ...] = ()
    options: MessageOptions = _HTML
    charset: str = "utf-8"
    expected_subject: str | None = None
    smtputf8: bool = False

    @property
    def request(self) -> MailRequest:
        """The validated request, its file parts included."""
        parts = tuple(file.part for file in self.files)
        return MailRequest(
            to=self.to,
            cc=self.cc,
            bcc=self.bcc,
            reply_to=self.reply_to,
            subject=self.subject,
            body=self.body,
            attachments=tuple(part for part in parts if part.content_id is None),
            embedded=tuple(part for part in parts if part.content_id is not None),
            from_email=self.sender.email,
            from_name=self.sender.name,
        )

    def compose(self) -> OutgoingMail:
        """Build the message."""
        return compose(
            self.request,
            body=self.body,
            sender=self.sender,
            files=self.files,
            stamp=STAMP,
            options=self.options,
        )


def unstuff(wire: bytes) -> bytes:
    """Undo dot-stuffing, as a server does (RFC 5321 section 4.5.2), line by line."""
    lines = wire.split(b"\r\n")
    return b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)


def parse(message: bytes) -> EmailMessage:
    """Parse a message as it was received (dots already unstuffed)."""
    return BytesParser(policy=policy.default).parsebytes(message)


def differences(case: MessageCase, received: bytes) -> list[str]:
    """Say where a received message is not the one that was sent; empty when it is.

    Fields that servers add (Received, Return-Path, X-...) don't matter, nor whether line ends
    are CRLF or LF.
    """
    message = parse(received)
    header = HeaderParser().parsestr(received.partition(b"\r\n\r\n")[0].decode())
    found = [
        *_compare("defects", [], _defects(message)),
        *_compare("subject", case.expected_subject or case.subject, str(message["Subject"])),
        *_compare("from", [_pair(case.sender)], _people(header, "From")),
        *_compare("to", _unique(case.to), _people(header, "To")),
        *_compare("cc", _unique(case.cc), _people(header, "Cc")),
        *_compare("reply-to", _unique(case.reply_to), _people(header, "Reply-To")),
        *_compare("bcc", None, message["Bcc"]),
        *_compare("mime-version", "1.0", str(message["MIME-Version"])),
        *_compare("files", [_file(file) for file in _ordered(case)], _files(message)),
    ]
    return found + _text_differences(case, message)


def _compare(what: str, expected: object, seen: object) -> list[str]:
    return [] if expected == seen else [f"{what}: expected {expected!r:.300}, got {seen!r:.300}"]


def _defects(message: EmailMessage) -> list[str]:
    parts = [str(defect) for part in message.walk() for defect in part.defects]
    fields = [
        f"{name}: {defect}"
        for part in message.walk()
        for name, value in part.items()
        # The parser of structured fields can't know SMTPUTF8 addresses.
        if str(value).isascii() or name == "Subject"
        for defect in getattr(value, "defects", ())
        if "local-part" not in str(defect)
    ]
    return parts + fields


def _pair(address: Address) -> tuple[str, str]:
    local, _, domain = address.email.rpartition("@")
    ascii_domain = domain if domain.isascii() else domain.encode("idna").decode()
    return address.name.strip(" "), f"{local}@{ascii_domain.lower()}"


def _unique(addresses: tuple[Address, ...]) -> list[tuple[str, str]]:
    return list(dict.fromkeys(_pair(address) for address in addresses))


def _people(header: Message, name: str) -> list[tuple[str, str]]:
    """Read mailboxes; not by the structured parser, which keeps the blank between two words."""
    pairs = getaddresses(["".join(str(v).splitlines()) for v in header.get_all(name, [])])
    return [(str(make_header(decode_header(text))), email) for text, email in pairs if email]


def _ordered(case: MessageCase) -> list[LoadedFile]:
    """Give the files in the order of the message: embedded ones stand beside the text."""
    return sorted(case.files, key=lambda file: file.part.content_id is None)


def _file(file: LoadedFile) -> tuple[str, str, str, bytes]:
    part = file.part
    kind = "attachment" if part.content_id is None else "inline"
    cid = "" if part.content_id is None else f"<{part.content_id}>"
    return kind, cid, part.name or part.path.rpartition("/")[2], file.content


def _files(message: EmailMessage) -> list[tuple[str, str, str, bytes]]:
    return [
        (
            str(part.get_content_disposition()),
            str(part["Content-ID"] or ""),
            str(part.get_filename()),
            cast(bytes, part.get_payload(decode=True)),
        )
        for part in message.walk()
        if part.get_content_disposition()
    ]


def _text_differences(case: MessageCase, message: EmailMessage) -> list[str]:
    texts = [p for p in message.walk() if not (p.is_multipart() or p.get_content_disposition())]
    if len(texts) != 1:
        return [f"text: {len(texts)} parts"]
    kind = "text/html" if case.options.html else "text/plain"
    raw = cast(bytes, texts[0].get_payload(decode=True))
    seen = raw.decode(case.charset).replace("\r\n", "\n")
    expected = case.body.replace("\r\n", "\n").replace("\r", "\n")
    if expected and not expected.endswith("\n"):
        expected += "\n"
    return [
        *_compare("type", kind, texts[0].get_content_type()),
        *_compare("charset", case.charset, str(texts[0].get_content_charset())),
        *_compare("text", expected, seen),
    ]


def _address(email: str, name: str = "") -> Address:
    return Address(email=email, name=name)


def _attached(name: str, content: bytes, cid: str | None = None) -> LoadedFile:
    # The name on disk is plain, so that these cases can be written to any directory.
    ending = name.rpartition(".")[2] if name.isascii() and "." in name else "bin"
    part = FilePart(path=f"/srv/attachments/file.{ending}", name=name, content_id=cid)
    return LoadedFile(part=part, content=content)


_PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)
_DOTS = ".\n..\n...\n.hidden\n\n.\n"
_UMLAUTS = "<p>Grüße aus Köln, für alle, die's mögen</p>\n" * 5
_LONG = "<p>" + "x" * 2500 + "</p>\n<p>ü" + "y" * 1200 + "</p>\n"
_PLAIN = MessageOptions(html=False)

_NAMES = {
    "german": "Jürgen Müßig",
    "french": "Élodie Œuvrard-Noël",
    "greek": "Γιώργος Παπαδόπουλος",
    "russian": "Александр Сергеевич Пушкин",
    "hebrew": "שלום עליכם",
    "arabic": "محمد بن عبد الله",
    "hindi": "नमस्ते दुनिया",
    "thai": "สวัสดีชาวโลก",
    "chinese": "中文收件人的名字",
    "japanese": "日本語の長い名前がここにあります、とても長い名前です",
    "korean": "한국어 이름",
    "emoji": "Party 🎉👩‍👩‍👧‍👦 Team 🇪🇺",
    "decomposed": "Zoe\u0308 A\u030angstro\u0308m",
}

_SCRIPTS = tuple(
    MessageCase(
        name=f"script: {script}",
        to=(_address("user@example.org", name), _address("second@example.org", f"{name} 2")),
        cc=(_address("cc@example.org", name),),
        reply_to=(_address("reply@example.org", name),),
        sender=_address("sender@example.com", name),
        subject=f"{name}: {name} / {name}",
        body=f"<p>{name}</p>\n<p>. {name}</p>\n",
        files=(_attached(f"{name}.pdf", name.encode()),),
    )
    for script, name in _NAMES.items()
)

_SETTINGS = tuple(
    MessageCase(
        name=f"setting: {charset} {encoding}",
        body=_UMLAUTS + _DOTS,
        options=MessageOptions(charset=charset, encoding=encoding),
        charset="utf-8" if charset == "us-ascii" else charset,
    )
    for charset in ("utf-8", "us-ascii", "iso-8859-1")
    for encoding in ("7bit", "8bit", "base64", "binary", "quoted-printable")
)

_BODIES = (
    MessageCase(name="body: ASCII", body="<p>Hello, world</p>\n"),
    MessageCase(name="body: ASCII in us-ascii", options=MessageOptions(charset="us-ascii"),
                charset="us-ascii"),
    MessageCase(name="body: euro sign lacks in latin-1", body="<p>5 €</p>",
                options=MessageOptions(charset="iso-8859-1")),
    MessageCase(name="body: plain text", body="Hello\n\n-- \nme\n", options=_PLAIN),
    MessageCase(name="body: only dots", body=_DOTS, options=_PLAIN),
    MessageCase(name="body: a dot alone", body=".", options=_PLAIN),
    MessageCase(name="body: dots and CRLF", body="a\r\n.\r\n..\r\nb", options=_PLAIN),
    MessageCase(name="body: smuggled commands", options=_PLAIN,
                body="x\n.\nMAIL FROM:<evil@example.com>\nRCPT TO:<v@example.com>\nDATA\n.\r.\r\n"),
    MessageCase(name="body: empty", body="", options=_PLAIN),
    MessageCase(name="body: empty beside a file", body="", files=(_attached("a.txt", b"a"),)),
    MessageCase(name="body: mixed line ends", body="a\rb\nc\r\nd\n\re\r\r\nf", options=_PLAIN),
    MessageCase(name="body: only line ends", body="\n\n\n", options=_PLAIN),
    MessageCase(name="body: no final line end", body="<p>end", options=_PLAIN),
    MessageCase(name="body: very long lines", body=_LONG),
    MessageCase(name="body: very long lines, base64", body=_LONG,
                options=MessageOptions(encoding="base64")),
    MessageCase(name="body: a line of 998", body="x" * 998 + "\n" + "y" * 998),
    MessageCase(name="body: a line of 999", body="x" * 999 + "\n"),
    MessageCase(name="body: NUL", body="a\0b\n"),
    MessageCase(name="body: NUL, quoted-printable", body="a\0b\n",
                options=MessageOptions(encoding="quoted-printable")),
    MessageCase(name="body: controls", body="a\x01\x0b\x0c\x1b[0m\x7f\u0085\u2028b\n"),
    MessageCase(name="body: blanks at line ends", body="a \n b\t\n \n", options=_PLAIN),
    MessageCase(name="body: From at line start", body="From me\n>From you\n", options=_PLAIN),
    MessageCase(name="body: equals signs", body="a=3D=20=\n==\n",
                options=MessageOptions(encoding="quoted-printable")),
    MessageCase(name="body: looks like the boundary", files=(_attached("a.txt", b"a"),),
                body=f"--=_m0_{STAMP.unique}\n\nx\n--=_m0_{STAMP.unique}--\n"),
    MessageCase(name="body: looks like a header", body="Subject: no\n\nX: y\n", options=_PLAIN),
    MessageCase(name="body: 300 KB of dots at every border", body=("." * 63 + "\n") * 4800),
)  # fmt: skip

_HEADERS = (
    MessageCase(name="subject: long ASCII", subject="word " * 60 + "end"),
    MessageCase(name="subject: long without a blank", subject="x" * 600),
    MessageCase(name="subject: longer than a line", subject="x" * 1500),
    MessageCase(name="subject: encoded word", subject="=?utf-8?Q?=0D=0AX-Injected:_yes?="),
    MessageCase(name="subject: outer and double blanks", subject="  a   b  "),
    MessageCase(name="subject: controls", subject="a\x01\x1bb\u2028c\td",
                expected_subject="abc d"),
    MessageCase(name="subject: long emoji", subject="👩‍👩‍👧‍👦🎉" * 40),
    MessageCase(name="name: specials",
                to=(_address("a@example.org", 'Doe, John "Jo" (x) <y> \\'),)),
    MessageCase(name="name: dot", to=(_address("a@example.org", "John Q. Public"),)),
    MessageCase(name="name: encoded word",
                to=(_address("a@example.org", "=?utf-8?Q?=0D=0AX-Injected:_yes?="),)),
    MessageCase(name="name: long with specials",
                to=(_address("a@example.org", "a, long; name " * 20 + "."),)),
    MessageCase(name="address: quoted local part", to=(_address('"a b,c"@example.org'),)),
    MessageCase(name="address: IDN domain", to=(_address("user@bücher.example"),),
                sender=_address("sender@bücher.example", "Bücher")),
    MessageCase(name="address: dotless domain", to=(_address("root@localhost"),)),
    MessageCase(name="address: UTF-8 local part", to=(_address("jürgen@example.org", "Jürgen"),),
                smtputf8=True),
    MessageCase(name="people: only Bcc", to=(), bcc=(_address("hidden@example.org"),)),
    MessageCase(name="people: only Cc", to=(), cc=(_address("cc@example.org"),)),
    MessageCase(name="people: Bcc stays hidden", bcc=(_address("hidden@example.org", "H"),)),
    MessageCase(name="people: the same twice",
                to=(_address("user@example.org"), _address("user@EXAMPLE.org")),
                bcc=(_address("user@Example.Org"),)),
    MessageCase(name="people: 120 of them",
                to=tuple(_address(f"user{n}@example.org", f"Üser {n}") for n in range(120))),
)  # fmt: skip

_FILES = (
    MessageCase(name="file: PDF", files=(_attached("report.pdf", b"%PDF-1.4\r\n.\r\n\0"),)),
    MessageCase(name="file: empty", files=(_attached("empty.txt", b""),)),
    MessageCase(name="file: inline image", body='<img src="cid:logo">',
                files=(_attached("logo.png", _PNG, "logo"),)),
    MessageCase(name="file: inline and attached", body='<img src="cid:logo@x"> ü',
                files=(_attached("a.csv", b"a,b\n"), _attached("logo.png", _PNG, "logo@x"))),
    MessageCase(name="file: two of each", body='<img src="cid:1"><img src="cid:2">',
                files=tuple(_attached(f"{n}.png", _PNG + bytes([n]), cid)
                            for n, cid in enumerate(("1", "2", None, None)))),
    MessageCase(name="file: long name in a script",
                files=(_attached("Очень длинное имя файла для проверки " * 5 + ".docx", b"x"),)),
    MessageCase(name="file: long ASCII name", files=(_attached("a" * 200 + ".txt", b"x"),)),
    MessageCase(name="file: specials in the name",
                files=(_attached('a "b"; c=\\d\' 100%.txt', b"x"),)),
    MessageCase(name="file: encoded word as name",
                files=(_attached("=?utf-8?Q?=0D=0AX:_y?=.txt", b"x"),)),
    MessageCase(name="file: no name of its own", files=(_attached("", b"x"),)),
    MessageCase(name="file: beside an 8bit text, latin-1", body=_UMLAUTS, charset="iso-8859-1",
                options=MessageOptions(html=False, charset="iso-8859-1"),
                files=(_attached("ä.txt", "ä".encode()),)),
    MessageCase(name="file: 10 MB", files=(_attached("big.bin", bytes(range(256)) * 39063),)),
)  # fmt: skip

CASES: tuple[MessageCase, ...] = (*_SCRIPTS, *_SETTINGS, *_BODIES, *_HEADERS, *_FILES)
