# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.processes.inheritance."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.errors import SettingsError
from smtpmailer.processes.inheritance import Part, keep_settings, read_settings
from tests.surroundings import gathered, settings


class InheritanceTests(SynchronousTestCase):
    """What a child finds."""

    def test_settings_are_the_same_for_every_child(self) -> None:
        values = {"SMTP_PASSWORD": "ä-secret", "SMTP_USER": "u", "MAIL_HTML": False}
        descriptor = keep_settings(gathered(**values))
        self.addCleanup(os.close, descriptor)
        self.assertFalse(os.get_inheritable(descriptor))
        for _ in range(2):
            self.assertEqual(read_settings(descriptor).settings(), settings(**values))

    def test_who_is_no_child_is_told_so(self) -> None:
        descriptor = os.open("/dev/null", os.O_RDONLY)
        self.addCleanup(os.close, descriptor)
        for wrong in (descriptor, 1000):
            self.assertRaises(SettingsError, read_settings, wrong)

    def test_a_part_is_written_and_read(self) -> None:
        for part in (Part("worker-12", 3), Part("queue", 0, first=True)):
            self.assertEqual(Part.parse(str(part)), part)
        for wrong in ("", "worker-1", ":3", "worker-1:x", "worker-1:3:last", "Worker:1"):
            self.assertRaises(SettingsError, Part.parse, wrong)
