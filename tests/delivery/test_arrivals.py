# SPDX-License-Identifier: MIT
"""What is read under TLS is what the server wrote, however it comes in."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.delivery.arrivals import Arrivals
from tests.delivery.tls_ends import TlsEnds

VERSIONS = (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION)


class _Reading(TlsEnds):
    """Ends with arrivals at the near one."""

    def __init__(self, version: int = SSL.TLS1_3_VERSION) -> None:
        super().__init__(version)
        self.arrivals = Arrivals(self.layer)
        self.shake_hands()
        self.arrivals.begin()
        self.transport.clear()

    def says(self, *texts: bytes) -> bytes:
        """Seal each in a record of its own."""
        for text in texts:
            self.server.send(text)
        return self.from_server()


class ArrivalsTests(SynchronousTestCase):
    """One connection, in memory."""

    @settings(deadline=None, max_examples=60, derandomize=True)
    @given(
        st.sampled_from(VERSIONS),
        st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=6),
        st.lists(st.integers(0, 2000), max_size=8),
    )
    def test_cut_anywhere_it_is_the_same(
        self, version: int, texts: list[bytes], cuts: list[int]
    ) -> None:
        ends = _Reading(version)
        sealed = ends.says(*texts)
        at = [0, *sorted(min(cut, len(sealed)) for cut in cuts), len(sealed)]
        for begin, end in pairwise(at):
            if begin < end:
                ends.layer.dataReceived(sealed[begin:end])
        self.assertEqual(b"".join(ends.heard.pieces), b"".join(texts))
        ends.layer.dataReceived(ends.says(b"what", b" follows"))
        self.assertEqual(ends.heard.pieces[-1], b"what follows")

    def test_records_that_come_together_are_handed_on_together(self) -> None:
        ends = _Reading()
        ends.layer.dataReceived(ends.says(b"250 one\r\n", b"250 two\r\n"))
        self.assertEqual(ends.heard.pieces, [b"250 one\r\n250 two\r\n"])

    def test_behind_a_record_in_pieces_the_next_is_whole_again(self) -> None:
        ends = _Reading()
        sealed = ends.says(b"one")
        for piece in (sealed[:3], sealed[3:9], sealed[9:]):
            ends.layer.dataReceived(piece)
        ends.layer.dataReceived(ends.says(b"two", b"three"))
        self.assertEqual(ends.heard.pieces, [b"one", b"twothree"])

    def hold_tickets(self) -> tuple[TlsEnds, bytes]:
        """Give ends, and what the server says of TLS itself once it takes words."""
        ends = TlsEnds()
        arrivals = Arrivals(ends.layer)
        ends.shake_hands(rounds=1)
        arrivals.begin()
        ends.server_takes()
        ends.server.do_handshake()
        return ends, ends.from_server()

    def test_what_tls_says_itself_is_heard_by_nobody_and_loses_nothing(self) -> None:
        ends, tickets = self.hold_tickets()
        ends.server.send(b"250 ok")
        ends.layer.dataReceived(tickets + ends.from_server())
        self.assertEqual(ends.heard.pieces, [b"250 ok"])

    def test_what_tls_has_to_answer_goes_out(self) -> None:
        ends, tickets = self.hold_tickets()
        ends.layer.getHandle().send(b"as if it were the answer")
        ends.layer.dataReceived(tickets)
        self.assertEqual(ends.server_reads(), b"as if it were the answer")

    def test_the_largest_record_is_read_whole(self) -> None:
        ends = _Reading()
        ends.layer.dataReceived(ends.says(b"x" * 2**14))
        self.assertEqual(ends.heard.pieces, [b"x" * 2**14])

    def test_before_it_begins_twisted_reads(self) -> None:
        ends = TlsEnds()
        Arrivals(ends.layer)
        ends.shake_hands()
        ends.server.send(b"one")
        ends.server.send(b"two")
        ends.layer.dataReceived(ends.from_server())
        self.assertEqual(ends.heard.pieces, [b"one", b"two"])

    def test_an_end_behind_the_last_words_is_told_after_them(self) -> None:
        for version in VERSIONS:
            ends = _Reading(version)
            ends.server.send(b"421 bye")
            ends.server.shutdown()
            ends.layer.dataReceived(ends.from_server())
            self.assertEqual(ends.heard.pieces, [b"421 bye"])
            self.assertTrue(ends.transport.disconnecting)

    def test_what_nobody_sealed_ends_the_connection_unread(self) -> None:
        for version in VERSIONS:
            ends = _Reading(version)
            sealed = bytearray(ends.says(b"250 ok"))
            sealed[-1] ^= 1
            ends.layer.dataReceived(bytes(sealed))
            self.assertEqual(ends.heard.pieces, [])
            self.assertTrue(ends.transport.disconnecting)
            self.assertTrue(ends.transport.value(), "an alert tells the server")

    def test_words_in_front_of_what_nobody_sealed_are_heard(self) -> None:
        ends = _Reading()
        good, bad = ends.says(b"250 ok"), bytearray(ends.says(b"250 no"))
        bad[-1] ^= 1
        ends.layer.dataReceived(good + bytes(bad))
        self.assertEqual(ends.heard.pieces, [b"250 ok"])
        self.assertTrue(ends.transport.disconnecting)

    def test_a_transport_without_twisted_s_tls_is_left_alone(self) -> None:
        self.assertIsNone(Arrivals.of(StringTransport()))
