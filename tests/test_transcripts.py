# SPDX-License-Identifier: MIT
"""Every recorded pair, sent in every way in which clients in the field send."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from tests.connections import exchange, make_factory
from tests.transcripts import Pair, load_pairs, make_dispatcher


class TranscriptTests(SynchronousTestCase):
    """A client written for the predecessor works unchanged."""

    def setUp(self) -> None:
        """Serve."""
        self.factory = make_factory(make_dispatcher())
        self.pairs = load_pairs()

    def _check(self, pair: Pair, pieces: Sequence[bytes], *, half_close: bool = False) -> None:
        client = exchange(self.factory, pieces, half_close=half_close)
        self.assertEqual(client.answers, [pair.response], pieces)
        self.assertEqual([list(a) for a in client.answers], [["status", "data", "message"]])
        self.assertEqual(
            [list(a["data"]) for a in client.answers if isinstance(a["data"], dict)],
            [list(pair.response["data"])] if isinstance(pair.response["data"], dict) else [],
        )
        self.assertEqual(client.closed, pair.ends or half_close, pieces)
        client.lose()

    def test_there_are_as_many_pairs_as_were_recorded(self) -> None:
        self.assertEqual(len(self.pairs), 51 + 22)

    def test_without_terminator(self) -> None:
        for pair in self.pairs:
            self._check(pair, [pair.request])

    def test_with_newline_and_with_crlf(self) -> None:
        for pair in self.pairs:
            self._check(pair, [pair.request + b"\n"])
            self._check(pair, [pair.request + b"\r\n"])
            self._check(pair, [pair.request, b"\r\n"])

    def test_followed_by_a_half_close(self) -> None:
        for pair in self.pairs:
            self._check(pair, [pair.request], half_close=True)

    def test_split_at_every_point(self) -> None:
        for pair in self.pairs:
            raw = pair.request
            for i in range(1, len(raw)):
                self._check(pair, [raw[:i], raw[i:]])

    def test_one_byte_at_a_time(self) -> None:
        for pair in self.pairs:
            raw = pair.request
            self._check(pair, [raw[i : i + 1] for i in range(len(raw))])

    def test_two_in_one_segment(self) -> None:
        for pair in self.pairs:
            for blank in (b"", b"\n"):
                client = exchange(self.factory, [pair.request + blank + pair.request])
                count = 1 if pair.ends else 2
                self.assertEqual(client.answers, [pair.response] * count)
                self.assertEqual(client.closed, pair.ends)
                client.lose()
