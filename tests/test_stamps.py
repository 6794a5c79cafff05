# SPDX-License-Identifier: MIT
"""The identity of a mail."""

from __future__ import annotations

import itertools
import os

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.stamps import Stamps


class StampsTests(SynchronousTestCase):
    """What every mail gets."""

    def test_no_two_are_alike_however_many_are_asked_for(self) -> None:
        stamps = Stamps(os.urandom, lambda: 0.0)
        made = {stamps.fresh().unique for _ in range(2000)}
        self.assertEqual(len(made), 2000)
        for unique in made:
            self.assertRegex(unique, "^[0-9a-f]{16}$")

    def test_each_is_made_of_bytes_that_no_other_has(self) -> None:
        numbers = itertools.count()

        def draw(count: int) -> bytes:
            return b"".join(next(numbers).to_bytes(8, "big") for _ in range(count // 8))

        stamps = Stamps(draw, lambda: 0.0)
        made = [int(stamps.fresh().unique, 16) for _ in range(1000)]
        self.assertEqual(len(set(made)), 1000)
        self.assertLessEqual(max(made), next(numbers))

    def test_each_has_the_time_at_which_it_was_asked_for(self) -> None:
        clock = itertools.count(5)
        stamps = Stamps(os.urandom, lambda: float(next(clock)))
        self.assertEqual([stamps.fresh().epoch_seconds for _ in range(2)], [5.0, 6.0])

    def test_nothing_is_drawn_before_the_first_is_asked_for(self) -> None:
        def draw(_count: int) -> bytes:
            raise AssertionError("a process that forks now would share this with its child")

        Stamps(draw, lambda: 0.0)
