# SPDX-License-Identifier: MIT
"""Tests for one connection to Redis: what goes over the wire, and how long it waits."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.errors import RedisAwayError, RedisRefusedError, RedisUnreplicatedError
from smtpmailer.stores.redis_connection import Limits, Login, RedisConnection, check, greet
from tests.stores.redis_wire import Wire

_GARBAGE = (b"HTTP/1.1 400 Bad Request\r\n", b"220 mail.example.test ESMTP\r\n", b"\x15\x03\x03\0")


class _Case(SynchronousTestCase):
    """A connection whose other end is the test."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.connection = self.connect(Limits(answer=10.0, replicas=2))

    def connect(self, limits: Limits) -> RedisConnection:
        """Make a connection; ``wire`` is its."""
        connection = RedisConnection(self.clock, limits, "redis.test:6379")
        self.wire = Wire(connection)
        return connection

    def away(self, deferred: Deferred[Any], *, sent: bool) -> str:
        """See to it that Redis is away for a command; give the text."""
        error: Any = self.failureResultOf(deferred, RedisAwayError).value
        self.assertEqual(error.sent, sent)
        return str(error)


class CommandTests(_Case):
    """Commands and their answers."""

    def test_words_go_out_as_bytes(self) -> None:
        self.connection.command("SET", b"\xff", "é", 1, 0.1, 1e300)
        self.assertEqual(
            self.wire.sent(),
            b"*6\r\n$3\r\nSET\r\n$1\r\n\xff\r\n$2\r\n\xc3\xa9\r\n$1\r\n1\r\n$3\r\n0.1\r\n"
            b"$6\r\n1e+300\r\n",
        )

    def test_answers_come_in_order_and_are_left_as_they_are(self) -> None:
        answers: list[Any] = []
        for _ in range(6):
            self.connection.command("X").addCallback(answers.append)
        self.assertEqual(self.connection.outstanding, 6)
        stream = b"+OK\r\n:5\r\n$-1\r\n$2\r\n12\r\n*-1\r\n*2\r\n$2\r\n\xc3\xa9\r\n*1\r\n$0\r\n\r\n"
        for at in range(len(stream)):
            self.connection.dataReceived(stream[at : at + 1])
        self.assertEqual(answers, [b"OK", 5, None, b"12", None, ["é".encode(), [b""]]])
        self.assertEqual(self.connection.outstanding, 0)

    def test_an_error_is_told_in_redis_words(self) -> None:
        asked = self.connection.command("X")
        self.connection.dataReceived(b"-OOM command not allowed\r\n")
        error: Any = self.failureResultOf(asked, RedisRefusedError).value
        self.assertEqual(
            (error.code, str(error)), ("OOM", "Redis refused: OOM command not allowed")
        )
        self.assertEqual(self.connection.reason, "")

    def test_an_error_never_quotes_arguments(self) -> None:
        asked = self.connection.command("AUTH", "secret")
        self.connection.dataReceived(
            b"-ERR unknown command `AUTH`, with args beginning with: `secret`, \r\n"
        )
        self.assertNotIn("secret", str(self.failureResultOf(asked, RedisRefusedError).value))

    def test_an_error_of_a_server_that_is_no_use_ends_the_connection(self) -> None:
        for words in (
            *("LOADING in words", "MASTERDOWN in words", "NOAUTH in words", "READONLY in words"),
            "ERR Error running script (call to f_1): @user_script:2: -READONLY You can't write",
        ):
            connection = self.connect(Limits(answer=10))
            asked, next_one = connection.command("X"), connection.command("Y")
            connection.dataReceived(f"-{words}\r\n".encode())
            self.failureResultOf(asked, RedisRefusedError)
            text = self.away(next_one, sent=True)
            self.assertEqual(text, f"Redis is away: redis.test:6379: Redis refused: {words}")

    def test_other_errors_leave_the_connection_alone(self) -> None:
        for words in ("ERR no LOADING here", "READONLYISH x", "BUSY running", "NOPERM no"):
            asked = self.connection.command("X")
            self.connection.dataReceived(f"-{words}\r\n".encode())
            self.failureResultOf(asked, RedisRefusedError)
        self.assertEqual(self.connection.reason, "")

    def test_what_is_no_redis_is_told_so(self) -> None:
        for stream in _GARBAGE:
            connection = self.connect(Limits(answer=10))
            asked = connection.command("X")
            connection.dataReceived(stream)
            self.assertIn("does not speak Redis's protocol", self.away(asked, sent=True))

    def test_an_answer_too_many_ends_the_connection(self) -> None:
        self.connection.dataReceived(b"+OK\r\n")
        self.assertIn("nobody had asked for", self.connection.reason)

    def test_a_lost_connection_fails_what_waits_and_sends_no_more(self) -> None:
        asked = self.connection.command("X")
        self.wire.sent()
        self.connection.connectionLost(Failure(ConnectionDone()))
        reason = "Redis is away: redis.test:6379: the server closed the connection"
        self.assertEqual(self.away(asked, sent=True), reason)
        self.assertEqual(self.away(self.connection.command("Y"), sent=False), reason)
        self.assertEqual(self.wire.sent(), b"")
        self.successResultOf(self.connection.ended())

    def test_packets_are_not_held_back(self) -> None:
        self.assertTrue(self.wire.no_delay)
        self.assertTrue(self.wire.keep_alive)


