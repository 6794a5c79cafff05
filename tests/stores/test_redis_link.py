# SPDX-License-Identifier: MIT
"""Tests for the link to Redis, on servers that come, go, hang and refuse."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import capturedLogs
from zope.interface.verify import verifyObject

from smtpmailer.core.redisvalues import RedisScript
from smtpmailer.errors import RedisAwayError, RedisRefusedError
from smtpmailer.interfaces import IRedis
from smtpmailer.stores.redis_connection import Limits
from smtpmailer.stores.redis_link import RedisLink
from smtpmailer.stores.redis_servers import Address, FixedServer
from tests.redis_server import free_port
from tests.stores.redis_case import RedisTestCase

_ECHO = RedisScript("return {KEYS[1], ARGV[1]}")
_INCREMENT = RedisScript("return redis.call('INCR', KEYS[1])")


class _Case(RedisTestCase):
    """Looks at links."""

    def up(self, link: RedisLink, *, up: bool = True) -> None:
        """Wait until Redis can be used, or can't."""
        self.until(f"up is {up}", lambda: link.state().up == up)

    def away(self, deferred: Deferred[Any], *, sent: bool) -> str:
        """See to it that Redis is away for a command; give the text."""
        error: Any = self.failureResultOf(deferred, RedisAwayError).value
        self.assertEqual(error.sent, sent, error)
        return str(error)

    def fails_at_once(self, deferred: Deferred[Any]) -> None:
        """See to it that a command has failed without a turn of the reactor."""
        failed: list[Any] = []
        deferred.addErrback(failed.append)
        self.assertEqual([failure.type for failure in failed], [RedisAwayError])


class LinkTests(_Case):
    """Commands and scripts go to the server."""

    def test_it_provides_its_interface(self) -> None:
        verifyObject(IRedis, self.make_link(FixedServer(("127.0.0.1", 1))))

    def test_replies_are_never_decoded(self) -> None:
        link = self.start_link(self.start_server())
        self.assertEqual(self.wait(link.call("SET", b"a\xff", "é")), b"OK")
        self.assertEqual(self.wait(link.call("GET", b"a\xff")), "é".encode())
        self.assertEqual(self.wait(link.call("INCR", "n")), 1)
        self.assertEqual(self.wait(link.call("MGET", "n", "x")), [b"1", None])

    def test_large_and_many_texts_pass(self) -> None:
        link = self.start_link(self.start_server())
        large = bytes(range(256)) * 20_000
        self.wait(link.call("SET", "large", large))
        self.assertEqual(self.wait(link.call("GET", "large")), large)
        names = [f"{number:06}".encode() for number in range(20_000)]
        self.wait(link.call("RPUSH", "many", *names))
        self.assertEqual(self.wait(link.call("LRANGE", "many", 0, -1)), names)

    def test_a_script_is_sent_once_and_known_by_its_sum_afterwards(self) -> None:
        server = self.start_server()
        link = self.start_link(server)
        for number in range(3):
            self.assertEqual(self.wait(link.run(_ECHO, ["k"], [number])), [b"k", b"%d" % number])
        stats = server.call("INFO", "commandstats").decode()
        calls = {line.split(":")[0]: line for line in stats.splitlines() if "calls=" in line}
        self.assertIn("calls=1,", calls["cmdstat_eval"])
        self.assertIn("calls=3,", calls["cmdstat_evalsha"])

    def test_a_script_that_redis_has_forgotten_is_sent_again(self) -> None:
        server = self.start_server()
        link = self.start_link(server)
        self.assertEqual(self.wait(link.run(_INCREMENT, ["n"])), 1)
        server.call("SCRIPT", "FLUSH")
        self.assertEqual(self.wait(link.run(_INCREMENT, ["n"])), 2)
        server.stop()
        self.up(link, up=False)
        server.start()
        self.up(link)
        self.assertEqual(self.wait(link.run(_INCREMENT, ["n"])), 1)

    def test_what_a_script_refuses_is_told(self) -> None:
        link = self.start_link(self.start_server())
        asked = link.run(RedisScript("return redis.error_reply('MINE is it')"), [])
        error: Any = self.failureResultOf(asked, RedisRefusedError).value
        self.assertEqual(error.code, "MINE")
        self.failureResultOf(link.run(RedisScript("no lua"), []), RedisRefusedError)
        self.assertTrue(link.state().up)

    def test_the_sum_is_that_of_the_text(self) -> None:
        server = self.start_server()
        self.assertEqual(server.call("SCRIPT", "LOAD", _ECHO.text).decode(), _ECHO.sha1)

    def test_commands_are_spread_over_the_connections(self) -> None:
        server = self.start_server()
        link = self.start_link(server, connections=3)
        for _ in range(5):
            self.wait(link.call("PING"))
        self.until("all are open", lambda: len(_clients(server.call("CLIENT", "LIST"))) == 3)
        self.results_of([link.call("CLIENT", "SETNAME", "used") for _ in range(3)])
        self.assertEqual(server.call("CLIENT", "LIST").count(b"name=used"), 3)

    def test_a_host_name_is_looked_up(self) -> None:
        server = self.start_server()
        link = self.start_link(FixedServer(("localhost", server.port)))
        self.assertEqual(self.wait(link.call("PING")), b"PONG")

    def test_an_ipv6_address_will_do(self) -> None:
        server = self.start_server(bind="::1")
        link = self.start_link(FixedServer(("::1", server.port)))
        self.assertEqual(self.wait(link.call("PING")), b"PONG")
        server.kill()
        self.up(link, up=False)
        self.assertIn(f"[::1]:{server.port}: ", link.state().reason)


