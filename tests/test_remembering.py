# SPDX-License-Identifier: MIT
"""Tests of smtpmailer.remembering: lowered limits outlive the service."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from smtpmailer.delivery.limits import PoolLimits
from smtpmailer.delivery.paces import Paces
from smtpmailer.interfaces import IThreads
from smtpmailer.remembering import PAUSE, Remembering
from smtpmailer.stores.limits_file import LimitsFile
from smtpmailer.threads import InlineThreads
from tests.delivery.hostile import plain_route


@implementer(IThreads)
class HeldThreads:
    """Finish nothing by themselves."""

    def __init__(self) -> None:
        self.held: list[Deferred[Any]] = []

    def run(self, _: Callable[[], Any]) -> Deferred[Any]:
        self.held.append(Deferred())
        return self.held[-1]


class RememberingTests(SynchronousTestCase):
    """Written rarely, and at the end."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.path = Path(self.mktemp()).absolute()
        self.paces, self.service = self.build()
        self.service.startService()

    def build(self) -> tuple[Paces, Remembering]:
        paces = Paces(self.clock, PoolLimits())
        file = LimitsFile(str(self.path), lambda: 1e9 + self.clock.seconds())
        return paces, Remembering(paces, file, InlineThreads(), self.clock)

    def slow(self, number: int = 1) -> None:
        self.paces.of(plain_route(host=f"192.0.2.{number}")).slow_down(10, "421 4.7.0 slow down")

    def test_changes_are_written_together_after_a_pause(self) -> None:
        self.slow(1)
        self.slow(2)
        self.clock.advance(PAUSE - 1)
        self.assertFalse(self.path.exists())
        self.clock.advance(1)
        self.assertIn(b"192.0.2.2:25", self.path.read_bytes())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_is_not_written_yet_is_written_at_the_end(self) -> None:
        self.slow()
        self.successResultOf(self.service.stopService())
        self.assertIn(b"192.0.2.1:25", self.path.read_bytes())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_without_changes_nothing_is_written(self) -> None:
        self.paces.of(plain_route())
        self.successResultOf(self.service.stopService())
        self.assertFalse(self.path.exists())

    def test_the_next_service_goes_on_with_it(self) -> None:
        self.slow()
        self.successResultOf(self.service.stopService())
        self.clock.advance(30)
        self.paces, service = self.build()
        service.startService()
        self.assertEqual(self.paces.of(plain_route()).connections, 6)
        self.successResultOf(service.stopService())

    def test_what_could_not_be_written_is_tried_again_at_the_end(self) -> None:
        self.path.mkdir()
        self.slow()
        self.clock.advance(PAUSE)
        self.path.rmdir()
        self.successResultOf(self.service.stopService())
        self.assertIn(b"192.0.2.1:25", self.path.read_bytes())

    def test_what_is_being_written_at_the_end_is_waited_for_and_tried_again(self) -> None:
        threads = HeldThreads()
        paces = Paces(self.clock, PoolLimits())
        file = LimitsFile(str(self.path), lambda: 1e9)
        service = Remembering(paces, file, threads, self.clock)
        service.startService()
        paces.of(plain_route()).slow_down(10, "421 4.7.0 slow down")
        self.clock.advance(PAUSE)
        stopped = service.stopService()
        self.assertNoResult(stopped)
        threads.held.pop().errback(OSError("no space"))
        self.assertNoResult(stopped)
        threads.held.pop().callback(None)
        self.successResultOf(stopped)
        self.assertEqual(threads.held, [])

    def test_a_file_that_can_not_be_written_is_one_line_and_no_failure(self) -> None:
        self.path.mkdir()
        with capturedLogs() as events:
            for number in range(3):
                self.slow(number)
                self.clock.advance(PAUSE)
            self.successResultOf(self.service.stopService())
        told = [event["path"] for event in events if "path" in event]
        self.assertEqual(told, [str(self.path)])
