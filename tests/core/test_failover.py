# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.core.failover."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.failover import result_of_all
from smtpmailer.core.model import NOT_REACHED, DeliveryResult, Outcome, RecipientOutcome

_AWAY = DeliveryResult(
    outcomes=(RecipientOutcome(recipient="a@b.test", outcome=Outcome.TEMPORARY),),
    reason=NOT_REACHED,
    server="one:25",
    seconds=1.5,
    dialogue=("-- refused",),
    untaken=True,
)
_LATER = attrs.evolve(_AWAY, reason="SMTP Error: later", server="two:25", dialogue=("S: 451 no",))
_TAKEN = attrs.evolve(_AWAY, reason="", server="two:25", dialogue=(), untaken=False)


class ResultTests(SynchronousTestCase):
    """One result of several."""

    def test_one_is_given_as_it_is(self) -> None:
        self.assertIs(result_of_all([_AWAY]), _AWAY)

    def test_of_a_mail_that_was_taken_only_the_time_adds_up(self) -> None:
        self.assertEqual(result_of_all([_AWAY, _TAKEN]), attrs.evolve(_TAKEN, seconds=3.0))

    def test_where_all_failed_each_says_why(self) -> None:
        result = result_of_all([_AWAY, _LATER, _AWAY])
        self.assertEqual(result.reason, f"{NOT_REACHED}; later")
        self.assertEqual((result.server, result.seconds), ("one:25", 4.5))
        self.assertEqual(
            result.dialogue,
            (
                "-- to one:25",
                "-- refused",
                "-- to two:25",
                "S: 451 no",
                "-- to one:25",
                "-- refused",
            ),
        )

    def test_the_same_reason_is_told_once(self) -> None:
        self.assertFalse(result_of_all([_AWAY, _AWAY]).reached)

    def test_it_is_no_attempt_only_if_none_was_tried(self) -> None:
        waits = [attrs.evolve(_AWAY, again_in=seconds) for seconds in (30.0, 10.0)]
        self.assertEqual(result_of_all(waits).again_in, 10.0)
        self.assertIsNone(result_of_all([_AWAY, waits[0]]).again_in)
