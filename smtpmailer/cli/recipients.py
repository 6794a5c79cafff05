# SPDX-License-Identifier: MIT
"""Reading recipients: "Name <addr>" texts, and files that list them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import Final

import attrs

__all__ = ["Recipient", "RecipientFileError", "parse_recipient", "read_recipients"]

_NAMED: Final = re.compile(r"\s*(?P<name>.*?)\s*<\s*(?P<email>[^<>]*?)\s*>\s*", re.DOTALL)
_HEADERS: Final = ("email", "e-mail", "mail", "address", "addr")
_SHOWN_FAULTS: Final = 20


class RecipientFileError(Exception):
    """Lines of a recipients file are no recipients; the text names each."""


@attrs.frozen(kw_only=True)
class Recipient:
    """An address with an optional name; checked by the service, not here."""

    email: str
    name: str = ""

    @property
    def item(self) -> str | list[str]:
        """The recipient in the API's form."""
        return [self.email, self.name] if self.name else self.email


def parse_recipient(text: str) -> Recipient:
    """Read ``addr``, ``<addr>``, ``Name <addr>`` or ``"Name" <addr>``."""
    match = _NAMED.fullmatch(text)
    if match is None:
        return Recipient(email=text.strip())
    name = match["name"]
    if len(name) > 1 and name.startswith('"') and name.endswith('"'):
        name = re.sub(r"\\(.)", r"\1", name[1:-1])
    return Recipient(email=match["email"], name=name)


def read_recipients(text: str) -> tuple[Recipient, ...]:
    """Read a file of recipients: one on a line, each address once, the first name wins.

    A line is an address, ``Name <addr>``, or CSV with the address first and the name second
    (columns behind these do not count). Blank lines, lines that begin with ``#`` and a CSV head
    line are skipped. Raises RecipientFileError.
    """
    found: dict[str, Recipient] = {}
    faults: list[str] = []
    for number, line in _lines(text):
        recipient = _parse_line(line)
        if "@" in recipient.email:
            local, _, domain = recipient.email.rpartition("@")
            found.setdefault(f"{local}@{domain.lower()}", recipient)
        elif found or faults or recipient.email.lower() not in _HEADERS:
            faults.append(f"line {number} is no address: {line[:80]}")
    if not found and not faults:
        faults.append("it lists no recipient")
    if faults:
        more = len(faults) - _SHOWN_FAULTS
        shown = faults[:_SHOWN_FAULTS] + ([f"and {more} lines more"] if more > 0 else [])
        raise RecipientFileError("\n".join(shown))
    return tuple(found.values())


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            yield number, stripped


def _parse_line(line: str) -> Recipient:
    if line.endswith(">"):
        return parse_recipient(line)
    delimiter = ";" if ";" in line and "," not in line else ","
    fields = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
    return Recipient(email=fields[0].strip(), name=fields[1].strip() if len(fields) > 1 else "")
