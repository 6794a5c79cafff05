# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.services.traffic: who may go, who waits, and who is called."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.slots import Slot
from smtpmailer.services import traffic as module
from smtpmailer.services.traffic import Traffic, Wait

NOW = 1_700_000_000.0


class _Run:
    """Notes which mails are called; those in ``gone`` can't be."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.gone: set[str] = set()

    def hasten(self, name: str, due: float) -> bool:
        del due
        if name in self.gone:
            return False
        self.called.append(name)
        return True


class TrafficTests(SynchronousTestCase):
    """Four slots, of which one is a server's share."""

    def setUp(self) -> None:
        self.clock, self.run_ = Clock(), _Run()
        self.traffic = Traffic(
            self.run_,  # type: ignore[arg-type] # no more of it is used
            4,
            clock=self.clock,
            now=lambda: NOW + self.clock.seconds(),
        )

    def enter(self, count: int = 1, server: str = "a:25") -> list[Slot]:
        """Begin deliveries."""
        slots = [self.traffic.enter(server, "x") for _ in range(count)]
        return [slot for slot in slots if isinstance(slot, Slot)]

    def wait(self, name: str, server: str = "a:25") -> Wait:
        """Give how long a mail has to wait."""
        wait = self.traffic.enter(server, name)
        assert isinstance(wait, Wait), wait
        return wait

    def lose(self, server: str = "a:25", times: int = 3) -> None:
        """Let a server be out of reach."""
        for slot in self.enter(times, server):
            self.traffic.tell(server, reached=False)
            self.traffic.leave(slot)

    def test_room_is_what_is_left(self) -> None:
        self.assertEqual([self.traffic.room(n) for n in (0, 3, 4, 9)], [4, 1, 0, 0])

    def test_slow_deliveries_to_one_server_leave_room_for_others(self) -> None:
        self.enter(4)
        self.clock.advance(4)
        self.assertEqual(self.traffic.room(4), 0)
        self.clock.advance(1)
        self.assertEqual([self.traffic.room(n) for n in (4, 6, 7)], [3, 1, 0])

    def test_a_mail_beyond_the_share_waits_until_one_of_its_server_ends(self) -> None:
        slots = self.enter(4)
        wait = self.wait("one")
        self.assertEqual((wait.until, wait.why), (NOW + 60, ""))
        self.wait("two")
        self.assertTrue(self.traffic.anybody_waits)
        self.assertEqual(len(self.enter(server="b:25")), 1)
        # Five run, so the first end makes no room.
        self.traffic.leave(slots[0])
        self.assertEqual(self.run_.called, [])
        self.traffic.leave(slots[1])
        self.assertEqual(self.run_.called, ["one"])
        self.traffic.leave(slots[2])
        self.assertEqual(self.run_.called, ["one", "two"])
        self.assertFalse(self.traffic.anybody_waits)

    def test_those_who_wait_for_a_server_out_of_reach_are_called_when_it_is_back(self) -> None:
        self.lose()
        wait = self.wait("one")
        self.assertEqual((wait.until, wait.why), (NOW + 10, "a:25 is out of reach"))
        self.assertEqual(self.wait("two").until, NOW + 10.01)
        self.clock.advance(10)
        (probe,) = self.enter()
        for name in ("three", "four", "five", "six"):
            self.assertGreaterEqual(self.wait(name).until, NOW + 20)
        self.traffic.tell("a:25", reached=True)
        self.traffic.leave(probe)
        # "one" has come back by itself: it was the probe.
        self.assertEqual(self.run_.called, ["two", "three", "four", "five"])

    def test_nobody_is_called_while_the_server_stays_out_of_reach(self) -> None:
        self.lose()
        self.wait("one")
        self.clock.advance(10)
        (probe,) = self.enter()
        self.traffic.tell("a:25", reached=False)
        self.traffic.leave(probe)
        self.assertEqual(self.run_.called, [])

    def test_an_attempt_that_told_nothing_leaves_the_probing_to_others(self) -> None:
        self.lose()
        self.clock.advance(10)
        (probe,) = self.enter()
        self.traffic.leave(probe)
        self.assertEqual(len(self.enter()), 1)

    def test_who_can_not_be_called_is_passed_over_and_stays_in_line(self) -> None:
        slots = self.enter(4)
        for name in ("gone", "one"):
            self.wait(name)
        self.run_.gone = {"gone"}
        self.traffic.leave(slots[0])
        self.assertEqual(self.run_.called, ["one"])
        self.run_.gone = set()
        self.traffic.leave(slots[1])
        self.assertEqual(self.run_.called, ["one", "gone"])

    def test_who_came_back_by_itself_is_forgotten(self) -> None:
        slots = self.enter(4)
        self.wait("one")
        self.enter(1, "b:25")
        self.wait("old", "b:25")
        self.clock.advance(61)
        self.wait("one")
        self.wait("one")
        self.assertEqual(self.traffic._waiting, 2)
        self.traffic.leave(slots[0])
        self.traffic.leave(slots[1])
        self.assertEqual(self.run_.called, ["one"])
        self.assertEqual(list(self.traffic._lines), ["a:25"])

    def test_the_more_wait_the_later_they_come_back_up_to_five_minutes(self) -> None:
        self.enter(4)
        waits = [self.wait(str(number)).until - NOW for number in range(30_000)]
        self.assertEqual((waits[0], waits[-1]), (60, 300))
        self.assertEqual(waits, sorted(waits))

    def test_no_more_are_remembered_than_there_is_room_for(self) -> None:
        self.patch(module, "_MOST", 5)
        slots = self.enter(4)
        for number in range(9):
            self.wait(str(number))
        for slot in slots:
            self.traffic.leave(slot)
        self.assertEqual(self.run_.called, ["0", "1", "2", "3", "4"])
        self.assertEqual((self.traffic._waiting, self.traffic._lines), (0, {}))

    def test_a_store_that_fails_to_call_is_no_fault_of_the_mail_that_was_sent(self) -> None:
        slots = self.enter(4)
        self.wait("one")
        self.patch(self.run_, "hasten", lambda _name, _due: 1 / 0)
        self.traffic.leave(slots[0])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(len(self.enter(2)), 1)

    @settings(deadline=None, max_examples=100, derandomize=True)
    @given(st.integers(1, 50), st.lists(st.sampled_from("abcdefgh"), max_size=200))
    def test_never_twice_as_many_run_as_there_are_slots(
        self, total: int, servers: list[str]
    ) -> None:
        """Whoever comes and never ends, while no more are let in than there is room for."""
        clock, running = Clock(), 0
        run = _Run()
        traffic = Traffic(run, total, clock=clock, now=clock.seconds)  # type: ignore[arg-type]
        for server in servers:
            clock.advance(10)
            if traffic.room(running):
                running += isinstance(traffic.enter(server, "x"), Slot)
        self.assertLess(running, max(2 * total, 2))
