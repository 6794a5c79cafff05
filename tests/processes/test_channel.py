# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.processes.channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.errors import ControlError
from smtpmailer.processes.channel import Channel, Ears


class ChannelTests(SynchronousTestCase):
    """Two ends, joined by the test."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.story: list[Any] = []
        self.result: Any = None
        self.ends = [
            Channel(self.clock, Ears(asked=self.asked, told=self.told, lost=self.lost))
            for _ in range(2)
        ]
        self.wires = [StringTransport(), StringTransport()]
        for end, wire in zip(self.ends, self.wires, strict=True):
            end.makeConnection(wire)

    def asked(self, what: str, values: Mapping[str, Any]) -> Any:
        self.story.append(("asked", what, dict(values)))
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def told(self, what: str, values: Mapping[str, Any]) -> None:
        self.story.append(("told", what, dict(values)))
        if isinstance(self.result, Exception):
            raise self.result

    def lost(self) -> None:
        self.story.append("lost")

    def carry(self) -> None:
        """Carry what was said to the other end, byte by byte, there and back."""
        for here, there in ((0, 1), (1, 0)):
            data = self.wires[here].value()
            self.wires[here].clear()
            for index in range(len(data)):
                self.ends[there].dataReceived(data[index : index + 1])

    def test_a_question_is_answered(self) -> None:
        self.result = {"n": 1}
        answer = self.ends[0].ask("status", {"x": [None]})
        self.assertNoResult(answer)
        self.carry()
        self.assertEqual(self.story, [("asked", "status", {"x": [None]})])
        self.assertEqual(self.successResultOf(answer), {"n": 1})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_answers_may_come_later_and_in_another_order(self) -> None:
        first: Deferred[str] = Deferred()
        self.result = first
        slow = self.ends[0].ask("slow")
        self.carry()
        self.result = "quick"
        quick = self.ends[0].ask("quick")
        self.carry()
        self.assertEqual(self.successResultOf(quick), "quick")
        self.assertNoResult(slow)
        first.callback("slow")
        self.carry()
        self.assertEqual(self.successResultOf(slow), "slow")

    def test_a_refusal_comes_back_with_its_reason(self) -> None:
        self.result = ControlError("not now")
        answer = self.ends[0].ask("stop")
        self.carry()
        self.assertEqual(str(self.failureResultOf(answer, ControlError).value), "not now")

    def test_a_fault_is_logged_where_it_happened_and_refused(self) -> None:
        self.result = ZeroDivisionError("no")
        answer = self.ends[0].ask("status")
        self.carry()
        self.failureResultOf(answer, ControlError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_what_is_no_json_is_refused_and_logged(self) -> None:
        self.result = object()
        answer = self.ends[0].ask("status", patience=3)
        self.carry()
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        self.clock.advance(3)
        self.failureResultOf(answer, ControlError)

    def test_nobody_waits_for_longer_than_its_patience(self) -> None:
        self.result = Deferred()
        answer = self.ends[0].ask("status", patience=2.5)
        self.carry()
        self.clock.advance(2.5)
        self.assertIn("2.5 seconds", str(self.failureResultOf(answer, ControlError).value))
        self.result.callback("too late")
        self.carry()

    def test_news_want_no_answer(self) -> None:
        self.ends[0].tell("ready", {"a": 1})
        self.carry()
        self.assertEqual(self.story, [("told", "ready", {"a": 1})])
        self.assertEqual(self.wires[1].value(), b"")

    def test_a_fault_in_who_hears_them_leaves_the_channel_open(self) -> None:
        self.result = ZeroDivisionError("no")
        self.ends[0].tell("ready")
        self.ends[0].tell("steady")
        self.carry()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        self.assertEqual(len(self.story), 2)
        self.assertFalse(self.wires[1].disconnecting)

    def test_with_the_other_side_all_questions_are_gone(self) -> None:
        answer = self.ends[0].ask("status")
        self.ends[0].connectionLost(Failure(ConnectionDone()))
        self.failureResultOf(answer, ControlError)
        self.failureResultOf(self.ends[0].ask("status"), ControlError)
        self.ends[0].tell("ready")
        self.assertEqual(self.story, ["lost"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_is_no_message_ends_the_channel(self) -> None:
        for data in (b"nonsense\n", b"x" * (16 * 2**20 + 1)):
            self.setUp()
            self.ends[0].dataReceived(data)
            self.assertTrue(self.wires[0].disconnecting or self.wires[0].disconnected)
            self.assertEqual(self.story, [])

    def test_an_answer_to_who_is_gone_is_dropped(self) -> None:
        self.result = Deferred()
        self.ends[0].ask("status").addErrback(lambda _: None)
        self.carry()
        self.ends[1].connectionLost(Failure(ConnectionDone()))
        self.result.callback(1)
        self.assertEqual(self.wires[1].value(), b"")
