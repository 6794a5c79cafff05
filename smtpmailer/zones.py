# SPDX-License-Identifier: MIT
"""The machine's time zone, in which crontab times are meant."""

from __future__ import annotations

import contextlib
from datetime import UTC, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from twisted.logger import Logger

__all__ = ["local_zone"]

_log = Logger()


def local_zone(name: str) -> tzinfo:
    """Give the machine's time zone, daylight saving included.

    ``name`` is the TZ variable: a zone's name or a file's path, either behind a colon or not.
    Without one that is known, /etc/localtime counts; without that, UTC. (A rule in POSIX form,
    such as CET-1CEST, is no name.)
    """
    name = name.removeprefix(":")
    if name and not name.startswith("/"):
        with contextlib.suppress(ZoneInfoNotFoundError, ValueError):
            return ZoneInfo(name)
        _log.warn("TZ = {name} is no zone's name: /etc/localtime counts", name=name)
    for path in (name, "/etc/localtime"):
        with contextlib.suppress(OSError, ValueError), Path(path or "/").open("rb") as file:
            return ZoneInfo.from_file(file)
    return UTC
