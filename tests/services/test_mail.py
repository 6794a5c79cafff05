# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.services.mail."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from smtpmailer.core.model import Outcome
from smtpmailer.core.replies import Reply
from smtpmailer.core.requests import Arguments, MailParser
from smtpmailer.errors import NoRecipientError, RequestInvalidError
from smtpmailer.interfaces import ICounters
from smtpmailer.schemafiles import load_schema
from smtpmailer.services.courier import Courier
from smtpmailer.services.mail import MailService
from tests.services.parts import (
    DEFAULTS,
    STAMP,
    Counters,
    Files,
    Sender,
    WatchedThreads,
    result_of,
)

PARSER = MailParser(load_schema("sendMail"))


class SendMailTests(SynchronousTestCase):
    """Each mail is answered with what became of it, and counted."""

    def setUp(self) -> None:
        self.counters, self.sender = Counters(), Sender()
        courier = Courier(
            DEFAULTS, attachments=Files(), sender=self.sender, threads=WatchedThreads()
        )
        self.service = MailService(PARSER, courier, self.counters, lambda: STAMP)

    def arguments(self, **fields: Any) -> Arguments:
        mail = {"to": ["user@example.org"], "ccList": [], "bccList": [], "subject": "s"}
        return Arguments(value=mail | ({} if "useTemplate" in fields else {"body": "b"}) | fields)

    def send(self, **fields: Any) -> Reply:
        return self.successResultOf(self.service.send_mail(self.arguments(**fields)))

    def counted(self) -> tuple[int, int]:
        return self.counters.sent, self.counters.failed

    def test_the_counters_are_counters(self) -> None:
        verifyObject(ICounters, self.counters)

    def test_a_delivered_mail_is_a_success_and_counts_as_sent(self) -> None:
        reply = self.send()
        said = (reply.status, reply.data, reply.message)
        self.assertEqual(said, ("success", None, "mail sent successfully"))
        self.assertEqual(self.counted(), (1, 0))

    def test_a_failed_mail_is_answered_with_the_reason_and_counts_as_failed(self) -> None:
        self.sender.result = result_of(
            Outcome.PERMANENT, "user@example.org", reason="SMTP Error: x"
        )
        reply = self.send()
        said = (reply.status, reply.data, reply.message)
        self.assertEqual(said, ("error", "SMTP Error: x", "failed to send mail"))
        self.assertEqual(self.counted(), (0, 1))

    def test_a_mail_that_not_all_received_is_a_failure(self) -> None:
        good = result_of(Outcome.DELIVERED, "a@example.org").outcomes
        bad = result_of(Outcome.TEMPORARY, "b@example.org", reason="SMTP Error: b")
        self.sender.result = type(bad)(outcomes=good + bad.outcomes, reason=bad.reason)
        reply = self.send()
        self.assertEqual((reply.status, self.counted()), ("error", (0, 1)))
        assert reply.detail is not None
        outcomes = [recipient["outcome"] for recipient in reply.detail["recipients"]]
        self.assertEqual(outcomes, ["delivered", "temporary"])
        self.assertTrue(reply.detail["temporary"])

    def test_the_detail_tells_all_that_is_known(self) -> None:
        arguments = attrs.evolve(self.arguments(), wants_detail=True)
        self.assertEqual(
            self.successResultOf(self.service.send_mail(arguments)).detail,
            {
                "mailId": "mail-1",
                "temporary": False,
                "server": "smtp.example.org:587",
                "seconds": 0.123,
                "recipients": [
                    {
                        "address": "user@example.org",
                        "outcome": "delivered",
                        "code": 250,
                        "enhancedCode": "2.0.0",
                        "reply": "fine",
                    }
                ],
            },
        )

    def test_the_detail_of_a_mail_that_was_sent_is_made_where_it_may_be_shown_only(self) -> None:
        for changes, made in (({}, False), ({"wants_detail": True}, True), ({"once": "k"}, True)):
            arguments = attrs.evolve(self.arguments(), **changes)
            reply = self.successResultOf(self.service.send_mail(arguments))
            self.assertEqual((reply.status, reply.detail is not None), ("success", made))

    def test_a_line_on_a_mail_that_was_sent_is_written_where_somebody_sees_it_only(self) -> None:
        courier = Courier(
            DEFAULTS, attachments=Files(), sender=self.sender, threads=WatchedThreads()
        )
        self.service = MailService(PARSER, courier, self.counters, lambda: STAMP, tells_sent=False)
        with capturedLogs() as events:
            self.send()
            self.sender.result = result_of(Outcome.PERMANENT, "user@example.org", reason="r")
            self.send()
        self.assertEqual([event["outcome"] for event in events], ["failed"])

    def test_a_counter_that_fails_changes_nothing(self) -> None:
        self.counters.broken = True
        self.assertEqual(self.send().status, "success")
        self.sender.result = result_of(Outcome.PERMANENT, "user@example.org", reason="r")
        self.assertEqual(self.send().data, "r")
        self.assertEqual(self.send(attachments=[["missing"]]).message, "failed to send mail")
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 3)

    def test_a_counter_that_breaks_at_once_changes_nothing_either(self) -> None:
        def add_sent() -> None:
            raise OSError("away")

        self.counters = Counters()
        self.patch(Counters, "add_sent", lambda _: add_sent())
        self.assertEqual(self.send().status, "success")
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_the_answer_waits_for_the_counter(self) -> None:
        counting: Deferred[None] = Deferred()
        self.patch(Counters, "add_sent", lambda _: counting)
        answer = self.service.send_mail(self.arguments())
        self.assertNoResult(answer)
        counting.callback(None)
        self.assertEqual(self.successResultOf(answer).status, "success")

    def test_a_file_that_can_not_be_attached_fails_before_any_connection(self) -> None:
        with capturedLogs() as events:
            reply = self.send(attachments=[["missing.pdf"]])
        self.assertEqual([event["log_level"] for event in events], [LogLevel.warn])
        self.assertIn("missing.pdf", events[0]["why"])
        self.assertEqual((reply.status, reply.message), ("error", "failed to send mail"))
        self.assertEqual(reply.data, "could not attach missing.pdf: no such file")
        self.assertEqual((self.sender.sent, self.counted()), ([], (0, 1)))

    def test_a_mail_with_a_template_is_refused_and_counts_as_nothing(self) -> None:
        reply = self.send(useTemplate="t.html")
        said = (reply.status, reply.data, reply.message)
        self.assertEqual(said, ("error", None, "template service is not enabled"))
        self.assertEqual((self.sender.sent, self.counted()), ([], (0, 0)))

    def test_what_is_no_mail_fails_and_counts_as_nothing(self) -> None:
        for value, kind in ((None, RequestInvalidError), ({"to": 5}, RequestInvalidError)):
            self.failureResultOf(self.service.send_mail(Arguments(value=value)), kind)
        self.failureResultOf(self.service.send_mail(self.arguments(to=[])), NoRecipientError)
        self.assertEqual(self.counted(), (0, 0))
