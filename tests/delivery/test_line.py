# SPDX-License-Identifier: MIT
"""The order in which mails wait."""

from __future__ import annotations

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import succeed
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.delivery.errand import Errand
from smtpmailer.delivery.line import PATIENCE, Line
from tests.delivery.hostile import mail, plain_route

QUICK = settings(deadline=None, max_examples=100, derandomize=True)


def errand(since: float, *, queued: bool = False) -> Errand:
    message = mail()
    if queued:
        message = attrs.evolve(message, before_dot=lambda _: succeed(None))
    return Errand(mail=message, route=plain_route(), since=since)


class LineTests(SynchronousTestCase):
    """By age, with a head start for mails that somebody waits for."""

    def line(self, *errands: Errand) -> Line:
        line = Line()
        for one in errands:
            line.add(one)
        return line

    def test_instant_mails_have_a_head_start(self) -> None:
        for ahead, first_is_instant in ((PATIENCE - 1, True), (PATIENCE + 1, False)):
            old, young = errand(0, queued=True), errand(ahead)
            line = self.line(old, young)
            first = line.first()
            self.assertIs(line.pop(), first)
            self.assertIs(first, young if first_is_instant else old)

    def test_a_mail_may_leave_the_line(self) -> None:
        first, second, stranger = errand(0), errand(1, queued=True), errand(2)
        line = self.line(first, second)
        self.assertTrue(line.remove(second))
        self.assertFalse(line.remove(stranger))
        self.assertEqual((line.count, line.pop()), (1, first))

    @QUICK
    @given(st.lists(st.tuples(st.floats(0, 5), st.booleans())), st.floats(0, 100))
    def test_each_mail_comes_out_once_and_each_kind_in_its_order(
        self, steps: list[tuple[float, bool]], moment: float
    ) -> None:
        now, errands = 0.0, []
        for step, queued in steps:
            now += step
            errands.append(errand(now, queued=queued))
        line = self.line(*errands)
        self.assertEqual(line.count, len(errands))
        old = line.pop_until(moment)
        self.assertEqual(set(old), {one for one in errands if one.since <= moment})
        rest = [line.pop() for _ in range(line.count)]
        self.assertEqual(line.count, 0)
        for urgent in (True, False):
            kind = [one for one in errands if one.mail.urgent is urgent and one not in old]
            self.assertEqual([one for one in rest if one.mail.urgent is urgent], kind)
