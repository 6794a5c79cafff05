# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.root."""

from __future__ import annotations

import sys
from pathlib import Path

from twisted.application.service import Application, IService
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import ILogObserver
from twisted.python import log as legacy_log
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.settings import Settings
from smtpmailer.log import LineObserver
from smtpmailer.root import Log
from smtpmailer.single_parts import build_single
from tests.surroundings import settings, surroundings


class RootTests(SynchronousTestCase):
    """A port that can't be opened is shown wherever the log goes."""

    def shown(self, **changes: object) -> str:
        """Start a service whose port is refused; give what the terminal shows besides the log."""
        path = Path(self.mktemp())
        made = settings(MAILER_ADDR="host.invalid", **changes)
        reactor = MemoryReactorClock()
        root = build_single(made, reactor, surroundings(made, reactor))
        with path.open("w") as terminal:
            self.patch(sys, "__stderr__", terminal)
            self.assertRaises(SystemExit, root.privilegedStartService)
        return path.read_text("utf-8")

    def test_a_refusal_is_shown_unless_the_log_shows_it(self) -> None:
        self.assertIn("can't listen on", self.shown(MAILER_LOG=False))
        self.assertIn("can't listen on", self.shown(MAILER_LOG_OUTPUT="syslog"))
        self.assertEqual(self.shown(), "")

    def test_the_application_logs_with_it(self) -> None:
        reactor, made = MemoryReactorClock(), settings()
        around = surroundings(made, reactor)
        root = build_single(made, reactor, around)
        application = Application("test")
        root.setServiceParent(application)
        self.assertIs(application.getComponent(legacy_log.ILogObserver), around.log)
        self.assertTrue(ILogObserver.providedBy(around.log))
        self.assertIs(IService(root.parent), IService(application))


class LogTests(SynchronousTestCase):
    """The observer that the settings ask for, whatever they are by now."""

    def setUp(self) -> None:
        self.lines: list[str] = []

    def make(self, made: Settings) -> ILogObserver:
        return LineObserver(lambda _level, line: self.lines.append(line), made.mailer_log_level)

    def event(self, text: str) -> dict[str, object]:
        return {"log_time": 0.0, "log_format": text, "log_namespace": "here"}

    def test_new_settings_count_from_their_renewal_on(self) -> None:
        log = Log(self.make, settings(MAILER_LOG_LEVEL="error"))
        log(self.event("first"))
        log.renew(settings(MAILER_LOG_LEVEL="info"))
        log(self.event("second"))
        self.assertEqual([line.rpartition(" ")[2] for line in self.lines], ["second"])

    def test_one_of_several_processes_says_which(self) -> None:
        log = Log(self.make, settings(MAILER_LOG_LEVEL="info"), "worker-1")
        log(self.event("text"))
        self.assertTrue(self.lines[0].endswith("[info] worker-1 here: text"), self.lines)
