# SPDX-License-Identifier: MIT
"""How people name a mail: by its id, its name in the queue, or its Message-ID."""

from __future__ import annotations

import re
from typing import Final

import attrs

from smtpmailer.core.names import is_file_name, is_name, name_of_file, unique_of

__all__ = ["Wanted", "read_wanted"]

_ID: Final = re.compile(r"[a-z0-9]{1,180}")


@attrs.frozen
class Wanted:
    """A mail that is looked for: its id, and its name (as Redis holds it) when that was given."""

    unique: str
    name: str = ""


def read_wanted(text: str) -> Wanted | None:
    """Read what somebody calls a mail; None for what can be no mail's."""
    text = text.strip()
    if is_file_name(text):
        text = name_of_file(text)
    if is_name(text):
        return Wanted(unique_of(text), text)
    # RFC 5322 section 3.6.4: the id stands in front of the at sign.
    unique = text.removeprefix("<").partition("@")[0].lower()
    return Wanted(unique) if _ID.fullmatch(unique) else None
