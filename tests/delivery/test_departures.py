# SPDX-License-Identifier: MIT
"""What is written under TLS arrives whole and in order, whoever takes it to the kernel."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.delivery.connecting import SessionFactory
from smtpmailer.delivery.departures import Departures, TlsOutlet
from smtpmailer.errors import SmtpLostError
from tests.connections import KernelTransport
from tests.delivery.hostile import plain_route
from tests.delivery.tls_ends import TlsEnds


class Kernel:
    """A TCP transport under TLS: the kernel takes ``room`` bytes of each write, then blocks.

    ``calls`` counts them. What it does not take waits as it does at Twisted's transport, and goes
    out with ``drain``; what is written by name goes through the TLS layer, as it does there.
    """

    disconnecting = False
    connected = True
    aborted = False

    def __init__(self, ends: TlsEnds, room: int | Exception = 1 << 20) -> None:
        self.ends = ends
        self.room = room
        self.calls = 0
        self.waiting: list[bytes] = []
        self.dataBuffer = b""
        ends.layer.transport = self.past = StringTransport()
        self.past.write = self.wait  # type: ignore[method-assign] # what passes the layer by

    @property
    def _tempDataLen(self) -> int:
        return sum(map(len, self.waiting))

    def writeSomeData(self, data: bytes) -> int | Exception:
        """Take what there is room for."""
        self.calls += 1
        if isinstance(self.room, Exception):
            return self.room
        self.ends.transport.write(data[: self.room])
        return min(self.room, len(data))

    def wait(self, data: bytes) -> None:
        """Keep what is sealed for later."""
        self.waiting.append(data)

    def write(self, data: bytes) -> None:
        """Let Twisted seal it."""
        self.ends.layer.write(data)

    def abortConnection(self) -> None:
        """End."""
        self.aborted = True

    def drain(self) -> None:
        """Let go out what waits."""
        self.ends.transport.write(b"".join(self.waiting))
        self.waiting.clear()


class TlsOutletTests(SynchronousTestCase):
    """One connection, in memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.departures = Departures(self.clock)
        self.begin()

    def begin(self, room: int | Exception = 1 << 20, version: int = SSL.TLS1_3_VERSION) -> None:
        self.ends = TlsEnds(version)
        self.ends.shake_hands()
        self.ends.server_takes()
        self.kernel = Kernel(self.ends, room)
        transport: Any = self.kernel
        self.outlet = TlsOutlet(transport, self.ends.layer, self.departures)

    def write(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.outlet.write(piece)
        self.clock.advance(0)

    @property
    def arrived(self) -> bytes:
        self.kernel.drain()
        return self.ends.server_reads()

    @settings(deadline=None, max_examples=50, derandomize=True)
    @given(st.lists(st.integers(1, 40_000), min_size=1, max_size=5), st.integers(0, 60_000))
    def test_whatever_the_kernel_takes_it_arrives_in_order(
        self, sizes: list[int], room: int
    ) -> None:
        self.begin(room)
        pieces = [bytes([number]) * size for number, size in enumerate(sizes)]
        self.write(*pieces[:2])
        for piece in pieces[2:]:
            self.write(piece)
        self.assertEqual(self.arrived, b"".join(pieces))

    def test_all_of_a_turn_is_one_write_at_its_end(self) -> None:
        self.outlet.write(b"one")
        self.outlet.write(b"two")
        self.assertEqual(self.kernel.calls, 0)
        self.clock.advance(0)
        self.assertEqual((self.kernel.calls, self.arrived), (1, b"onetwo"))

    def test_the_turn_s_end_is_planned_once_for_all(self) -> None:
        first = self.outlet
        self.begin()
        first.write(b"one")
        self.outlet.write(b"two")
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_a_fault_ends_its_connection_and_keeps_no_other_waiting(self) -> None:
        faulty, outlet = self.kernel, self.outlet

        def fail(_data: bytes) -> int:
            raise RuntimeError("a fault")

        outlet._write_some = fail
        self.begin()
        outlet.write(b"one")
        self.outlet.write(b"two")
        with self.assertRaises(RuntimeError):
            self.clock.advance(0)
        self.clock.advance(0)
        self.assertEqual((faulty.aborted, self.kernel.aborted), (True, False))
        self.assertEqual(self.arrived, b"two")
        self.write(b" three")
        self.assertEqual(self.arrived, b" three")

    def test_behind_what_waits_nothing_goes_out_at_once(self) -> None:
        self.kernel.waiting.append(b"")
        self.kernel.dataBuffer = b"something that TLS itself had to say"
        self.write(b"one")
        self.assertEqual(self.kernel.calls, 0)
        self.kernel.dataBuffer = b""
        self.assertEqual(self.arrived, b"one")

    def test_what_the_kernel_did_not_take_is_out_before_it_is_asked_again(self) -> None:
        self.begin(room=5)
        self.write(b"one")
        self.kernel.room = 1 << 20
        self.write(b"two")
        self.assertEqual(self.kernel.calls, 1)
        self.kernel.drain()
        self.write(b"three")
        self.assertEqual((self.kernel.calls, self.arrived), (2, b"onetwothree"))

    def test_a_lost_connection_is_the_transport_s_to_find_out(self) -> None:
        self.begin(room=ConnectionError("gone"))
        self.write(b"one")
        self.assertEqual(len(self.kernel.waiting), 1)

    def test_left_to_the_transport_all_is_sealed_in_order(self) -> None:
        self.outlet.write(b"one")
        self.outlet.leave()
        self.assertEqual(self.kernel.calls, 1)
        self.write(b"two")
        self.assertEqual((self.kernel.calls, self.arrived), (1, b"onetwo"))

    def test_what_is_dropped_is_never_written(self) -> None:
        self.outlet.write(b"one")
        self.outlet.drop()
        self.clock.advance(0)
        self.assertEqual(self.arrived, b"")

    def test_a_connection_at_its_end_gets_nothing(self) -> None:
        for state, value in (("disconnecting", True), ("connected", False)):
            self.begin()
            self.outlet.write(b"one")
            setattr(self.kernel, state, value)
            self.clock.advance(0)
            self.assertEqual((self.kernel.calls, self.arrived), (0, b""), state)

    def test_what_tls_still_has_to_say_goes_out_in_front_of_it(self) -> None:
        self.ends.layer.getHandle().send(b"x" * 5000)
        self.write(b"one")
        self.assertEqual(self.arrived, b"x" * 5000 + b"one")

    def test_in_the_middle_of_another_handshake_it_waits_for_its_end(self) -> None:
        self.begin(version=SSL.TLS1_2_VERSION)
        self.ends.server.renegotiate()
        with contextlib.suppress(SSL.WantReadError):
            self.ends.server.do_handshake()
        self.ends.layer.dataReceived(self.ends.from_server())
        self.write(b"one")
        self.write(b"two")
        self.assertEqual(self.kernel.calls, 0)
        arrived = b""
        for _ in range(4):
            arrived += self.arrived
            if sealed := self.ends.from_server():
                self.ends.layer.dataReceived(sealed)
        self.assertEqual(arrived, b"onetwo")

    def test_what_openssl_refuses_is_twisted_s_matter(self) -> None:
        self.ends.layer.getHandle().shutdown()
        self.write(b"one")
        self.write(b"two")
        with self.assertRaises(SSL.ZeroReturnError):
            _ = self.arrived


class SessionTests(SynchronousTestCase):
    """A session that writes so."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.ends = TlsEnds()
        self.ends.shake_hands()
        self.ends.server_takes()
        transport: Any = Kernel(self.ends)
        self.session = SessionFactory(plain_route(), None, self.clock).buildProtocol(None)
        self.session.makeConnection(KernelTransport(1000))
        self.session.outlet = TlsOutlet(transport, self.ends.layer, Departures(self.clock))
        self.session.outlet.write(b"NOOP\r\n")

    def test_it_says_goodbye_behind_all_else(self) -> None:
        self.session.leave()
        self.clock.advance(0)
        self.assertEqual(self.ends.server_reads(), b"NOOP\r\nQUIT\r\n")

    def test_when_it_fails_nothing_more_is_said(self) -> None:
        self.session.ready.addErrback(lambda _: None)
        self.session.fail(SmtpLostError("given up"))
        self.clock.advance(0)
        self.assertEqual(self.ends.server_reads(), b"")
