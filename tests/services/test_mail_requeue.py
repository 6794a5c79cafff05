# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.services.mail: what failed for now waits for another attempt."""

from __future__ import annotations

from typing import Any

from twisted.logger import LogLevel, formatEvent

from smtpmailer.core.model import Outcome
from smtpmailer.core.names import unique_of
from smtpmailer.core.queued import StoredMail
from smtpmailer.core.replies import Effect, Reply
from smtpmailer.core.retry import RetryPolicy
from smtpmailer.errors import MailGoneOnError, StoreError
from smtpmailer.services.mail import MailService, Requeue
from tests.services.queueing import NOW, PARSER, QueueCase, mail

_BOTH = ["a@example.test", "b@example.test"]


class RequeueTests(QueueCase):
    """A temporary failure is queued, anything else is final."""

    def send(self, policy: RetryPolicy | None = None, **fields: Any) -> Reply:
        """Send a mail through a service that may try again."""
        requeue = Requeue(
            store=self.store,
            policy=policy or self.policy,
            now=self.now,
            jitter=lambda: self.jitter,
        )
        service = MailService(PARSER, self.courier, self.counters, self.stamp, requeue)
        return self.reply(service.send_mail, mail(**fields))

    def waiting(self) -> StoredMail:
        """Give the one mail that waits."""
        (name,) = self.names()
        return self.successResultOf(self.store.get(name))

    def test_a_temporary_failure_waits_for_its_next_attempt(self) -> None:
        self.server.script = [Outcome.TEMPORARY]
        reply = self.send(smtpPassword="secret")
        said = (reply.status, reply.data, reply.message)
        self.assertEqual(said, ("error", "SMTP Error: temporary", "failed to send mail"))
        waiting = self.waiting()
        expected = mail(smtpPassword="secret", failToDelivered=1)
        self.assertEqual(waiting.document, expected)
        self.assertEqual(waiting.state.next_at, NOW + 60)
        self.assertEqual(len(waiting.state.attempts), 1)
        self.assertEqual(self.counters.failed, 1)

    def test_the_detail_names_the_queued_mail_and_its_time(self) -> None:
        self.server.script = ["unreachable"]
        detail = self.send().detail
        assert detail is not None
        self.assertEqual([detail["queueName"]], self.names())
        self.assertEqual((detail["nextAttempt"], detail["temporary"]), (NOW + 60, True))

    def test_the_next_attempt_is_the_same_message(self) -> None:
        self.server.script = [Outcome.TEMPORARY]
        self.send()
        self.own()
        self.clock.advance(60)
        self.successResultOf(self.postman().decide(self.claim()))
        first, second = self.server.ids
        self.assertEqual((first, unique_of(self.waiting_id())), (second, first))

    def waiting_id(self) -> str:
        """Give the name of the mail that was claimed."""
        (name,) = self.memory._claimed
        return name

    def test_only_open_recipients_are_tried_again(self) -> None:
        self.server.script = [
            {"a@example.test": Outcome.DELIVERED, "b@example.test": Outcome.TEMPORARY}
        ]
        self.send(to=_BOTH)
        self.own()
        self.clock.advance(60)
        self.successResultOf(self.postman().decide(self.claim()))
        self.assertEqual(self.server.recipients, [tuple(_BOTH), ("b@example.test",)])

    def test_what_is_final_is_not_queued(self) -> None:
        for outcome in (Outcome.DELIVERED, Outcome.PERMANENT):
            self.server.script = [outcome]
            self.send()
        self.send(attachments=[["missing"]])
        self.assertEqual(self.names(), [])

    def test_without_retries_a_failure_is_final(self) -> None:
        self.server.always = Outcome.TEMPORARY
        self.send(RetryPolicy(max_retries=0))
        self.send(RetryPolicy(max_retries=3), failToDelivered=3)
        service = MailService(PARSER, self.courier, self.counters, self.stamp)
        detail = self.reply(service.send_mail, mail()).detail
        assert detail is not None
        self.assertNotIn("queueName", detail)
        self.assertEqual(self.names(), [])

    def test_a_lost_final_reply_waits_longer_or_is_held(self) -> None:
        self.server.always = Outcome.UNCERTAIN
        self.send()
        self.assertEqual(self.waiting().state.next_at, NOW + 600)
        self.assertEqual(self.waiting().state.in_doubt, ("user@example.test",))
        self.successResultOf(self.store.clear())
        self.send(RetryPolicy(max_retries=3, hold_doubtful=True))
        self.assertIn("QUEUE_ON_DOUBT", self.waiting().state.held)

    def test_doubt_is_said_as_a_warning(self) -> None:
        self.server.script = [Outcome.UNCERTAIN, Outcome.TEMPORARY]
        events = self.watch_log()
        self.send()
        self.send()
        doubt = "; in doubt, may be delivered twice: user@example.test"
        self.assertEqual(
            [(e["log_level"], e["outcome"], e["what"].endswith(doubt)) for e in events],
            [(LogLevel.warn, "in doubt", True), (LogLevel.warn, "put off", False)],
        )

    def test_a_send_is_one_line_with_all_that_is_known_as_fields(self) -> None:
        some = {"a@example.test": Outcome.DELIVERED, "b@example.test": Outcome.TEMPORARY}
        self.server.script = [Outcome.DELIVERED, Outcome.PERMANENT, Outcome.TEMPORARY, some]
        events = self.watch_log()
        for _ in range(4):
            self.send(to=_BOTH)
        told = [(event["outcome"], event["log_level"]) for event in events]
        failures = [(what, LogLevel.warn) for what in ("failed", "put off", "partly sent")]
        self.assertEqual(told, [("sent", LogLevel.info), *failures])
        self.assertEqual(
            formatEvent(events[0]),
            "mail 0000000000000001 from 192.0.2.1 (request 0) to example.test by s:587, "
            "attempt 1, 0.500 s: sent (250 2.0.0 fine)",
        )
        expected = {
            "domains": "example.test",
            "server": "s:587",
            "code": 450,
            "reply": "4.2.0 later",
            "attempt": 1,
            "seconds": 0.5,
            "peer": "192.0.2.1",
            "request": 0,
            "next_at": NOW + 60,
            "name": self.names()[0],
            "mail_id": "0000000000000003",
        }
        self.assertEqual({key: events[2][key] for key in expected}, expected)

    def test_a_mail_that_may_be_queued_is_not_said_to_be_lost(self) -> None:
        self.server.script = [Outcome.TEMPORARY]
        self.faulty.faults["put"] = [MailGoneOnError("mail_1.json", "the disk is gone")]
        reply = self.send()
        expected = "SMTP Error: temporary (and it may be queued, or not, for another attempt)"
        self.assertEqual((reply.data, reply.effect), (expected, Effect.UNKNOWN))
        self.assertEqual(len(self.flushLoggedErrors(MailGoneOnError)), 1)

    def test_a_store_that_fails_is_told_in_the_reason(self) -> None:
        self.server.script = [Outcome.TEMPORARY]
        self.faulty.faults["put"] = [StoreError("the disk is gone")]
        reply = self.send()
        expected = "SMTP Error: temporary (and it could not be queued for another attempt)"
        self.assertEqual((reply.status, reply.data), ("error", expected))
        self.assertEqual(len(self.flushLoggedErrors(StoreError)), 1)
