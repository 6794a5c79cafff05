# SPDX-License-Identifier: MIT
"""Tests for a Redis with replicas: waiting for them, and following the sentinels to the master."""

from __future__ import annotations

from typing import Any

from smtpmailer.core.redisvalues import RedisScript
from smtpmailer.errors import RedisRefusedError, RedisUnreplicatedError
from smtpmailer.stores.redis_connection import Limits, Login
from smtpmailer.stores.redis_link import RedisLink
from smtpmailer.stores.redis_servers import Address, Sentinels
from tests.redis_server import RedisServer, free_port, start_replica, start_sentinel
from tests.stores.redis_case import RedisTestCase

_SET = RedisScript("return redis.call('SET', KEYS[1], ARGV[1])")
_MASTER = "mymaster"


class _Case(RedisTestCase):
    """A server with a replica."""

    def setUp(self) -> None:
        super().setUp()
        self.master = self.start_server()
        self.replica = start_replica(self.master)
        self.addCleanup(self.replica.clean_up)


class WaitTests(_Case):
    """A change may have to be with replicas before it counts."""

    def link_for(self, replicas: int, answer: float = 5.0) -> RedisLink:
        """Start a link to the master that waits for so many replicas."""
        return self.start_link(self.master, limits=Limits(answer=answer, replicas=replicas))

    def test_a_replicated_change_is_with_the_replica_when_it_is_told(self) -> None:
        link = self.link_for(1)
        for number in range(20):
            reply = self.wait(link.run(_SET, ["a"], [number], replicated=True))
            self.assertEqual((reply, self.replica.call("GET", "a")), (b"OK", b"%d" % number))

    def test_many_changes_share_the_wait(self) -> None:
        link = self.link_for(1)
        self.wait(link.run(_SET, ["a"], ["x"], replicated=True))
        self.master.call("CONFIG", "RESETSTAT")
        asked = [link.run(_SET, [f"k{n}"], [n], replicated=True) for n in range(200)]
        self.assertEqual(self.results_of(asked), [b"OK"] * 200)
        self.assertEqual(self.replica.call("DBSIZE"), 201)
        stats = self.master.call("INFO", "commandstats").decode()
        (line,) = [line for line in stats.splitlines() if line.startswith("cmdstat_wait:")]
        self.assertLess(int(line.split("calls=")[1].split(",")[0]), 10)

    def test_too_few_replicas_are_told_and_the_change_is_made(self) -> None:
        link = self.link_for(2, answer=1.0)
        error = self.failureResultOf(
            link.run(_SET, ["a"], ["x"], replicated=True), RedisUnreplicatedError
        ).value
        self.assertEqual(str(error), "Redis: 1 of 2 replicas have the change (REDIS_WAIT_REPLICAS)")
        self.assertEqual(self.master.call("GET", "a"), b"x")
        self.assertTrue(link.state().up)

    def test_a_replica_that_hangs_holds_up_nothing_for_longer_than_an_answer_may_take(self) -> None:
        link = self.link_for(1, answer=1.0)
        self.replica.pause()
        began = self.reactor.seconds()
        asked = [link.run(_SET, ["a"], [n], replicated=True) for n in range(10)]
        reads = [link.call("GET", "b") for _ in range(10)]
        for each in asked:
            self.failureResultOf(each, RedisUnreplicatedError)
        self.assertEqual(self.results_of(reads), [None] * 10)
        self.assertLess(self.reactor.seconds() - began, 1.0)
        self.replica.resume()
        self.assertEqual(self.wait(link.run(_SET, ["a"], ["y"], replicated=True)), b"OK")

    def test_what_need_not_be_replicated_does_not_wait(self) -> None:
        self.master.call("CONFIG", "RESETSTAT")  # the test's own WAIT at the start
        for link, replicated in ((self.link_for(2, 2.0), False), (self.link_for(0, 2.0), True)):
            self.replica.pause()
            began = self.reactor.seconds()
            self.wait(link.run(_SET, ["a"], ["x"], replicated=replicated))
            self.assertLess(self.reactor.seconds() - began, 0.4)
            self.replica.resume()
            self.assertNotIn(b"cmdstat_wait", self.master.call("INFO", "commandstats"))

    def test_a_change_that_redis_refuses_is_told_so(self) -> None:
        link = self.link_for(1)
        wrong = RedisScript("return redis.call('INCR', KEYS[1])")
        self.wait(link.run(_SET, ["a"], ["x"], replicated=True))
        self.failureResultOf(link.run(wrong, ["a"], replicated=True), RedisRefusedError)

    def test_a_script_that_redis_does_not_know_is_replicated_too(self) -> None:
        link = self.link_for(1)
        self.master.call("SCRIPT", "FLUSH")
        self.wait(link.run(_SET, ["a"], ["x"], replicated=True))
        self.assertEqual(self.replica.call("GET", "a"), b"x")


