# SPDX-License-Identifier: MIT
"""The kinds of values that configuration keys take: how each is read, checked, described, shown."""

from __future__ import annotations

import base64
import binascii
import enum
import ipaddress
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Final

import attrs
import idna

from smtpmailer.core import cron
from smtpmailer.core.addresses import is_address
from smtpmailer.errors import CronError

__all__ = [
    "PORT",
    "Base64Key",
    "Base64Keys",
    "Choice",
    "Crontab",
    "Factor",
    "Flag",
    "Host",
    "Kind",
    "MailAddress",
    "Number",
    "Option",
    "Path",
    "PathList",
    "Text",
]

_INT32_MAX: Final = 2**31 - 1
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_DECIMAL: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
# Controls break lines wherever the value goes; surrogates stand for bytes that are not UTF-8.
_UNFIT: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# Underscores are no host name (RFC 952), but container networks are full of them.
_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST: Final = re.compile(rf"(?=.{{1,253}}\.?\Z){_LABEL}(?:\.{_LABEL})*\.?")
_FLAGS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("true", "on", "yes", "1"), True),
    **dict.fromkeys(("false", "off", "no", "none", "0"), False),
}


@attrs.frozen
class Kind:
    """A kind of value; this one takes any text in one line."""

    name = "text"

    def read(self, raw: object, base_path: str) -> Any:  # noqa: ARG002 - paths use it
        """Give the value that ``raw`` (str, int or bool) stands for.

        ``base_path`` is the absolute directory of relative paths. Raises ValueError, whose text
        goes on after the key: "has to be ...".
        """
        return self._text(raw)

    def show(self, value: Any) -> str:
        """Give the value as an env file would hold it, without quotes."""
        return str(value)

    def schema(self) -> dict[str, Any]:
        """Give a JSON Schema of what ``read`` accepts; some checks are beyond a schema."""
        return {"type": ["string", "integer"]}

    @staticmethod
    def _text(raw: object) -> str:
        """Take a text, or a bare number, which the typed scan made an integer."""
        if isinstance(raw, bool) or not isinstance(raw, str | int):
            raise ValueError('has to be a text in quotes, "" for none')  # noqa: TRY004
        text = str(raw)
        unfit = _UNFIT.search(text)
        if unfit:
            raise ValueError(
                f"has to be one line of UTF-8; it holds U+{ord(unfit[0]):04X} "
                f"at character {unfit.start() + 1}"
            )
        return text


@attrs.frozen
class Text(Kind):
    """A text in one line of at least ``minimum`` characters."""

    minimum: int = 0

    def read(self, raw: object, base_path: str) -> str:
        """Read; see Kind."""
        text: str = super().read(raw, base_path)
        if len(text) < self.minimum:
            raise ValueError("must not be empty")
        return text

    def schema(self) -> dict[str, Any]:
        """Describe; see Kind."""
        return {"type": ["string", "integer"], **_minimum_length(self.minimum)}


@attrs.frozen
class Flag(Kind):
    """On or off."""

    name = "bool"

    def read(self, raw: object, base_path: str) -> bool:  # noqa: ARG002
        """Read; see Kind."""
        found = _FLAGS.get(str(raw).strip().lower())
        if found is None:
            raise ValueError("has to be true or false (also on/off, yes/no, 1/0)")
        return found

    def show(self, value: Any) -> str:
        """Show; see Kind."""
        return "true" if value else "false"

    def schema(self) -> dict[str, Any]:
        """Describe; see Kind."""
        return {"enum": [True, False, 1, 0, *_FLAGS]}


