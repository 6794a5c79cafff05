# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.services.rendering, and for mails with templates on all their ways."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from zope.interface import implementer

from smtpmailer.core.model import Address, Capabilities, MailRequest, Outcome
from smtpmailer.core.queued import MailDocument, Settlement
from smtpmailer.core.queuestate import FRESH
from smtpmailer.core.replies import Reply
from smtpmailer.core.requests import Arguments
from smtpmailer.core.templating import TemplateRules
from smtpmailer.errors import (
    MessageError,
    NoSuchTemplateError,
    RequestInvalidError,
    StoreError,
    TemplatesOffError,
)
from smtpmailer.interfaces import ITemplateStore
from smtpmailer.services.courier import Courier
from smtpmailer.services.mail import MailService, Requeue
from smtpmailer.services.queue import QueueService, QueueTools
from smtpmailer.services.rendering import Renderer, Templates
from smtpmailer.stores.memory_templates import MemoryTemplateStore
from tests.services.parts import DEFAULTS, WatchedThreads
from tests.services.queueing import NOW, PARSER, UPDATES, QueueCase, mail

_TEXT = "Dear {{NAME}},\n{{WHAT}}\n"
_OLD = {"useTemplate": "t", "replaceContent": {"NAME": "Ada", "WHAT": 5}}


@implementer(ITemplateStore)
class BrokenStore(MemoryTemplateStore):
    """Can't be read."""

    def get(self, name: str) -> Deferred[str]:
        return fail(StoreError(f"{name}: the disk is gone"))


def templated(**fields: Any) -> dict[str, Any]:
    """Give a mail object that uses a template."""
    document = mail(**(_OLD | fields))
    del document["body"]
    return document


class TemplateCase(QueueCase):
    """A queue and a service with a template ``t``."""

    def setUp(self) -> None:
        super().setUp()
        self.templates = MemoryTemplateStore(limit_bytes=1_000_000)
        self.successResultOf(self.templates.add("t", _TEXT))
        self.use()

    def use(
        self, store: ITemplateStore | None = None, *, snapshot: bool = False, **rules: Any
    ) -> None:
        """Fill templates by these rules."""
        self.threads = WatchedThreads()
        self.known = Templates(
            store=store or self.templates, rules=TemplateRules(**rules), snapshot=snapshot
        )
        self.courier = Courier(
            DEFAULTS,
            attachments=self.files,
            sender=self.server,
            threads=self.threads,
            templates=self.known,
        )

    def change(self, text: str) -> None:
        """Change the template."""
        self.successResultOf(self.templates.update("t", text))

    def mails(self) -> MailService:
        """Give a service that sends mails, and may try again."""
        requeue = Requeue(
            store=self.store, policy=self.policy, now=self.now, jitter=lambda: self.jitter
        )
        return MailService(PARSER, self.courier, self.counters, self.stamp, requeue)

    def send(self, document: dict[str, Any]) -> Reply:
        """Send a mail."""
        return self.reply(self.mails().send_mail, document)

    def service(self) -> QueueService:
        """Give a service for the queue."""
        tools = QueueTools(
            parser=PARSER, update_schema=UPDATES, courier=self.courier, stamp=self.stamp
        )
        return QueueService(self.store, tools)

    def waiting(self) -> MailDocument:
        """Give the one mail that waits."""
        (name,) = self.names()
        return self.successResultOf(self.store.get(name)).document

    def deliver(self) -> Settlement:
        """Deliver the one mail that waits."""
        self.own()
        self.clock.advance(60)
        settlement: Settlement = self.successResultOf(self.postman().decide(self.claim()))
        return settlement

    def bodies(self) -> list[str]:
        """Give the texts that were sent."""
        wires = [sent.wire(Capabilities()).data for sent, _ in self.server.sent]
        return [wire.partition(b"\r\n\r\n")[2].decode() for wire in wires]


