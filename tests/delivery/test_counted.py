# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.delivery.counted."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from smtpmailer.core.board import Field
from smtpmailer.delivery.counted import CountedSender
from smtpmailer.interfaces import ISender
from smtpmailer.processes.sharing import alone


class CountedTests(SynchronousTestCase):
    """So many deliveries are under way."""

    def setUp(self) -> None:
        self.running: list[Deferred[Any]] = []
        self.seat = alone().board.seat(0)
        inner: Any = self
        self.sender = CountedSender(inner, self.seat)

    def send(self, mail: object, route: object) -> Deferred[Any]:
        self.running.append(Deferred())
        return self.running[-1].addCallback(lambda result: (mail, route, result))

    def test_it_sends_as_the_other_does(self) -> None:
        self.assertTrue(verifyObject(ISender, self.sender))
        arguments: Any = ("mail", "route")
        sent = self.sender.send(*arguments)
        self.running[0].callback("result")
        self.assertEqual(self.successResultOf(sent), ("mail", "route", "result"))

    def test_what_has_begun_counts_until_it_has_ended_however_it_does(self) -> None:
        arguments: Any = ("mail", "route")
        for _ in range(2):
            self.sender.send(*arguments).addErrback(lambda _: None)
        self.assertEqual(self.seat[Field.DELIVERIES], 2)
        self.running[0].callback(None)
        self.assertEqual(self.seat[Field.DELIVERIES], 1)
        self.running[1].errback(ValueError())
        self.assertEqual(self.seat[Field.DELIVERIES], 0)
