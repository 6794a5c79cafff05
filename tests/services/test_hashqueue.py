# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.services.hashqueue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import bcrypt
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from smtpmailer.core.standing import Standing
from smtpmailer.errors import BusyError
from smtpmailer.interfaces import IThreads
from smtpmailer.services import hashqueue
from smtpmailer.services.hashqueue import Asker, HashQueue

_T = TypeVar("_T")
_HASH = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode("ascii")
#: An address from which wrong passwords came, and one from which none did.
_BAD = "192.0.2.1"
_GOOD = "198.51.100.7"


@implementer(IThreads)
class StepThreads:
    """Runs work when told to, what came first at first."""

    def __init__(self) -> None:
        self.works: list[Callable[[], object]] = []

    def run(self, work: Callable[[], _T]) -> Deferred[_T]:
        done: Deferred[_T] = Deferred()
        self.works.append(lambda: maybeDeferred(work).chainDeferred(done))
        return done


class HashQueueCase(SynchronousTestCase):
    """A queue, and a list of what came out of it."""

    def setUp(self) -> None:
        self.threads = StepThreads()
        self.failures = {_BAD: 100}
        self.now = 0.0
        self.done: list[str] = []
        self.refused: list[str] = []
        self.queue = HashQueue(self.threads, lambda a: self.failures.get(a, 0), lambda: self.now)

    def find(
        self,
        name: str,
        standing: Standing | None = None,
        address: str = _BAD,
        *,
        right: bool = False,
        hashes: int = 1,
    ) -> Standing:
        """Ask for a password that goes by this name, wrong ones but for the last perhaps."""
        standing = standing or Standing()
        texts = ["wrong"] * (hashes - 1) + ["right" if right else "wrong"]
        answer = self.queue.find(Asker(address, standing), name, [(t, _HASH) for t in texts])

        def tell(found: Any) -> None:
            self.assertEqual(found, hashes - 1 if right else None)
            self.done.append(name)

        def refuse(failure: Any) -> None:
            failure.trap(BusyError)
            self.refused.append(name)

        answer.addCallbacks(tell, refuse)
        return standing

    def occupy(self) -> None:
        """Let a guesser's password be hashed, so that others of bad addresses wait."""
        self.find("occupied")

    def step(self, hashes: int = 1) -> None:
        """Compute so many hashes."""
        for _ in range(hashes):
            self.threads.works.pop(0)()

    def finish(self) -> list[str]:
        """Compute all hashes; give the order of the results."""
        while self.threads.works:
            self.step()
        self.assertEqual(self.queue.waiting, 0)
        return [name for name in self.done if name != "occupied"]


class AddressTests(HashQueueCase):
    """Between addresses those come first that guess less."""

    def test_the_address_with_the_fewest_wrong_ones_is_next(self) -> None:
        self.occupy()
        self.failures |= {"a": 5, "b": 1, "c": 3}
        for address in "abc":
            self.find(address, address=address)
        self.assertEqual(self.finish(), ["b", "c", "a"])

    def test_of_equal_ones_the_one_for_which_least_is_done_is_next(self) -> None:
        for name in ("1", "2", "3", "4"):
            self.find(name, address=_GOOD)
        self.find("other", address="203.0.113.9")
        self.assertEqual(self.finish(), ["1", "2", "other", "3", "4"])

    def test_addresses_that_guess_leave_a_thread_to_those_that_do_not(self) -> None:
        for name in ("1", "2", "3"):
            self.find(name)
        self.assertEqual(len(self.threads.works), 1)
        self.find("other", address=_GOOD)
        self.assertEqual(len(self.threads.works), 2)

    def test_guessers_elsewhere_do_not_starve_a_new_connection_of_a_bad_address(self) -> None:
        """Beyond a number of wrong passwords all addresses are as bad."""
        self.occupy()
        self.failures |= {"worse": 1000, "bad": 50}
        for i in range(3):
            self.find(f"guess {i}", Standing(wrong=1), "bad")
        self.find("new", address="worse")
        self.assertEqual(self.finish()[0], "new")

    def test_those_of_bad_addresses_that_have_left_wait_for_all_others(self) -> None:
        self.occupy()
        self.failures["less bad"] = 1
        self.find("left", Standing(left=True), "less bad")
        self.find("here", Standing(wrong=5))
        self.assertEqual(self.finish(), ["here", "left"])

    def test_those_of_a_good_address_do_not_wait_though_they_have_left(self) -> None:
        self.find("1", address=_GOOD)
        self.occupy()
        self.find("2", Standing(left=True), _GOOD)
        self.find("3", address=_GOOD)
        self.assertEqual(self.finish(), ["1", "2", "3"])


