# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.core.changes."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.changes import FIXED_ALONE, FIXED_ALWAYS, LIVE, compare
from smtpmailer.core.settings import OPTIONS
from tests.surroundings import settings


class ChangeTests(SynchronousTestCase):
    """Which keys are different, and which of them count now."""

    def test_the_same_settings_have_no_changes(self) -> None:
        changes = compare(settings(), settings(), FIXED_ALONE)
        self.assertEqual((changes.applied, changes.waiting), ((), ()))

    def test_what_has_to_wait_keeps_its_value(self) -> None:
        old = settings(MAILER_PORT=3000, MAIL_FROM_NAME="old", MAILER_WORKERS=1)
        new = settings(MAILER_PORT=4000, MAIL_FROM_NAME="new", MAILER_WORKERS=2)
        alone = compare(old, new, FIXED_ALONE)
        self.assertEqual(alone.applied, ("MAIL_FROM_NAME",))
        self.assertEqual(alone.waiting, ("MAILER_PORT", "MAILER_WORKERS"))
        made = alone.settings
        self.assertEqual(
            (made.mailer_port, made.mailer_workers, made.mail_from_name), (3000, 1, "new")
        )
        always = compare(old, new, FIXED_ALWAYS)
        self.assertEqual(always.waiting, ("MAILER_PORT",))
        self.assertEqual(always.settings.mailer_workers, 2)

    def test_what_waits_waits_also_the_next_time(self) -> None:
        changes = compare(settings(), settings(MAILER_PORT=4000), FIXED_ALWAYS)
        again = compare(changes.settings, settings(MAILER_PORT=4000), FIXED_ALWAYS)
        self.assertEqual(again.waiting, ("MAILER_PORT",))

    def test_the_manual_names_all_that_have_to_wait(self) -> None:
        manual = (
            Path(__file__).resolve().parents[2].joinpath("docs/how-to/run.md").read_text("utf-8")
        )
        named = set(re.findall(r"`([A-Z_]+\*?)`", manual))
        for key in FIXED_ALONE:
            ways = {key} | {key[:end] + "*" for end in range(len(key))}
            self.assertTrue(named & ways, key)

    def test_only_keys_that_exist_are_named(self) -> None:
        self.assertLessEqual(LIVE, OPTIONS.keys())
        self.assertLess(FIXED_ALWAYS, FIXED_ALONE)
