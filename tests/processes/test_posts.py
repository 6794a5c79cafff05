# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.processes.posts, and of the children on them."""

from __future__ import annotations

import signal

from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.errors import ControlError
from smtpmailer.processes.posts import Post
from tests.processes.family import Body, Family


class PostCase(SynchronousTestCase):
    """A post, and a clock that stands still."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.family = Family(self.clock)
        self.post = Post("worker-1", self.family.start, self.clock)

    def living(self) -> list[Body]:
        return self.family.living("worker-1")

    def opened(self) -> Body:
        """Open the post; give who serves there."""
        self.post.open()
        (body,) = self.living()
        body.get_ready()
        return body


class DeathTests(PostCase):
    """Who dies is replaced."""

    def test_it_is_open_when_its_process_is_ready(self) -> None:
        opened = self.post.open()
        (body,) = self.living()
        self.assertNoResult(opened)
        body.get_ready()
        self.assertTrue(self.successResultOf(opened))

    def test_a_dead_process_is_replaced_at_once(self) -> None:
        self.opened().end(signal=9)
        self.clock.advance(0)
        self.assertEqual(len(self.living()), 1)
        self.assertEqual(self.post.deaths, 1)

    def test_so_is_one_that_ends_well_without_being_asked(self) -> None:
        self.opened().end()
        self.clock.advance(0)
        self.assertEqual((len(self.living()), self.post.deaths), (1, 1))

    def test_who_dies_again_and_again_is_waited_for(self) -> None:
        self.opened().end(signal=9)
        waited = []
        for _ in range(4):
            begun = self.clock.seconds()
            while not self.living():
                self.clock.advance(0.25)
            waited.append(self.clock.seconds() - begun)
            self.living()[0].get_ready()
            self.living()[0].end(status=1)
        self.assertEqual(waited, [0.25, 0.25, 0.5, 1.0])

    def test_a_long_life_makes_the_next_start_quick_again(self) -> None:
        self.opened().end(signal=9)
        self.clock.advance(0)
        (body,) = self.living()
        body.get_ready()
        self.clock.advance(60)
        body.end(signal=9)
        self.clock.advance(0)
        self.assertEqual(len(self.living()), 1)

    def test_a_long_start_is_no_long_life(self) -> None:
        self.post.open()
        for wait in (0.0, 0.25):
            self.clock.advance(70)
            self.living()[0].end(status=1)
            self.clock.advance(wait / 2)
            self.assertEqual(len(self.living()), int(not wait))
            self.clock.advance(wait / 2)
            self.assertEqual(len(self.living()), 1)

    def test_when_nobody_can_be_started_it_is_tried_again(self) -> None:
        for trouble in (OSError("no memory"), ControlError("too many")):
            self.setUp()
            self.family.trouble = trouble
            with capturedLogs() as events:
                self.assertFalse(self.successResultOf(self.post.open()))
            self.assertIn(str(trouble), [event.get("why") for event in events])
            self.clock.advance(0)
            self.family.trouble = None
            self.clock.advance(0.25)
            self.assertEqual(len(self.living()), 1)

    def test_a_closed_post_starts_nobody(self) -> None:
        body = self.opened()
        self.post.close()
        body.end(signal=9)
        self.clock.advance(100)
        self.assertEqual(self.living(), [])
        self.assertFalse(self.successResultOf(self.post.replace()))

    def test_closing_ends_the_wait_for_the_next_start(self) -> None:
        self.opened().end(signal=9)
        self.post.close()
        self.clock.advance(100)
        self.assertEqual(self.living(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ReplacementTests(PostCase):
    """The new one serves before the old one retires."""

    def test_the_old_one_retires_when_the_new_one_is_ready(self) -> None:
        old = self.opened()
        replaced = self.post.replace()
        new = self.living()[1]
        self.assertEqual(old.orders, [])
        self.assertIs(self.post.child, old.child)
        new.get_ready()
        self.assertTrue(self.successResultOf(replaced))
        self.assertEqual((old.orders, old.child.state), ([("retire", {})], "retiring"))
        self.assertIs(self.post.child, new.child)
        old.end()
        self.clock.advance(1)
        self.assertEqual((self.living(), self.post.deaths), ([new], 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_old_one_stays_when_the_new_one_does_not_get_ready(self) -> None:
        old = self.opened()
        replaced = self.post.replace()
        self.living()[1].end(status=1)
        self.assertFalse(self.successResultOf(replaced))
        self.clock.advance(1)
        self.assertEqual((old.orders, self.living(), self.post.deaths), ([], [old], 0))

    def test_so_it_does_when_the_new_one_can_not_be_started(self) -> None:
        old = self.opened()
        self.family.trouble = OSError("no")
        self.assertFalse(self.successResultOf(self.post.replace()))
        self.assertEqual((old.orders, self.living()), ([], [old]))

    def test_one_that_takes_very_long_to_get_ready_is_killed(self) -> None:
        self.opened()
        replaced = self.post.replace()
        new = self.living()[1]
        self.clock.advance(299)
        self.assertEqual(new.signals, [])
        self.clock.advance(1)
        self.assertEqual(new.signals, [signal.SIGKILL])
        new.end(signal=9)
        self.assertFalse(self.successResultOf(replaced))

    def test_a_post_is_replaced_once_at_a_time(self) -> None:
        self.opened()
        self.post.replace()
        self.assertFalse(self.successResultOf(self.post.replace()))
        self.assertEqual(len(self.living()), 2)

    def test_when_the_old_one_dies_meanwhile_the_new_one_takes_over(self) -> None:
        old = self.opened()
        replaced = self.post.replace()
        new = self.living()[1]
        old.end(signal=9)
        self.clock.advance(1)
        self.assertEqual(self.living(), [new])
        new.get_ready()
        self.assertTrue(self.successResultOf(replaced))
        self.assertIs(self.post.child, new.child)

    def test_when_both_die_another_one_is_started(self) -> None:
        old = self.opened()
        replaced = self.post.replace()
        new = self.living()[1]
        old.end(signal=9)
        new.end(signal=9)
        self.assertFalse(self.successResultOf(replaced))
        self.clock.advance(0)
        self.assertEqual(len(self.living()), 1)


class ChildTests(PostCase):
    """How a process is told to go."""

    def test_one_that_serves_is_asked_and_one_that_does_not_yet_is_signalled(self) -> None:
        self.post.open()
        (body,) = self.living()
        body.child.stop(5)
        self.assertEqual((body.orders, body.signals), ([], [signal.SIGTERM]))
        body.get_ready()
        body.child.stop(5)
        body.child.stop(None)
        self.assertEqual(body.orders, [("stop", {"limit": 5}), ("stop", {"limit": None})])

    def test_a_dead_one_is_left_alone(self) -> None:
        body = self.opened()
        self.assertEqual(body.child.process_id, 1000)
        body.end(signal=9)
        body.child.kill()
        body.child.retire()
        self.assertEqual((body.signals, body.orders, body.child.process_id), ([], [], 0))
        self.assertFalse(self.successResultOf(body.child.has_ended()) is False)

    def test_only_an_end_that_nobody_asked_for_is_an_error(self) -> None:
        for order, signal_number, level in (
            (False, 9, "error"),
            (False, None, "error"),
            (True, 9, "error"),
            (True, None, "info"),
        ):
            self.setUp()
            body = self.opened()
            if order:
                body.child.retire()
            with capturedLogs() as events:
                body.end(signal=signal_number)
            said = [e for e in events if e["log_namespace"].endswith("Child")]
            self.assertEqual([e["log_level"].name for e in said], [level], (order, signal_number))
            self.assertEqual([(e["name"], e["pid"]) for e in said], [("worker-1", 1000)])
