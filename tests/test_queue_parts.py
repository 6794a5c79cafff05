# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.queue_parts."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.queue_parts import RunnerPart


class _Runner:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.story: list[str] = []

    def startService(self) -> None:
        self.story.append("start")

    def stopService(self) -> Deferred[None]:
        self.story.append("stop")
        return succeed(None)


class RunnerPartTests(SynchronousTestCase):
    """The runner runs between the store's start and the service's stop."""

    def setUp(self) -> None:
        self.runner = _Runner()
        self.started: Deferred[None] = Deferred()
        runner: Any = self.runner
        self.part = RunnerPart(runner, lambda: self.started)
        self.part.startService()

    def test_it_waits_for_the_store(self) -> None:
        self.assertEqual(self.runner.story, [])
        self.started.callback(None)
        self.assertEqual(self.runner.story, ["start"])

    def test_a_stop_that_comes_first_leaves_it_stopped(self) -> None:
        self.successResultOf(self.part.stopService())
        self.started.callback(None)
        self.assertEqual(self.runner.story, ["stop"])
