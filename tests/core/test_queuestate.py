# SPDX-License-Identifier: MIT
"""A mail's history, and its form as JSON."""

from __future__ import annotations

from typing import Any

import attrs
import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.dialogue import MAX_CHARACTERS
from smtpmailer.core.model import Outcome, RecipientOutcome
from smtpmailer.core.queuestate import (
    FRESH,
    MAX_ATTEMPTS,
    MAX_SAID,
    NOT_KEPT,
    Attempt,
    MailState,
    revived,
    state_from_json,
    state_to_json,
    updated,
)
from smtpmailer.core.retry import RetryPolicy

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
    forgotten=st.integers(0, 99),
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
        for number in range(MAX_ATTEMPTS + 7):
            self.assertEqual((state.attempt_count, state.forgotten), (number, max(0, number - 50)))
            state = state.attempted(attempt(number), (), ())
        self.assertEqual([a.at for a in state.attempts], [0.0, *map(float, range(8, 57))])
        again = revived(state).attempted(attempt(57), (), ())
        self.assertEqual((again.attempt_count, again.forgotten), (1, 8))
        self.assertEqual(state_from_json(state_to_json(again)), again)

    def test_five_days_of_attempts_are_kept_with_the_waits_that_settings_begin_with(self) -> None:
        """RFC 5321 section 4.5.4.1: the time in which one does not give up."""
        policy = RetryPolicy(max_retries=-1)
        waits = [policy.delay_after(failures, 0.0) for failures in range(1, MAX_ATTEMPTS)]
        self.assertGreater(sum(waits), 5 * 86_400)

    def test_what_was_said_is_kept_of_every_attempt(self) -> None:
        state = FRESH
        for number in range(MAX_ATTEMPTS):
            said = () if number == 23 else (f"C: {number}", "S: 450 later" * 50)
            said_now = attrs.evolve(attempt(number), dialogue=said)
            state = state.attempted(said_now, (), ())
            self.assertEqual(state.attempts[-1].dialogue, said)
        kept = [each.dialogue[:1] for each in state.attempts]
        self.assertEqual(kept, [(f"C: {n}",) if n != 23 else () for n in range(MAX_ATTEMPTS)])

    def test_of_very_much_that_was_said_the_first_and_the_newest_are_kept(self) -> None:
        """The others say that they had something; those that had nothing don't."""
        state = FRESH
        for number in range(30):
            said = () if number == 3 else (f"C: {number}", "x" * MAX_CHARACTERS)
            said_now = attrs.evolve(attempt(number), dialogue=said)
            state = state.attempted(said_now, (), ())
            length = sum(len(line) for each in state.attempts for line in each.dialogue)
            self.assertLessEqual(length, MAX_SAID + number * len(NOT_KEPT))
        kept = [each.dialogue[:1] for each in state.attempts]
        dropped = [(NOT_KEPT,)] * 14
        self.assertEqual(kept[:16], [("C: 0",), *dropped[:2], (), *dropped[3:], (NOT_KEPT,)])
        self.assertEqual(kept[16:], [(f"C: {number}",) for number in range(16, 30)])

    def test_what_earlier_versions_wrote_of_a_long_history_is_read(self) -> None:
        tries: list[dict[str, Any]] = [
            {"at": at, "server": "", "seconds": 1, "reason": "", "outcomes": []} for at in (1, 9)
        ]
        state = state_from_json({"tries": [tries[0], tries[1] | {"said": ["C: x"]}], "count": 9})
        self.assertEqual([each.dialogue for each in state.attempts], [(), ("C: x",)])
        self.assertEqual((state.attempt_count, state.forgotten), (9, 7))

    def test_an_attempt_a_change_and_a_revival_end_what_a_mail_waits_for(self) -> None:
        state = MailState(waits="h:25 is out of reach")
        for later in (state.attempted(attempt(1), (), ()), updated(state), revived(state)):
            self.assertEqual(later.waits, "")

    def test_settled_recipients_are_known_by_address(self) -> None:
        state = MailState(settled=(outcome("a@b.test", Outcome.PERMANENT),))
        self.assertEqual(state.settled_addresses(), {"a@b.test"})

    def test_a_revived_mail_goes_to_those_who_lack_it(self) -> None:
        has, lacks = outcome("a@b.test", Outcome.DELIVERED), outcome("c@b.test", Outcome.PERMANENT)
        dead = MailState(next_at=1.0, settled=(has, lacks), held="x", crashes=6)
        again = revived(dead.attempted(attempt(1), (), ()))
        self.assertEqual(again, MailState(settled=(has,), attempts=(attempt(1),)))

    def test_a_revived_mail_keeps_who_may_have_it_already(self) -> None:
        dead = MailState(in_doubt=("d@b.test", "e@b.test"), doubted=("c@b.test", "d@b.test"))
        doubted = ("c@b.test", "d@b.test", "e@b.test")
        self.assertEqual(dead.ever_in_doubt(), doubted)
        self.assertEqual(revived(dead), MailState(doubted=doubted))

    def test_an_updated_mail_is_due_by_its_name_and_held_no_more(self) -> None:
        more: dict[str, Any] = {"attempts": (attempt(1),), "attempt_count": 1, "crashes": 1}
        state = MailState(next_at=1.0, held="x", waits="y", **more)
        self.assertEqual(updated(state), MailState(**more))

    @settings(deadline=None, max_examples=50, derandomize=True)
    @given(_STATE)
    def test_a_mark_changes_nothing_but_the_doubt(self, state: MailState) -> None:
        marked = state.doubting(("x@b.test",), 7.0)
        self.assertEqual(marked, attrs.evolve(state, in_doubt=("x@b.test",), in_doubt_since=7.0))

    @settings(deadline=None, max_examples=50, derandomize=True)
    @given(_STATE, _OUTCOMES, st.lists(_TEXT, max_size=2).map(tuple))
    def test_an_attempt_changes_nothing_but_what_it_came_to(
        self, state: MailState, settled: tuple[RecipientOutcome, ...], doubt: tuple[str, ...]
    ) -> None:
        expected = attrs.evolve(
            state,
            next_at=None,
            attempts=(*state.attempts, attempt(8)),
            attempt_count=state.attempt_count + 1,
            settled=(*state.settled, *settled),
            in_doubt=doubt,
            in_doubt_since=8.0 if doubt else 0.0,
            doubted=tuple(dict.fromkeys((*state.doubted, *doubt))),
            waits="",
            crashes=0,
        )
        self.assertEqual(state.attempted(attempt(8), settled, doubt), expected)