class ConnectionTests(HashQueueCase):
    """Behind one address those connections come first that guess less."""

    def test_the_connection_with_the_fewest_wrong_ones_is_next(self) -> None:
        self.occupy()
        for wrong in (3, 1, 2, 0):
            self.find(str(wrong), Standing(wrong=wrong))
        self.assertEqual(self.finish(), ["0", "1", "2", "3"])

    def test_one_that_gave_a_right_one_is_before_a_new_one(self) -> None:
        self.occupy()
        self.find("new")
        self.find("guesser", Standing(wrong=1))
        self.find("known guesser", Standing(right=True, wrong=1))
        self.find("known", Standing(right=True))
        self.assertEqual(self.finish(), ["known", "new", "known guesser", "guesser"])

    def test_one_that_gave_right_ones_only_does_not_answer_for_its_address(self) -> None:
        self.occupy()
        self.find("known", Standing(right=True))
        self.assertEqual(len(self.threads.works), 2)

    def test_who_sends_many_waits_for_who_sends_its_first(self) -> None:
        self.occupy()
        greedy = Standing()
        for i in range(4):
            self.find(f"greedy {i}", greedy)
        self.step()
        self.find("first")
        self.assertEqual(self.finish()[:3], ["greedy 0", "first", "greedy 1"])

    def test_who_has_many_hashes_to_try_does_not_hold_up_who_has_one(self) -> None:
        self.find("many", hashes=8)
        self.find("one")
        self.assertEqual(self.finish(), ["one", "many"])

    def test_a_right_one_makes_up_for_what_it_cost_to_find_it(self) -> None:
        standing = self.find("many", hashes=8, right=True)
        self.assertEqual((self.finish(), standing.spent), (["many"], 0))
        self.find("wrong", standing)
        self.finish()
        self.assertEqual(standing.spent, 1)

    def test_one_that_has_left_is_last_and_carried_out_all_the_same(self) -> None:
        self.occupy()
        standing = self.find("left")
        self.find("guesser", Standing(wrong=5))
        standing.left = True
        self.queue.leave(standing)
        self.assertEqual(self.finish(), ["guesser", "left"])


