# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.services.courier."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from smtpmailer.core.model import (
    Address,
    Capabilities,
    DeliveryResult,
    FilePart,
    MailRequest,
    Outcome,
    SmtpOverrides,
)
from smtpmailer.errors import AddressError, AttachmentError, MessageError
from smtpmailer.interfaces import IAttachments, ISender, IThreads
from smtpmailer.services.courier import Courier
from tests.services.parts import DEFAULTS, STAMP, Files, Sender, WatchedThreads, result_of


class CourierTests(SynchronousTestCase):
    """A mail is built and handed over once, or nothing leaves."""

    def setUp(self) -> None:
        self.files, self.sender, self.threads = Files(), Sender(), WatchedThreads()

    def courier(self, **changes: Any) -> Courier:
        return Courier(
            attrs.evolve(DEFAULTS, **changes),
            attachments=self.files,
            sender=self.sender,
            threads=self.threads,
        )

    def request(self, **fields: Any) -> MailRequest:
        values = {"to": (Address(email="user@example.org"),), "subject": "s", "body": "b"}
        return MailRequest(**(values | fields))

    def deliver(self, courier: Courier | None = None, **fields: Any) -> DeliveryResult:
        done = (courier or self.courier()).deliver(self.request(**fields), STAMP)
        return self.successResultOf(done)

    def refused(self, kind: type[Exception], courier: Courier | None = None, **fields: Any) -> str:
        done = (courier or self.courier()).deliver(self.request(**fields), STAMP)
        failure = self.failureResultOf(done, kind)
        self.assertEqual(self.sender.sent, [])
        return str(failure.value)

    def wire(self) -> bytes:
        ((mail, _route),) = self.sender.sent
        return mail.wire(Capabilities()).data

    def test_the_parts_are_what_they_stand_for(self) -> None:
        verifyObject(ISender, self.sender)
        verifyObject(IAttachments, self.files)
        verifyObject(IThreads, self.threads)

    def test_the_senders_result_is_given_as_it_is(self) -> None:
        self.sender.result = result_of(Outcome.UNCERTAIN, "user@example.org", reason="lost")
        self.assertIs(self.deliver(), self.sender.result)
        self.assertEqual(len(self.sender.sent), 1)

    def test_the_mail_carries_the_stamp(self) -> None:
        self.deliver()
        self.assertEqual(self.sender.sent[0][0].mail_id, STAMP.unique)
        self.assertIn(b"Message-ID: <mail-1@example.org>\r\n", self.wire())

    def test_what_a_mail_leaves_open_comes_from_the_settings(self) -> None:
        self.deliver()
        (mail, route) = self.sender.sent[0]
        self.assertEqual(mail.envelope.sender, "service@example.org")
        self.assertIn(b"From: The Service <service@example.org>\r\n", self.wire())
        self.assertIn(b"Content-Type: text/plain", self.wire())
        self.assertEqual(route, DEFAULTS.route)

    def test_a_mails_own_sender_wins(self) -> None:
        self.deliver(from_email="me@example.net", from_name="Me")
        self.assertEqual(self.sender.sent[0][0].envelope.sender, "me@example.net")
        self.assertIn(b"From: Me <me@example.net>\r\n", self.wire())

    def test_a_mails_own_name_goes_with_the_address_of_the_settings_and_the_reverse(self) -> None:
        self.deliver(from_name="Me")
        self.assertIn(b"From: Me <service@example.org>\r\n", self.wire())
        self.sender.sent.clear()
        self.deliver(from_email="me@example.net")
        self.assertIn(b"From: The Service <me@example.net>\r\n", self.wire())
        self.assertEqual(self.sender.sent[0][0].envelope.sender, "me@example.net")

    def test_settings_that_can_not_be_written_are_told_each_mail_that_needs_them(self) -> None:
        courier = self.courier(from_name="a\nb")
        for _ in range(2):
            self.assertIn("display name", self.refused(MessageError, courier))
        self.deliver(courier, from_name="Me")
        self.assertIn(b"From: Me <service@example.org>\r\n", self.wire())

    def test_who_cancels_a_delivery_cancels_that_of_the_sender(self) -> None:
        given_up: list[Deferred[DeliveryResult]] = []
        sending: Deferred[DeliveryResult] = Deferred(given_up.append)
        self.patch(self.sender, "send", lambda *_: sending)
        delivery = self.courier().deliver(self.request(), STAMP)
        delivery.cancel()
        self.assertEqual(given_up, [sending])
        self.failureResultOf(delivery, CancelledError)

    def test_an_empty_name_of_a_mail_is_no_name(self) -> None:
        self.deliver(from_name="")
        self.assertIn(b"From: service@example.org\r\n", self.wire())

    def test_a_mails_own_route_is_taken(self) -> None:
        self.deliver(smtp=SmtpOverrides(host="own.example.net", port=25), timeout=7)
        route = self.sender.sent[0][1]
        self.assertEqual((route.host, route.port, route.timeout), ("own.example.net", 25, 7))
        self.assertEqual((route.user, route.password), ("", ""))

    def test_a_mail_without_any_sender_says_what_to_set(self) -> None:
        said = self.refused(MessageError, self.courier(from_email=""))
        self.assertIn("fromEmail", said)
        self.assertIn("MAIL_FROM_ADDR", said)

    def test_a_file_that_can_not_be_attached_keeps_the_mail_from_leaving(self) -> None:
        missing = FilePart(path="a.pdf", name="a.pdf")
        self.assertIn("a.pdf", self.refused(AttachmentError, attachments=(missing,)))
        self.refused(AttachmentError, embedded=(attrs.evolve(missing, content_id="a"),))

    def test_an_address_that_can_not_be_written_keeps_the_mail_from_leaving(self) -> None:
        self.refused(AddressError, to=(Address(email="no address"),))

    def test_attachments_and_embedded_files_are_in_the_mail(self) -> None:
        self.files.contents = {"a": b"attached", "e": b"embedded"}
        self.deliver(
            attachments=(FilePart(path="a", name="a.txt"),),
            embedded=(FilePart(path="e", name="e.png", content_id="e"),),
        )
        self.assertIn(b'filename="a.txt"', self.wire().replace(b"=a.txt", b'="a.txt"'))
        self.assertIn(b"Content-ID: <e>\r\n", self.wire())

    def test_only_a_large_mail_is_put_together_in_a_thread(self) -> None:
        part = FilePart(path="a", name="a.bin")
        for size, runs in ((256 * 1024, 0), (256 * 1024 + 1, 1)):
            self.files.contents["a"] = bytes(size)
            self.deliver(attachments=(part,))
            self.assertEqual(self.threads.runs, runs)

    def test_what_is_wrong_with_a_large_mail_is_told_too(self) -> None:
        self.files.contents["a"] = bytes(300 * 1024)
        part = FilePart(path="a", name="a.bin")
        self.refused(AddressError, to=(Address(email="no address"),), attachments=(part,))
        self.assertEqual(self.threads.runs, 1)
