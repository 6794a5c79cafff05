# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.services.postman: one claimed mail, and what becomes of it."""

from __future__ import annotations

from typing import Any
from unittest import mock

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.logger import LogLevel, formatEvent

from smtpmailer.core.model import Capabilities, Outcome
from smtpmailer.core.names import unique_of
from smtpmailer.core.queued import Settlement, StoredMail
from smtpmailer.core.queuestate import FRESH, MailState
from smtpmailer.core.retry import RetryPolicy
from smtpmailer.interfaces import ISender
from smtpmailer.services.postman import Postman
from tests.services.queueing import NOW, QueueCase, mail

_USER = "user@example.test"
_BOTH = ["a@example.test", "b@example.test"]


class PostmanCase(QueueCase):
    """A queue that is run, and a postman."""

    def setUp(self) -> None:
        super().setUp()
        self.own()
        self.carrier = self.postman()

    def deliver(self, carrier: Postman | None = None) -> Settlement:
        """Claim the mail that is due, deliver, settle."""
        return self.settle(self.claim(), carrier)

    def settle(self, claimed: StoredMail, carrier: Postman | None = None) -> Settlement:
        deciding = (carrier or self.carrier).decide(claimed)
        settlement: Settlement = self.successResultOf(deciding)
        self.successResultOf(self.store.settle(claimed.name, settlement))
        return settlement

    def until_next(self) -> None:
        """Let the time of the next attempt come."""
        due = self.store.next_due()
        assert due is not None
        self.clock.advance(due - self.now())

    def buried(self) -> list[str]:
        """Give why the dead letters are dead."""
        names = self.successResultOf(self.letters.page_failed(500, 0)).names
        records = [self.successResultOf(self.letters.get_failed(name)).record for name in names]
        return [record["why"] for record in records]

    def quarantined(self) -> list[str]:
        """Give why mails are in quarantine."""
        return [each.record["why"] for each in self.memory._quarantine.values()]


