# SPDX-License-Identifier: MIT
"""Reads small text files that the operator names: passwords, secrets, tokens."""

from __future__ import annotations

import os
import stat
from typing import Final

__all__ = ["read_small_text"]

#: No password, secret or token is longer.
_LARGEST_BYTES: Final = 64 * 1024


def read_small_text(path: str) -> str:
    """Give a file's text, line ends at its end cut.

    Raises ValueError, whose text goes on after the path and holds nothing of the file.
    """
    try:
        # O_NONBLOCK: a FIFO must not hold anybody up.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError("is no file")
            content = file.read(_LARGEST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if len(content) > _LARGEST_BYTES:
        raise ValueError(f"is larger than {_LARGEST_BYTES} bytes")
    try:
        return content.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 at byte {error.start}") from None
