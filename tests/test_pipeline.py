# SPDX-License-Identifier: MIT
"""Tests of the pipeline through a connection: what runs when, and answers in order."""

from __future__ import annotations

from typing import Any

import bcrypt
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.grants import EVERYTHING
from smtpmailer.core.keys import Key
from smtpmailer.core.replies import Reply, success
from smtpmailer.dispatcher import REQUESTS, Arguments, Dispatcher, Gates, Handler
from smtpmailer.protocol import ProtocolLimits
from smtpmailer.services.auth import PasswordAuth
from smtpmailer.threads import InlineThreads
from tests.connections import HELD, Client, make_factory

_PING = b'{"ping":1}'
_HASH = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode("ascii")


class PipelineCase(SynchronousTestCase):
    """A service whose requests, all but pings, end when the test says so."""

    def setUp(self) -> None:
        """Serve."""
        self.clock = Clock()
        self.started: list[Any] = []
        self.open: dict[Any, Deferred[Reply]] = {}
        gates = Gates(
            queue_enabled=True,
            queue_read_only=False,
            template_enabled=True,
            template_read_only=False,
        )
        handlers: dict[str, Handler] = dict.fromkeys(REQUESTS, self._slow)
        handlers["ping"] = lambda _: succeed(success(message="pong"))
        self.dispatcher = Dispatcher(handlers, gates=gates)
        self.limits = ProtocolLimits(max_in_flight=4)
        self.factory = make_factory(self.dispatcher, self.clock, self.limits)
        self.client = Client(self.factory)

    def _slow(self, arguments: Arguments) -> Deferred[Reply]:
        self.started.append(arguments.value)
        self.open[arguments.value] = Deferred()
        return self.open[arguments.value]

    def finish(self, value: Any) -> None:
        """End the request whose argument is ``value``."""
        self.open.pop(value).callback(success(message=value))

    def send(self, *texts: str) -> None:
        """Write requests in one segment and let held answers go."""
        self.client.write("".join(texts).encode())
        self.settle()

    def settle(self) -> None:
        """Let held answers go."""
        self.clock.advance(0)
        self.clock.advance(HELD)


class OrderTests(PipelineCase):
    """Answers come in the order of the requests, whatever runs longer."""

    def test_mails_run_beside_each_other_and_are_answered_in_order(self) -> None:
        self.send('{"sendMail":1}', '{"queueMail":2}', '{"ping":0}', '{"status":3}')
        self.assertEqual(self.started, [1, 2, 3])
        self.finish(2)
        self.finish(3)
        self.assertEqual(self.client.messages, [])
        self.finish(1)
        self.assertEqual(self.client.messages, [1, 2, "pong", 3])

    def test_any_other_request_waits_for_those_before_it_and_holds_up_those_behind(self) -> None:
        self.send('{"sendMail":1}', '{"addTemplate":2}', '{"sendMail":3}', '{"sendMail":4}')
        self.assertEqual(self.started, [1])
        self.finish(1)
        self.assertEqual(self.started, [1, 2])
        self.finish(2)
        self.assertEqual(self.started, [1, 2, 3, 4])

    def test_two_barriers_run_one_after_the_other(self) -> None:
        self.send('{"addTemplate":1}', '{"removeTemplate":2}')
        self.assertEqual(self.started, [1])
        self.finish(1)
        self.assertEqual(self.started, [1, 2])

    def test_connections_do_not_wait_for_each_other(self) -> None:
        self.send('{"addTemplate":1}')
        other = Client(self.factory)
        other.write(b'{"sendMail":2}', _PING)
        self.assertEqual(self.started, [1, 2])

    def test_no_more_than_the_limit_are_unanswered(self) -> None:
        self.send(*(f'{{"sendMail":{i}}}' for i in range(6)))
        self.assertEqual(self.started, [0, 1, 2, 3])
        self.finish(3)
        self.assertEqual(self.started, [0, 1, 2, 3])
        self.finish(0)
        self.assertEqual(self.started, [0, 1, 2, 3, 4])
        self.assertEqual(self.client.messages, [0])

    def test_a_reply_that_is_no_json_is_answered_as_an_exception(self) -> None:
        self.send('{"sendMail":1}', '{"ping":0}')
        self.open.pop(1).callback(success(data=object()))
        self.assertEqual(self.client.messages, ["exception occurred", "pong"])
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)