class DeliveryTests(PostmanCase):
    """What an attempt came to decides what becomes of the mail."""

    def test_the_server_is_a_sender(self) -> None:
        self.assertTrue(ISender.providedBy(self.server))

    def test_a_delivered_mail_is_done_and_counted(self) -> None:
        self.put()
        self.assertTrue(self.deliver().done)
        self.assertEqual((self.names(), self.buried()), ([], []))
        self.assertEqual((self.counters.sent, self.counters.failed), (1, 0))

    def test_id_and_date_of_the_message_are_those_of_the_name(self) -> None:
        self.put(due=1_699_999_000.25)
        self.deliver()
        wire = self.server.sent[0][0].wire(Capabilities()).data
        self.assertIn(b"Message-ID: <0000000000000001@example.org>\r\n", wire)
        self.assertIn(b"Date: Tue, 14 Nov 2023 21:56:40 +0000\r\n", wire)

    def test_a_time_of_the_distant_past_is_no_date(self) -> None:
        self.server.script = [Outcome.TEMPORARY]
        name = self.put(due=1, scheduleTime=1)
        self.deliver()
        self.until_next()
        self.deliver()
        dates = {
            line
            for sent, _ in self.server.sent
            for line in sent.wire(Capabilities()).data.splitlines()
            if line.startswith(b"Date:")
        }
        self.assertEqual(dates, {b"Date: Tue, 14 Nov 2023 22:13:20 +0000"}, name)

    def test_a_temporary_failure_is_tried_again_as_the_same_message(self) -> None:
        self.server.script = [Outcome.TEMPORARY, "unreachable"]
        name = self.put()
        for _ in range(3):
            self.deliver()
            self.clock.advance(1000)
        self.assertEqual(self.server.ids, ["0000000000000001"] * 3)
        self.assertEqual((self.names(), self.buried()), ([], []), name)

    def test_waits_grow_with_jitter(self) -> None:
        self.server.always = Outcome.TEMPORARY
        self.put()
        waits = []
        for self.jitter in (0.5, 0.0, 1.0):
            settlement = self.deliver()
            assert settlement.state.next_at is not None
            waits.append(round(settlement.state.next_at - self.now(), 3))
            self.until_next()
        self.assertEqual(waits, [60, 96, 288])

    def test_each_failure_is_counted_in_the_document(self) -> None:
        self.server.always = Outcome.TEMPORARY
        name = self.put(failToDelivered=1)
        self.deliver()
        document = self.successResultOf(self.store.get(name)).document
        self.assertEqual(document, mail(failToDelivered=2))

    def test_after_the_last_retry_a_mail_is_dead(self) -> None:
        self.server.always = Outcome.TEMPORARY
        self.put()
        for _ in range(3):
            self.deliver()
            self.until_next()
        self.deliver()
        self.assertEqual(len(self.server.sent), 4)
        self.assertEqual(self.buried(), ["given up after 4 attempts: SMTP Error: temporary"])

    def test_without_retries_the_first_failure_is_the_last(self) -> None:
        self.server.always = Outcome.TEMPORARY
        self.put()
        self.deliver(self.postman(RetryPolicy(max_retries=0)))
        self.assertEqual(len(self.buried()), 1)

    def test_a_mail_is_given_up_by_age(self) -> None:
        self.server.always = Outcome.TEMPORARY
        carrier = self.postman(RetryPolicy(max_retries=-1, max_age=100))
        self.put()
        self.deliver(carrier)
        self.until_next()
        self.assertIn("given up after 100 seconds", self.deliver(carrier).dead)

    def test_a_permanent_refusal_is_not_tried_again(self) -> None:
        self.server.script = [Outcome.PERMANENT]
        self.put()
        self.deliver()
        self.assertEqual(self.buried(), [f"refused for good: {_USER}: 550 5.1.1 never"])
        self.assertEqual(self.counters.failed, 1)

    def test_only_open_recipients_are_tried_again(self) -> None:
        a, b = _BOTH
        self.server.script = [{a: Outcome.DELIVERED, b: Outcome.TEMPORARY}]
        self.put(to=_BOTH)
        self.deliver()
        self.until_next()
        self.assertTrue(self.deliver().done)
        self.assertEqual(self.server.recipients, [(a, b), (b,)])

    def test_a_refused_recipient_makes_a_dead_letter_once_the_others_have_the_mail(self) -> None:
        a, b = _BOTH
        self.server.script = [{a: Outcome.PERMANENT, b: Outcome.TEMPORARY}]
        self.put(to=_BOTH)
        self.deliver()
        self.until_next()
        self.assertEqual(self.deliver().dead, f"refused for good: {a}: 550 5.1.1 never")
        self.assertEqual(self.server.recipients, [(a, b), (b,)])

    def test_a_mail_that_nobody_is_owed_any_more_is_done_without_a_connection(self) -> None:
        a, b = _BOTH
        self.server.script = [{a: Outcome.DELIVERED, b: Outcome.TEMPORARY}]
        name = self.put(to=_BOTH)
        self.deliver()
        self.successResultOf(self.store.replace(name, name.replace(".5", ".6"), mail(to=[a])))
        self.clock.advance(1)
        self.assertTrue(self.deliver().done)
        self.assertEqual(len(self.server.sent), 1)

    def test_a_mails_own_route_is_taken(self) -> None:
        self.put(smtpHost="own.example.test", smtpUser="u", smtpPassword="secret", timeout=9)
        self.deliver()
        route = self.server.sent[0][1]
        self.assertEqual(
            (route.host, route.user, route.password), ("own.example.test", "u", "secret")
        )
        self.assertEqual(route.timeout, 9)


