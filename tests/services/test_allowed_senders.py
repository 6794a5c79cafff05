# SPDX-License-Identifier: MIT
"""A key's senders count in every request that takes a mail, and change nothing when they forbid."""

from __future__ import annotations

import itertools
from typing import Any

import attrs

from smtpmailer.core.grants import Grant
from smtpmailer.core.mime import Stamp
from smtpmailer.core.replies import Reply
from smtpmailer.core.requests import Arguments, MailLimits, MailParser
from smtpmailer.errors import NotAllowedError, RequestInvalidError
from smtpmailer.schemafiles import load_schema
from smtpmailer.services.courier import Courier
from smtpmailer.services.mail import MailService
from smtpmailer.services.queue import QueueService, QueueTools
from tests.services.parts import DEFAULTS, STAMP, Counters, Files, Sender, WatchedThreads
from tests.services.queueing import UPDATES, mail
from tests.services.test_queue import ServiceCase

_SHOP = Grant(name="shop", senders=frozenset({"shop@example.org"}))
_OWN = {"fromEmail": "shop@example.org"}


class AllowedSenderTests(ServiceCase):
    """``sendMail``, ``queueMail`` and ``updateQueuedMail`` with a limited key."""

    def setUp(self) -> None:
        super().setUp()
        limits = MailLimits(max_recipients=2, sender=DEFAULTS.from_email)
        parser = MailParser(load_schema("sendMail"), limits)
        self.smtp = Sender()
        courier = Courier(DEFAULTS, attachments=Files(), sender=self.smtp, threads=WatchedThreads())
        times = itertools.count(1_700_000_000)

        def stamp() -> Stamp:
            return attrs.evolve(STAMP, unique="a1b2", epoch_seconds=next(times))

        tools = QueueTools(parser=parser, update_schema=UPDATES, courier=courier, stamp=stamp)
        self.queue = QueueService(self.store, tools)
        self.mail = MailService(parser, courier, Counters(), lambda: STAMP)

    def limited(self, value: Any, content: Any = None) -> Arguments:
        return Arguments(value=value, content=content, has_content=True, grant=_SHOP)

    def assert_fine(self, reply: Reply) -> None:
        self.assertEqual(reply.status, "success", reply)

    def test_mails_of_its_own_are_taken(self) -> None:
        self.assert_fine(self.successResultOf(self.mail.send_mail(self.limited(mail(**_OWN)))))
        self.assert_fine(self.successResultOf(self.queue.queue_mail(self.limited(mail(**_OWN)))))
        (name,) = self.names()
        changed = self.queue.update(self.limited(name, {"subject": "new"}))
        self.assert_fine(self.successResultOf(changed))

    def test_mails_of_others_are_not(self) -> None:
        name = self.put()
        for fields in ({}, {"fromEmail": "other@example.org"}):
            arguments = self.limited(mail(**fields))
            self.failureResultOf(self.mail.send_mail(arguments), NotAllowedError)
            self.failureResultOf(self.queue.queue_mail(arguments), NotAllowedError)
        content = {"subject": "new"}
        self.failureResultOf(self.queue.update(self.limited(name, content)), NotAllowedError)
        self.assertEqual((self.smtp.sent, self.names()), ([], [name]))

    def test_a_mail_of_others_can_not_be_made_its_own(self) -> None:
        for fields in ({}, {"fromEmail": "other@example.org"}, {"fromEmail": 5}):
            name = self.put(**fields)
            changed = self.queue.update(self.limited(name, _OWN))
            self.failureResultOf(changed, NotAllowedError)
            self.assertEqual(self.names(), [name])
            self.successResultOf(self.store.remove(name))

    def test_recipients_are_limited_in_each(self) -> None:
        many: dict[str, Any] = {"to": [f"u{i}@example.org" for i in range(3)], **_OWN}
        arguments = self.limited(mail(**many))
        for work in (self.mail.send_mail, self.queue.queue_mail):
            self.failureResultOf(work(arguments), RequestInvalidError)
        name = self.put(**many)
        changed = self.queue.update(self.limited(name, {"to": many["to"]}))
        self.failureResultOf(changed, RequestInvalidError)
        self.assert_fine(
            self.successResultOf(self.queue.update(self.limited(name, {"subject": "new"})))
        )
