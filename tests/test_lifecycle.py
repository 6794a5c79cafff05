# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.lifecycle."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.lifecycle import OrderedService, Part


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

    def test_a_child_that_never_stops_is_left_behind(self) -> None:
        self.add("first", succeed(None))
        self.add("last", Deferred())
        self.root.startService()
        stopped = self.root.stopService()
        self.clock.advance(10)
        self.successResultOf(stopped)
        self.assertEqual(self.story[-1], "stop first")
        self.assertEqual(len(self.flushLoggedErrors()), 1)

    def test_all_children_together_have_the_limit_and_each_a_moment(self) -> None:
        children = [self.add(name, Deferred()) for name in ("first", "second", "third")]
        self.root.startService()
        stopped = self.root.stopService()
        self.clock.advance(6)
        children[2].stopped.callback(None)
        self.clock.advance(4)
        self.assertEqual(self.story[-1], "stop first")
        self.clock.advance(0.9)
        self.assertNoResult(stopped)
        self.clock.advance(0.1)
        self.successResultOf(stopped)
        self.assertEqual(len(self.flushLoggedErrors()), 2)

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
