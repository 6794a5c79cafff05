# SPDX-License-Identifier: MIT
"""Tests for carrying templates over: nothing is lost, nothing replaced, and it may be repeated."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.errors import StoreError
from smtpmailer.interfaces import ITemplateStore
from smtpmailer.services.moving_templates import Carried, carry_templates
from smtpmailer.stores.memory_templates import MemoryTemplateStore


class _Watched(MemoryTemplateStore):
    """A store that calls ``hook`` with the step and the name before each step."""

    def __init__(self, limit_bytes: int = 1000) -> None:
        super().__init__(limit_bytes=limit_bytes)
        self.hook: Callable[[str, str], None] = lambda *_: None
        self.broken = False

    def get(self, name: str) -> Deferred[str]:
        self.hook("get", name)
        return super().get(name)

    def add(self, name: str, text: str) -> Deferred[None]:
        self.hook("add", name)
        return fail(StoreError("disk full")) if self.broken else super().add(name, text)

    def remove(self, name: str) -> Deferred[None]:
        self.hook("remove", name)
        return super().remove(name)

    def lose(self, name: str) -> None:
        """Have a template no more."""
        self._texts.pop(name, None)


class CarryTests(SynchronousTestCase):
    """Templates go from ``source`` to ``target``."""

    def setUp(self) -> None:
        self.source, self.target = _Watched(), _Watched(limit_bytes=100)
        self.told: list[tuple[str, Carried, str]] = []

    def fill(self, store: ITemplateStore, **texts: str) -> None:
        """Add templates."""
        for name, text in texts.items():
            self.successResultOf(store.add(name, text))

    def carry(self, *, keep: bool = False) -> dict[str, Carried]:
        """Carry over; give what became of each."""
        self.told.clear()
        done = carry_templates(
            self.source, self.target, lambda *about: self.told.append(about), keep=keep
        )
        self.assertIsNone(self.successResultOf(done))
        return {name: outcome for name, outcome, _ in self.told}

    def texts(self, store: _Watched) -> dict[str, str]:
        """Give all that a store holds."""
        names = self.successResultOf(store.page(5000, 0)).names
        return {name: self.successResultOf(store.get(name)) for name in names}

    def test_all_are_moved_whatever_their_number(self) -> None:
        texts = {f"t{number:04}": str(number) for number in range(1201)}
        self.fill(self.source, **texts)
        self.assertEqual(self.carry(), dict.fromkeys(texts, Carried.MOVED))
        self.assertEqual((self.texts(self.source), self.texts(self.target)), ({}, texts))

    def test_with_keep_they_stay_where_they_are(self) -> None:
        self.fill(self.source, a="x", b="y")
        self.fill(self.target, b="y")
        self.assertEqual(self.carry(keep=True), {"a": Carried.COPIED, "b": Carried.SAME})
        self.assertEqual(self.texts(self.source), {"a": "x", "b": "y"})
        self.assertEqual(self.texts(self.target), {"a": "x", "b": "y"})

    def test_what_is_there_already_is_removed_where_it_was(self) -> None:
        self.fill(self.source, a="x")
        self.fill(self.target, a="x")
        self.assertEqual(self.carry(), {"a": Carried.SAME})
        self.assertEqual(self.texts(self.source), {})

    def test_another_text_of_that_name_is_a_conflict_and_both_stay(self) -> None:
        self.fill(self.source, a="x", b="y")
        self.fill(self.target, a="other")
        for _ in range(2):
            self.assertEqual(self.carry()["a"], Carried.CONFLICT)
            self.assertEqual(self.texts(self.source), {"a": "x"})
            self.assertEqual(self.texts(self.target), {"a": "other", "b": "y"})

    def test_what_does_not_fit_there_stays_and_is_told_why(self) -> None:
        self.fill(self.source, a="x" * 101, b="y")
        self.assertEqual(self.carry(), {"a": Carried.UNFIT, "b": Carried.MOVED})
        self.assertEqual(self.told[0], ("a", Carried.UNFIT, "it is larger than 100 bytes"))
        self.assertEqual(list(self.texts(self.source)), ["a"])

    def test_what_can_not_be_read_there_is_a_conflict(self) -> None:
        self.fill(self.source, a="x")
        self.fill(self.target, a="x")

        def vanish(step: str, name: str) -> None:
            if step == "get":
                self.target.lose(name)

        self.target.hook = vanish
        self.assertEqual(self.carry(), {"a": Carried.CONFLICT})
        self.assertEqual(self.texts(self.source), {"a": "x"})

    def test_it_is_there_before_it_is_removed(self) -> None:
        self.fill(self.source, a="x")
        steps: list[str] = []
        self.source.hook = lambda step, _: steps.append(f"source {step}")
        self.target.hook = lambda step, _: steps.append(f"target {step}")
        self.carry()
        self.assertEqual(steps, ["source get", "target add", "source get", "source remove"])

    def test_after_an_error_nothing_is_lost_and_another_run_goes_on(self) -> None:
        texts = {"a": "x", "b": "y", "c": "z"}
        self.fill(self.source, **texts)

        def break_down(step: str, name: str) -> None:
            self.target.broken = (step, name) == ("add", "b")

        self.target.hook = break_down
        done = carry_templates(
            self.source, self.target, lambda *about: self.told.append(about), keep=False
        )
        self.failureResultOf(done, StoreError)
        self.assertEqual([name for name, *_ in self.told], ["a"])
        self.assertEqual(self.texts(self.source) | self.texts(self.target), texts)
        self.target.hook = lambda *_: setattr(self.target, "broken", False)
        self.assertEqual(self.carry(), dict.fromkeys(("b", "c"), Carried.MOVED))
        self.assertEqual((self.texts(self.source), self.texts(self.target)), ({}, texts))

    def test_a_change_while_it_is_copied_is_not_lost(self) -> None:
        self.fill(self.source, a="x")
        self.target.hook = lambda *_: self.successResultOf(self.source.update("a", "newer"))
        self.assertEqual(self.carry(), {"a": Carried.CHANGED})
        self.assertEqual(self.texts(self.source), {"a": "newer"})
        self.target.hook = lambda *_: None
        self.assertEqual(self.carry(), {"a": Carried.CONFLICT})

    def test_what_somebody_removes_meanwhile_is_gone(self) -> None:
        self.fill(self.source, a="x", b="y")

        def remove(step: str, _: str) -> None:
            if step == "get":
                self.source.lose("a")

        self.source.hook = remove
        self.assertEqual(self.carry(), {"b": Carried.MOVED})