class AwayTests(_Case):
    """While Redis is away all fails at once, and when it is back nothing has to be done."""

    def test_before_the_start_there_is_no_connection(self) -> None:
        link = self.make_link(FixedServer(("127.0.0.1", 1)))
        self.fails_at_once(link.call("PING"))
        self.assertEqual(link.state().reason, "not connected yet")

    def test_a_redis_that_comes_after_the_start_is_found(self) -> None:
        server = self.start_server()
        server.stop()
        link = self.start_link(server)
        self.assertFalse(link.state().up)
        self.assertIn(f"127.0.0.1:{server.port}: Connection was refused", link.state().reason)
        self.fails_at_once(link.call("PING"))
        self.fails_at_once(link.run(_ECHO, ["k"], [1]))
        server.start()
        self.up(link)
        self.assertEqual((link.state().reason, self.wait(link.call("PING"))), ("", b"PONG"))

    def test_a_killed_redis_fails_what_is_under_way_and_is_found_again(self) -> None:
        server = self.start_server()
        link = self.start_link(server)
        asked = [link.call("BLPOP", "nothing", 0) for _ in range(4)]
        server.kill()
        for each in asked:
            self.away(each, sent=True)
        self.up(link, up=False)
        self.fails_at_once(link.call("PING"))
        server.start()
        self.up(link)
        self.assertEqual(self.wait(link.call("PING")), b"PONG")

    def test_a_redis_that_hangs_fails_commands_at_the_limit_of_an_answer(self) -> None:
        server = self.start_server()
        link = self.start_link(server, limits=Limits(answer=0.2))
        server.pause()
        began = self.reactor.seconds()
        self.assertIn("no answer within 0.2 s", self.away(link.call("PING"), sent=True))
        self.assertLess(self.reactor.seconds() - began, 2)
        server.resume()
        self.up(link)
        self.assertEqual(self.wait(link.call("PING")), b"PONG")

    def test_a_redis_that_hangs_from_the_start_is_away(self) -> None:
        server = self.start_server()
        server.pause()
        link = self.start_link(server, limits=Limits(answer=0.1))
        self.assertIn("no answer within 0.1 s", link.state().reason)
        server.resume()
        self.up(link)

    def test_an_idle_link_notices_that_redis_hangs(self) -> None:
        server = self.start_server()
        link = self.start_link(server, limits=Limits(answer=0.1), heartbeat=0.1)
        server.pause()
        self.up(link, up=False)
        server.resume()
        self.up(link)

    def test_a_redis_that_loads_its_data_is_away(self) -> None:
        # It answers every 2 MB that it reads.
        server = self.start_server(save="3600 1", rdbcompression="no", key_load_delay=5000)
        for number in range(100):
            server.call("SET", f"k{number}", "x" * 50_000)
        link = self.start_link(server)
        server.stop()
        self.up(link, up=False)
        server.launch()
        self.until("it says so", lambda: "LOADING" in link.state().reason)
        self.up(link)

    def test_what_answers_may_be_no_redis(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            link = self.make_link(FixedServer(("127.0.0.1", other.getsockname()[1])), connections=1)
            link.start()
            self.addCleanup(lambda: self.wait(link.stop()))
            self.reactor.iterate(0.01)
            other.settimeout(5)
            client, _ = other.accept()
            with client:
                client.sendall(b"220 mail.example.test ESMTP\r\n")
                self.until("it says so", lambda: "Redis's protocol" in link.state().reason)

    def test_a_replica_is_dropped_when_it_refuses_a_change(self) -> None:
        server = self.start_server()
        link = self.start_link(server, connections=1)
        self.wait(link.call("SET", "a", "b"))
        (before,) = _clients(server.call("CLIENT", "LIST"))
        server.call("REPLICAOF", "127.0.0.1", free_port())
        self.failureResultOf(link.call("SET", "a", "c"), RedisRefusedError)
        self.until(
            "it connects anew", lambda: before not in _clients(server.call("CLIENT", "LIST"))
        )
        server.call("REPLICAOF", "NO", "ONE")
        self.up(link)
        self.assertEqual(self.wait(link.call("SET", "a", "c")), b"OK")

    def test_the_state_says_since_when_and_those_who_watch_are_told(self) -> None:
        now = [100.0]
        seen: list[tuple[bool, float, bool]] = []
        server = self.start_server()
        link = self.make_link(server, now=lambda: now[0], connections=1)
        link.watch(
            lambda: seen.append((link.state().up, link.state().since, bool(link.state().reason)))
        )
        now[0] = 200.0
        link.start()
        self.addCleanup(lambda: self.wait(link.stop()))
        self.up(link)
        now[0] = 300.0
        server.kill()
        self.up(link, up=False)
        now[0] = 400.0
        self.until("it tries in vain", lambda: "refused" in link.state().reason)
        server.start()
        self.up(link)
        self.assertEqual(seen, [(True, 200.0, False), (False, 300.0, True), (True, 400.0, False)])

    def test_loss_and_return_are_logged_once_each(self) -> None:
        server = self.start_server()
        with capturedLogs() as events:
            # With several, one that is noticed to be lost later may look like a second loss.
            link = self.start_link(server, connections=1)
            server.kill()
            self.until("it tries in vain", lambda: "refused" in link.state().reason)
            for _ in range(30):
                self.reactor.iterate(0.01)
            server.start()
            self.up(link)
        lines = [event["log_format"] for event in events]
        reasons = {event["reason"] for event in events if "reason" in event}
        self.assertEqual(lines[0], "Redis is there: {where}")
        self.assertEqual(lines[1:-1], ["Redis is away: {reason}"] * len(reasons))
        self.assertEqual(lines[-1], "Redis is back after {away:.1f} s: {where}")
        self.assertLessEqual(len(reasons), 3)

    def test_a_watcher_that_fails_costs_nothing(self) -> None:
        server = self.start_server()
        link = self.make_link(server)
        seen: list[bool] = []

        def fail_badly() -> None:
            raise ZeroDivisionError

        link.watch(fail_badly)
        link.watch(lambda: seen.append(link.state().up))
        link.start()
        self.addCleanup(lambda: self.wait(link.stop()))
        self.up(link)
        self.assertEqual(self.wait(link.call("PING")), b"PONG")
        self.assertEqual(seen, [True])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_an_answer_that_makes_no_sense_does_not_end_the_attempts(self) -> None:
        answers: list[Any] = [fail(ValueError("senseless")), succeed(("127.0.0.1", 1))]
        server = self.start_server()

        class Odd:
            needs_master = False

            def locate(self) -> Deferred[Address]:
                last: Deferred[Address] = succeed(("127.0.0.1", server.port))
                return answers.pop(0) if answers else last

        link = self.start_link(Odd(), connections=1)
        self.up(link)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_a_stop_closes_all_and_logs_nothing(self) -> None:
        server = self.start_server()
        link = self.start_link(server)
        self.until("both are open", lambda: len(_clients(server.call("CLIENT", "LIST"))) == 2)
        with capturedLogs() as events:
            self.assertIsNone(self.wait(link.stop()))
        self.assertEqual(events, [])
        self.fails_at_once(link.call("PING"))
        self.assertEqual((link.state().up, link.state().reason), (False, "the service stops"))
        self.until("both are closed", lambda: not _clients(server.call("CLIENT", "LIST")))
        self.assertIsNone(self.wait(link.stop()))

    def test_a_stop_ends_attempts_and_pauses(self) -> None:
        hangs = self.start_server()
        hangs.pause()
        self.addCleanup(hangs.resume)
        places: tuple[tuple[str, int, Callable[[], None]], ...] = (
            ("127.0.0.1", free_port(), lambda: None),
            ("127.0.0.1", hangs.port, lambda: self.reactor.iterate(0.05)),
            ("nowhere.invalid", 6379, lambda: None),
        )
        for host, port, first in places:
            link = self.make_link(FixedServer((host, port)), pause=60.0)
            link.start()
            self.reactor.iterate(0.01)
            first()
            self.assertIsNone(self.wait(link.stop()))


class PauseTests(_Case):
    """How long the link waits before it tries again."""

    def attempts(self, seconds: float, **plan: Any) -> int:
        """Count the attempts to connect to a server that drops each connection."""
        count = 0
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.setblocking(False)
            link = self.make_link(
                FixedServer(("127.0.0.1", server.getsockname()[1])), connections=1, **plan
            )
            link.start()
            end = self.reactor.seconds() + seconds
            while self.reactor.seconds() < end:
                self.reactor.iterate(0.005)
                try:
                    client, _ = server.accept()
                except BlockingIOError:
                    continue
                client.close()
                count += 1
            self.wait(link.stop())
        return count

    def test_pauses_grow(self) -> None:
        # Attempts at 0, 0.02, 0.06, 0.14, 0.3 s and so on.
        self.assertIn(self.attempts(0.5, pause=0.02), (4, 5))

    def test_there_is_a_pause_whatever_the_settings_say(self) -> None:
        self.assertLessEqual(self.attempts(0.3, pause=0.0), 6)


def _clients(listed: bytes) -> list[bytes]:
    """Give the ids of the clients that came over TCP."""
    return [line.split(b" ")[0] for line in listed.splitlines() if b"/socket:0" not in line]
