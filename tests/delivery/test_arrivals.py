# SPDX-License-Identifier: MIT
"""What is read under TLS is what the server wrote, however it comes in."""

from __future__ import annotations

import contextlib
import itertools
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import BufferingTLSTransport
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.delivery.arrivals import Arrivals
from tests.delivery.tls_ends import TlsEnds
from tests.delivery.tls_records import (
    ALERT,
    APPLICATION_DATA,
    HANDSHAKE,
    Sealer,
    ready_ends,
    ticket,
)

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


#: What a server may say under TLS, and of TLS itself: data and padding, tickets, new keys, alerts.
_SAID = st.tuples(
    st.sampled_from(
        [
            "data",
            "data",
            "padded",
            "empty",
            "ticket",
            "torn_ticket",
            "keys",
            "asked_keys",
            "warning",
            "fatal",
            "bad",
        ]
    ),
    st.sampled_from([1, 5, 100, 3000]),
)


def _records(server: Sealer, kind: str, size: int) -> list[bytes]:
    """Seal what is said in a record or two."""
    if kind in ("data", "padded"):
        return [server.seal(APPLICATION_DATA, b"x" * size, 700 if kind == "padded" else 0)]
    if kind in ("keys", "asked_keys"):
        return [server.update(asked=kind == "asked_keys")]
    if kind in ("ticket", "torn_ticket"):
        whole = ticket(size)
        at = 20 if kind == "torn_ticket" else len(whole)
        return [server.seal(HANDSHAKE, part) for part in (whole[:at], whole[at:]) if part]
    if kind == "bad":
        sealed = bytearray(server.seal(APPLICATION_DATA, b"bad"))
        sealed[-1] ^= 1  # Another byte, whatever it was: one time in 256 it is what one would put.
        return [bytes(sealed)]
    alerts = {"warning": b"\1\0", "fatal": b"\2\x28"}
    if kind in alerts:
        return [server.seal(ALERT, alerts[kind])]
    return [server.seal(APPLICATION_DATA, b"", size)]


def _exchange(make: Any, said: list[tuple[str, int]], cuts: list[int]) -> tuple[Any, ...]:
    """Let the server say all that, cut there and behind each record; write in between."""
    ends, server = ready_ends(make)
    records = [record for kind, size in said for record in _records(server, kind, size)]
    data = b"".join(records)
    borders = itertools.accumulate(map(len, records[::2]))
    at = sorted({0, len(data), *(min(cut, len(data)) for cut in (*cuts, *borders))})
    read = b""
    for number, (begin, end) in enumerate(pairwise(at)):
        if ends.transport.disconnecting:
            break
        ends.layer.dataReceived(data[begin:end])
        ends.layer.write(b"<%d>" % number)
        with contextlib.suppress(SSL.Error):
            read += ends.server_reads()
    return b"".join(ends.heard.pieces), bool(ends.transport.disconnecting), read


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

    def test_behind_a_record_whose_last_bytes_come_alone_the_next_is_whole_again(self) -> None:
        for version in VERSIONS:
            for late in range(1, 5):  # Fewer than a header has: they would be taken for its begin.
                ends = _Reading(version)
                sealed = ends.says(b"one")
                ends.layer.dataReceived(sealed[:-late])
                ends.layer.dataReceived(sealed[-late:])
                ends.layer.dataReceived(ends.says(b"two", b"three"))
                self.assertEqual(ends.heard.pieces, [b"one", b"twothree"])

    def test_what_waits_until_a_message_of_tls_is_whole_goes_out_first(self) -> None:
        """OpenSSL seals nothing while it has read the half of such a message."""
        ends, server = ready_ends(_Reading)
        said = ticket()
        ends.layer.dataReceived(server.seal(HANDSHAKE, said[:20]))
        ends.layer.write(b"one ")
        self.assertEqual(ends.server_reads(), b"")
        ends.layer.dataReceived(server.seal(HANDSHAKE, said[20:]))
        ends.layer.write(b"two")
        self.assertEqual(ends.server_reads(), b"one two")

    def test_what_twisted_has_collected_goes_out_first(self) -> None:
        ends = TlsEnds(layer=BufferingTLSTransport)
        arrivals = Arrivals(ends.layer)
        ends.shake_hands()
        ends.layer.write(b"AUTH")
        self.assertEqual(ends.server_reads(), b"")
        arrivals.begin()
        self.assertEqual(ends.server_reads(), b"AUTH")

    @settings(deadline=None, max_examples=100, derandomize=True)
    @given(st.lists(_SAID, min_size=1, max_size=12), st.lists(st.integers(0, 3000), max_size=4))
    def test_it_reads_and_writes_what_twisted_would(
        self, said: list[tuple[str, int]], cuts: list[int]
    ) -> None:
        self.assertEqual(_exchange(_Reading, said, cuts), _exchange(TlsEnds, said, cuts))

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
