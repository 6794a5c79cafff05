# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.services.once: what is found out where there is no answer."""

from __future__ import annotations

from typing import Any

from smtpmailer.core.model import Outcome
from smtpmailer.core.queued import Settlement
from smtpmailer.core.replies import Reply
from smtpmailer.errors import RequestInvalidError, StoreError
from tests.services.once import OnceCase
from tests.services.queueing import mail


class DeathTests(OnceCase):
    """The first one's process died before it answered."""

    def die(self, name: str, *script: Any, **fields: Any) -> None:
        """Let a process carry out a request, and forget what it would have answered."""
        self.server.script = list(script)
        self.node.faults.faults["answer"] = [StoreError("dead")]
        self.asked(name, **fields)
        self.flushLoggedErrors(StoreError)
        self.successResultOf(self.node.files.stop())

    def again(self, name: str, **fields: Any) -> Reply:
        return self.asked(name, node=self.make_node(), **fields)

    def test_a_mail_that_waits_was_queued(self) -> None:
        self.die("queueMail")
        reply = self.again("queueMail")
        self.assertEqual(self.said(reply), ("success", *self.names(), "mail added to queue", True))
        assert reply.detail
        self.assertEqual(reply.detail["queueName"], reply.data)

    def test_what_was_found_out_is_remembered(self) -> None:
        self.die("queueMail")
        first = self.again("queueMail")
        self.successResultOf(self.store.remove(self.names()[0]))
        self.assertEqual(self.said(self.again("queueMail")), self.said(first))

    def test_what_was_found_out_need_not_be_kept(self) -> None:
        self.die("queueMail")
        node = self.make_node()
        node.faults.faults["answer"] = [StoreError("full")]
        self.assertEqual(self.asked("queueMail", node=node).status, "success")
        self.assertEqual(len(self.flushLoggedErrors(StoreError)), 1)

    def test_a_mail_that_was_changed_since_is_found(self) -> None:
        self.die("queueMail")
        (name,) = self.names()
        new = self.store.make_name(self.now() + 60, name.rpartition("_")[2].removesuffix(".json"))
        self.successResultOf(self.store.replace(name, new, mail(subject="changed")))
        self.assertEqual(self.again("queueMail").data, new)

    def test_a_mail_that_waits_after_a_failure_is_not_sent_again(self) -> None:
        self.die("sendMail", Outcome.TEMPORARY)
        reply = self.again("sendMail")
        self.assertEqual(
            self.said(reply)[:3],
            ("error", "it is in the queue since its first attempt", "failed to send mail"),
        )
        assert reply.detail
        self.assertEqual(reply.detail["queueName"], self.names()[0])
        self.assertEqual(len(self.server.sent), 1)

    def test_a_mail_that_was_given_up_since_is_said_to_be_a_dead_letter(self) -> None:
        self.die("sendMail", Outcome.TEMPORARY)
        self.own()
        self.clock.advance(90_000)
        claimed = self.claim()
        settlement = Settlement(at=self.now(), state=claimed.state, dead="gave up")
        self.successResultOf(self.store.settle(claimed.name, settlement))
        reply = self.again("sendMail")
        self.assertEqual(reply.data, "it is a dead letter since its last attempt")
        self.assertEqual(reply.detail, {"queueName": claimed.name})

    def test_a_mail_that_went_to_quarantine_since_is_said_to_be_there(self) -> None:
        self.die("sendMail", Outcome.TEMPORARY)
        self.own()
        self.clock.advance(90_000)
        claimed = self.claim()
        settlement = Settlement(at=self.now(), state=claimed.state, corrupt="no key opens it")
        self.successResultOf(self.store.settle(claimed.name, settlement))
        reply = self.again("sendMail")
        self.assertEqual(reply.data, "it is in quarantine, as it could not be read")

    def test_what_is_nowhere_is_in_doubt(self) -> None:
        self.die("sendMail")
        for _ in range(2):
            reply = self.again("sendMail")
            self.assertEqual((reply.status, reply.message), ("error", "request is in doubt"))
            self.assertEqual(reply.detail, {"mailId": self.server.ids[0]})
            self.assertIn("the service ended before it or could not keep it", reply.data)
        self.assertEqual(len(self.server.sent), 1)

    def test_without_a_queue_it_is_in_doubt(self) -> None:
        self.die("sendMail")
        reply = self.asked("sendMail", node=self.make_node(queue=False))
        self.assertEqual(reply.message, "request is in doubt")

    def test_while_the_queue_can_not_be_asked_it_is_in_doubt(self) -> None:
        self.die("queueMail")
        self.search.faults["find"] = [StoreError("away")]
        self.assertEqual(self.again("queueMail").message, "request is in doubt")
        self.assertEqual(len(self.flushLoggedErrors(StoreError)), 1)
        self.assertEqual(self.again("queueMail").status, "success")

    def test_another_mail_learns_nothing(self) -> None:
        self.die("queueMail")
        deferred = self.make_node().ask("queueMail", mail(subject="t"))
        self.failureResultOf(deferred, RequestInvalidError)
