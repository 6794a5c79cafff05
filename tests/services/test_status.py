# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.services.status."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.replies import success
from smtpmailer.core.requests import Arguments
from smtpmailer.services.status import StatusService
from tests.services.parts import Counters


class StatusServiceTests(SynchronousTestCase):
    """The service is alive and has counted."""

    def test_ping_is_answered_whatever_its_argument(self) -> None:
        service = StatusService(Counters())
        values: tuple[Any, ...] = (None, 1, {"a": []})
        for value in values:
            reply = self.successResultOf(service.ping(Arguments(value=value)))
            self.assertEqual(reply, success(None, "pong"))

    def test_status_gives_the_counts_of_now(self) -> None:
        counters = Counters(sent=3, failed=1)
        service = StatusService(counters)
        counters.failed += 1
        reply = self.successResultOf(service.status(Arguments(value=None)))
        self.assertEqual(reply, success({"sent": 3, "failed": 2}))
