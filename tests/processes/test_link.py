# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.processes.link."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.control import Answer, Ask, Message, Tell, decode, encode
from smtpmailer.processes import link as module
from smtpmailer.processes.link import Duties, Link


class LinkTests(SynchronousTestCase):
    """The supervisor's side is the test's."""

    def setUp(self) -> None:
        self.story: list[Any] = []
        self.wire = StringTransport()
        self.patch(module, "adopt_channel", self.adopt)
        duties = Duties(
            retire=lambda: self.story.append("retire"),
            stop=lambda limit: self.story.append(("stop", limit)),
            reload=lambda: self.story.append("reload"),
            answers={"connections": lambda: [1], "queue": lambda: succeed({"waiting": 2})},
        )
        self.link = Link(Clock(), 3, duties, stop_limit=30)
        self.link.startService()

    def adopt(self, _reactor: object, descriptor: int, channel: Any) -> None:
        self.assertEqual(descriptor, 3)
        self.channel = channel
        channel.makeConnection(self.wire)

    def say(self, message: Message) -> list[Message]:
        """Say something; give the answers."""
        self.wire.clear()
        self.channel.dataReceived(encode(message) + b"\n")
        return [decode(line) for line in self.wire.value().splitlines()]

    def test_it_tells_when_it_is_ready(self) -> None:
        self.assertEqual(self.wire.value(), b"")
        self.link.ready()
        self.assertEqual(decode(self.wire.value().strip()), Tell("ready"))

    def test_orders_are_carried_out(self) -> None:
        for what, values in (
            ("retire", {}),
            ("stop", {"limit": 5}),
            ("stop", {"limit": None}),
            ("reload", {}),
            ("sing", {}),
        ):
            self.say(Tell(what, values))
        self.assertEqual(self.story, ["retire", ("stop", 5.0), ("stop", None), "reload"])

    def test_questions_are_answered(self) -> None:
        self.assertEqual(self.say(Ask(1, "connections")), [Answer(1, [1])])
        self.assertEqual(self.say(Ask(2, "queue")), [Answer(2, {"waiting": 2})])
        (refusal,) = self.say(Ask(3, "weather"))
        assert isinstance(refusal, Answer)
        self.assertIn("weather", refusal.fault)

    def test_without_a_supervisor_it_stops(self) -> None:
        self.channel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.story, [("stop", 30)])

    def test_one_that_stops_already_is_not_stopped_again(self) -> None:
        self.link.stopService()
        self.channel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.story, [])
