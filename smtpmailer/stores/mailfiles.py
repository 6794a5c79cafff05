# SPDX-License-Identifier: MIT
"""Mails as files: which there are in a directory, and what one holds."""

from __future__ import annotations

import os
from collections.abc import Callable

from smtpmailer.core.names import is_file_name
from smtpmailer.core.queued import StoredMail
from smtpmailer.core.queuestate import MailState
from smtpmailer.errors import StoreError
from smtpmailer.stores.atomic import read_regular
from smtpmailer.stores.content import decode

__all__ = ["names_in", "read_mail", "read_whole"]

#: Takes over a path's open descriptor.
Keep = Callable[[str, int], None]


def names_in(directory: str) -> list[str]:
    """Give the names of the mails in a directory, in no order; raises OSError."""
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries if is_file_name(entry.name)]


def read_whole(path: str, state: MailState, written_before: float, keep: Keep) -> StoredMail:
    """Read a mail's file as ``read_mail`` does; ``keep`` takes over its descriptor.

    Raises StoreError for an unreadable one that was written after ``written_before`` (Unix
    seconds): another program may be writing it still.
    """
    mail = read_mail(path, state, keep)
    if mail.fault and os.lstat(path).st_mtime > written_before:
        raise StoreError(f"{mail.fault}; it may be in writing")
    return mail


def read_mail(path: str, state: MailState, keep: Keep | None = None) -> StoredMail:
    """Read a mail's file; raises OSError when it can't be read now, or is gone."""
    name = os.path.basename(path)
    try:
        return StoredMail(name=name, document=decode(read_regular(path, keep)), state=state)
    except (StoreError, ValueError) as error:
        return StoredMail(name=name, document="", state=state, fault=str(error))
