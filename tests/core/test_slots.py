# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.core.slots."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.slots import Slot, Slots


class SlotsTests(SynchronousTestCase):
    """One server may have all slots, but not keep them from others."""

    def setUp(self) -> None:
        self.slots = Slots(20)

    def take(self, count: int, server: str = "a:25", now: float = 0.0) -> list[Slot]:
        return [self.slots.take(server, now) for _ in range(count)]

    def test_one_server_may_have_all(self) -> None:
        self.assertEqual(self.slots.free_for("a:25"), 20)
        self.take(19)
        self.assertEqual(self.slots.free_for("a:25"), 1)
        self.take(1)
        self.assertEqual(self.slots.free_for("a:25"), 0)

    def test_others_have_their_share_all_the_same(self) -> None:
        self.take(20)
        self.assertEqual(self.slots.free_for("b:25"), 5)
        self.take(5, "b:25")
        self.assertEqual((self.slots.free_for("b:25"), self.slots.free_for("c:25")), (0, 5))

    def test_what_is_lent_and_slow_counts_as_room_for_others(self) -> None:
        self.take(12, now=0)
        self.take(8, now=3)
        self.assertEqual(self.slots.lent_too_long(4.9), 0)
        self.assertEqual(self.slots.lent_too_long(5), 12)
        # Never those of the share.
        self.assertEqual(self.slots.lent_too_long(9), 15)

    def test_within_its_share_a_server_may_be_as_slow_as_it_likes(self) -> None:
        for server in ("a:25", "b:25", "c:25", "d:25"):
            self.take(5, server)
        self.assertEqual(self.slots.lent_too_long(1e6), 0)

    def test_what_one_server_leaves_of_its_share_takes_nothing_off_what_is_lent(
        self,
    ) -> None:
        self.take(8, "a:25")
        self.take(2, "b:25")
        self.assertEqual(self.slots.lent_too_long(1e6), 3)

    def test_what_is_given_back_can_be_taken_again(self) -> None:
        slots = self.take(20)
        while slots:
            self.slots.give_back(slots.pop())
        self.assertEqual((self.slots.free_for("a:25"), self.slots.lent_too_long(99)), (20, 0))
        self.assertEqual(self.slots._since, {})

    def test_the_share_of_few_slots_is_one(self) -> None:
        self.slots = Slots(2)
        self.take(2)
        self.assertEqual(self.slots.free_for("b:25"), 1)
        self.assertEqual(self.slots.lent_too_long(5), 1)

    def test_a_single_slot_is_never_lent(self) -> None:
        self.slots = Slots(1)
        self.take(1)
        self.assertEqual(self.slots.lent_too_long(1e6), 0)
