# SPDX-License-Identifier: MIT
"""Tests of the protocol: the ways a connection goes and ends, and its limits."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.testing import StringTransport
from zope.interface.verify import verifyObject

from smtpmailer.dispatcher import Dispatcher
from smtpmailer.protocol import ProtocolLimits
from tests.connections import Client, KernelTransport, make_factory
from tests.test_pipeline import PipelineCase

_PING = b'{"ping":1}'


def _error(data: str | None, message: str) -> dict[str, Any]:
    return {"status": "error", "data": data, "message": message}


class _ProtocolCase(PipelineCase):
    """Connections with limits that a test can reach."""

    def setUp(self) -> None:
        super().setUp()
        self.limit()

    def limit(self, **limits: Any) -> None:
        """Serve anew, with other limits."""
        self.client.lose()
        defaults = {"idle_timeout": 300, "request_timeout": 30}
        self.limits = ProtocolLimits(**{**defaults, **limits})
        dispatcher: Dispatcher = self.dispatcher
        self.factory = make_factory(dispatcher, self.clock, self.limits)
        self.client = Client(self.factory)

    def assert_ended(self, *answers: dict[str, Any]) -> None:
        self.assertEqual(self.client.answers, list(answers))
        self.assertTrue(self.client.closed)


class ConnectionTests(_ProtocolCase):
    """A connection stays open until its client or a fault ends it."""

    def test_it_provides_its_interfaces(self) -> None:
        verifyObject(IHalfCloseableProtocol, self.client.protocol)
        verifyObject(IPushProducer, self.client.protocol)

    def test_it_carries_any_number_of_requests(self) -> None:
        for _ in range(5):
            self.client.write(_PING)
        self.assertEqual(self.client.messages, ["pong"] * 5)
        self.assertFalse(self.client.closed)

    def test_a_half_closed_client_gets_its_late_answer(self) -> None:
        self.client.write(b'{"sendMail":1}')
        self.client.half_close()
        self.assertFalse(self.client.closed)
        self.clock.advance(1000)
        self.finish(1)
        self.assertEqual(self.client.messages, [1])
        self.assertTrue(self.client.transport.disconnecting)

    def test_a_half_close_inside_a_request_is_truncation(self) -> None:
        self.client.write(b' {"ping":')
        self.client.half_close()
        self.assert_ended(
            _error("malformed JSON at byte 8: unexpected end of input", "invalid payload")
        )

    def test_requests_before_a_fault_are_answered_first_and_none_behind_it(self) -> None:
        self.client.write(b'{"sendMail":1}{"ping":1} garbage {"ping":1}', _PING)
        self.settle()
        self.assertFalse(self.client.closed)
        self.finish(1)
        self.assertEqual(self.client.messages, [1, "pong", "payload cannot be empty"])
        self.assertTrue(self.client.closed)

    def test_after_a_fault_the_client_may_read_its_answer_before_all_is_closed(self) -> None:
        self.client.write(b"garbage")
        transport = self.client.transport
        self.assertEqual((transport.half_closed, transport.disconnecting), (True, False))
        self.client.write(b"more garbage" * 10_000)
        self.clock.advance(2)
        self.assertTrue(transport.disconnecting)
        self.assertEqual(len(self.client.answers), 1)

    def test_a_client_that_closes_after_its_fault_is_closed_at_once(self) -> None:
        self.client.write(b"garbage")
        self.client.half_close()
        self.assertTrue(self.client.transport.disconnecting)

    def test_a_client_that_closes_before_its_fault_is_answered_still_gets_all(self) -> None:
        self.client.write(b'{"sendMail":1}garbage')
        self.client.half_close()
        self.finish(1)
        self.assertEqual(self.client.messages, [1, "payload cannot be empty"])
        self.assertTrue(self.client.transport.disconnecting)

    def test_a_closed_connection_that_is_not_emptied_is_dropped(self) -> None:
        self.client.write(_PING)
        self.client.half_close()
        self.clock.advance(300)
        self.assertTrue(self.client.transport.disconnected)

    def test_nothing_is_left_on_the_clock_after_the_loss(self) -> None:
        self.client.write(b'{"a')
        self.client.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class TimeTests(_ProtocolCase):
    """Slow and silent clients are timed out."""

    def test_a_silent_connection_is_told_and_closed(self) -> None:
        self.clock.advance(299)
        self.assertFalse(self.client.closed)
        self.clock.advance(1)
        self.assert_ended(
            _error("no request for 300 seconds (MAILER_IDLE_TIMEOUT)", "connection timed out")
        )

    def test_each_request_begins_the_idle_time_anew(self) -> None:
        for _ in range(3):
            self.clock.advance(299)
            self.client.write(_PING)
        self.assertFalse(self.client.closed)
        self.clock.advance(300)
        self.assertTrue(self.client.closed)

    def test_a_connection_that_waits_for_its_answer_is_not_idle(self) -> None:
        self.client.write(b'{"sendMail":1}')
        self.clock.advance(3000)
        self.assertFalse(self.client.closed)
        self.finish(1)
        self.clock.advance(299)
        self.assertFalse(self.client.closed)
        self.clock.advance(1)
        self.assertTrue(self.client.closed)

    def test_a_request_must_get_complete_in_time_however_it_dribbles(self) -> None:
        self.client.write(b"{")
        for _ in range(29):
            self.clock.advance(1)
            self.client.write(b" ")
        self.assertFalse(self.client.closed)
        self.clock.advance(1)
        self.assert_ended(
            _error(
                "request not complete after 30 seconds (MAILER_REQUEST_TIMEOUT)",
                "connection timed out",
            )
        )

    def test_the_time_counts_from_the_request_s_own_first_byte(self) -> None:
        self.client.write(b"{")
        self.clock.advance(29)
        self.client.write(b"}{")
        self.settle()
        self.clock.advance(29)
        self.assertEqual(self.client.messages, ["payload cannot be empty"])
        self.assertFalse(self.client.closed)

    def test_an_unfinished_request_is_truncated_when_the_idle_time_passes_first(self) -> None:
        self.limit(idle_timeout=10)
        self.client.write(b'{"ping"')
        self.clock.advance(10)
        self.assert_ended(
            _error("malformed JSON at byte 7: unexpected end of input", "invalid payload")
        )

    def test_a_client_that_does_not_take_its_answers_is_dropped(self) -> None:
        self.client.protocol.pauseProducing()
        self.clock.advance(299)
        self.assertFalse(self.client.transport.disconnected)
        self.clock.advance(1)
        self.assertTrue(self.client.transport.disconnected)

    def test_time_does_not_count_while_we_do_not_read(self) -> None:
        self.limit(max_in_flight=1, max_backlog_bytes=10)
        self.client.write(b'{"sendMail":1}{"sendMail":2}{"sendMail":')
        self.assertEqual(self.client.transport.producerState, "paused")
        self.clock.advance(100)
        self.finish(1)
        self.clock.advance(29)
        self.assertEqual(self.client.messages, [1])
        self.client.write(b"3}")
        self.finish(2)
        self.finish(3)
        self.settle()
        self.assertEqual(self.client.messages, [1, 2, 3])


class WritingTests(_ProtocolCase):
    """An answer goes out at once as far as the kernel takes it, and whole in any case."""

    def written(self, room: int | Exception) -> list[bytes]:
        """Ask twice over a kernel with so much room; give what had to wait."""
        transport = KernelTransport(room)
        client = Client(self.factory, transport=transport)
        client.write(_PING)
        client.write(_PING)
        self.assertEqual(client.messages, ["pong", "pong"])
        return transport.waited

    def test_what_the_kernel_takes_does_not_wait_for_the_reactor(self) -> None:
        self.assertEqual(self.written(1000), [])

    def test_the_rest_waits_and_what_follows_waits_behind_it(self) -> None:
        first, second = self.written(10)
        self.assertEqual(len(first), len(second) - 10)

    def test_a_kernel_without_room_and_a_connection_that_is_gone_make_all_wait(self) -> None:
        for room in (0, ConnectionResetError()):
            first, second = self.written(room)
            self.assertEqual(first, second)

    def ended(self, *requests: bytes, room: int = 1000) -> tuple[bool, bool]:
        """Write these and half-close; tell whether it ended at once, and whether it is to end."""
        transport = KernelTransport(room)
        client = Client(self.factory, transport=transport)
        for request in requests:
            client.write(request)
        client.half_close()
        return transport.lost, client.closed

    def test_a_client_that_leaves_with_all_it_asked_for_is_let_go_at_once(self) -> None:
        self.assertEqual(self.ended(_PING), (True, False))

    def test_one_that_is_owed_something_is_not(self) -> None:
        self.assertEqual(self.ended(_PING, room=10), (False, True))
        self.assertEqual(self.ended(b'{"sendMail":1}'), (False, False))
        self.assertEqual(self.ended(b'{"ping'), (False, True))


class BackPressureTests(_ProtocolCase):
    """No client can make memory grow."""

    def test_nothing_is_read_or_started_while_answers_are_not_taken(self) -> None:
        self.client.protocol.pauseProducing()
        self.assertEqual(self.client.transport.producerState, "paused")
        self.client.write(_PING)
        self.assertEqual(self.client.messages, [])
        self.client.protocol.resumeProducing()
        self.assertEqual(self.client.messages, ["pong"])
        self.assertEqual(self.client.transport.producerState, "producing")

    def test_reading_stops_while_the_backlog_is_long(self) -> None:
        self.limit(max_in_flight=1, max_backlog_bytes=200)
        for i in range(4):
            self.client.write(b'{"sendMail":%d}' % i)
        self.assertEqual(self.client.transport.producerState, "paused")
        for i in range(4):
            self.finish(i)
        self.assertEqual(self.client.transport.producerState, "producing")

    def test_reading_stops_while_all_clients_together_wait_for_much(self) -> None:
        self.limit(max_in_flight=1, max_buffered_bytes=1000)
        for i in range(3):
            self.client.write(b'{"sendMail":%d}' % i)
        self.assertEqual(self.client.transport.producerState, "paused")
        self.finish(0)
        self.finish(1)
        self.assertEqual(self.client.transport.producerState, "producing")

    def test_unfinished_requests_of_all_clients_together_are_limited(self) -> None:
        self.limit(max_buffered_bytes=100)
        other = Client(self.factory)
        other.write(b"{" + b" " * 60)
        self.client.write(b"{" + b" " * 60)
        self.assert_ended(
            _error(
                "requests of all clients exceed 100 bytes (MAILER_MAX_BUFFERED): try again later",
                "service is busy",
            )
        )
        other.write(b"}")
        self.assertEqual(other.messages, ["payload cannot be empty"])
        self.assertEqual(self.factory.load.buffered_bytes, 0)

    def test_a_fault_is_read_past_even_when_reading_had_stopped(self) -> None:
        self.limit(max_in_flight=1, max_backlog_bytes=10)
        self.client.write(b'{"sendMail":1}{"sendMail":2}')
        self.factory.stop_reading()
        self.assertEqual(self.client.transport.producerState, "producing")


class LimitTests(_ProtocolCase):
    """Each limit is told before the connection is closed."""

    def test_a_request_that_is_too_large(self) -> None:
        self.limit(max_request_bytes=20)
        self.client.write(b'{"ping":"' + b"x" * 20)
        self.assert_ended(
            _error("request is larger than 20 bytes (MAILER_MAX_REQUEST_SIZE)", "invalid payload")
        )

    def test_a_request_that_is_too_deep(self) -> None:
        self.limit(max_depth=3)
        self.client.write(b'{"ping":[[[')
        self.assert_ended(_error("request is nested deeper than 3 levels", "invalid payload"))

    def test_too_many_connections(self) -> None:
        self.limit(max_connections=2)
        first, self.client = self.client, Client(self.factory)
        Client(self.factory).lose()
        self.client, second = Client(self.factory), self.client
        self.assert_ended(
            _error("at most 2 connections (MAILER_MAX_CONNECTIONS)", "too many connections")
        )
        self.client.write(_PING)
        self.assertEqual(len(self.client.answers), 1)
        self.assertEqual(self.factory.connections, 2)
        first.lose()
        third = Client(self.factory)
        for client in (second, third):
            client.write(_PING)
            self.assertEqual(client.messages, ["pong"])

    def test_too_many_connections_of_one_address(self) -> None:
        self.limit(max_connections_per_peer=1)
        other = Client(self.factory, "192.0.2.2")
        first, self.client = self.client, Client(self.factory)
        self.assert_ended(
            _error(
                "at most 1 connections per client address (MAILER_MAX_CONNECTIONS_PER_PEER)",
                "too many connections",
            )
        )
        self.client.lose()
        first.lose()
        self.client = Client(self.factory)
        self.assertFalse(self.client.closed or other.closed)

    def test_refused_connections_do_not_pile_up(self) -> None:
        self.limit(max_connections=1)
        refused = [Client(self.factory) for _ in range(100)]
        dropped = StringTransport()
        self.factory.buildProtocol(None).makeConnection(dropped)
        self.assertTrue(dropped.disconnected)
        refused[0].lose()
        self.assertEqual(Client(self.factory).messages, ["too many connections"])


class StopTests(_ProtocolCase):
    """At the end open requests finish and nothing new begins."""

    def test_drained_fires_when_no_request_is_in_flight(self) -> None:
        self.successResultOf(self.factory.drained())
        self.client.write(b'{"sendMail":1}{"sendMail":2}')
        drained = self.factory.drained()
        self.assertEqual(self.factory.requests_in_flight, 2)
        self.client.lose()
        self.finish(1)
        self.assertNoResult(drained)
        self.finish(2)
        self.successResultOf(drained)

    def test_idle_connections_are_closed_and_others_after_their_answers(self) -> None:
        busy = Client(self.factory)
        busy.write(b'{"sendMail":1}')
        self.factory.stop_reading()
        self.assertTrue(self.client.closed)
        self.assertEqual(self.client.answers, [])
        busy.write(_PING)
        self.assertFalse(busy.closed)
        self.finish(1)
        self.assertEqual(busy.messages, [1])
        self.assertTrue(busy.closed)

    def test_after_stopping_drained_waits_for_the_last_answers_to_be_out(self) -> None:
        self.client.write(b'{"sendMail":1}')
        self.factory.stop_reading()
        self.factory.stop_reading()
        drained = self.factory.drained()
        self.finish(1)
        self.assertNoResult(drained)
        self.client.lose()
        self.successResultOf(drained)
