# SPDX-License-Identifier: MIT
"""What every store of requests' keys does, whatever it keeps them in."""

from __future__ import annotations

from typing import Any

from zope.interface.verify import verifyObject

from smtpmailer.core.once import Kept
from smtpmailer.errors import StoreError
from smtpmailer.interfaces import IOnceStore

__all__ = ["ANSWER", "NOTE", "OTHER", "PLACE", "OnceContract"]

PLACE = "0a" * 32
NOTE = {"mark": "m1", "mail": "9e51fa6fad25da44", "at": 1_700_000_000.5}
OTHER = {**NOTE, "mail": "aaaafa6fad25da44"}
ANSWER = {"status": "success", "data": "mail_1.json", "message": "Grüße\n", "detail": None}


class OnceContract:
    """Mix into a SynchronousTestCase that sets ``store`` and ``other`` in ``setUp``.

    ``other`` is that of another process, or node.
    """

    store: IOnceStore
    other: IOnceStore

    def claim(self: Any, store: IOnceStore, note: Any = NOTE, place: str = PLACE) -> Kept | None:
        kept: Kept | None = self.successResultOf(store.claim(place, note))
        return kept

    def test_it_provides_its_interface(self: Any) -> None:
        verifyObject(IOnceStore, self.store)

    def test_a_free_place_is_taken_by_one(self: Any) -> None:
        self.assertIsNone(self.claim(self.store))
        for store in (self.other, self.store):
            self.assertEqual(self.claim(store, OTHER), Kept(note=NOTE, alive=True))

    def test_each_place_is_one_of_its_own(self: Any) -> None:
        self.assertIsNone(self.claim(self.store))
        self.assertIsNone(self.claim(self.other, OTHER, "0b" * 32))

    def test_of_claims_at_the_same_time_one_wins(self: Any) -> None:
        notes = [{**NOTE, "mail": str(number)} for number in range(10)]
        claims = [
            (self.store if number % 2 else self.other).claim(PLACE, note)
            for number, note in enumerate(notes)
        ]
        found = [self.successResultOf(claim) for claim in claims]
        self.assertEqual(found.count(None), 1)
        winner = notes[found.index(None)]
        self.assertEqual([each.note for each in found if each], [winner] * 9)

    def test_an_answer_is_kept_for_everybody(self: Any) -> None:
        self.claim(self.store)
        self.successResultOf(self.store.answer(PLACE, NOTE, ANSWER))
        for store in (self.store, self.other):
            self.assertEqual(self.claim(store, OTHER), Kept(note=NOTE, answer=ANSWER))

    def test_a_released_place_is_free(self: Any) -> None:
        self.claim(self.store)
        self.successResultOf(self.store.release(PLACE))
        self.assertIsNone(self.claim(self.other, OTHER))
        self.assertEqual(self.claim(self.store), Kept(note=OTHER, alive=True))

    def test_nobody_releases_what_is_anothers(self: Any) -> None:
        self.claim(self.store)
        self.successResultOf(self.other.release(PLACE))
        self.assertEqual(self.claim(self.other, OTHER), Kept(note=NOTE, alive=True))

    def test_what_is_left_stays_taken(self: Any) -> None:
        self.claim(self.store)
        self.store.leave(PLACE)
        self.until_left(PLACE)
        for store in (self.store, self.other):
            self.assertEqual(self.claim(store, OTHER), Kept(note=NOTE))
        self.successResultOf(self.store.release(PLACE))
        self.assertEqual(self.claim(self.other, OTHER), Kept(note=NOTE))

    def test_who_stops_leaves_all(self: Any) -> None:
        self.claim(self.store)
        self.successResultOf(self.store.stop())
        self.until_left(PLACE)
        self.assertEqual(self.claim(self.other, OTHER), Kept(note=NOTE))

    def test_what_was_left_can_be_answered_by_others(self: Any) -> None:
        self.claim(self.store)
        self.store.leave(PLACE)
        self.successResultOf(self.other.answer(PLACE, NOTE, ANSWER))
        self.assertEqual(self.claim(self.store, OTHER), Kept(note=NOTE, answer=ANSWER))

    def test_nobody_answers_in_anothers_place(self: Any) -> None:
        self.claim(self.store)
        self.failureResultOf(self.other.answer(PLACE, OTHER, ANSWER), StoreError)
        self.assertEqual(self.claim(self.other, OTHER), Kept(note=NOTE, alive=True))

    def until_left(self, place: str) -> None:
        """Wait until others can see that a place was left."""
