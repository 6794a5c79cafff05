# SPDX-License-Identifier: MIT
"""Reads the passwords' hashes and limits of MAILER_AUTH_HASH and MAILER_KEYS_FILE."""

from __future__ import annotations

import os
import stat
from typing import Any, Final

import orjson

from smtpmailer.core.grants import EVERYTHING
from smtpmailer.core.keys import Key, read_keys
from smtpmailer.core.schemas import Schema
from smtpmailer.core.settings import Settings
from smtpmailer.dispatcher import REQUESTS
from smtpmailer.errors import SettingsError
from smtpmailer.schemafiles import load_schema
from smtpmailer.smallfiles import private_mode

__all__ = ["load_keys", "read_private_json"]

#: No such file is larger; a device or a log named by mistake is.
_LARGEST_BYTES: Final = 2**20
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def load_keys(settings: Settings) -> tuple[Key, ...]:
    """Give all keys, that of MAILER_AUTH_HASH first; none unless MAILER_AUTH is on.

    Raises SettingsError with every fault of MAILER_KEYS_FILE, also when its mode lets others do
    anything with it (see ``private_mode``).
    """
    if not settings.mailer_auth:
        return ()
    single = (Key(hash=settings.mailer_auth_hash, grant=EVERYTHING),)
    own = single if settings.mailer_auth_hash else ()
    path = settings.mailer_keys_file
    if not path:
        return own
    try:
        schema = Schema(load_schema("keys"))
        return own + read_keys(read_private_json(path), schema, REQUESTS)
    except OSError as error:
        faults = [f"cannot be read: {error.strerror}"]
    except ValueError as error:
        faults = [str(error)]
    except SettingsError as error:
        faults = list(error.faults)
    raise SettingsError([f"MAILER_KEYS_FILE = {path}: {fault}" for fault in faults]) from None


def read_private_json(path: str) -> Any:
    """Read the JSON of a file that nobody but its owner may have access to.

    A file that is not ours may be readable by our group (see ``private_mode``).
    Raises OSError, or ValueError that says what is wrong.
    """
    # O_NONBLOCK: a FIFO must not hold up the start.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is no file")
        mode = stat.S_IMODE(status.st_mode)
        right = private_mode(status)
        if mode & _OTHERS & ~right:
            raise ValueError(f"others may use it (mode {mode:04o}); chmod {right:o} it")
        content = file.read(_LARGEST_BYTES + 1)
    if len(content) > _LARGEST_BYTES:
        raise ValueError(f"is larger than {_LARGEST_BYTES} bytes")
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        # The text itself stays out of the fault: it holds secrets.
        where = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"malformed JSON at {where}: {error.msg}") from None
