# SPDX-License-Identifier: MIT
"""Tests of core.requests: from mail objects to MailRequests."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.grants import Grant
from smtpmailer.core.model import Address, Encryption, FilePart, MailRequest, SmtpOverrides
from smtpmailer.core.requests import MailLimits, MailParser
from smtpmailer.errors import NoRecipientError, NotAllowedError, RequestInvalidError
from smtpmailer.schemafiles import load_schema

_PARSER = MailParser(load_schema("sendMail"))


def _parse(**fields: Any) -> MailRequest:
    mail = {"to": ["a@b.test"], "ccList": [], "bccList": [], "subject": "s", "body": "b"}
    return _PARSER.parse({**mail, **fields})


class MailParserTests(SynchronousTestCase):
    """Mail objects become MailRequests."""

    def test_a_small_mail_takes_defaults_for_the_rest(self) -> None:
        expected = MailRequest(to=(Address(email="a@b.test"),), subject="s", body="b")
        self.assertEqual(_parse(), expected)

    def test_every_field_is_taken(self) -> None:
        request = _PARSER.parse(
            {
                "to": ["a@b.test"],
                "ccList": [["c@b.test", "C"]],
                "bccList": ["d@b.test"],
                "replyTo": ["e@b.test"],
                "subject": "s",
                "useTemplate": "t",
                "replaceContent": {"K": "v"},
                "attachments": [["/x/a.txt", "n.txt"]],
                "embedded": [["/x/i.png", "cid", "n.png"]],
                "fromEmail": "f@b.test",
                "fromName": "F",
                "smtpHost": "h",
                "smtpUser": "u",
                "smtpPassword": "p",
                "smtpEncryption": "ssl",
                "smtpPort": 465,
                "timeout": 7.0,
                "scheduleTime": 9,
                "failToDelivered": 2,
            }
        )
        expected = MailRequest(
            to=(Address(email="a@b.test"),),
            cc=(Address(email="c@b.test", name="C"),),
            bcc=(Address(email="d@b.test"),),
            reply_to=(Address(email="e@b.test"),),
            subject="s",
            template="t",
            replace_content={"K": "v"},
            attachments=(FilePart(path="/x/a.txt", name="n.txt"),),
            embedded=(FilePart(path="/x/i.png", name="n.png", content_id="cid"),),
            from_email="f@b.test",
            from_name="F",
            smtp=SmtpOverrides(
                host="h", port=465, encryption=Encryption.TLS, user="u", password="p"
            ),
            timeout=7,
            schedule_time=9,
            fail_to_delivered=2,
        )
        self.assertEqual(request, expected)
        self.assertIsInstance(request.timeout, int)

    def test_what_a_queue_adds_makes_no_other_mail_of_one_that_has_nothing_else(self) -> None:
        for failures in (0, 1, 2.0):
            short = _parse(failToDelivered=failures)
            self.assertEqual(short, _parse(failToDelivered=failures, replyTo=[]))
            self.assertEqual(short.fail_to_delivered, failures)
            self.assertIsInstance(short.fail_to_delivered, int)

    def test_a_file_without_name_takes_the_last_component_of_its_path(self) -> None:
        request = _parse(attachments=[["/x/a.txt"], ["b"], ["/x/"], ["/"]], embedded=[["i/j", "c"]])
        self.assertEqual([p.name for p in request.attachments], ["a.txt", "b", "x", "/"])
        self.assertEqual([p.name for p in request.embedded], ["j"])

    def test_scalars_are_put_in_as_the_predecessor_s_text(self) -> None:
        values = {"a": True, "b": False, "c": None, "d": 5, "e": 2.0, "f": 1.5, "g": "x", "h": 1e20}
        expected = {"a": "1", "b": "", "c": "", "d": "5", "e": "2", "f": "1.5", "g": "x"}
        request = _parse(replaceContent=values)
        self.assertEqual(dict(request.replace_content), {**expected, "h": "1e+20"})

    def test_a_recipient_in_any_of_the_three_lists_is_enough(self) -> None:
        for name in ("to", "ccList", "bccList"):
            _parse(**{"to": [], name: ["a@b.test"]})
        error = self.assertRaises(NoRecipientError, _parse, to=[])
        self.assertEqual(str(error), "To/CC/BCC must have at least one recipient")

    def test_an_invalid_mail_is_refused_with_its_faults(self) -> None:
        error = self.assertRaises(RequestInvalidError, _parse, subject="")
        self.assertEqual(error.errors, {"subject": ["Minimum string length is 1, found 0"]})

    def test_an_empty_text_in_the_mail_s_place_is_answered_as_null(self) -> None:
        error = self.assertRaises(RequestInvalidError, _PARSER.parse, "")
        self.assertEqual(error.errors, {"payload": ["The data (null) must match the type: object"]})

    def test_secrets_and_texts_stay_out_of_the_repr(self) -> None:
        shown = repr(_parse(smtpPassword="hush", body="private"))
        self.assertNotIn("hush", shown)
        self.assertNotIn("private", shown)


class AcceptTests(SynchronousTestCase):
    """What comes in now has limits; what waits from before has none."""

    def setUp(self) -> None:
        limits = MailLimits(max_recipients=3, sender="service@b.test")
        self.parser = MailParser(load_schema("sendMail"), limits)

    def mail(self, **fields: Any) -> dict[str, Any]:
        mail = {"to": ["a@b.test"], "ccList": [], "bccList": [], "subject": "s", "body": "b"}
        return {**mail, **fields}

    def faults(self, **fields: Any) -> dict[str, list[str]]:
        """Give why a mail is not accepted; it could be a stored one."""
        self.parser.parse(self.mail(**fields))
        error = self.assertRaises(RequestInvalidError, self.parser.accept, self.mail(**fields))
        assert isinstance(error, RequestInvalidError)
        return error.errors

    def test_recipients_are_counted_over_all_lists(self) -> None:
        self.parser.accept(self.mail(ccList=["c@b.test"], bccList=["d@b.test"]))
        found = self.faults(ccList=["c@b.test"], bccList=["d@b.test", "e@b.test"])
        self.assertEqual(list(found), ["payload"])
        self.assertIn("at most 3 recipients (MAIL_MAX_RECIPIENTS), 4 found", found["payload"][0])

    def test_without_a_limit_there_may_be_any_number(self) -> None:
        many = [f"u{i}@b.test" for i in range(5000)]
        parser = MailParser(load_schema("sendMail"))
        self.assertEqual(len(parser.accept(self.mail(to=many)).to), 5000)

    def test_lists_and_texts_are_limited(self) -> None:
        for name, value in (
            ("replyTo", ["a@b.test"] * 1001),
            ("attachments", [["a"]] * 1001),
            ("embedded", [["a", "c"]] * 1001),
            ("subject", "x" * 4097),
            ("fromName", "x" * 4097),
        ):
            self.assertEqual(list(self.faults(**{name: value})), [name])
        self.parser.accept(self.mail(subject="x" * 4096, attachments=[["a"]] * 1000))

    def test_of_a_stored_mail_only_changed_lists_are_counted(self) -> None:
        many = self.mail(to=[f"u{i}@b.test" for i in range(9)], subject="x" * 9000)
        self.parser.accept_changed(many, {"body": "new"})
        with self.assertRaises(RequestInvalidError):
            self.parser.accept_changed(many, {"to": many["to"]})

    def test_a_grant_decides_who_a_mail_may_be_from(self) -> None:
        own, other = (Grant(senders=frozenset({x})) for x in ("service@b.test", "c.test"))
        self.parser.accept(self.mail(), own)
        self.parser.accept(self.mail(fromEmail="x@c.test"), other)
        for mail, grant in ((self.mail(), other), (self.mail(fromEmail="x@c.test"), own)):
            with self.assertRaises(NotAllowedError):
                self.parser.accept(mail, grant)
            with self.assertRaises(NotAllowedError):
                self.parser.accept_changed(mail, {}, grant)

    def test_a_mail_of_nobody_is_from_nobody_allowed(self) -> None:
        parser = MailParser(load_schema("sendMail"))
        with self.assertRaises(NotAllowedError):
            parser.accept(self.mail(), Grant(senders=frozenset({"b.test"})))