class FaultTests(PostmanCase):
    """No claim is left behind, and nothing that failed is lost."""

    def test_a_mail_that_can_not_be_built_is_dead_with_the_reason(self) -> None:
        self.put(attachments=[["gone.pdf"]])
        settlement = self.deliver()
        self.assertEqual(self.buried(), ["could not attach gone.pdf: no such file"])
        self.assertEqual(settlement.document, mail(attachments=[["gone.pdf"]], failToDelivered=1))
        self.assertEqual((self.server.sent, self.counters.failed), ([], 1))

    def test_a_mail_with_a_template_is_never_sent_empty(self) -> None:
        document = mail(useTemplate="t.html")
        del document["body"]
        name = self.store.make_name(NOW, "a")
        self.successResultOf(self.store.put(name, document, FRESH))
        self.deliver()
        self.assertEqual(self.buried(), ["template service is not enabled"])
        self.assertEqual(self.server.sent, [])

    def test_what_is_no_mail_goes_to_quarantine(self) -> None:
        cases: tuple[dict[str, Any], ...] = ({"subject": 5}, {"nope": 1}, {"to": []})
        for fields in cases:
            name = self.put(**fields)
            self.deliver()
            self.assertNotIn(name, self.names())
        reasons = self.quarantined()
        self.assertEqual(len(reasons), 3)
        self.assertIn("subject", reasons[0])
        self.assertIn("nope", reasons[1])
        self.assertTrue(all(reason.startswith("not a mail: ") for reason in reasons), reasons)
        self.assertEqual(self.server.sent, [])

    def test_what_can_not_be_decrypted_goes_to_quarantine(self) -> None:
        name = self.store.make_name(NOW, "a")
        self.successResultOf(self.memory.put(name, "bm90IG91cnM=", FRESH))
        self.deliver()
        (reason,) = self.quarantined()
        self.assertIn("SECRET_KEY", reason)
        self.assertEqual(self.memory._quarantine[name].content, b"bm90IG91cnM=")

    def test_an_encrypted_document_that_was_not_opened_goes_to_quarantine(self) -> None:
        claimed = StoredMail(name=self.put(), document="bm90IG91cnM=")
        settlement = self.successResultOf(self.carrier.decide(claimed))
        self.assertEqual(settlement.corrupt, "not decrypted")

    def test_what_the_predecessor_stored_is_sent(self) -> None:
        document = {
            "to": [_USER],
            "ccList": [],
            "bccList": [["b@example.test", "Bé"]],
            "subject": "s/ü",
            "body": "<p>x</p>",
            "scheduleTime": -5,
            "failToDelivered": 0,
            "smtpUser": "u",
            **self._sealed_password("abc"),
        }
        name = "mail_0000000001699999999.72759300_" + "694f7f804c5c14bf" * 5 + ".json"
        self.successResultOf(self.memory.put(name, document, FRESH))
        self.assertTrue(self.deliver().done)
        self.assertEqual(self.server.sent[0][1].password, "abc")
        self.assertEqual(self.server.recipients, [(_USER, "b@example.test")])

    def _sealed_password(self, password: str) -> dict[str, Any]:
        sealed = self.cipher.seal({"smtpPassword": password})
        assert not isinstance(sealed, str)
        return dict(sealed)

    def test_a_fault_of_our_own_is_tried_again_and_then_taken_for_the_mails(self) -> None:
        self.server.always = ZeroDivisionError()
        self.put()
        for crashes in range(1, 6):
            state = self.deliver().state
            self.assertEqual((state.crashes, state.next_at), (crashes, self.now() + 60))
            self.clock.advance(60)
        self.deliver()
        (why,) = self.buried()
        self.assertIn("6 times", why)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 6)

    def test_an_attempt_that_came_to_an_end_clears_the_mail_of_crashes(self) -> None:
        self.server.script = [Outcome.TEMPORARY]
        self.put(MailState(crashes=5))
        self.assertEqual(self.deliver().state.crashes, 0)

    def test_a_counter_that_fails_changes_nothing(self) -> None:
        self.counters.broken = True
        self.put()
        self.assertTrue(self.deliver().done)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_what_counts_elsewhere_is_waited_for(self) -> None:
        counted: list[Deferred[None]] = [Deferred(), Deferred()]
        # The one has not begun, the other waits for what came of it.
        second = succeed(None).addCallback(lambda _: counted[1])
        for number, counting in enumerate((counted[0], second)):
            self.put()
            with mock.patch.object(type(self.counters), "add_sent", return_value=counting):
                deciding = Deferred.fromCoroutine(self.carrier.decide(self.claim()))
            self.assertNoResult(deciding)
            counted[number].callback(None)
            self.assertTrue(self.successResultOf(deciding).done)


