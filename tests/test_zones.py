# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.zones."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import TZPATH

import tzdata
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.zones import local_zone


def hours(zone_name: str, month: int) -> float | None:
    """Give a zone's offset at noon of a day of 2026."""
    offset = datetime(2026, month, 15, 12, tzinfo=local_zone(zone_name)).utcoffset()
    return None if offset is None else offset.total_seconds() / 3600


class LocalZoneTests(SynchronousTestCase):
    """TZ is a zone's name or a file's path; what is neither leaves the machine's own zone."""

    def test_a_name_counts_with_its_daylight_saving(self) -> None:
        for name in ("Europe/Berlin", ":Europe/Berlin"):
            self.assertEqual((hours(name, 1), hours(name, 7)), (1, 2))

    def test_a_path_counts(self) -> None:
        places = (*TZPATH, str(Path(str(tzdata.__file__)).parent / "zoneinfo"))
        path = next(p for d in places if (p := Path(d, "Europe/Berlin")).exists())
        for name in (str(path), f":{path}"):
            self.assertEqual((hours(name, 1), hours(name, 7)), (1, 2))

    def test_anything_else_is_the_machines_zone_and_no_error(self) -> None:
        own = (hours("", 1), hours("", 7))
        for name in (
            "CET-1CEST,M3.5.0,M10.5.0/3",
            "Nowhere/AtAll",
            "/no/such/file",
            "../x",
            "UTC0",
        ):
            self.assertEqual((hours(name, 1), hours(name, 7)), own, name)

    def test_utc_is_utc(self) -> None:
        self.assertEqual(hours("UTC", 7), 0)
        self.assertEqual(datetime.now(tz=local_zone("UTC")).utcoffset(), UTC.utcoffset(None))
