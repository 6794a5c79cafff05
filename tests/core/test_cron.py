# SPDX-License-Identifier: MIT
"""Crontab times: syntax, and the next one, daylight saving included."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core import cron
from smtpmailer.errors import CronError

_BERLIN = ZoneInfo("Europe/Berlin")


def _times(text: str, start: str, count: int) -> list[str]:
    """Give the next times after a local one, each found from the one before."""
    found = []
    at: float = datetime.fromisoformat(start).timestamp()
    for _ in range(count):
        at = cron.next_after(text, at, _BERLIN)
        found.append(datetime.fromtimestamp(at, _BERLIN).isoformat())
    return found


class SyntaxTests(SynchronousTestCase):
    """What is a crontab time."""

    def test_five_and_six_fields_with_names_lists_ranges_and_steps_are_taken(self) -> None:
        for text in (
            "* * * * *",
            "*/1 * * * *",
            " 0  1 * * * ",
            "30 0 1 * * *",
            "0,15 8-18/2 * jan-MAR mon#2",
            "0 0 29 2 *",
            "0 0 L * 7",
        ):
            cron.check(text)

    def test_anything_else_is_refused(self) -> None:
        for text in (
            "",
            "* * * *",
            "* * * * * * *",
            "@daily",
            "60 * * * *",
            "* 24 * * *",
            "*/0 * * * *",
            "-1 * * * *",
            "1,,2 * * * *",
            "0 0 * * 1#9",
            "every day at ten pm",
            "R R * * *",
            "H * * * *",
            "999999999999999999999 * * * *",
        ):
            with self.assertRaises(CronError, msg=text):
                cron.check(text)

    def test_a_fault_says_what_is_wrong(self) -> None:
        for text, words in (
            ("* * * *", "has 4 fields, not 5, or 6 with the seconds first"),
            ("R R * * *", "'R' has more than numbers"),
            ("60 * * * *", "minute 0-59"),
            ("0 0 30 2 *", "a day that never comes"),
        ):
            self.assertIn(words, str(self.assertRaises(CronError, cron.check, text)))


class NextTests(SynchronousTestCase):
    """The next time."""

    def test_six_fields_have_the_seconds_first(self) -> None:
        self.assertEqual(cron.next_after("30 1 * * * *", 0, UTC), 90)
        self.assertEqual(cron.next_after("1 0 * * *", 0, UTC), 60)

    def test_a_time_just_ahead_is_not_missed(self) -> None:
        self.assertEqual(cron.next_after("* * * * * *", 9.9999999, UTC), 10)

    @settings(deadline=None, max_examples=50, derandomize=True)
    @given(st.floats(0, 4e9))
    def test_the_next_second_is_after_a_fraction_and_never_more_than_one_away(
        self, now: float
    ) -> None:
        found = cron.next_after("* * * * * *", now, _BERLIN)
        self.assertTrue(now < found <= now + 1, (now, found))

    def test_days_of_month_and_week_add_up(self) -> None:
        self.assertEqual(
            _times("0 0 13 * 5", "2026-11-01T00:00+01:00", 3),
            ["2026-11-06T00:00:00+01:00", "2026-11-13T00:00:00+01:00", "2026-11-20T00:00:00+01:00"],
        )

    def test_the_zone_counts(self) -> None:
        noon = datetime(2026, 7, 1, 12, tzinfo=UTC).timestamp()
        berlin = cron.next_after("0 15 * * *", noon, _BERLIN)
        self.assertEqual(berlin, noon + 3600)

    def test_a_skipped_time_comes_when_the_clock_has_jumped(self) -> None:
        self.assertEqual(
            _times("30 2 * * *", "2026-03-28T03:00+01:00", 2),
            ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"],
        )

    def test_a_fixed_time_in_a_repeated_hour_comes_once(self) -> None:
        self.assertEqual(
            _times("30 2 * * *", "2026-10-24T03:00+02:00", 2),
            ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"],
        )

    def test_a_rhythm_goes_on_through_a_repeated_hour(self) -> None:
        self.assertEqual(
            _times("*/30 * * * *", "2026-10-25T02:00+02:00", 4),
            [
                "2026-10-25T02:30:00+02:00",
                "2026-10-25T02:00:00+01:00",
                "2026-10-25T02:30:00+01:00",
                "2026-10-25T03:00:00+01:00",
            ],
        )
