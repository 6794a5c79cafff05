# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.services.room: who waits for memory, and for how long."""

from __future__ import annotations

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.services.room import MemoryRoom

MB = 2**20


class RoomTests(SynchronousTestCase):
    """A room of 100 MB."""

    def setUp(self) -> None:
        self.room = MemoryRoom(100 * MB)

    def test_what_fits_does_not_wait(self) -> None:
        for _ in range(2):
            self.successResultOf(self.room.take(50 * MB))
        self.assertEqual((self.room.taken, self.room.waiting), (100 * MB, 0))

    def test_the_others_wait_in_the_order_they_came(self) -> None:
        self.room.take(60 * MB)
        large, fitting = self.room.take(50 * MB), self.room.take(20 * MB)
        self.assertNoResult(large)
        self.assertNoResult(fitting)
        self.room.give(60 * MB)
        self.successResultOf(large)
        self.successResultOf(fitting)

    def test_what_is_small_never_waits(self) -> None:
        self.room.take(100 * MB)
        self.assertNoResult(self.room.take(2 * MB))
        self.successResultOf(self.room.take(MB))
        self.assertEqual(self.room.taken, 101 * MB)

    def test_what_is_larger_than_the_room_waits_until_it_is_alone(self) -> None:
        self.room.take(10 * MB)
        huge = self.room.take(500 * MB)
        self.assertNoResult(huge)
        self.room.give(10 * MB)
        self.successResultOf(huge)
        after = self.room.take(2 * MB)
        self.room.give(500 * MB)
        self.successResultOf(after)

    def test_who_waits_no_longer_holds_up_nobody(self) -> None:
        self.room.take(60 * MB)
        first, second = self.room.take(90 * MB), self.room.take(80 * MB)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.room.give(60 * MB)
        self.successResultOf(second)
        self.assertEqual((self.room.taken, self.room.waiting), (80 * MB, 0))

    def test_without_a_limit_nobody_waits(self) -> None:
        self.room.limit = 0
        for _ in range(10):
            self.successResultOf(self.room.take(500 * MB))

    @settings(deadline=None, max_examples=100, derandomize=True)
    @given(st.lists(st.integers(2 * MB, 150 * MB), max_size=40))
    def test_the_limit_holds_and_all_get_their_turn(self, sizes: list[int]) -> None:
        room = MemoryRoom(100 * MB)
        inside: deque[int] = deque()

        def enter(_: None, size: int) -> None:
            inside.append(size)
            self.assertEqual(sum(inside), room.taken)
            self.assertTrue(room.taken <= room.limit or len(inside) == 1)

        for size in sizes:
            room.take(size).addCallback(enter, size)
        seen = 0
        while inside:
            seen += 1
            room.give(inside.popleft())
        self.assertEqual((seen, room.taken, room.waiting), (len(sizes), 0, 0))
