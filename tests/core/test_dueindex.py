# SPDX-License-Identifier: MIT
"""The index of waiting mails."""

from __future__ import annotations

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.dueindex import DueIndex
from smtpmailer.core.names import due_of


def name(due: float, number: int = 0) -> str:
    return f"mail_{due:022.2f}_{number}.json"


_NAMES = st.builds(name, st.integers(0, 9), st.integers(0, 3))


class Model(RuleBasedStateMachine):
    """The index beside a plain dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.index = DueIndex()
        self.model: dict[str, float] = {}

    @rule(what=_NAMES, due=st.none() | st.integers(0, 9) | st.just(math.inf))
    def add(self, what: str, due: float | None) -> None:
        self.index.add(what, due)
        self.model[what] = due_of(what) if due is None else due

    @rule(what=_NAMES)
    def discard(self, what: str) -> None:
        assert self.index.discard(what) == (what in self.model)
        self.model.pop(what, None)

    @invariant()
    def agrees(self) -> None:
        names = sorted(self.model)
        assert list(self.index) == names
        assert len(self.index) == len(names)
        assert self.index.page(3, 1) == names[3:6]
        order = sorted((due, each) for each, due in self.model.items())
        assert self.index.due(5, 4) == [each for due, each in order if due <= 5][:4]
        first = order[0][0] if order else math.inf
        assert self.index.next_due() == (None if first == math.inf else first)
        assert all(self.index.due_at(each) == due for each, due in self.model.items())


class DueIndexTests(SynchronousTestCase):
    """By name and by due time."""

    def test_it_agrees_with_a_dictionary(self) -> None:
        run_state_machine_as_test(
            Model, settings=settings(deadline=None, max_examples=50, derandomize=True)
        )

    def test_it_begins_with_names_due_at_their_time(self) -> None:
        index = DueIndex([name(5), name(3)])
        self.assertEqual(index.due(9, 9), [name(3), name(5)])
        self.assertIn(name(5), index)
        self.assertNotIn(name(4), index)

    def test_a_name_that_is_not_in_is_due_when_it_says(self) -> None:
        self.assertEqual(DueIndex().due_at(name(7)), 7)