class LossTests(PipelineCase):
    """Losing the connection cancels nothing."""

    def test_all_requests_received_are_carried_out_after_the_loss(self) -> None:
        self.send(*(f'{{"sendMail":{i}}}' for i in range(6)), '{"addTemplate":6}')
        self.client.lose()
        self.assertEqual(self.started, [0, 1, 2, 3])
        for i in (1, 0, 2, 3, 4, 5, 6):
            self.finish(i)
        self.assertEqual(self.started, list(range(7)))
        self.assertEqual(self.client.answers, [])
        self.assertEqual(self.factory.requests_in_flight, 0)
        self.assertEqual(self.factory.load.buffered_bytes, 0)

    def test_a_client_that_does_not_read_and_leaves_has_its_requests_done(self) -> None:
        self.client.protocol.pauseProducing()
        self.send('{"sendMail":1}', '{"sendMail":2}')
        self.assertEqual(self.started, [])
        self.client.lose()
        self.assertEqual(self.started, [1, 2])

    def test_an_unfinished_request_is_not_carried_out(self) -> None:
        self.send('{"sendMail":1}{"sendMail":2')
        self.client.lose()
        self.assertEqual(self.started, [1])
        self.finish(1)
        self.assertEqual(self.factory.load.buffered_bytes, 0)

    def test_a_request_counts_until_it_is_answered(self) -> None:
        self.send('{"sendMail":1}')
        self.assertGreater(self.factory.load.buffered_bytes, len('{"sendMail":1}'))
        self.finish(1)
        self.assertEqual(self.factory.load.buffered_bytes, 0)


class RefusedTests(PipelineCase):
    """Who guesses passwords is read no faster than it is answered."""

    def setUp(self) -> None:
        """Serve those who have a password."""
        super().setUp()
        key = Key(hash=_HASH, grant=EVERYTHING)
        self.auth = PasswordAuth([key], InlineThreads(), self.clock, secret=b"k" * 32)
        handlers: dict[str, Handler] = dict.fromkeys(REQUESTS, self._slow)
        self.factory = make_factory(Dispatcher(handlers, self.auth), self.clock)
        self.client = Client(self.factory)

    def guess(self, *numbers: int) -> None:
        """Write a request for each number."""
        self.send(*(f'{{"ping":{i},"auth":"{i}"}}' for i in numbers))

    @property
    def refused(self) -> int:
        """How many wrong passwords were counted."""
        return self.auth._penalties.failures("192.0.2.1")

    @property
    def reads(self) -> bool:
        """Whether more is read from the client."""
        return bool(self.client.transport.producerState == "producing")

    def test_no_more_is_started_while_some_refusals_are_delayed(self) -> None:
        self.guess(*range(50))
        self.assertEqual(self.refused, 8)
        self.clock.advance(1)
        self.assertEqual((self.refused, len(self.client.messages)), (9, 1))
        for _ in range(100):
            self.clock.advance(1)
        self.assertEqual(self.client.messages, ["unauthorized request"] * 50)

    def test_no_more_is_read_when_much_more_came_than_is_started(self) -> None:
        self.guess(*range(50))
        self.assertTrue(self.reads)
        self.guess(*range(50, 200))
        self.assertFalse(self.reads)
        for _ in range(100):
            self.clock.advance(1)
        self.assertTrue(self.reads)

    def test_a_right_password_on_another_connection_is_not_held_up(self) -> None:
        self.guess(*range(50))
        other = Client(self.factory)
        other.write(b'{"ping":1,"auth":"right"}')
        self.assertEqual(self.started, [1])

    def test_what_a_client_sent_is_carried_out_when_it_is_gone(self) -> None:
        self.guess(*range(50))
        self.send('{"sendMail":1,"auth":"right"}')
        self.client.lose()
        for _ in range(100):
            self.clock.advance(1)
        self.assertEqual((self.refused, self.started), (50, [1]))
        self.finish(1)
        self.assertEqual(self.factory.requests_in_flight, 0)

    def test_one_that_closes_after_a_guess_is_not_kept_while_many_do(self) -> None:
        for i in range(100):
            client = Client(self.factory)
            client.write(b'{"ping":1,"auth":"%d"}' % i)
            client.half_close()
            if client.closed:
                client.lose()
        self.assertEqual(self.factory.connections, 32)

    def test_a_lost_connection_has_left(self) -> None:
        standing = self.client.protocol._pipeline.standing
        self.client.lose()
        self.assertTrue(standing.left)

    def test_the_end_of_the_service_does_not_wait_for_refusals(self) -> None:
        self.guess(*range(50))
        self.auth.stop()
        self.factory.stop_reading()
        self.assertEqual(len(self.client.messages), 50)
        self.assertTrue(self.client.closed)


