# SPDX-License-Identifier: MIT
"""A mail's history, and its form as JSON."""

from __future__ import annotations

import attrs
import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.model import Outcome, RecipientOutcome
from smtpmailer.core.queuestate import (
    FRESH,
    Attempt,
    MailState,
    revived,
    state_from_json,
    state_to_json,
    updated,
)

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
_TIME = st.floats(0, 1e11)
_OUTCOME = st.builds(
    RecipientOutcome,
    recipient=_TEXT,
    outcome=st.sampled_from(Outcome),
    code=st.integers(0, 599),
    enhanced=_TEXT,
    reply=_TEXT,
)
_OUTCOMES = st.lists(_OUTCOME, max_size=3).map(tuple)
_ATTEMPT = st.builds(
    Attempt,
    at=_TIME,
    server=_TEXT,
    seconds=_TIME,
    reason=_TEXT,
    outcomes=_OUTCOMES,
    dialogue=st.lists(_TEXT, max_size=3).map(tuple),
)
_STATE = st.builds(
    MailState,
    next_at=st.none() | _TIME,
    attempts=st.lists(_ATTEMPT, max_size=3).map(tuple),
    attempt_count=st.integers(0, 99),
    settled=_OUTCOMES,
    in_doubt=st.just(()),
    doubted=st.lists(_TEXT, max_size=3).map(tuple),
    held=_TEXT,
    waits=_TEXT,
    crashes=st.integers(0, 9),
)


def attempt(number: int) -> Attempt:
    return Attempt(at=float(number), server="h:25", seconds=1.0, reason="", outcomes=())


def outcome(recipient: str, kind: Outcome) -> RecipientOutcome:
    return RecipientOutcome(recipient=recipient, outcome=kind)


class MailStateTests(SynchronousTestCase):
    """States and what is done with them."""

    @settings(deadline=None, max_examples=100, derandomize=True)
    @given(_STATE)
    def test_every_state_survives_json(self, state: MailState) -> None:
        self.assertEqual(state_from_json(orjson.loads(orjson.dumps(state_to_json(state)))), state)

    def test_doubt_survives_json(self) -> None:
        state = MailState(in_doubt=("a@b.test",), in_doubt_since=5.5)
        self.assertEqual(state_from_json(state_to_json(state)), state)

    def test_a_fresh_state_takes_no_room(self) -> None:
        self.assertEqual(state_to_json(FRESH), {})
        self.assertEqual(state_from_json({}), FRESH)

    def test_what_is_beside_a_state_is_passed_over(self) -> None:
        self.assertEqual(state_from_json({"claimed": True, "note": "x"}), FRESH)

    def test_what_is_no_state_is_refused(self) -> None:
        wrong: tuple[object, ...] = (
            None,
            [],
            "x",
            {"next": "soon"},
            {"next": []},
            {"tries": 5},
            {"tries": [{}]},
            {"settled": [["a@b.test", "maybe", 0, "", ""]]},
            {"settled": [["a@b.test"]]},
            {"count": "x"},
        )
        for value in wrong:
            with self.assertRaises((KeyError, TypeError, ValueError), msg=str(value)):
                state_from_json(value)

    def test_a_long_history_keeps_its_first_and_newest_attempts(self) -> None:
        state = FRESH
        for number in range(50):
            state = state.with_attempt(attempt(number))
        self.assertEqual(state.attempt_count, 50)
        self.assertEqual([a.at for a in state.attempts], [0.0, *map(float, range(31, 50))])

    def test_what_was_said_is_kept_of_the_newest_attempts(self) -> None:
        state = FRESH
        for number in range(25):
            said = () if number == 23 else (f"C: {number}",)
            state = state.with_attempt(attrs.evolve(attempt(number), dialogue=said))
        kept = [each.dialogue for each in state.attempts]
        self.assertEqual(kept, [()] * 17 + [("C: 22",), (), ("C: 24",)])

    def test_an_attempt_a_change_and_a_revival_end_what_a_mail_waits_for(self) -> None:
        state = MailState(waits="h:25 is out of reach")
        for later in (state.with_attempt(attempt(1)), updated(state), revived(state)):
            self.assertEqual(later.waits, "")

    def test_settled_recipients_are_known_by_address(self) -> None:
        state = MailState(settled=(outcome("a@b.test", Outcome.PERMANENT),))
        self.assertEqual(state.settled_addresses(), {"a@b.test"})

    def test_a_revived_mail_goes_to_those_who_lack_it(self) -> None:
        has, lacks = outcome("a@b.test", Outcome.DELIVERED), outcome("c@b.test", Outcome.PERMANENT)
        dead = MailState(next_at=1.0, settled=(has, lacks), held="x", crashes=6)
        again = revived(dead.with_attempt(attempt(1)))
        self.assertEqual(again, MailState(settled=(has,), attempts=(attempt(1),)))

    def test_a_revived_mail_keeps_who_may_have_it_already(self) -> None:
        dead = MailState(in_doubt=("d@b.test", "e@b.test"), doubted=("c@b.test", "d@b.test"))
        doubted = ("c@b.test", "d@b.test", "e@b.test")
        self.assertEqual(dead.ever_in_doubt(), doubted)
        self.assertEqual(revived(dead), MailState(doubted=doubted))

    def test_an_updated_mail_is_due_by_its_name_and_held_no_more(self) -> None:
        state = MailState(next_at=1.0, held="x", crashes=1).with_attempt(attempt(1))
        self.assertEqual(updated(state), MailState(crashes=1).with_attempt(attempt(1)))
