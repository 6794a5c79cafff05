# SPDX-License-Identifier: MIT
"""What became of a mail, and what it waits for."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail

from smtpmailer.core.lookup import Wanted
from smtpmailer.core.model import Outcome
from smtpmailer.core.names import unique_of
from smtpmailer.core.queued import FoundMail, Settlement
from smtpmailer.core.queuestate import MailState
from smtpmailer.errors import StoreError
from smtpmailer.services.explaining import ExplainService
from smtpmailer.stores.sealed import SealedSearch
from tests.services.queueing import NOW, QueueCase, outcomes

_USER = "user@example.test"
_SAID = ("C: RCPT TO:<user@example.test>", "S: 450 4.2.0 later")


class _Broken:
    """A search that can't tell."""

    def find(self, wanted: Wanted) -> Deferred[FoundMail]:
        del wanted
        return fail(StoreError("the disk is gone"))


class ExplainTests(QueueCase):
    """Every place has its answer."""

    def setUp(self) -> None:
        super().setUp()
        search = SealedSearch(self.memory, self.cipher)
        self.service = ExplainService(search, self.store, self.now)

    def explain(self, text: str) -> dict[str, Any]:
        status, data, message = self.ask(self.service.explain, text)
        self.assertEqual((status, message), ("success", "mail found"))
        told: dict[str, Any] = data
        return told

    def waits_for(self, text: str) -> str:
        return str(self.explain(text)["waitsFor"])

    def tried(self, state: MailState | None = None) -> str:
        """Let a mail fail once; gives its name."""
        later = outcomes(Outcome.TEMPORARY, _USER)
        self.server.script = [attrs.evolve(later, dialogue=_SAID)]
        name = self.put(*([state] if state else []), smtpPassword="secret")
        self.own()
        settlement = self.successResultOf(self.postman().decide(self.claim()))
        self.successResultOf(self.store.settle(name, settlement))
        return name

    def test_a_waiting_mail_is_told_with_its_attempts_and_what_was_said(self) -> None:
        name = self.tried()
        told = self.explain(unique_of(name))
        expected = {
            "mailId": unique_of(name),
            "queueName": name,
            "place": "waiting",
            "waitsFor": "its next attempt",
            "nextAttempt": NOW + 60,
            "held": None,
            "why": None,
            "failedAt": None,
            "subject": "s",
            "to": [_USER],
            "ccList": [],
            "bccList": [],
            "crashes": 0,
            "attemptCount": 1,
            "attemptsNotKept": 0,
            "inDoubt": [],
            "settled": [],
            "attempts": [
                {
                    "at": NOW,
                    "server": "s:587",
                    "seconds": 0.5,
                    "reason": "SMTP Error: temporary",
                    "recipients": [
                        {
                            "address": _USER,
                            "outcome": "temporary",
                            "code": 450,
                            "enhancedCode": "4.2.0",
                            "reply": "4.2.0 later",
                        }
                    ],
                    "dialogue": list(_SAID),
                }
            ],
        }
        self.assertEqual(told, expected)
        self.assertEqual(self.explain(name), expected)

    def test_what_a_waiting_mail_waits_for(self) -> None:
        due = self.put(due=NOW - 1)
        self.assertEqual(self.waits_for(due), "its turn: it is due")
        self.assertEqual(self.waits_for(self.put(due=NOW + 9)), "its time")
        reach = MailState(next_at=NOW + 9, waits="s:25 is out of reach")
        self.assertEqual(self.waits_for(self.put(reach)), "s:25 is out of reach")
        held = self.put(MailState(held="too odd"))
        self.assertEqual(self.waits_for(held), "its operator; it is held: too odd")
        told = self.explain(held)
        self.assertEqual((told["held"], told["nextAttempt"]), ("too odd", None))
        self.own()
        turn = "its turn: it is due; the queue is run by this process"
        self.assertEqual(self.waits_for(due), turn)

    def test_one_in_doubt_says_so(self) -> None:
        doubt = MailState(next_at=NOW + 600, in_doubt=(_USER,), in_doubt_since=NOW)
        name = self.put(doubt)
        self.assertEqual(self.waits_for(name), "its time; it is in doubt")
        self.assertEqual(self.explain(name)["inDoubt"], [_USER])

    def test_one_that_is_being_sent_waits_for_that(self) -> None:
        name = self.put()
        self.own()
        claimed = self.claim()
        self.assertIn("the attempt that is under way", self.waits_for(name))
        marked = attrs.evolve(claimed.state, in_doubt=(_USER,), in_doubt_since=NOW)
        self.successResultOf(self.store.mark(name, marked))
        self.assertIn("the server's reply to the message", self.waits_for(name))
        self.assertEqual(self.explain(name)["place"], "sending")

    def test_one_that_was_put_off_without_an_attempt_says_why(self) -> None:
        self.server.always = "unreachable"
        postman = self.postman()
        self.own()
        for _ in range(4):
            name = self.put()
            settlement = self.successResultOf(postman.decide(self.claim()))
            self.successResultOf(self.store.settle(name, settlement))
        self.assertEqual(self.waits_for(name), "smtp.example.org:587 is out of reach")

    def test_dead_letters_and_quarantine_say_why_and_wait_for_a_person(self) -> None:
        cases: dict[str, dict[str, Any]] = {
            "dead": {"dead": "never"},
            "quarantine": {"corrupt": "no mail"},
        }
        for place, what in cases.items():
            name = self.put()
            self.own()
            state = self.claim().state
            settlement = Settlement(at=NOW, state=state, **what)
            self.successResultOf(self.store.settle(name, settlement))
            told = self.explain(unique_of(name))
            self.assertEqual((told["place"], told["failedAt"]), (place, NOW))
            self.assertEqual([told["why"]], list(what.values()))
            self.assertTrue(told["waitsFor"].startswith("somebody's decision: queue re"))
            self.assertIsNone(told["nextAttempt"])

    def test_neither_password_nor_text_is_told(self) -> None:
        name = self.tried()
        self.assertNotIn("secret", repr(self.explain(name)))
        self.assertNotIn("'b'", repr(self.explain(name)))

    def test_one_that_can_not_be_read_says_why(self) -> None:
        name = self.put()
        self.successResultOf(self.memory.remove(name))
        self.successResultOf(self.memory.put(name, "bm90IG91cnM=", MailState()))
        told = self.explain(name)
        self.assertIn("can't be decrypted", told["why"])
        self.assertEqual((told["subject"], told["to"]), (None, []))

    def test_a_mail_that_is_nowhere_is_an_error_that_says_where_was_looked(self) -> None:
        where = "neither in the queue nor among dead letters or in quarantine"
        answer = self.ask(self.service.explain, "0123456789abcdef")
        self.assertEqual(answer, ("error", where, "unable to get mail history"))

    def test_what_can_be_no_mail_is_an_invalid_payload(self) -> None:
        values: tuple[Any, ...] = (None, 5, [], "", "../../etc/passwd", "*", "a/b")
        for value in values:
            answer = self.ask(self.service.explain, value)
            self.assertEqual(answer, ("error", "invalid mail id", "invalid payload"), value)

    def test_a_store_that_fails_is_an_error_without_a_reason(self) -> None:
        service = ExplainService(_Broken(), self.store, self.now)  # type: ignore[arg-type]
        answer = self.ask(service.explain, "0123456789abcdef")
        self.assertEqual(answer, ("error", None, "unable to get mail history"))
        self.assertEqual(len(self.flushLoggedErrors(StoreError)), 1)