class RendererTests(TemplateCase):
    """A mail with a template becomes one with a text, or an error."""

    def render(self, template: str | None = "t", **values: str) -> MailRequest:
        return self.successResultOf(self.rendering(template, **values))

    def rendering(self, template: str | None = "t", **values: str) -> Deferred[MailRequest]:
        to = (Address(email="a@example.test"),)
        body = "b" if template is None else None
        request = MailRequest(
            to=to, subject="s", body=body, template=template, replace_content=values
        )
        return Renderer(self.threads, self.known).render(request)

    def test_the_text_is_that_of_the_template(self) -> None:
        made = self.render(NAME="{{WHAT}}", WHAT="x")
        self.assertEqual(made.body, "Dear {{WHAT}},\nx\n")
        self.assertEqual((made.template, made.replace_content), (None, {}))

    def test_a_mail_with_a_text_of_its_own_is_left_alone(self) -> None:
        self.assertEqual(self.render(None, NAME="x").body, "b")

    def test_an_unknown_template_is_named(self) -> None:
        for name in ("gone", "../../etc/hostname"):
            failure = self.failureResultOf(self.rendering(name), NoSuchTemplateError)
            self.assertEqual(str(failure.value), f"template not found: {name}")

    def test_without_templates_there_are_none(self) -> None:
        self.known = None  # type: ignore[assignment]
        self.failureResultOf(self.rendering(), TemplatesOffError)
        self.assertEqual(self.render(None).body, "b")

    def test_an_empty_text_is_no_mail(self) -> None:
        """It could not be queued either: a mail object's body is never empty."""
        self.change("{{NAME}}")
        failure = self.failureResultOf(self.rendering(NAME=""), MessageError)
        self.assertIn("empty", str(failure.value))

    def test_only_a_large_text_is_put_together_in_a_thread(self) -> None:
        size = 256 * 1024 - len(_TEXT)
        for more, runs in ((0, 0), (1, 1)):
            self.render(NAME="x" * (size + more))
            self.assertEqual(self.threads.runs, runs)
        self.change("x" * (256 * 1024 + 1))
        self.render()
        self.assertEqual(self.threads.runs, 2)


class SendTests(TemplateCase):
    """sendMail with a template."""

    def test_the_mail_that_is_sent_has_the_text(self) -> None:
        self.assertEqual(self.send(templated()).status, "success")
        self.assertEqual(self.bodies(), ["Dear Ada,\r\n5\r\n"])

    def test_values_are_escaped_as_the_rules_say(self) -> None:
        self.use(escape_html=True)
        self.send(templated(replaceContent={"NAME": "<b>"}))
        self.assertEqual(self.bodies(), ["Dear &lt;b&gt;,\r\n{{WHAT}}\r\n"])

    def test_an_unknown_template_is_told_and_counts_as_failed(self) -> None:
        reply = self.send(templated(useTemplate="gone"))
        said = (reply.status, reply.data, reply.message)
        self.assertEqual(said, ("error", "template not found: gone", "failed to send mail"))
        self.assertEqual((self.server.sent, self.counters.failed, self.names()), ([], 1, []))

    def test_values_that_do_not_fit_are_a_fault_of_the_mail_and_count_as_nothing(self) -> None:
        self.use(strict=True)
        values = {"NAME": "x", "OTHER": "y"}
        asked = self.mails().send_mail(Arguments(value=templated(replaceContent=values)))
        failure = self.failureResultOf(asked, RequestInvalidError)
        expected = [
            "The required properties (WHAT) are missing",
            "Additional object properties are not allowed: OTHER",
        ]
        self.assertEqual(failure.value.errors, {"replaceContent": expected})
        self.assertEqual((self.server.sent, self.counters.failed), ([], 0))

    def test_templates_that_can_not_be_read_are_told_and_logged(self) -> None:
        self.use(BrokenStore(limit_bytes=1))
        reply = self.send(templated())
        said = (reply.status, reply.data, reply.message)
        expected = ("error", "the template can't be read now", "failed to send mail")
        self.assertEqual((said, self.counters.failed), (expected, 1))
        self.assertEqual(len(self.flushLoggedErrors(StoreError)), 1)

    def test_a_failed_mail_waits_as_it_came(self) -> None:
        self.server.script = [Outcome.TEMPORARY]
        self.send(templated())
        self.assertEqual(self.waiting(), templated(failToDelivered=1))

    def test_a_failed_mail_takes_the_text_that_was_sent_along(self) -> None:
        self.use(snapshot=True)
        self.server.script = ["stuck"]
        answered = self.mails().send_mail(Arguments(value=templated()))
        self.change("another text")
        self.server.release(Outcome.TEMPORARY)
        self.successResultOf(answered)
        self.assertEqual(self.waiting(), mail(body="Dear Ada,\n5\n", failToDelivered=1))


