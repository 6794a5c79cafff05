# SPDX-License-Identifier: MIT
"""Tests for the link to Redis, on servers that come, go, hang and refuse."""

from __future__ import annotations

from smtpmailer.core.redisvalues import RedisScript
from smtpmailer.errors import RedisAwayError, RedisRefusedError
from smtpmailer.stores.redis_connection import Limits
from tests.stores.redis_case import RedisTestCase


class LinkTests(RedisTestCase):
    def test_replies_are_never_decoded(self) -> None:
        link = self.start_link(self.start_server())
        self.assertEqual(self.wait(link.call("SET", b"a\xff", "é")), b"OK")
        self.assertEqual(self.wait(link.call("GET", b"a\xff")), "é".encode())
        self.assertEqual(self.wait(link.call("INCR", "n")), 1)
        self.assertEqual(self.wait(link.call("MGET", "n", "x")), [b"1", None])
        self.assertTrue(link.state().up)

    def test_a_script(self) -> None:
        link = self.start_link(self.start_server())
        script = RedisScript("return {KEYS[1], ARGV[1]}")
        self.assertEqual(self.wait(link.run(script, ["k"], [1.5])), [b"k", b"1.5"])
        self.assertEqual(self.wait(link.run(script, ["k"], [1.5])), [b"k", b"1.5"])

    def test_kill_and_restart(self) -> None:
        server = self.start_server()
        link = self.start_link(server)
        server.kill()
        self.failureResultOf(link.call("PING"), RedisAwayError)
        self.until("down", lambda: not link.state().up)
        print(link.state())
        server.start()
        self.until("up", lambda: link.state().up)
        self.assertEqual(self.wait(link.call("PING")), b"PONG")
    
    def test_hang(self) -> None:
        server = self.start_server()
        link = self.start_link(server, limits=Limits(answer=0.2))
        server.pause()
        print(self.failureResultOf(link.call("PING"), RedisAwayError).value)
        server.resume()
        self.until("up", lambda: link.state().up)
        print(self.failureResultOf(link.call("PINGG"), RedisRefusedError).value)