class LogTests(PostmanCase):
    """One line for each change of a mail, with its name, and nothing secret."""

    def setUp(self) -> None:
        super().setUp()
        self.events = self.watch_log()

    def line(self) -> str:
        """Give the last line."""
        text = formatEvent(self.events[-1])
        self.assertNotIn("secret", text)
        return text

    def delivered(self, what: Any, policy: RetryPolicy | None = None) -> str:
        """Deliver a mail; gives the line without the mail's name."""
        self.server.script = [what]
        name = self.put(smtpPassword="secret")
        self.deliver(self.postman(policy))
        begin = f"mail {unique_of(name)} ({name}) to example.test by s:587, attempt 1, 0.500 s: "
        self.assertTrue(self.line().startswith(begin), self.line())
        return self.line().removeprefix(begin)

    def test_each_outcome_is_said(self) -> None:
        self.assertEqual(self.delivered(Outcome.DELIVERED), "sent (250 2.0.0 fine)")
        again = self.delivered(Outcome.TEMPORARY)
        self.assertEqual(
            again, "again at 2023-11-14T22:14:20Z; SMTP Error: temporary (4.2.0 later)"
        )
        dead = self.delivered(Outcome.PERMANENT)
        self.assertEqual(dead, f"dead letter: refused for good: {_USER}: 550 5.1.1 never")

    def test_nothing_is_made_of_what_nobody_sees(self) -> None:
        lines = [Outcome.DELIVERED, Outcome.TEMPORARY, Outcome.PERMANENT, Outcome.UNCERTAIN]
        for hidden, said in (((), 4), (("debug",), 4), (("debug", "info"), 3)):
            self.server.script = list(lines)
            self.events.clear()
            for _ in lines:
                self.put()
                self.deliver(self.postman(hidden=frozenset(hidden)))
            told = [event for event in self.events if " by {server}, " in event["log_format"]]
            claimed = [event for event in self.events if event["log_level"] is LogLevel.debug]
            self.assertEqual((len(told), len(claimed)), (said, 0 if hidden else 4))

    def test_who_was_sent_a_mail_in_doubt_is_named_though_such_lines_are_hidden(self) -> None:
        self.server.script = [Outcome.UNCERTAIN, Outcome.DELIVERED]
        self.put()
        postman = self.postman(hidden=frozenset(("debug", "info")))
        self.deliver(postman)
        self.until_next()
        self.assertTrue(self.deliver(postman).done)
        self.assertIn("in doubt, may be delivered twice", self.line())

    def test_doubt_is_said(self) -> None:
        doubt = f"; in doubt, may be delivered twice: {_USER}"
        self.assertTrue(self.delivered(Outcome.UNCERTAIN).endswith(doubt), self.line())
        held = self.delivered(Outcome.UNCERTAIN, RetryPolicy(max_retries=1, hold_doubtful=True))
        self.assertTrue(held.startswith("held: "), held)
        self.assertTrue(held.endswith(doubt), held)
        crashed = StoredMail(name=self.put(), document=mail(), state=MailState(in_doubt=(_USER,)))
        self.carrier.decide_crash(crashed)
        self.assertTrue(self.line().endswith(f"when the service died{doubt}"), self.line())
        self.carrier.decide_crash(attrs.evolve(crashed, state=FRESH))
        self.assertTrue(self.line().endswith("when the service died; unsent"), self.line())

    def test_what_is_never_sent_says_why(self) -> None:
        name = self.put(attachments=[["gone.pdf"]])
        self.deliver()
        why = "can't be built: could not attach gone.pdf"
        self.assertIn(f"({name}) to example.test {why}", self.line())
        name = self.put(subject=5)
        self.deliver()
        self.assertIn(f"({name}) goes to quarantine: not a mail: subject", self.line())

    def test_waiting_for_a_server_and_giving_up_are_said(self) -> None:
        self.server.always = "unreachable"
        carrier = self.postman(RetryPolicy(max_retries=-1, max_age=50))
        for _ in range(3):
            self.put()
            self.deliver(carrier)
        name = self.put()
        self.deliver(carrier)
        waits = "waits until 2023-11-14T22:13:30Z: smtp.example.org:587 is out of reach"
        self.assertIn(f"({name}) to example.test {waits}", self.line())
        name = self.put(due=NOW - 45)
        self.deliver(carrier)
        dead = "is a dead letter: given up after 50 seconds"
        self.assertIn(f"({name}) to example.test {dead}", self.line())

    def fields(self, what: Any, policy: RetryPolicy | None = None) -> dict[str, Any]:
        """Deliver a mail to two; gives the fields of the one line on the attempt."""
        self.server.script = [what]
        name = self.put(to=["a@one.example", "b@two.example"])
        self.events.clear()
        self.deliver(self.postman(policy))
        (event,) = [event for event in self.events if "attempt" in event]
        self.assertEqual((event["name"], event["mail_id"]), (name, unique_of(name)))
        return event

    def test_an_attempt_is_one_event_with_all_that_is_known_as_fields(self) -> None:
        event = self.fields(Outcome.TEMPORARY)
        expected = {
            "domains": "one.example, two.example",
            "server": "s:587",
            "code": 450,
            "reply": "4.2.0 later",
            "attempt": 1,
            "seconds": 0.5,
            "reason": "SMTP Error: temporary",
            "next_at": NOW + 60,
            "outcome": "put off",
        }
        self.assertEqual({key: event[key] for key in expected}, expected)

    def test_each_outcome_has_a_word_of_its_own(self) -> None:
        some = {"a@one.example": Outcome.DELIVERED, "b@two.example": Outcome.TEMPORARY}
        holding = RetryPolicy(max_retries=1, hold_doubtful=True)
        cases: tuple[tuple[str, Any, RetryPolicy | None], ...] = (
            ("sent", Outcome.DELIVERED, None),
            ("partly sent", some, None),
            ("put off", Outcome.TEMPORARY, None),
            ("in doubt", Outcome.UNCERTAIN, None),
            ("held", Outcome.UNCERTAIN, holding),
            ("dead letter", Outcome.PERMANENT, None),
        )
        for outcome, what, policy in cases:
            event = self.fields(what, policy)
            self.assertEqual(event["outcome"], outcome)
            self.assertEqual("next_at" in event, outcome in {"partly sent", "put off", "in doubt"})
        self.assertIn("partly sent, again at 2023", formatEvent(self.fields(some)))

    def test_a_claim_is_told_to_those_who_want_to_know(self) -> None:
        self.delivered(Outcome.DELIVERED)
        (claimed,) = [event for event in self.events if event.get("outcome") == "claimed"]
        self.assertEqual(claimed["log_level"], LogLevel.debug)
