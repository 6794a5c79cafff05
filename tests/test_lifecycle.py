# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.lifecycle."""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.defer import TimeoutError as TwistedTimeoutError
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.lifecycle import OrderedService, Part, counted


class Child(Service):
    """A service that writes down what it is told and stops when ``stopped`` fires."""

    def __init__(self, name: str, story: list[str], stopped: Deferred[None]) -> None:
        self.setName(name)
        self._story = story
        self.stopped = stopped

    def startService(self) -> None:
        self._story.append(f"start {self.name}")

    def stopService(self) -> Deferred[None]:
        self._story.append(f"stop {self.name}")
        return self.stopped


class OrderedServiceTests(SynchronousTestCase):
    """Children start in order and stop in reverse, each waited for."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.story: list[str] = []
        self.root = OrderedService(self.clock, stop_limit=10)

    def add(self, name: str, stopped: Deferred[None]) -> Child:
        child = Child(name, self.story, stopped)
        child.setServiceParent(self.root)
        return child

    def test_the_last_started_stops_first_and_alone(self) -> None:
        first, last = self.add("first", Deferred()), self.add("last", Deferred())
        self.root.startService()
        stopped = self.root.stopService()
        self.assertEqual(self.story, ["start first", "start last", "stop last"])
        last.stopped.callback(None)
        self.assertEqual(self.story[3:], ["stop first"])
        self.assertNoResult(stopped)
        first.stopped.callback(None)
        self.successResultOf(stopped)

    def test_a_child_that_fails_does_not_keep_the_others_from_stopping(self) -> None:
        self.add("first", succeed(None))
        self.add("last", fail(ValueError("no")))
        self.root.startService()
        self.successResultOf(self.root.stopService())
        self.assertEqual(self.story[2:], ["stop last", "stop first"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_all_children_together_have_the_limit_and_each_a_moment_more(self) -> None:
        children = [self.add(name, Deferred()) for name in ("first", "second", "third")]
        self.root.startService()
        stopped = self.root.stopService()
        self.clock.advance(6)
        children[2].stopped.callback(None)
        self.clock.advance(4.9)
        self.assertEqual(self.story[-1], "stop second")
        self.clock.advance(0.1)
        self.assertEqual(self.story[-1], "stop first")
        self.clock.advance(0.9)
        self.assertNoResult(stopped)
        self.clock.advance(0.1)
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_without_a_limit_they_may_take_any_time(self) -> None:
        child = self.add("only", Deferred())
        self.root.startService()
        self.root.stop_limit = None
        stopped = self.root.stopService()
        self.clock.advance(1e6)
        self.assertNoResult(stopped)
        child.stopped.callback(None)
        self.successResultOf(stopped)

    def test_stopping_twice_waits_for_the_same_end(self) -> None:
        child = self.add("only", Deferred())
        self.root.startService()
        both = [self.root.stopService(), self.root.stopService()]
        self.assertEqual(self.story.count("stop only"), 1)
        child.stopped.callback(None)
        for stopped in both:
            self.successResultOf(stopped)


class OvertimeTests(SynchronousTestCase):
    """When the time is over that all have together."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.root = OrderedService(self.clock, stop_limit=10)
        self.story: list[str] = []

    def add(self, name: str, left: str = "", stopped: Any = None) -> Deferred[None]:
        """Add a part that ends when it is cut short, and give its end."""
        end: Deferred[None] = Deferred()

        def cut() -> None:
            self.story.append(f"cut {name}")
            if not end.called:
                end.callback(None)

        part = Part(name, stop=lambda: stopped or end, left=lambda: left, cut=cut)
        part.setServiceParent(self.root)
        return end

    def stop(self, seconds: float) -> list[str]:
        """Stop for so long; give the lines that are logged, none of which is a traceback."""
        self.root.startService()
        with capturedLogs() as events:
            self.stopped = self.root.stopService()
            self.clock.pump([0.5] * int(2 * seconds))
        self.assertEqual([e for e in events if e["log_level"] is not LogLevel.warn], [])
        return [formatEvent(event) for event in events]

    def test_what_is_under_way_is_one_line_and_is_cut_short(self) -> None:
        for name, left in (("stores", ""), ("runner", "2 mails"), ("requests", "1 request")):
            self.add(name, left)
        line = "the time to stop is over (10 s, MAILER_STOP_TIMEOUT); cut short: 1 request, 2 mails"
        self.assertEqual(self.stop(10), [line])
        self.assertEqual(self.story, ["cut requests", "cut runner", "cut stores"])
        self.successResultOf(self.stopped)

    def test_before_that_nothing_is(self) -> None:
        end = self.add("requests", "1 request")
        self.assertEqual(self.stop(9.5), [])
        end.callback(None)
        self.successResultOf(self.stopped)
        self.assertEqual((self.story, self.clock.getDelayedCalls()), ([], []))

    def test_one_that_does_not_end_even_so_is_left_behind_and_named_once(self) -> None:
        self.add("stores")
        self.add("runner", "1 mail", stopped=Deferred())
        (line,) = self.stop(11)
        self.assertTrue(line.endswith("; cut short: 1 mail"), line)
        self.successResultOf(self.stopped)

    def test_without_anything_to_tell_it_is_who_did_not_end(self) -> None:
        Child("last", [], Deferred()).setServiceParent(self.root)
        (line,) = self.stop(11)
        self.assertTrue(line.endswith("; cut short: last"), line)
        self.successResultOf(self.stopped)

    def test_others_that_do_not_end_either_have_a_line_each(self) -> None:
        for name in ("first", "last"):
            Child(name, [], Deferred()).setServiceParent(self.root)
        self.assertEqual(self.stop(12)[1:], ["first did not stop in time"])
        self.successResultOf(self.stopped)

    def test_one_that_fails_to_be_cut_short_does_not_keep_the_others_from_it(self) -> None:
        self.add("first")
        broken = Part("broken", cut=lambda: self.story[9])  # type: ignore[arg-type]
        broken.setServiceParent(self.root)
        self.root.startService()
        stopped = self.root.stopService()
        self.clock.advance(10)
        self.assertEqual((self.story, len(self.flushLoggedErrors(IndexError))), (["cut first"], 1))
        self.successResultOf(stopped)

    def test_patience_may_be_found_while_it_stops(self) -> None:
        end = self.add("runner", "2 mails")
        self.assertEqual(self.stop(9), [])
        self.root.stop_limit = None
        self.clock.pump([1.0] * 100)
        self.assertEqual(self.story, [])
        end.callback(None)
        self.successResultOf(self.stopped)

    def test_patience_may_be_lost_while_it_stops(self) -> None:
        self.root.stop_limit = None
        self.add("stores")
        self.add("runner", "2 mails")
        self.assertEqual(self.stop(60), [])
        self.root.stop_limit = 10
        self.clock.pump([0.5] * 4)
        self.assertEqual(self.story, ["cut runner", "cut stores"])
        self.successResultOf(self.stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_timeout_within_a_child_is_a_fault_of_it(self) -> None:
        self.add("only", stopped=fail(TwistedTimeoutError()))
        self.root.startService()
        self.successResultOf(self.root.stopService())
        self.assertEqual(len(self.flushLoggedErrors(TwistedTimeoutError)), 1)


class CountedTests(SynchronousTestCase):
    """How many there are, in words."""

    def test_one_is_one_and_none_is_nothing(self) -> None:
        said = [counted(number, "request") for number in (0, 1, 2)]
        self.assertEqual(said, ["", "1 request", "2 requests"])
        self.assertEqual(counted(2, "mail of it", "mails of it"), "2 mails of it")


class PartTests(SynchronousTestCase):
    """A part's own way to start and stop, as a service."""

    def test_it_starts_and_stops_the_part(self) -> None:
        story: list[str] = []
        part = Part("name", start=lambda: story.append("start"), stop=lambda: story.append("stop"))
        self.assertEqual((part.name, story), ("name", []))
        part.startService()
        self.assertEqual((bool(part.running), story), (True, ["start"]))
        part.stopService()
        self.assertEqual((bool(part.running), story), (False, ["start", "stop"]))

    def test_its_end_is_waited_for(self) -> None:
        stopped: Deferred[None] = Deferred()
        part = Part("name", stop=lambda: stopped)
        part.startService()
        self.assertIs(part.stopService(), stopped)
        stopped.callback(None)

    def test_one_without_functions_does_nothing(self) -> None:
        part = Part("name")
        part.startService()
        self.assertIsNone(part.stopService())
