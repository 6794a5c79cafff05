# SPDX-License-Identifier: MIT
"""Names of queued mails: made, taken apart, and nothing else let through.

A name is ``<seconds, 19 digits>.<8 digits>_<16 hex digits>``, so that ascending name order is
due order. The file queue adds ``mail_`` in front and ``.json`` behind. Compat: the forms
accepted are the predecessor's, which are wider than the forms made.
"""

from __future__ import annotations

import math
import re
from typing import Final

__all__ = [
    "MAX_SECONDS",
    "due_of",
    "file_name",
    "is_file_name",
    "is_name",
    "make_file_name",
    "make_name",
    "name_of_file",
    "unique_of",
    "variant_of",
]

#: The last second of the year 9999: no mail is scheduled behind it.
MAX_SECONDS: Final = 253_402_300_799

#: A file system takes no longer name.
_MAX_NAME: Final = 200

_NAME: Final = re.compile(r"([0-9]+)\.([0-9]+)_([a-z0-9]+)")
_FILE: Final = re.compile(r"mail_([0-9]+\.[0-9]+_[a-z0-9]+)\.json")


def make_name(seconds: int, fraction: int, unique: str) -> str:
    """Make a name: due second, hundred-millionths of a second (0 to 99,999,999), 16 hex digits."""
    name = f"{seconds:019d}.{fraction:08d}_{unique}"
    assert _NAME.fullmatch(name) is not None, name
    return name


def make_file_name(due: float, unique: str) -> str:
    """Make the name of a queue file: the time when it is due (Unix seconds), 16 hex digits."""
    seconds = math.floor(due)
    return file_name(make_name(seconds, int((due - seconds) * 1e8), unique))


def is_name(text: str) -> bool:
    """Whether a text has the form of a name, as Redis holds it."""
    return len(text) <= _MAX_NAME and text.isascii() and _NAME.fullmatch(text) is not None


def is_file_name(text: str) -> bool:
    """Whether a text has the form of a queue file's name."""
    return len(text) <= _MAX_NAME and text.isascii() and _FILE.fullmatch(text) is not None


def file_name(name: str) -> str:
    """Give the file that a name stands for."""
    return f"mail_{name}.json"


def name_of_file(text: str) -> str:
    """Give the name that a queue file's name holds; the text has passed ``is_file_name``."""
    return text.removeprefix("mail_").removesuffix(".json")


def variant_of(file: str, number: int) -> str:
    """Give another name for a queue file, in the same place of the order; as long as one may be."""
    suffix = f"x{number}.json"
    variant = file.removesuffix(".json")[: _MAX_NAME - len(suffix)] + suffix
    # A time may be so long that its end was cut off; it was absurd anyway.
    return variant if is_file_name(variant) else f"mail_{MAX_SECONDS}.0_{suffix}"


def due_of(name: str) -> float:
    """Give the Unix second from which a mail may be sent; a file's name works too.

    The fraction behind it is the clock's when the mail was accepted; it counts for order alone.
    """
    seconds = name.removeprefix("mail_").partition(".")[0]
    # A name that claims to be due after the end of time is due then.
    return min(float(seconds), float(MAX_SECONDS))


def unique_of(name: str) -> str:
    """Give the part of a name that is a mail's own: its id, and that of its Message-ID."""
    return name.removesuffix(".json").rpartition("_")[2]
