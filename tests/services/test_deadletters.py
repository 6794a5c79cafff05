# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.services.deadletters."""

from __future__ import annotations

from typing import Any

from twisted.logger import formatEvent

from smtpmailer.core.model import Outcome
from smtpmailer.core.queued import Settlement
from smtpmailer.core.queuestate import FRESH, MailState
from smtpmailer.errors import StoreError
from smtpmailer.interfaces import IDeadLetters
from smtpmailer.services.deadletters import DeadLetterService
from smtpmailer.stores.sealed import SealedDeadLetters
from tests.services.queueing import NOW, Faulty, QueueCase, mail, outcomes

_GONE = "mail_0000000000000000001.1_a.json"
_BOTH = ["a@example.test", "b@example.test"]


class DeadLetterTests(QueueCase):
    """Listed, shown, tried again, removed: nothing happens to a dead letter by itself."""

    def setUp(self) -> None:
        super().setUp()
        self.own()
        self.broken = Faulty(self.memory)
        letters = SealedDeadLetters(self.broken, self.cipher)  # type: ignore[arg-type]
        self.service = DeadLetterService(letters, self.store.is_name)

    def bury(self, state: MailState = FRESH, **fields: Any) -> str:
        """Make a dead letter; gives its name."""
        name = self.put(state, **fields)
        self.claim()
        settlement = Settlement(at=self.now(), state=state, dead="refused for good")
        self.successResultOf(self.store.settle(name, settlement))
        return name

    def dead(self) -> list[str]:
        return list(self.successResultOf(self.letters.page_failed(500, 0)).names)

    def test_the_store_is_what_it_stands_for(self) -> None:
        self.assertTrue(IDeadLetters.providedBy(self.letters))

    def test_the_list_is_one_of_names(self) -> None:
        empty = ("success", {"items": [], "total": 0}, "failed list is empty")
        self.assertEqual(self.ask(self.service.get_list, None), empty)
        names = [self.bury() for _ in range(3)]
        expected = {"items": names, "total": 3}
        answer = self.ask(self.service.get_list, {"limit": "x"})
        self.assertEqual(answer, ("success", expected, "found 3 failed mails"))
        page = self.ask(self.service.get_list, {"limit": 2, "page": 1})[1]
        self.assertEqual(page, {"items": names[2:], "total": 3})

    def test_a_dead_letter_is_shown_without_passwords(self) -> None:
        name = self.bury(smtpUser="u", smtpPassword="secret")
        reply = self.reply(self.service.get, name)
        said = (reply.status, reply.data, reply.message)
        self.assertEqual(said, ("success", mail(smtpUser="u"), name))
        self.assertNotIn("secret", repr((reply.data, reply.detail)))

    def test_the_detail_tells_why_and_when(self) -> None:
        refused = outcomes(Outcome.PERMANENT, "user@example.test").outcomes
        name = self.bury(MailState(settled=refused, attempt_count=2))
        detail = self.reply(self.service.get, name).detail
        assert detail is not None
        self.assertEqual((detail["why"], detail["failedAt"]), ("refused for good", NOW))
        self.assertEqual((detail["mailId"], detail["attemptCount"]), ("0000000000000001", 2))
        self.assertEqual(detail["settled"][0]["reply"], "5.1.1 never")

    def test_a_retried_one_waits_again_due_at_once(self) -> None:
        name = self.bury(MailState(attempt_count=9), failToDelivered=9, smtpPassword="secret")
        self.clock.advance(1000)
        answer = self.ask(self.service.retry, name)
        self.assertEqual(answer, ("success", name, "failed mail added to queue"))
        self.assertEqual((self.names(), self.dead()), ([name], []))
        claimed = self.claim()
        self.assertEqual(claimed.document, mail(failToDelivered=0, smtpPassword="secret"))
        self.assertEqual(claimed.state.attempt_count, 0)

    def test_who_has_the_mail_stays_settled_who_was_refused_is_tried_again(self) -> None:
        a = outcomes(Outcome.DELIVERED, _BOTH[0]).outcomes
        b = outcomes(Outcome.PERMANENT, _BOTH[1]).outcomes
        name = self.bury(MailState(settled=a + b), to=_BOTH)
        self.ask(self.service.retry, name)
        self.assertEqual(self.claim().state.settled, a)

    def test_one_is_removed(self) -> None:
        name, other = self.bury(), self.bury()
        answer = self.ask(self.service.remove, name)
        self.assertEqual(answer, ("success", name, "failed mail removed"))
        self.assertEqual((self.dead(), self.names()), ([other], []))
        again = self.ask(self.service.remove, name)
        self.assertEqual(again, ("error", None, "unable to remove failed mail"))

    def test_all_are_removed_and_counted(self) -> None:
        waiting = self.put(due=NOW + 99)
        for _ in range(2):
            self.bury()
        for count in (2, 0):
            expected = ("success", {"removed": count}, f"removed {count} failed mails")
            self.assertEqual(self.ask(self.service.clear, None), expected)
        self.assertEqual(self.names(), [waiting])

    def test_who_did_what_is_in_the_log(self) -> None:
        names = [self.bury() for _ in range(3)]
        events = self.watch_log()
        self.ask(self.service.retry, names[0])
        self.ask(self.service.remove, names[1])
        self.ask(self.service.clear, None)
        expected = [
            f"dead letter {names[0]} queued again by 192.0.2.1",
            f"dead letter {names[1]} removed by 192.0.2.1",
            "1 dead letters cleared by 192.0.2.1",
        ]
        self.assertEqual([formatEvent(event) for event in events], expected)

    def test_what_is_no_text_is_an_invalid_payload(self) -> None:
        values: tuple[Any, ...] = (None, 5, [], {})
        for value in values:
            expected = ("error", "invalid file path string", "invalid payload")
            self.assertEqual(self.ask(self.service.get, value), expected)
            self.assertEqual(self.ask(self.service.retry, value), expected)
            removed = self.ask(self.service.remove, value)
            self.assertEqual(removed, ("error", None, "invalid payload"))

    def test_what_is_no_dead_letter_can_not_be_had(self) -> None:
        waiting = self.put()
        for value in ("", "../x", _GONE, waiting):
            for handler, verb in ((self.service.get, "get"), (self.service.retry, "retry")):
                expected = ("error", None, f"unable to {verb} failed mail")
                self.assertEqual(self.ask(handler, value), expected)
        for value, message in (
            ("../x", "invalid filepath string"),
            (_GONE, "unable to remove failed mail"),
            (waiting, "unable to remove failed mail"),
        ):
            answer = self.ask(self.service.remove, value)
            self.assertEqual(answer, ("error", None, message))
        self.assertEqual(self.names(), [waiting])

    def test_a_dead_letter_that_can_not_be_read_stays(self) -> None:
        name = self.bury()
        dead = self.memory._dead
        dead[name] = type(dead[name])(b"bm90IG91cnM=")
        for handler, verb in ((self.service.get, "get"), (self.service.retry, "retry")):
            expected = ("error", None, f"unable to {verb} failed mail")
            self.assertEqual(self.ask(handler, name), expected)
        self.assertEqual(self.dead(), [name])
        plain = DeadLetterService(self.memory, self.memory.is_name)
        answer = self.ask(plain.get, name)
        self.assertEqual(answer, ("error", None, "unable to get failed mail"))
        self.assertEqual(len(self.flushLoggedErrors(StoreError)), 3)

    def test_a_store_that_fails_is_an_error_and_changes_nothing(self) -> None:
        name = self.bury()
        cases: tuple[tuple[str, Any, Any, str], ...] = (
            ("page_failed", self.service.get_list, None, "unable to get failed list"),
            ("get_failed", self.service.get, name, "unable to get failed mail"),
            ("retry_failed", self.service.retry, name, "unable to retry failed mail"),
            ("remove_failed", self.service.remove, name, "unable to remove failed mail"),
            ("clear_failed", self.service.clear, None, "unable to read failed dir"),
        )
        for method, handler, value, message in cases:
            self.broken.faults[method] = [StoreError("the disk is gone")]
            self.assertEqual(self.ask(handler, value), ("error", None, message))
        self.assertEqual((self.dead(), self.names()), ([name], []))
        self.assertEqual(len(self.flushLoggedErrors(StoreError)), len(cases))
