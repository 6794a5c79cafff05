# SPDX-License-Identifier: MIT
"""Tests of reloading: files that change while the service runs."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.errors import OperatorError
from smtpmailer.reloading import Reloadable, Reloader


class ReloaderTests(SynchronousTestCase):
    """A changed file is read once; a faulty one changes nothing."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.path = Path(self.mktemp())
        self.path.write_text("0")
        self.seen: list[str] = []
        item = Reloadable(what="KEY", files=(str(self.path),), apply=self.read)
        self.reloader = Reloader(self.clock, [item], 5)
        self.reloader.startService()
        self.addCleanup(self.reloader.stopService)

    def read(self) -> None:
        text = self.path.read_text("utf-8")
        if text == "bad":
            raise OperatorError("KEY: it is bad")
        if text == "broken":
            raise ZeroDivisionError
        self.seen.append(text)

    def write(self, text: str) -> None:
        """Replace the file, as tools do that renew certificates."""
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.replace(self.path)

    def test_what_does_not_change_is_not_read(self) -> None:
        self.clock.advance(5)
        self.clock.advance(5)
        self.assertEqual(self.seen, [])

    def test_what_changes_is_read_once(self) -> None:
        self.write("1")
        for _ in range(3):
            self.clock.advance(5)
        self.assertEqual(self.seen, ["1"])

    def test_a_fault_is_logged_and_the_next_change_is_seen(self) -> None:
        self.write("bad")
        with capturedLogs() as events:
            self.clock.advance(5)
            self.clock.advance(5)
        (event,) = events
        self.assertEqual((event["what"], event["why"]), ("KEY", "KEY: it is bad"))
        self.write("2")
        self.clock.advance(5)
        self.assertEqual(self.seen, ["2"])

    def test_a_fault_of_our_own_does_not_end_it(self) -> None:
        self.write("broken")
        self.clock.advance(5)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.write("3")
        self.clock.advance(5)
        self.assertEqual(self.seen, ["3"])

    def test_a_file_that_is_away_for_a_moment_is_read_when_it_is_back(self) -> None:
        self.path.rename(self.path.with_suffix(".away"))
        self.clock.advance(5)
        self.path.with_suffix(".away").rename(self.path)
        os.utime(self.path, (1, 1))
        self.clock.advance(5)
        self.assertEqual(len(self.flushLoggedErrors(FileNotFoundError)), 1)
        self.assertEqual(self.seen, ["0"])

    def test_when_asked_everything_is_read_again(self) -> None:
        self.reloader.reload()
        self.clock.advance(5)
        self.assertEqual(self.seen, ["0"])

    def test_after_the_end_nothing_is_looked_at(self) -> None:
        self.reloader.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_with_nothing_to_look_after_no_timer_runs(self) -> None:
        idle = Reloader(self.clock, [])
        before = len(self.clock.getDelayedCalls())
        idle.startService()
        idle.reload()
        self.assertEqual(len(self.clock.getDelayedCalls()), before)
        idle.stopService()
