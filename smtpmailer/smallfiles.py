# SPDX-License-Identifier: MIT
"""Reads small text files that the operator names, and judges who else may read such files."""

from __future__ import annotations

import os
import stat
from typing import Final

__all__ = ["private_mode", "read_small_text"]

#: No password, secret or token is longer.
_LARGEST_BYTES: Final = 64 * 1024


def private_mode(file: os.stat_result) -> int:
    """Give the widest mode that keeps a file of secrets among its owner and us: 0600, or 0640.

    0640 is for one of another owner that we read as members of its group, as a package installs
    it. Root, who reads everything, can't tell whose group it is, and takes any but its own for
    that of the service: with 0600 the service could not read the file.
    """
    if os.geteuid() == 0:
        through_group = file.st_gid != 0
    else:
        through_group = file.st_uid != os.geteuid() and file.st_gid == os.getegid()
    return 0o640 if through_group else 0o600


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