class SentinelTests(_Case):
    """The sentinels know which server is the master."""

    def setUp(self) -> None:
        super().setUp()
        self.sentinel = self.start(self.master)

    def start(self, master: RedisServer, **settings: object) -> RedisServer:
        """Start a sentinel."""
        sentinel = start_sentinel(_MASTER, master, settings)
        self.addCleanup(sentinel.clean_up)
        return sentinel

    def place(self, *addresses: Address, name: str = _MASTER, login: Login = Login()) -> Sentinels:  # noqa: B008 - a frozen value
        """Give the place that these sentinels know, the tests' own unless there are some."""
        own = (("127.0.0.1", self.sentinel.port),)
        return Sentinels(addresses or own, name, login, self.network())

    def where(self, link: RedisLink) -> int:
        """Give the port of the server that the link uses."""
        port: Any = self.wait(link.call("CONFIG", "GET", "port"))[1]
        return int(port)

    def test_the_sentinels_say_where_the_master_is(self) -> None:
        self.assertEqual(self.where(self.start_link(self.place())), self.master.port)

    def test_one_sentinel_that_answers_is_enough_and_is_asked_first_the_next_time(self) -> None:
        other = self.start_server()  # it knows nothing of sentinels
        ports = (free_port(), other.port, self.sentinel.port)
        place = self.place(*(("127.0.0.1", port) for port in ports))
        for _ in range(3):
            self.assertEqual(self.wait(place.locate()), ("127.0.0.1", self.master.port))
        stats = other.call("INFO", "commandstats").decode()
        self.assertIn("cmdstat_ping:calls=2,", stats)  # one is from its start

    def test_sentinels_that_do_not_help_are_named_with_the_reason(self) -> None:
        gone = free_port()
        place = self.place(("127.0.0.1", gone), ("127.0.0.1", self.sentinel.port), name="other")
        reason = self.start_link(place).state().reason
        self.assertIn("no sentinel knows the master: ", reason)
        self.assertIn(f"127.0.0.1:{gone}: Connection was refused", reason)
        self.assertIn(
            f"127.0.0.1:{self.sentinel.port}: it knows no master other (REDIS_SENTINEL_MASTER)",
            reason,
        )

    def test_sentinels_may_want_a_password_of_their_own(self) -> None:
        address = ("127.0.0.1", self.start(self.master, requirepass="right").port)
        self.assertIn("NOAUTH", self.start_link(self.place(address)).state().reason)
        link = self.start_link(self.place(address, login=Login(password="right")))
        self.assertEqual(self.where(link), self.master.port)

    def test_a_fail_over_is_followed_and_a_master_that_returns_left_alone(self) -> None:
        link = self.start_link(self.place())
        self.assertEqual(self.where(link), self.master.port)
        self.master.kill()
        self.until("it is away", lambda: not link.state().up)
        self.until("it is at the replica", lambda: link.state().up)
        self.assertEqual(self.where(link), self.replica.port)
        self.assertEqual(self.wait(link.call("SET", "a", "b")), b"OK")
        self.master.start()
        self.replica.call("CLIENT", "KILL", "TYPE", "normal")
        self.until("it notices", lambda: not link.state().up)
        self.until("it is back", lambda: link.state().up)
        self.assertEqual(self.where(link), self.replica.port)

    def test_a_server_that_is_no_master_any_more_is_left(self) -> None:
        link = self.start_link(self.place(), heartbeat=0.05)
        self.assertEqual(self.where(link), self.master.port)
        # Nobody closes the connections, as sentinels would.
        self.replica.call("REPLICAOF", "NO", "ONE")
        self.master.call("REPLICAOF", "127.0.0.1", self.replica.port)
        self.until("it says so", lambda: "no master, but a slave" in link.state().reason)

    def test_a_replica_that_a_stale_sentinel_names_is_not_used(self) -> None:
        stale = self.start(self.replica)
        link = self.start_link(self.place(("127.0.0.1", stale.port)))
        self.assertFalse(link.state().up)
        self.assertIn("no master, but a slave", link.state().reason)