class RoomTests(HashQueueCase):
    """Nobody fills the queue, and who takes most of it is refused."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(hashqueue, "_IN_ALL", 20)
        self.occupy()

    def test_a_connection_has_a_few_places(self) -> None:
        standing = Standing()
        for i in range(10):
            self.find(str(i), standing)
        self.assertEqual(self.refused, ["8", "9"])

    def test_a_full_queue_takes_a_place_from_the_greediest_connection(self) -> None:
        for i in range(3):
            greedy = Standing()
            for j in range(8):
                self.find(f"greedy {i} {j}", greedy)
        refused = len(self.refused)
        for i in range(17):
            self.find(f"first {i}")
        self.assertEqual(len(self.refused), refused + 17)
        self.assertNotIn("first", str(self.refused))
        self.assertEqual(self.queue.waiting, 20)

    def test_a_connection_that_guessed_gives_its_place_to_one_that_did_not(self) -> None:
        for i in range(20):
            self.find(f"guess {i}", Standing(wrong=1))
        self.find("first")
        self.find("late guess", Standing(wrong=1))
        self.assertEqual(self.refused, ["guess 19", "late guess"])

    def test_where_all_wait_for_their_first_the_last_one_is_refused(self) -> None:
        for i in range(21):
            self.find(f"first {i}")
        self.assertEqual(self.refused, ["first 20"])

    def test_one_that_gave_a_right_one_has_a_place_all_the_same(self) -> None:
        self.find("running", address=_GOOD)
        for i in range(20):
            self.find(f"first {i}")
        self.find("known", Standing(right=True))
        self.assertEqual(self.refused, ["first 19"])

    def test_a_better_address_takes_a_place_from_a_worse_one(self) -> None:
        self.find("running", address=_GOOD)
        for i in range(20):
            self.find(f"bad {i}")
        self.find("good", address=_GOOD)
        self.assertEqual(self.refused, ["bad 19"])

    def test_a_worse_address_takes_no_place_from_a_better_one(self) -> None:
        for i in range(21):
            self.find(f"good {i}", address=_GOOD)
        self.find("bad")
        self.assertEqual(self.refused, ["bad"])

    def test_of_equal_addresses_the_one_with_more_places_loses_one(self) -> None:
        self.failures["other"] = 200
        for i in range(20):
            self.find(f"many {i}")
        self.find("few", address="other")
        self.assertEqual(self.refused, ["many 19"])

    def test_who_closes_after_each_guess_does_not_fill_it(self) -> None:
        for i in range(15):
            standing = self.find(f"left {i}")
            standing.left = True
            self.queue.leave(standing)
        self.assertEqual(self.queue.waiting, 8)
        self.assertEqual(len(self.refused), 7)

    def test_one_that_waits_for_its_first_does_not_give_way_to_many_addresses(self) -> None:
        for i in range(10):
            self.find(f"first {i}")
        for i in range(4):
            address, standing = f"10.0.0.{i}", Standing()
            self.failures[address] = 100
            for j in range(3):
                self.find(f"other {i} {j}", standing, address)
        self.find("first")
        self.assertEqual(len(self.refused), 3)
        self.assertEqual({name.split()[0] for name in self.refused}, {"other"})

    def test_one_that_has_left_gives_its_place_to_one_that_has_not(self) -> None:
        """However many addresses they have."""
        for i in range(20):
            address = f"10.0.0.{i}"
            self.failures[address] = 1
            self.find(f"left {i}", Standing(left=True), address)
        self.find("first")
        self.find("second")
        self.assertEqual(self.refused, ["left 19", "left 18"])

    def test_nothing_waits_for_more_than_a_minute(self) -> None:
        self.find("old")
        self.now = 50.0
        self.find("new")
        self.now = 61.0
        self.step()
        self.assertEqual(self.refused, ["old"])
        self.assertEqual(self.finish(), ["new"])

    def test_one_that_comes_when_others_are_refused_may_take_their_places(self) -> None:
        self.patch(hashqueue, "_IN_ALL", 2)

        def ask_more(_: object) -> None:
            for name in ("new 1", "new 2", "new 3"):
                self.find(name)

        refused = self.queue.find(Asker(_BAD, Standing(wrong=1)), "old", [("wrong", _HASH)])
        refused.addErrback(ask_more)
        self.find("other old", Standing(wrong=1))
        self.now = 61.0
        self.step()
        self.assertEqual(self.refused, ["other old"])
        self.assertEqual(self.finish(), ["new 1", "new 2", "new 3"])


class SharingTests(HashQueueCase):
    """All who ask for the same password at the same time share its hashes."""

    def test_it_is_hashed_once_for_all(self) -> None:
        for i in range(100):
            self.find("same", address=f"10.0.0.{i}")
        self.assertEqual(len(self.threads.works), 1)
        self.assertEqual(self.finish(), ["same"] * 100)
        self.assertEqual(self.threads.works, [])

    def test_it_has_the_place_of_who_ranks_first(self) -> None:
        self.occupy()
        self.find("same", Standing(wrong=5))
        self.find("other", Standing(wrong=1))
        self.find("same")
        self.assertEqual(self.finish(), ["same", "same", "other"])

    def test_it_begins_at_once_when_one_asks_who_need_not_wait(self) -> None:
        self.occupy()
        self.find("same")
        self.find("same", address=_GOOD)
        self.assertEqual(len(self.threads.works), 2)

    def test_who_leaves_does_not_move_it_behind_while_others_wait_for_it(self) -> None:
        self.occupy()
        standing = self.find("same")
        self.find("same")
        self.find("guess", Standing(wrong=1))
        standing.left = True
        self.queue.leave(standing)
        self.assertEqual(self.finish(), ["same", "same", "guess"])

    def test_what_was_forgotten_is_not_shared_with_who_comes_later(self) -> None:
        self.find("same", address=_GOOD)
        self.queue.forget()
        self.find("same", address=_GOOD)
        self.assertEqual(len(self.threads.works), 2)
        self.step()
        self.find("same", address=_GOOD)
        self.assertEqual(len(self.threads.works), 1)
        self.assertEqual(self.finish(), ["same"] * 3)


_STEPS = st.tuples(
    st.sampled_from(["find", "find", "find", "leave", "wrong", "step", "wait", "forget"]),
    st.integers(0, 5),
    st.integers(1, 3),
)


class AnyOrderTests(HashQueueCase):
    """Whatever happens in whatever order."""

    @settings(deadline=None, max_examples=100, derandomize=True)
    @given(st.lists(_STEPS, max_size=60))
    def test_each_who_asks_gets_one_answer(self, steps: list[tuple[str, int, int]]) -> None:
        self.setUp()
        self.patch(hashqueue, "_IN_ALL", 10)
        standings = [Standing(right=i == 0) for i in range(6)]
        asked = 0
        for what, who, number in steps:
            standing = standings[who]
            if what == "find":
                self.find(f"{number}", standing, _GOOD if who < 3 else _BAD, hashes=number)
                asked += 1
            elif what == "leave":
                standing.left = True
                self.queue.leave(standing)
            elif what == "wrong":
                standing.wrong += 1
            elif what == "forget":
                self.queue.forget()
            elif what == "wait":
                self.now += 25.0
            elif self.threads.works:
                self.step()
            self.assertLessEqual(self.queue.waiting, 10)
            self.assertTrue(self.threads.works or not self.queue.waiting)
        self.finish()
        self.assertEqual(len(self.done) + len(self.refused), asked)
