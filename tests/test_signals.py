# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.signals."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any

from twisted.internet.error import ReactorNotRunning
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.signals import Ending, listen_to_signals


class SignalTests(SynchronousTestCase):
    """SIGTERM is an orderly end, SIGHUP a reload; both in the reactor's own time."""

    def setUp(self) -> None:
        for number in (signal.SIGTERM, signal.SIGHUP):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        self.story: list[str] = []
        self.calls: list[Any] = []
        reactor = SimpleNamespace(
            stop=lambda: self.story.append("stop"), callFromThread=self.calls.append
        )
        listen_to_signals(reactor, Ending(reactor), lambda: self.story.append("reload"))

    def raise_and_turn(self, number: signal.Signals) -> None:
        """Get a signal, and let the reactor turn."""
        signal.raise_signal(number)
        calls, self.calls[:] = list(self.calls), []
        self.assertEqual(len(calls), 1)
        for call in calls:
            call()

    def test_nothing_is_done_while_the_signal_is_handled(self) -> None:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)
        self.assertEqual(self.story, [])

    def test_the_reactor_stops_once_however_often_the_signal_comes(self) -> None:
        for _ in range(2):
            self.raise_and_turn(signal.SIGTERM)
        self.assertEqual(self.story, ["stop"])

    def test_a_reactor_that_stops_already_is_no_fault(self) -> None:
        def stop() -> None:
            raise ReactorNotRunning

        Ending(SimpleNamespace(stop=stop)).begin()

    def test_each_hangup_reloads(self) -> None:
        for _ in range(2):
            self.raise_and_turn(signal.SIGHUP)
        self.assertEqual(self.story, ["reload", "reload"])
