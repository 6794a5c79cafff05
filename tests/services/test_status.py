# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.services.status."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from smtpmailer.core.redisvalues import RedisScript, RedisState, Word
from smtpmailer.core.replies import error, success
from smtpmailer.core.requests import Arguments
from smtpmailer.errors import RedisAwayError
from smtpmailer.interfaces import ICounters, IRedis
from smtpmailer.services.status import StatusService
from tests.services.parts import Counters


@implementer(IRedis)
@attrs.define
class _Redis:
    """Has a state, and nothing else."""

    now: RedisState

    def state(self) -> RedisState:
        return self.now

    def call(self, *words: Word) -> Deferred[Any]:
        return fail(AssertionError(words))

    def run(
        self,
        script: RedisScript,
        keys: Sequence[Word],
        words: Sequence[Word] = (),
        *,
        replicated: bool = False,
    ) -> Deferred[Any]:
        return fail(AssertionError((script, keys, words, replicated)))

    def tried(self) -> Deferred[None]:
        return succeed(None)

    def watch(self, changed: Callable[[], None]) -> None:
        raise AssertionError(changed)


@implementer(ICounters)
class _Away:
    """Counters that can't be reached."""

    def add_sent(self) -> Deferred[None]:
        return succeed(None)

    add_failed = add_sent

    def read(self) -> Deferred[tuple[int, int]]:
        return fail(RedisAwayError("Redis is away: refused", sent=False))


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

    def test_status_says_on_demand_how_redis_is(self) -> None:
        redis = _Redis(RedisState(up=True, since=5.12345, append_only=True))
        service = StatusService(Counters(), redis=redis)
        up = {"up": True, "since": 5.123, "reason": None, "appendOnly": True}
        self.assertEqual(self.detail(service), {"queue": None, "redis": up})
        redis.now = RedisState(up=False, since=6.0, reason="refused")
        away = {"up": False, "since": 6.0, "reason": "refused", "appendOnly": None}
        self.assertEqual(self.detail(service), {"queue": None, "redis": away})
        reply = self.successResultOf(service.status(Arguments(value=None)))
        self.assertEqual(reply, success({"sent": 0, "failed": 0}))

    def test_a_service_without_redis_says_nothing_of_it(self) -> None:
        self.assertEqual(self.detail(StatusService(Counters())), {"queue": None})

    def test_counters_that_can_not_be_read_are_told_so(self) -> None:
        redis = _Redis(RedisState(up=False, since=6.0, reason="refused"))
        service = StatusService(_Away(), redis=redis)
        reply = self.successResultOf(service.status(Arguments(value=None)))
        self.assertEqual(reply, error(None, "unable to get status"))
        self.assertEqual(self.detail(service)["redis"]["reason"], "refused")

    def test_a_client_learns_how_long_keys_are_remembered(self) -> None:
        service = StatusService(Counters(), once_keep=86400)
        for wanted, detail in ((True, {"once": 86400}), (False, None)):
            arguments = Arguments(value=None, wants_detail=wanted)
            reply = self.successResultOf(service.ping(arguments))
            self.assertEqual(reply, success(None, "pong", detail))

    def detail(self, service: StatusService) -> Any:
        """Ask for what is known besides."""
        arguments = Arguments(value=None, wants_detail=True)
        return self.successResultOf(service.status(arguments)).detail
