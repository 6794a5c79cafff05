# SPDX-License-Identifier: MIT
"""Tests for the counters in Redis, which is there, away, hangs or refuses."""

from __future__ import annotations

from twisted.logger import capturedLogs
from zope.interface.verify import verifyObject

from smtpmailer.errors import RedisAwayError, StoreError
from smtpmailer.interfaces import ICounters
from smtpmailer.stores.redis_connection import Limits
from smtpmailer.stores.redis_counters import RedisCounters
from smtpmailer.stores.redis_link import RedisLink
from tests.redis_server import RedisServer
from tests.stores.redis_case import PREFIX, RedisTestCase

_SENT = f"{PREFIX}sent:success"
_FAILED = f"{PREFIX}sent:failed"


class RedisCountersTests(RedisTestCase):
    """Every mail is counted once, however long Redis is away."""

    def setUp(self) -> None:
        super().setUp()
        self.server = self.start_server()

    def counters(self, link: RedisLink | None = None, *, reset: bool = True) -> RedisCounters:
        """Start counters, on a link of their own unless there is one."""
        counters = RedisCounters(
            link or self.start_link(self.server), PREFIX, self.reactor, reset=reset
        )
        counters.start()
        return counters

    def stored(self, server: RedisServer | None = None) -> list[bytes | None]:
        """Give what Redis holds."""
        values: list[bytes | None] = (server or self.server).call("MGET", _SENT, _FAILED)
        return values

    def holds(self, sent: bytes, failed: bytes) -> None:
        """Wait until Redis holds this."""
        self.until(f"{sent!r} and {failed!r}", lambda: self.stored() == [sent, failed])

    def test_they_provide_their_interface(self) -> None:
        verifyObject(ICounters, self.counters())

    def test_a_start_sets_both_to_zero_when_it_shall(self) -> None:
        self.server.call("MSET", _SENT, 5, _FAILED, 6)
        self.counters()
        self.holds(b"0", b"0")

    def test_a_start_creates_what_is_missing_otherwise(self) -> None:
        self.server.call("SET", _SENT, 5)
        counters = self.counters(reset=False)
        self.holds(b"5", b"0")
        self.assertEqual(self.wait(counters.read()), (5, 0))

    def test_what_is_counted_is_in_redis_when_it_is_told_so(self) -> None:
        counters = self.counters()
        self.wait(counters.add_sent())
        self.wait(counters.add_sent())
        self.assertIsNone(self.wait(counters.add_failed()))
        self.assertEqual(self.stored(), [b"2", b"1"])
        self.assertEqual(self.wait(counters.read()), (2, 1))

    def test_all_services_count_together(self) -> None:
        mine, other = self.counters(), self.counters(reset=False)
        self.results_of([counters.add_sent() for counters in (mine, other) * 50])
        self.assertEqual(self.wait(mine.read()), (100, 0))
        self.assertEqual(self.wait(other.read()), (100, 0))

    def test_many_at_a_time_share_a_command(self) -> None:
        counters = self.counters()
        self.wait(counters.read())
        self.server.call("CONFIG", "RESETSTAT")
        self.results_of([counters.add_sent() for _ in range(100)])
        stats = self.server.call("INFO", "commandstats").decode()
        (line,) = [line for line in stats.splitlines() if line.startswith("cmdstat_incrby")]
        self.assertLessEqual(int(line.split("calls=")[1].split(",")[0]), 3)
        self.assertEqual(self.stored(), [b"100", b"0"])

    def test_a_service_that_starts_without_redis_counts_from_the_first_mail_on(self) -> None:
        self.server.call("MSET", _SENT, 5, _FAILED, 6)
        self.server.stop()
        counters = self.counters()
        self.assertIsNone(self.successResultOf(counters.add_sent()))
        self.assertIsNone(self.successResultOf(counters.add_failed()))
        self.failureResultOf(counters.read(), RedisAwayError)
        self.server.start()
        self.holds(b"1", b"1")

    def test_what_redis_misses_while_it_is_away_is_added_later(self) -> None:
        link = self.start_link(self.server)
        counters = self.counters(link, reset=False)
        self.wait(counters.add_sent())
        self.server.kill()
        self.until("Redis is away", lambda: not link.state().up)
        self.assertIsNone(super().successResultOf(counters.add_sent()))
        self.server.start()
        self.server.call("MSET", _SENT, 1, _FAILED, 0)  # it keeps nothing across a restart
        self.holds(b"2", b"0")

    def test_the_counters_are_set_to_zero_once_and_not_whenever_redis_returns(self) -> None:
        link = self.start_link(self.server)
        counters = self.counters(link)
        self.holds(b"0", b"0")
        self.server.kill()
        self.server.start()
        self.server.call("MSET", _SENT, 7, _FAILED, 7)
        self.until("the link notices", lambda: not link.state().up)
        self.until("Redis is back", lambda: link.state().up)
        self.wait(counters.add_sent())
        self.assertEqual(self.stored(), [b"8", b"7"])

    def test_a_redis_that_hangs_holds_a_mail_up_for_a_second_and_counts_it_once(self) -> None:
        link = self.start_link(self.server, limits=Limits(answer=30.0))
        counters = self.counters(link)
        self.wait(counters.read())
        self.server.pause()
        began = self.reactor.seconds()
        self.assertIsNone(self.wait(counters.add_sent()))
        self.assertTrue(0.9 < self.reactor.seconds() - began < 3)
        self.server.resume()
        self.holds(b"1", b"0")

    def test_what_may_have_been_counted_is_not_counted_again(self) -> None:
        link = self.start_link(self.server, limits=Limits(answer=0.1))
        counters = self.counters(link)
        self.wait(counters.read())
        self.server.pause()
        self.wait(counters.add_sent())
        self.server.resume()
        self.until("Redis is back", lambda: link.state().up)
        self.wait(counters.add_sent())
        self.assertIn(self.stored()[0], (b"1", b"2"))

    def test_what_redis_refuses_is_said_once_and_done_later(self) -> None:
        counters = self.counters()
        self.wait(counters.read())
        self.server.call("DEL", _SENT)
        self.server.call("LPUSH", _SENT, "x")
        with capturedLogs() as events:
            self.wait(counters.add_sent())
            self.wait(counters.add_sent())
        lines = [event["log_format"] for event in events]
        self.assertEqual(lines, ["mails can't be counted: {why}"])
        self.assertEqual(self.wait(counters.read()), (2, 0))
        self.server.call("SET", _SENT, "x")
        self.failureResultOf(counters.read(), StoreError)
        self.server.call("DEL", _SENT)
        self.wait(counters.add_sent())
        self.assertEqual(self.stored(), [b"3", b"0"])

    def test_a_stop_hands_over_what_is_left(self) -> None:
        counters = self.counters()
        counters.add_sent()
        self.wait(counters.stop())
        self.assertEqual(self.stored(), [b"1", b"0"])