@attrs.frozen
class Number(Kind):
    """A whole number with bounds, both included."""

    name = "int"
    minimum: int = 0
    maximum: int = _INT32_MAX

    def read(self, raw: object, base_path: str) -> int:  # noqa: ARG002
        """Read; see Kind."""
        text = "" if isinstance(raw, bool) else str(raw).strip()
        if not _INTEGER.fullmatch(text) or not self.minimum <= int(text) <= self.maximum:
            raise ValueError(f"has to be a whole number {self.bounds}")
        return int(text)

    def schema(self) -> dict[str, Any]:
        """Describe; see Kind."""
        return {
            "type": ["integer", "string"],
            "minimum": self.minimum,
            "maximum": self.maximum,
            "pattern": "^[+-]?[0-9]{1,18}$",
        }

    @property
    def bounds(self) -> str:
        """Say the bounds in words."""
        if self.maximum == _INT32_MAX:
            return f"of {self.minimum} or more"
        return f"from {self.minimum} to {self.maximum}"


@attrs.frozen
class Choice(Kind):
    """One of some words, whatever their case; ``members`` gives an enum member instead."""

    name = "choice"
    words: tuple[str, ...]
    members: type[enum.Enum] | None = None

    def read(self, raw: object, base_path: str) -> Any:  # noqa: ARG002
        """Read; see Kind."""
        # The typed scan makes a bare `none` false.
        text = "none" if raw is False else str(raw).strip().lower()
        for word in self.words:
            if word.lower() == text:
                return self.members(word) if self.members else word
        raise ValueError(f"has to be one of {', '.join(self.words)}")

    def show(self, value: Any) -> str:
        """Show; see Kind."""
        return str(value.value if isinstance(value, enum.Enum) else value)

    def schema(self) -> dict[str, Any]:
        """Describe; see Kind."""
        return {"enum": [*self.words, *([False] if "none" in self.words else [])]}


@attrs.frozen
class Host(Kind):
    """An IPv4 or IPv6 address or a host name (IDN: kept as A-labels).

    With ``literals`` also an address in brackets, as EHLO wants it (RFC 5321 section 4.1.3).
    Empty only when it is ``optional``.
    """

    name = "address"
    optional: bool = True
    literals: bool = False

    def read(self, raw: object, base_path: str) -> str:  # noqa: ARG002
        """Read; see Kind."""
        text = self._text(raw).strip()
        inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
        try:
            ipaddress.ip_address(inner.removeprefix("IPv6:"))
        except ValueError:
            return self._name(text)
        return text if self.literals else inner

    def schema(self) -> dict[str, Any]:
        """Describe; see Kind."""
        return {"type": ["string"], "pattern": rf"^[^\s/@]{'*' if self.optional else '+'}$"}

    def _name(self, text: str) -> str:
        host = text
        if not text.isascii():
            try:
                host = idna.encode(text, uts46=True).decode("ascii")
            except (idna.IDNAError, UnicodeError):
                host = "*"
        # Digits and dots alone are an address gone wrong, never a name.
        if not host and self.optional:
            return host
        if not _HOST.fullmatch(host) or not host.strip("0123456789."):
            raise ValueError("has to be a host name or an IP address, without port or scheme")
        return host


@attrs.frozen
class Path(Kind):
    """A path, made absolute; empty only when it is ``optional``."""

    name = "path"
    optional: bool = True

    def read(self, raw: object, base_path: str) -> str:
        """Read; see Kind."""
        text = self._text(raw)
        if not text and not self.optional:
            raise ValueError("has to be a path")
        return str(PurePosixPath(base_path, text)) if text else ""

    def schema(self) -> dict[str, Any]:
        """Describe; see Kind."""
        return {"type": ["string", "integer"], **_minimum_length(0 if self.optional else 1)}


@attrs.frozen
class PathList(Kind):
    """Paths with a colon between them."""

    name = "paths"

    def read(self, raw: object, base_path: str) -> tuple[str, ...]:
        """Read; see Kind."""
        parts = self._text(raw).split(":")
        return tuple(str(PurePosixPath(base_path, part)) for part in parts if part)

    def show(self, value: Any) -> str:
        """Show; see Kind."""
        return ":".join(value)