class DeadlineTests(_Case):
    """Each command has its answer in time, or the connection ends."""

    def test_no_answer_in_time_ends_the_connection(self) -> None:
        asked = self.connection.command("X")
        self.clock.advance(9.9)
        self.assertNoResult(asked)
        self.clock.advance(0.1)
        self.assertIn("no answer within 10 s (REDIS_PROTO, ", self.away(asked, sent=True))
        self.away(self.connection.command("Y"), sent=False)

    def test_each_command_has_its_own_limit(self) -> None:
        first = self.connection.command("X")
        self.clock.advance(6)
        second = self.connection.command("Y")
        self.clock.advance(3)
        self.connection.dataReceived(b"+OK\r\n")
        self.successResultOf(first)
        self.clock.advance(6.9)
        self.assertNoResult(second)
        self.clock.advance(0.2)
        self.assertIn("no answer within 10 s (REDIS_READ_TIMEOUT)", self.away(second, sent=True))

    def test_an_idle_connection_lasts_and_leaves_no_timer(self) -> None:
        asked = self.connection.command("X")
        self.connection.dataReceived(b"+OK\r\n")
        self.successResultOf(asked)
        self.clock.advance(3600)
        self.assertEqual((self.connection.reason, self.clock.getDelayedCalls()), ("", []))

    def test_a_lost_connection_leaves_no_timer(self) -> None:
        asked = self.connection.command("X")
        self.connection.connectionLost(Failure(ConnectionDone()))
        self.away(asked, sent=True)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_caller_who_gives_up_leaves_the_order_of_answers_alone(self) -> None:
        first, second = self.connection.command("X"), self.connection.command("Y")
        first.addErrback(lambda _: None)
        first.cancel()
        self.connection.dataReceived(b":1\r\n:2\r\n")
        self.assertEqual(self.successResultOf(second), 2)


class ReplicationTests(_Case):
    """How many replicas have a change is asked once for all who want to know."""

    wait = b"*3\r\n$4\r\nWAIT\r\n$1\r\n2\r\n$4\r\n2500\r\n"

    def test_one_question_for_all_of_a_turn(self) -> None:
        asked = [self.connection.confirm() for _ in range(3)]
        self.assertEqual(self.wire.sent(), b"")
        self.clock.advance(0)
        self.assertEqual(self.wire.sent(), self.wait)
        self.connection.dataReceived(b":2\r\n")
        for each in asked:
            self.assertIsNone(self.successResultOf(each))

    def test_one_question_at_a_time(self) -> None:
        first = self.connection.confirm()
        self.clock.advance(0)
        self.wire.sent()
        later = [self.connection.confirm() for _ in range(2)]
        self.clock.advance(0)
        self.assertEqual(self.wire.sent(), b"")
        self.connection.dataReceived(b":3\r\n")
        self.successResultOf(first)
        self.assertEqual(self.wire.sent(), self.wait)
        self.connection.dataReceived(b":1\r\n")
        for each in later:
            text = str(self.failureResultOf(each, RedisUnreplicatedError).value)
            self.assertEqual(text, "Redis: 1 of 2 replicas have the change (REDIS_WAIT_REPLICAS)")
        again = self.connection.confirm()
        self.clock.advance(0)
        self.connection.dataReceived(b":2\r\n")
        self.successResultOf(again)

    def test_without_an_answer_nobody_knows(self) -> None:
        first = self.connection.confirm()
        self.clock.advance(0)
        second = self.connection.confirm()
        self.connection.connectionLost(Failure(ConnectionDone()))
        for each in (first, second):
            self.assertIn("closed", self.away(each, sent=True))

    def test_a_refusal_is_told(self) -> None:
        asked = self.connection.confirm()
        self.clock.advance(0)
        self.connection.dataReceived(b"-NOPERM this user has no permissions\r\n")
        self.assertIn("NOPERM", self.away(asked, sent=True))


class GreetingTests(_Case):
    """What is said at the beginning of a connection."""

    def greeting(self, login: Login, *answers: bytes, master: bool = False) -> list[bytes]:
        """Greet with these answers; give the commands."""
        done = greet(self.connection, login, master=master)
        commands = []
        for answer in answers:
            commands.append(b" ".join(self.wire.words()))
            self.connection.dataReceived(answer)
        self.assertIsNone(self.successResultOf(done))
        self.assertEqual(self.wire.sent(), b"")
        return commands

    def test_without_a_login_only_whether_it_answers(self) -> None:
        self.assertEqual(self.greeting(Login(), b"+PONG\r\n"), [b"PING"])

    def test_a_user_has_name_and_password(self) -> None:
        login = Login(user="u", password="p", database=3)
        commands = self.greeting(login, b"+OK\r\n", b"+OK\r\n", b"+PONG\r\n")
        self.assertEqual(commands, [b"AUTH u p", b"SELECT 3", b"PING"])

    def test_the_default_user_has_a_password_alone(self) -> None:
        commands = self.greeting(Login(password="p"), b"+OK\r\n", b"+PONG\r\n")
        self.assertEqual(commands, [b"AUTH p", b"PING"])

    def test_where_there_are_several_the_master_is_wanted(self) -> None:
        answer = b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"
        self.assertEqual(self.greeting(Login(), answer, master=True), [b"ROLE"])

    def test_a_replica_is_dropped(self) -> None:
        answer = b"*5\r\n$5\r\nslave\r\n$1\r\nm\r\n:1\r\n$9\r\nconnected\r\n:0\r\n"
        for ask in (
            lambda connection: greet(connection, Login(), master=True),
            lambda connection: check(connection, master=True),
        ):
            connection = self.connect(Limits(answer=10))
            asked = ask(connection)
            connection.dataReceived(answer)
            self.assertIn("no master, but a slave", self.away(asked, sent=False))
            self.away(connection.command("X"), sent=False)
