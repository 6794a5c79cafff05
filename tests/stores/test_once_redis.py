# SPDX-License-Identifier: MIT
"""Tests of requests' keys in Redis: the contract, on a real server, and how long it lasts."""

from __future__ import annotations

from twisted.internet.task import Clock

from smtpmailer.core.once import Kept
from smtpmailer.errors import RedisAwayError, RedisRefusedError, RedisUnreplicatedError
from smtpmailer.interfaces import IOnceStore
from smtpmailer.stores.once_redis import LEASE, RedisOnceStore
from smtpmailer.stores.redis_connection import Limits
from tests.stores.once_contract import ANSWER, NOTE, OTHER, PLACE, OnceContract
from tests.stores.redis_case import PREFIX, RedisTestCase

_RECORD = f"{PREFIX}once:{PLACE}"
_LEASE = f"{_RECORD}:lease"


class RedisOnceTests(OnceContract, RedisTestCase):
    """The store in Redis; ``other`` is on a link of its own."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.server = self.start_server()
        self.store: IOnceStore = self.make()
        self.other: IOnceStore = self.make()

    def make(self) -> RedisOnceStore:
        link = self.start_link(self.server)
        store = RedisOnceStore(link, PREFIX, keep=1000, clock=self.clock)
        self.addCleanup(lambda: self.successResultOf(store.stop()))
        return store

    def until_left(self, place: str) -> None:
        lease = f"{PREFIX}once:{place}:lease"
        self.until("the lease is gone", lambda: not self.server.call("EXISTS", lease))

    def test_records_expire_by_themselves(self) -> None:
        self.claim(self.store)
        self.assertIn(self.server.call("TTL", _RECORD), range(990, 1001))
        self.server.call("EXPIRE", _RECORD, 10)
        self.successResultOf(self.store.answer(PLACE, NOTE, ANSWER))
        self.assertIn(self.server.call("TTL", _RECORD), range(990, 1001))

    def test_a_lease_is_renewed_as_long_as_the_request_is_under_way(self) -> None:
        self.claim(self.store)
        for _ in range(3):
            self.server.call("EXPIRE", _LEASE, 2)
            self.clock.advance(LEASE / 3)
            self.until("renewed", lambda: self.server.call("TTL", _LEASE) > LEASE - 5)
        self.successResultOf(self.store.answer(PLACE, NOTE, ANSWER))
        self.clock.advance(LEASE / 3)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.server.call("EXISTS", _LEASE), 0)

    def test_a_record_lasts_as_long_as_its_request_is_under_way(self) -> None:
        self.claim(self.store)
        for _ in range(2):
            self.server.call("EXPIRE", _RECORD, 10)
            self.clock.advance(LEASE / 3)
            self.until("renewed", lambda: self.server.call("TTL", _RECORD) > 990)

    def test_a_renewal_that_comes_late_brings_nothing_back(self) -> None:
        self.claim(self.store)
        self.server.call("DEL", _RECORD, _LEASE)
        self.clock.advance(LEASE / 3)
        self.successResultOf(self.store.answer("0b" * 32, NOTE, ANSWER))
        self.assertEqual(self.server.call("EXISTS", _RECORD, _LEASE), 0)

    def test_what_is_answered_is_not_renewed(self) -> None:
        self.claim(self.store)
        self.server.call("EXPIRE", _LEASE, 2)
        self.clock.advance(LEASE / 3)
        # Redis knows the script from here on: the next renewal is carried out without delay.
        self.until("renewed", lambda: self.server.call("TTL", _LEASE) > LEASE - 5)
        self.successResultOf(self.other.answer(PLACE, NOTE, ANSWER))
        self.clock.advance(LEASE / 3)
        self.successResultOf(self.store.answer("0b" * 32, NOTE, ANSWER))
        self.assertEqual(self.server.call("EXISTS", _LEASE), 0)

    def test_who_leaves_a_place_that_is_anothers_by_now_takes_no_lease(self) -> None:
        self.claim(self.store)
        self.server.call("DEL", _RECORD, _LEASE)
        self.claim(self.other, OTHER)
        self.store.leave(PLACE)
        self.successResultOf(self.store.answer("0b" * 32, NOTE, ANSWER))
        self.assertEqual(self.server.call("EXISTS", _LEASE), 1)

    def test_a_lease_that_ran_out_frees_no_place(self) -> None:
        self.claim(self.store)
        self.server.call("DEL", _LEASE)
        self.assertEqual(self.claim(self.other, OTHER), Kept(note=NOTE))

    def test_a_place_that_is_anothers_by_now_is_not_released(self) -> None:
        self.claim(self.store)
        self.server.call("DEL", _RECORD, _LEASE)
        self.claim(self.other, OTHER)
        self.successResultOf(self.store.release(PLACE))
        self.assertEqual(self.claim(self.store), Kept(note=OTHER, alive=True))

    def test_the_same_claim_again_is_ours(self) -> None:
        self.claim(self.store)
        self.assertIsNone(self.claim(self.store))

    def test_without_redis_nothing_is_claimed(self) -> None:
        self.server.kill()
        self.failureResultOf(self.store.claim(PLACE, NOTE), RedisAwayError)

    def test_what_replicas_lack_is_not_claimed(self) -> None:
        link = self.start_link(self.server, limits=Limits(answer=0.2, replicas=1))
        store = RedisOnceStore(link, PREFIX, keep=1000, clock=self.clock)
        self.failureResultOf(store.claim(PLACE, NOTE), RedisUnreplicatedError)
        self.assertEqual(self.server.call("DBSIZE"), 0)

    def test_a_full_redis_refuses(self) -> None:
        self.server.call("CONFIG", "SET", "maxmemory", 1)
        self.failureResultOf(self.store.claim(PLACE, NOTE), RedisRefusedError)
        self.server.call("CONFIG", "SET", "maxmemory", 0)
        self.assertIsNone(self.claim(self.other, OTHER))
