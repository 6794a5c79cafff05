# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.queue_parts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import TZPATH

import tzdata
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.queue_parts import _RunnerPart, local_zone


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


class _Runner:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.story: list[str] = []

    def startService(self) -> None:
        self.story.append("start")

    def stopService(self) -> Deferred[None]:
        self.story.append("stop")
        return succeed(None)


class _Store:
    """A store that has not started yet."""

    def __init__(self) -> None:
        self.started: Deferred[None] = Deferred()

    def done(self) -> Deferred[None]:
        return self.started


class RunnerPartTests(SynchronousTestCase):
    """The runner runs between the store's start and the service's stop."""

    def setUp(self) -> None:
        self.runner, self.store = _Runner(), _Store()
        self.part = _RunnerPart(self.runner, self.store)  # type: ignore[arg-type]
        self.part.startService()

    def test_it_waits_for_the_store(self) -> None:
        self.assertEqual(self.runner.story, [])
        self.store.started.callback(None)
        self.assertEqual(self.runner.story, ["start"])

    def test_a_stop_that_comes_first_leaves_it_stopped(self) -> None:
        self.successResultOf(self.part.stopService())
        self.store.started.callback(None)
        self.assertEqual(self.runner.story, ["stop"])
