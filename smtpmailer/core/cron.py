# SPDX-License-Identifier: MIT
"""Crontab text to the next time it names, daylight saving respected."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, tzinfo
from typing import Final

from croniter import CroniterBadDateError, CroniterError, croniter

from smtpmailer.errors import CronError

__all__ = ["check", "next_after"]

_WITH_SECONDS: Final = 6

#: What a field may hold; croniter's random (R) and hashed (H) values would not be repeatable.
_FIELD: Final = re.compile(
    r"(?:[0-9*,/?#-]|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|sun|mon|tue|wed|thu|fri|sat|l)+",
    re.IGNORECASE,
)


def check(text: str) -> None:
    """Do nothing when ``text`` is a crontab time that comes at least once in 50 years.

    Five fields (minute, hour, day of month, month, day of week) or six with the seconds in front;
    numbers, names, ``*``, lists, ranges, steps, ``L`` and ``#``. Raises CronError.
    """
    next_after(text, 0, UTC)


def next_after(text: str, after_epoch: float, tz: tzinfo) -> int:
    """Give the first time, in Unix seconds, that ``text`` names in ``tz`` after ``after_epoch``.

    As in cron(8), a time that daylight saving skips comes when the clock has jumped, and a fixed
    time that it repeats comes once; with a ``*`` in the hour or below it keeps its rhythm.
    Raises CronError.
    """
    fields = _fields(text)
    # cron(8): only jobs with "*" in the hour or minute run again in a repeated hour.
    repeats = any("*" in field for field in fields[:-3])
    # Crontab times are whole seconds; a rounded fraction could skip one.
    start = datetime.fromtimestamp(math.floor(after_epoch), tz)
    try:
        times = croniter(" ".join(fields), start, second_at_beginning=len(fields) == _WITH_SECONDS)
        found: datetime = times.get_next(datetime)
        while found.fold and not repeats:
            found = times.get_next(datetime)
    except CroniterBadDateError:
        raise CronError("names a day that never comes") from None
    except (CroniterError, ValueError):
        raise CronError(
            "is no crontab time: minute 0-59, hour 0-23, day 1-31, month 1-12, "
            "day of week 0-7, or the names of months and days"
        ) from None
    return int(found.timestamp())


def _fields(text: str) -> list[str]:
    """Cut into fields; raise CronError for what no crontab holds."""
    fields = text.split()
    if len(fields) not in {_WITH_SECONDS - 1, _WITH_SECONDS}:
        raise CronError(
            f"is no crontab time: it has {len(fields)} fields, not 5, or 6 with the seconds first"
        )
    for field in fields:
        if _FIELD.fullmatch(field) is None:
            raise CronError(
                f"is no crontab time: {field[:40]!r} has more than numbers, names and * , - / L #"
            )
    return fields
