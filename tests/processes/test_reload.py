# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.processes.reload."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.configuration import Gathered
from smtpmailer.core.changes import FIXED_ALWAYS, Changes
from smtpmailer.errors import ControlError, EnvFileError, TlsConfigError
from smtpmailer.processes.reload import SettingsReload
from tests.surroundings import gathered, settings


class _Notifier:
    """Writes down what systemd is told."""

    def __init__(self) -> None:
        self.story: list[str] = []

    def reloading(self, seconds: float) -> None:
        self.story.append(f"reloading {seconds:g}")

    def ready(self) -> None:
        self.story.append("ready")


class ReloadTests(SynchronousTestCase):
    """Settings that are read again."""

    def setUp(self) -> None:
        self.values: dict[str, object] = {}
        self.trouble: Exception | None = None
        self.result: Deferred[None] = succeed(None)
        self.applied: list[Changes] = []
        self.notifier = _Notifier()
        clock = Clock()
        clock.advance(7)
        self.reload = SettingsReload(
            settings(),
            read=self.read,
            apply=self.apply,
            fixed=FIXED_ALWAYS,
            notifier=self.notifier,  # type: ignore[arg-type]
            clock=clock,
        )

    def read(self) -> Gathered:
        if self.trouble is not None:
            raise self.trouble
        return gathered(**self.values)

    def apply(self, changes: Changes, _gathered: Gathered) -> Deferred[None]:
        self.applied.append(changes)
        return self.result

    def refused(self) -> str:
        """Read settings that are faulty; give what is said about them."""
        before = self.reload.settings
        with capturedLogs() as events:
            failure = self.failureResultOf(self.reload.reload(), ControlError)
        said = [event["why"] for event in events if "stay" in event["log_format"]]
        self.assertEqual(said, [str(failure.value)])
        self.assertIs(self.reload.settings, before)
        self.assertEqual(self.notifier.story[-2:], ["reloading 7", "ready"])
        return str(failure.value)

    def test_changes_are_applied_and_named(self) -> None:
        self.values = {"MAIL_FROM_NAME": "new", "MAILER_PORT": 4000}
        told = self.successResultOf(self.reload.reload())
        self.assertEqual(told, {"applied": ["MAIL_FROM_NAME"], "waiting": ["MAILER_PORT"]})
        self.assertEqual(self.applied[0].settings.mail_from_name, "new")
        self.assertEqual(self.reload.settings.mailer_port, 3000)
        again = self.successResultOf(self.reload.reload())
        self.assertEqual(again, {"applied": [], "waiting": ["MAILER_PORT"]})

    def test_systemd_is_told_before_and_when_it_is_over(self) -> None:
        self.result = Deferred()
        reloaded = self.reload.reload()
        self.assertEqual(self.notifier.story, ["reloading 7"])
        self.result.callback(None)
        self.successResultOf(reloaded)
        self.assertEqual(self.notifier.story, ["reloading 7", "ready"])

    def test_every_fault_is_named_and_nothing_is_applied(self) -> None:
        self.values = {"MAILER_PORT": 70000, "MAIL_HTML": "perhaps", "SMTP_CA_FILE": "/missing"}
        why = self.refused()
        for key in ("MAILER_PORT", "MAIL_HTML"):
            self.assertIn(key, why)
        self.values = {"SMTP_CA_FILE": "/missing"}
        self.assertIn("SMTP_CA_FILE", self.refused())
        self.assertEqual(self.applied, [])

    def test_a_file_that_can_not_be_read_changes_nothing(self) -> None:
        self.trouble = EnvFileError("no such file")
        self.assertEqual(self.refused(), "no such file")

    def test_what_can_not_be_applied_changes_nothing(self) -> None:
        self.values = {"MAIL_FROM_NAME": "new"}
        self.result = fail(TlsConfigError("no certificate"))
        self.assertEqual(self.refused(), "no certificate")
        self.result = succeed(None)
        told: Any = self.successResultOf(self.reload.reload())
        self.assertEqual(told["applied"], ["MAIL_FROM_NAME"])

    def test_they_are_read_once_at_a_time(self) -> None:
        self.result = Deferred()
        first = self.reload.reload()
        self.failureResultOf(self.reload.reload(), ControlError)
        self.assertEqual(len(self.applied), 1)
        self.result.callback(None)
        self.successResultOf(first)

    def test_after_a_fault_of_our_own_they_can_be_read_again(self) -> None:
        self.result = fail(ZeroDivisionError())
        self.failureResultOf(self.reload.reload(), ZeroDivisionError)
        self.assertEqual(self.notifier.story[-1], "ready")
        self.result = succeed(None)
        self.successResultOf(self.reload.reload())
