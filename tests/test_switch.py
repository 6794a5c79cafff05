# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.switch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from smtpmailer.core.documents import Document
from smtpmailer.core.replies import Reply, success
from smtpmailer.core.standing import Standing
from smtpmailer.errors import ClientError
from smtpmailer.interfaces import IDispatcher
from smtpmailer.protocol import JsonFactory, ProtocolLimits
from smtpmailer.switch import Switch
from tests.connections import Client


class _Dispatcher:
    """Answers with its name, later."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.story: list[str] = []
        self.waiting: list[Deferred[Reply]] = []

    def handle(self, _document: Document, _peer: str, _standing: Standing) -> Deferred[Reply]:
        waiting: Deferred[Reply] = Deferred()
        self.waiting.append(waiting)
        return waiting

    def prompt(self, request: Mapping[str, Any], _peer: str, _standing: Standing) -> bytes | None:
        return self.name.encode() if request == {"status": None} else None

    def reject(self, fault: ClientError, _peer: str) -> Reply:
        return success(message=f"{self.name}: {fault}")

    def leave(self, _standing: Standing) -> None:
        self.story.append("leave")

    def may_overlap(self, _document: Document) -> bool:
        return True


class SwitchTests(SynchronousTestCase):
    """A connection that stays while the dispatcher changes."""

    def setUp(self) -> None:
        self.first, self.second = _Dispatcher("first"), _Dispatcher("second")
        first: Any = self.first
        self.switch = Switch(first)
        factory = JsonFactory(self.switch, Clock(), ProtocolLimits())
        self.client = Client(factory)

    def turn(self) -> None:
        second: Any = self.second
        self.switch.current = second

    def test_requests_go_to_who_is_there_and_end_where_they_began(self) -> None:
        self.assertTrue(verifyObject(IDispatcher, self.switch))
        self.client.write(b'{"ping":1}')
        self.turn()
        self.client.write(b'{"ping":2}')
        self.assertEqual([len(each.waiting) for each in (self.first, self.second)], [1, 1])
        self.second.waiting[0].callback(success(message="2"))
        self.first.waiting[0].callback(success(message="1"))
        self.assertEqual(self.client.messages, ["1", "2"])

    def test_everything_else_goes_there_too(self) -> None:
        self.turn()
        self.client.lose()
        self.assertEqual((self.first.story, self.second.story), ([], ["leave"]))
        self.assertEqual(self.switch.prompt({"status": None}, "peer", Standing()), b"second")
        fault = ClientError("no")
        self.assertEqual(self.switch.reject(fault, "peer").message, "second: no")