@attrs.frozen
class Crontab(Kind):
    """A crontab time, or empty for never."""

    name = "cron"

    def read(self, raw: object, base_path: str) -> str:  # noqa: ARG002
        """Read; see Kind."""
        text = self._text(raw).strip()
        try:
            if text:
                cron.check(text)
        except CronError as error:
            raise ValueError(str(error)) from None
        return text

    def schema(self) -> dict[str, Any]:
        """Describe; see Kind."""
        return {"type": ["string"], "pattern": r"^\s*(\S+(\s+\S+){4,5})?\s*$"}


@attrs.frozen
class MailAddress(Kind):
    """A mail address, or empty."""

    name = "mail address"

    def read(self, raw: object, base_path: str) -> str:  # noqa: ARG002
        """Read; see Kind."""
        text = self._text(raw).strip()
        if text and not is_address(text):
            raise ValueError("has to be a mail address such as name@example.com")
        return text

    def schema(self) -> dict[str, Any]:
        """Describe; see Kind."""
        return {"type": ["string"], "pattern": '^([^@]+|".*")@[^@]+$|^$'}


@attrs.frozen
class Base64Key(Kind):
    """Bytes in base64; the padding may be missing."""

    name = "base64"

    def read(self, raw: object, base_path: str) -> bytes:  # noqa: ARG002
        """Read; see Kind."""
        text = self._text(raw).strip().rstrip("=")
        try:
            return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("has to be base64") from None

    def schema(self) -> dict[str, Any]:
        """Describe; see Kind."""
        return {"type": ["string", "integer"], "pattern": "^[A-Za-z0-9+/]*={0,2}$"}


@attrs.frozen
class Base64Keys(Kind):
    """Several base64 texts, with commas or blanks between."""

    name = "base64 list"

    def read(self, raw: object, base_path: str) -> tuple[bytes, ...]:
        """Read; see Kind."""
        parts = self._text(raw).replace(",", " ").split()
        return tuple(Base64Key().read(part, base_path) for part in parts)

    def schema(self) -> dict[str, Any]:
        """Describe; see Kind."""
        return {"type": ["string", "integer"], "pattern": "^[A-Za-z0-9+/=, ]*$"}


@attrs.frozen
class Factor(Kind):
    """A number, whole or not, from ``minimum`` to ``maximum``, both included."""

    name = "number"
    minimum: float = 1.0
    maximum: float = 100.0

    def read(self, raw: object, base_path: str) -> float:  # noqa: ARG002
        """Read; see Kind."""
        text = "" if isinstance(raw, bool) else str(raw).strip()
        if not _DECIMAL.fullmatch(text) or not self.minimum <= float(text) <= self.maximum:
            raise ValueError(f"has to be a number from {self.minimum:g} to {self.maximum:g}")
        return float(text)

    def show(self, value: Any) -> str:
        """Show; see Kind."""
        return f"{value:g}"

    def schema(self) -> dict[str, Any]:
        """Describe; see Kind."""
        return {
            "type": ["number", "string"],
            "minimum": self.minimum,
            "maximum": self.maximum,
            "pattern": r"^[0-9]{1,9}(\.[0-9]{1,9})?$",
        }


PORT: Final = Number(1, 65535)


@attrs.frozen(kw_only=True)
class Option:
    """All that is said about one configuration key.

    ``default`` is as an env file would hold it; None means that absence has a meaning of its own.
    ``example`` is the value in the shipped example. ``unit`` is empty where there is none.
    """

    key: str
    kind: Kind
    default: str | int | bool | None
    group: str
    help: str
    unit: str = ""
    secret: bool = False
    required: bool = False
    example: str | int | bool | None = None

    def mask(self, value: Any) -> str:
        """Give the value for people to see; a secret only as set or not."""
        if value is None and self.default is None:
            return "(not set)"
        if self.secret:
            return "********" if value else ""
        return self.kind.show(value)


def _minimum_length(minimum: int) -> dict[str, int]:
    return {"minLength": minimum} if minimum else {}