class HoldTests(PipelineCase):
    """While a client pipelines, reading comes before answering."""

    def test_a_single_request_is_answered_at_once(self) -> None:
        self.client.write(_PING)
        self.assertEqual(self.client.messages, ["pong"])

    def test_the_first_answers_to_many_requests_wait_for_a_pause_of_the_client(self) -> None:
        for data in (_PING * 2, _PING + b'{"ping":'):
            client = Client(self.factory)
            client.write(data)
            self.clock.advance(0)
            self.clock.advance(HELD * 0.9)
            self.assertEqual(client.messages, [])
            client.write(b" ")
            self.clock.advance(HELD * 0.9)
            self.assertEqual(client.messages, [])
            self.clock.advance(HELD)
            self.clock.advance(HELD)
            self.assertGreater(len(client.messages), 0)

    def test_later_answers_wait_for_a_turn_without_a_read(self) -> None:
        self.client.write(_PING)
        for data, count in ((_PING * 2, 3), (_PING + b" " * 16384, 4)):
            self.client.write(data)
            self.assertLess(len(self.client.messages), count)
            self.clock.advance(0)
            self.assertEqual(len(self.client.messages), count)

    def test_answers_are_not_held_for_ever(self) -> None:
        """A client that writes in every turn still gets its answers."""
        reads: list[None] = []

        def read() -> None:
            if len(self.client.messages) < 3 and len(reads) < 1000:
                reads.append(None)
                self.client.write(b" ")
                self.clock.callLater(0, read)

        self.client.write(_PING)
        self.client.write(_PING * 2)
        self.clock.callLater(0, read)
        self.clock.advance(0)
        self.assertEqual(self.client.messages, ["pong"] * 3)
        self.assertEqual(len(reads), 100)

    def test_more_answers_than_the_limit_follow_when_the_first_are_out(self) -> None:
        self.client.write(_PING * 1000)
        self.settle()
        self.assertEqual(self.client.messages, ["pong"] * 1000)

    def test_a_half_close_ends_the_holding(self) -> None:
        self.client.write(_PING * 2)
        self.client.half_close()
        self.assertEqual(self.client.messages, ["pong"] * 2)

    def test_others_get_their_turn_between_batches(self) -> None:
        factory = make_factory(self.dispatcher, self.clock)
        client = Client(factory)
        client.write(_PING * 250)
        client.protocol._pipeline.release()
        client.protocol._pipeline.pump()
        self.assertEqual(len(client.messages), 200)
        self.clock.advance(0)
        self.assertEqual(len(client.messages), 250)
