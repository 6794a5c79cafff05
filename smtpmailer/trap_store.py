# SPDX-License-Identifier: MIT
"""Where the mail trap keeps what it caught: an .eml file a mail and its envelope beside it."""

from __future__ import annotations

import contextlib
import email.errors
import email.header
import email.parser
import email.policy
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import attrs

__all__ = ["CaughtMail", "TrapStore", "clean", "describe_mail", "subject_of"]

_HEADER_LIMIT_BYTES: Final = 65536
#: Control characters, and those that turn the direction of writing.
_UNPRINTABLE: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069]+"
)


@attrs.frozen(kw_only=True)
class CaughtMail:
    """A mail as it came in.

    ``content`` is the message exactly as received, CRLF line ends, dots unstuffed. ``options``
    are the parameters of MAIL FROM as written. ``user`` is None without a login, ``tls`` None
    without TLS, else the protocol's version. ``received`` is in Unix seconds.
    """

    sender: str
    recipients: tuple[str, ...]
    content: bytes = attrs.field(repr=False)
    options: tuple[str, ...] = ()
    helo: str = ""
    peer: str = ""
    user: str | None = None
    tls: str | None = None
    received: float

    def envelope(self) -> dict[str, Any]:
        """Give everything but the content, as it is kept in the .json file."""
        return {
            "received": datetime.fromtimestamp(self.received, UTC).isoformat(),
            "from": self.sender,
            "to": list(self.recipients),
            "options": list(self.options),
            "helo": self.helo,
            "peer": self.peer,
            "user": self.user,
            "tls": self.tls,
            "size": len(self.content),
        }


class TrapStore:
    """Keeps mails in one directory, which it makes (mode 0700) when the first one comes.

    Names begin with the time (UTC), so that they sort in the order of arrival. The .eml file
    appears complete and after its .json file: who sees the one may read both.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers: Iterator[int] = itertools.count(1)

    def keep(self, mail: CaughtMail) -> Path:
        """Write a mail (blocking: this is a development tool); give the .eml file's path.

        Raises OSError when the directory can't be written.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        moment = datetime.fromtimestamp(mail.received, UTC).strftime("%Y%m%dT%H%M%S")
        while True:
            # The number tells mails of one second apart; the loop tells traps on one directory
            # apart.
            stem = self._directory / f"{moment}-{next(self._numbers):04d}"
            try:
                _write_new(stem.with_suffix(".json"), _as_json(mail.envelope()))
            except FileExistsError:
                continue
            break
        unfinished = stem.with_name(f".{stem.name}.tmp")
        _write_new(unfinished, mail.content)
        path = stem.with_suffix(".eml")
        unfinished.rename(path)
        return path


def describe_mail(mail: CaughtMail, path: Path, local_time: Callable[[float], datetime]) -> str:
    """Give the line that is printed for a mail: safe for a terminal, whatever the mail holds."""
    when = local_time(mail.received).strftime("%H:%M:%S")
    recipients = ", ".join(clean(one) for one in mail.recipients)
    subject = subject_of(mail.content)
    return (
        f'{when}  {clean(mail.sender) or "<>"} -> {recipients}  "{subject}"'
        f"  {len(mail.content):,} bytes  {path}"
    )


def subject_of(content: bytes, limit: int = 80) -> str:
    """Give a message's decoded subject without control characters, at most ``limit`` characters."""
    head = content[:_HEADER_LIMIT_BYTES].partition(b"\r\n\r\n")[0].decode("utf-8", "replace")
    parser = email.parser.HeaderParser(policy=email.policy.compat32)
    text = str(parser.parsestr(head).get("Subject", ""))
    with contextlib.suppress(email.errors.HeaderParseError, LookupError, ValueError):
        text = str(email.header.make_header(email.header.decode_header(text)))
    text = " ".join(clean(text).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def clean(text: str) -> str:
    """Give a text in which nothing steers a terminal: no control or direction characters."""
    return _UNPRINTABLE.sub(" ", text).strip()


def _as_json(values: dict[str, Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False, indent=2).encode("utf-8", "replace") + b"\n"


def _write_new(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
