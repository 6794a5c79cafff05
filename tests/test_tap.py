# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.tap."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import syslog
from pathlib import Path
from typing import Any

from twisted.logger import LogLevel, LogPublisher
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer import tap
from tests.surroundings import settings

ROOT = Path(__file__).resolve().parent.parent


class MakeServiceTests(SynchronousTestCase):
    """What twistd calls."""

    def options(self, text: str) -> tap.Options:
        """Write an env file; give the options that name it."""
        path = Path(self.mktemp())
        path.touch(mode=0o600)
        path.write_text(text, "utf-8")
        options = tap.Options()
        options.parseOptions(["--env", str(path)])
        return options

    def test_all_faults_end_the_process_with_one_text(self) -> None:
        options = self.options("MAILER_PORT = 0x\nSMTP_HOST = 'h'\nMAILER_QUEUE = maybe\n")
        text = str(self.assertRaises(SystemExit, tap.makeService, options).code)
        self.assertTrue(text.startswith("smtpmailer: the configuration is faulty:\n  "))
        self.assertIn("\n  MAILER_PORT", text)
        self.assertIn("\n  MAILER_QUEUE", text)

    def test_an_env_file_that_is_missing_ends_the_process(self) -> None:
        options = tap.Options()
        options.parseOptions(["--env", "/missing/.env"])
        text = str(self.assertRaises(SystemExit, tap.makeService, options).code)
        self.assertIn("/missing/.env", text)

    def test_files_that_the_settings_name_have_to_be_there(self) -> None:
        options = self.options(
            "SMTP_HOST = 'h'\nMAILER_QUEUE = off\nEMAIL_TEMPLATE = off\nSMTP_CA_FILE = no.pem\n"
        )
        text = str(self.assertRaises(SystemExit, tap.makeService, options).code)
        self.assertIn("SMTP_CA_FILE", text)

    def test_it_takes_as_many_descriptors_as_it_may(self) -> None:
        before = soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, hard - 1), hard))
        self.assertRaises(SystemExit, tap.makeService, self.options("MAILER_PORT = 0x\n"))
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE), (hard, hard))

    def test_importing_it_installs_no_reactor(self) -> None:
        code = "import sys, smtpmailer.tap; sys.exit('twisted.internet.reactor' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
        self.assertEqual(done.returncode, 0)


class ObserverTests(SynchronousTestCase):
    """Where the log goes."""

    def observer(self, twistd: dict[str, object] | None = None, **changes: object) -> Any:
        return tap._observer(settings(**changes), twistd or {})

    def event(self, text: str, **more: object) -> dict[str, object]:
        return {"log_time": 0.0, "log_format": text, **more}

    def test_without_a_log_nobody_observes(self) -> None:
        observer = self.observer({"logfile": self.mktemp()}, MAILER_LOG=False)
        self.assertIsInstance(observer, LogPublisher)
        self.assertEqual(observer._observers, [])

    def test_it_writes_to_twistds_log_file_at_the_level_of_the_settings(self) -> None:
        path = Path(self.mktemp())
        observer = self.observer({"logfile": str(path)}, MAILER_LOG_LEVEL="notice")
        observer(self.event("left out"))
        observer(self.event("kept", notice=True))
        lines = path.read_text("utf-8").splitlines()
        self.assertEqual(len(lines), 1)
        self.assertTrue(lines[0].endswith(" -: kept"), lines)

    def test_in_the_foreground_it_writes_to_standard_error(self) -> None:
        path = Path(self.mktemp())
        with path.open("w") as stream:
            self.patch(sys, "stderr", stream)
            ways: tuple[dict[str, object], ...] = ({"nodaemon": True}, {"logfile": "-"}, {})
            for twistd in ways:
                self.observer(twistd)(self.event("kept", notice=True))
        self.assertEqual(path.read_text("utf-8").count("kept"), 3)

    def test_a_daemon_writes_to_twistds_default_log_file(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(folder)
        self.observer({"nodaemon": False})(self.event("kept", notice=True))
        self.assertIn("kept", Path("twistd.log").read_text("utf-8"))

    def test_with_syslog_it_writes_there_as_severe_as_it_is(self) -> None:
        written: list[tuple[int, str]] = []
        self.patch(syslog, "openlog", lambda *_: None)
        self.patch(syslog, "syslog", lambda level, line: written.append((level, line)))
        observer = self.observer(MAILER_LOG_OUTPUT="syslog", MAILER_LOG_LEVEL="debug")
        observer(self.event("kept", notice=True))
        for level in LogLevel.iterconstants():
            observer(self.event("kept", log_level=level))
        severities = [
            *(syslog.LOG_NOTICE, syslog.LOG_DEBUG, syslog.LOG_INFO, syslog.LOG_WARNING),
            *(syslog.LOG_ERR, syslog.LOG_ERR),
        ]
        self.assertEqual([severity for severity, _ in written], severities)
        self.assertTrue(all("kept" in line for _, line in written), written)