class QueueTests(TemplateCase):
    """queueMail and updateQueuedMail with a template, and what is delivered later."""

    def queue(self, document: dict[str, Any]) -> tuple[Any, ...]:
        return self.ask(self.service().queue_mail, document)

    def update(self, content: dict[str, Any]) -> tuple[Any, ...]:
        self.clock.advance(1)
        return self.ask(self.service().update, self.names()[0], content)

    def test_a_mail_waits_as_it_came_and_is_rendered_when_it_is_sent(self) -> None:
        self.assertEqual(self.queue(templated())[0], "success")
        self.assertEqual(self.waiting(), templated(failToDelivered=0))
        self.change("{{NAME}} again")
        self.assertTrue(self.deliver().done)
        self.assertEqual(self.bodies(), ["Ada again\r\n"])

    def test_with_snapshot_a_mail_keeps_the_text_of_its_time(self) -> None:
        """What is stored is a mail object that the predecessor understands."""
        self.use(snapshot=True)
        self.assertEqual(self.queue(templated())[0], "success")
        self.assertEqual(self.waiting(), mail(body="Dear Ada,\n5\n", failToDelivered=0))
        self.successResultOf(self.templates.remove("t"))
        self.assertTrue(self.deliver().done)
        self.assertEqual(self.bodies(), ["Dear Ada,\r\n5\r\n"])

    def test_with_snapshot_a_mail_without_template_stays_as_it_is(self) -> None:
        self.use(snapshot=True)
        self.queue(mail(replaceContent={"b": "x"}))
        self.assertEqual(self.waiting(), mail(replaceContent={"b": "x"}, failToDelivered=0))

    def test_an_unknown_template_is_refused_at_the_door(self) -> None:
        said = self.queue(templated(useTemplate="gone"))
        expected = ("error", "template not found: gone", "failed to add mail to queue")
        self.assertEqual((said, self.names()), (expected, []))

    def test_values_that_do_not_fit_are_refused_at_the_door(self) -> None:
        self.use(strict=True)
        asked = self.service().queue_mail(Arguments(value=templated(replaceContent={})))
        self.failureResultOf(asked, RequestInvalidError)
        self.assertEqual(self.names(), [])

    def test_templates_that_can_not_be_read_are_a_failure_of_the_queue(self) -> None:
        self.use(BrokenStore(limit_bytes=1))
        said = self.queue(templated())
        self.assertEqual(said, ("error", None, "failed to add mail to queue"))
        self.assertEqual(len(self.flushLoggedErrors(StoreError)), 1)

    def test_a_template_that_is_missing_at_delivery_makes_a_dead_letter(self) -> None:
        self.queue(templated())
        self.successResultOf(self.templates.remove("t"))
        settlement = self.deliver()
        self.assertEqual((settlement.dead, self.server.sent), ("template not found: t", []))
        self.assertEqual(self.counters.failed, 1)

    def test_values_that_do_not_fit_at_delivery_make_a_dead_letter(self) -> None:
        self.use(strict=True)
        self.queue(templated())
        self.change("{{OTHER}}")
        dead = self.deliver().dead
        self.assertIn("replaceContent: The required properties (OTHER) are missing", dead)

    def test_templates_that_can_not_be_read_at_delivery_cost_no_attempt(self) -> None:
        self.queue(templated())
        self.use(BrokenStore(limit_bytes=1))
        settlement = self.deliver()
        self.assertEqual((settlement.done, settlement.dead, settlement.corrupt), (False, "", ""))
        self.assertEqual(settlement.state.next_at, NOW + 120)
        self.assertEqual((settlement.state.attempts, settlement.state.crashes), ((), 0))
        self.assertEqual((settlement.document, self.counters.failed), (None, 0))

    def test_an_update_can_change_values_and_template(self) -> None:
        self.queue(templated())
        content = {"replaceContent": {"NAME": "Bob"}}
        said = self.update(content)
        self.assertEqual(said[:2], ("success", templated(**content, failToDelivered=0)))
        said = self.update({"useTemplate": "gone"})
        expected = ("error", "template not found: gone", "unable to update queued mail")
        self.assertEqual(said, expected)
        self.assertEqual(self.waiting(), templated(**content, failToDelivered=0))

    def test_with_snapshot_an_update_renders_too(self) -> None:
        self.use(snapshot=True)
        self.queue(mail())
        content = {"useTemplate": "t", "replaceContent": {"NAME": "Bob"}}
        said = self.update(content)
        expected = mail(body="Dear Bob,\n{{WHAT}}\n", failToDelivered=0)
        self.assertEqual((said[:2], self.waiting()), (("success", expected), expected))

    def test_values_for_a_mail_that_has_its_text_are_refused(self) -> None:
        self.use(snapshot=True)
        self.queue(templated())
        content = {"replaceContent": {"NAME": "Bob"}}
        status, data, message = self.update(content)
        self.assertEqual((status, message), ("error", "unable to update queued mail"))
        self.assertIn("useTemplate", data)

    def test_a_mail_of_the_predecessor_is_rendered(self) -> None:
        name = self.store.make_name(NOW, "a")
        self.successResultOf(self.store.put(name, templated(failToDelivered=0), FRESH))
        self.assertTrue(self.deliver().done)
        self.assertEqual(self.bodies(), ["Dear Ada,\r\n5\r\n"])
