# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.services.queue: every answer of the requests about waiting mails."""

from __future__ import annotations

import json
from typing import Any

import attrs
from twisted.logger import formatEvent

from smtpmailer.core.model import Outcome
from smtpmailer.core.names import unique_of
from smtpmailer.core.queuestate import FRESH, MailState
from smtpmailer.core.replies import Effect, Reply
from smtpmailer.core.requests import Arguments
from smtpmailer.core.retry import Moment, after_attempt
from smtpmailer.errors import (
    MailGoneOnError,
    NoRecipientError,
    RedisAwayError,
    RequestInvalidError,
    StoreError,
)
from smtpmailer.services.queue import QueueService, QueueTools
from tests.services.parts import DEFAULTS
from tests.services.queueing import NOW, PARSER, UPDATES, QueueCase, mail, outcomes

_GONE = "mail_0000000000000000001.1_a.json"


class ServiceCase(QueueCase):
    """A queue service."""

    def setUp(self) -> None:
        super().setUp()
        self.tools = QueueTools(
            parser=PARSER, update_schema=UPDATES, courier=self.courier, stamp=self.stamp
        )
        self.service = QueueService(self.store, self.tools)

    def break_store(self, method: str) -> None:
        """Let the store's next call fail."""
        self.faulty.faults[method] = [StoreError("the disk is gone")]

    def logged(self) -> int:
        """Forget, and count, the store's faults in the log."""
        return len(self.flushLoggedErrors(StoreError))


class QueueMailTests(ServiceCase):
    """An accepted mail waits under the name that was answered; a refused one leaves nothing."""

    def queue(self, **fields: Any) -> Reply:
        return self.reply(self.service.queue_mail, mail(**fields))

    def refused(self, **fields: Any) -> tuple[Any, Any]:
        reply = self.queue(**fields)
        self.assertEqual((reply.status, self.names()), ("error", []))
        return reply.data, reply.message

    def test_the_answer_names_the_mail_that_waits(self) -> None:
        answer = self.ask(self.service.queue_mail, mail())
        name = "mail_0000000001700000000.50000000_0000000000000001.json"
        self.assertEqual(answer, ("success", name, "mail added to queue"))
        self.assertEqual(self.names(), [name])

    def test_the_detail_tells_id_name_and_time(self) -> None:
        detail = self.queue(scheduleTime=1_800_000_000).detail
        assert detail is not None
        self.assertEqual(detail["mailId"], "0000000000000001")
        self.assertEqual([detail["queueName"]], self.names())
        self.assertEqual(detail["nextAttempt"], 1_800_000_000)
        self.assertEqual((detail["held"], detail["attempts"]), (None, []))

    def test_the_stored_document_is_the_mail_with_a_count_of_failures(self) -> None:
        self.queue(replyTo=[["r@example.test", "R"]])
        stored = self.successResultOf(self.memory.get(self.names()[0]))
        expected = mail(replyTo=[["r@example.test", "R"]], failToDelivered=0)
        self.assertEqual((stored.document, stored.state), (expected, FRESH))

    def test_failures_that_a_client_counts_are_kept(self) -> None:
        self.queue(failToDelivered=2)
        stored = self.successResultOf(self.memory.get(self.names()[0]))
        assert not isinstance(stored.document, str)
        self.assertEqual(stored.document["failToDelivered"], 2)

    def test_a_password_is_stored_encrypted(self) -> None:
        self.queue(smtpPassword="secret")
        stored = self.successResultOf(self.memory.get(self.names()[0]))
        self.assertNotIn("secret", json.dumps(stored.document))
        opened = self.successResultOf(self.store.get(self.names()[0]))
        assert not isinstance(opened.document, str)
        self.assertEqual(opened.document["smtpPassword"], "secret")

    def test_a_scheduled_mail_is_named_after_its_time(self) -> None:
        for time in (0, 5, 1_600_000_000, 1_800_000_000, 253_402_300_799):
            name = self.queue(scheduleTime=time).data
            self.assertTrue(name.startswith(f"mail_{time:019d}."), name)

    def test_a_schedule_in_the_past_is_due_now(self) -> None:
        self.queue(scheduleTime=5)
        self.own()
        self.claim()

    def test_mails_of_one_second_wait_in_order(self) -> None:
        names = []
        for _ in range(3):
            names.append(self.queue().data)
            self.clock.advance(0.001)
        self.assertEqual(names, self.names())

    def test_an_absurd_schedule_is_refused(self) -> None:
        for time in (-1, 253_402_300_800, 10**18, 1.5, "5", True):
            arguments = Arguments(value=mail(scheduleTime=time))
            failure = self.failureResultOf(
                self.service.queue_mail(arguments), RequestInvalidError
            ).value
            self.assertEqual(list(failure.errors), ["scheduleTime"])
        self.assertEqual(self.names(), [])

    def test_what_is_no_mail_fails(self) -> None:
        values: tuple[Any, ...] = (None, 5, [], {}, "", {"to": []})
        for value in values:
            failing = self.service.queue_mail(Arguments(value=value))
            self.failureResultOf(failing, RequestInvalidError)
        nobody = self.service.queue_mail(Arguments(value=mail(to=[])))
        self.failureResultOf(nobody, NoRecipientError)
        self.assertEqual(self.names(), [])

    def test_a_missing_file_is_refused_by_name(self) -> None:
        said = "could not attach a.pdf: no such file"
        expected = (said, "failed to add mail to queue")
        self.assertEqual(self.refused(attachments=[["a.pdf"]]), expected)
        self.assertEqual(self.refused(embedded=[["a.pdf", "cid"]]), expected)

    def test_a_file_that_is_there_is_not_read_at_the_door(self) -> None:
        self.files.contents["a.pdf"] = b"x"
        self.assertEqual(self.queue(attachments=[["a.pdf"]]).status, "success")
        self.assertEqual(self.server.sent, [])

    def test_a_part_that_can_not_be_built_is_refused(self) -> None:
        self.files.contents["a.png"] = b"x"
        data, message = self.refused(embedded=[["a.png", "<cid>"]])
        self.assertEqual(message, "failed to add mail to queue")
        self.assertIn("cid", data)

    def test_a_template_is_refused_while_there_are_none(self) -> None:
        document = mail(useTemplate="t.html")
        del document["body"]
        answer = self.ask(self.service.queue_mail, document)
        self.assertEqual(answer, ("error", None, "template service is not enabled"))

    def test_a_mail_without_any_sender_is_refused(self) -> None:
        self.courier._defaults = attrs.evolve(DEFAULTS, from_email="")
        data, message = self.refused()
        self.assertEqual(message, "failed to add mail to queue")
        self.assertIn("MAIL_FROM_ADDR", data)
        self.assertEqual(self.queue(fromEmail="me@example.test").status, "success")

    def test_a_mail_that_may_be_queued_is_not_said_to_be_refused(self) -> None:
        faults = (MailGoneOnError(_GONE, "not durable"), RedisAwayError("no answer", sent=True))
        for fault in faults:
            self.faulty.faults["put"] = [fault]
            reply = self.queue()
            said = (reply.status, reply.data, reply.message, reply.effect)
            expected = ("error", None, "mail may have been added to queue", Effect.UNKNOWN)
            self.assertEqual(said, expected)
        self.assertEqual(self.logged(), 2)

    def test_a_store_that_fails_is_an_error_without_a_reason(self) -> None:
        self.break_store("put")
        self.assertEqual(self.refused(), (None, "failed to add mail to queue"))
        self.assertEqual(self.logged(), 1)


class ListTests(ServiceCase):
    """Pages of names."""

    def list(self, value: Any) -> tuple[Any, ...]:
        return self.ask(self.service.get_list, value)

    def test_an_empty_queue_has_an_empty_list(self) -> None:
        expected = ("success", {"items": [], "total": 0}, "queue list is empty")
        self.assertEqual(self.list(None), expected)

    def test_names_ascend_and_are_counted(self) -> None:
        names = [self.put(due=NOW + offset) for offset in (5, 1, 3)]
        expected = {"items": sorted(names), "total": 3}
        self.assertEqual(self.list(None), ("success", expected, "found 3 mails in queue"))

    def test_a_page_is_cut_from_all(self) -> None:
        names = [self.put(due=NOW + offset) for offset in range(5)]
        for value, items in (
            ({"limit": 2}, names[:2]),
            ({"limit": 2, "page": 1}, names[2:4]),
            ({"limit": 2, "page": 2}, names[4:]),
            ({"limit": 2, "page": 3}, []),
            ({"limit": 2, "page": 10**30}, []),
        ):
            self.assertEqual(self.list(value)[1], {"items": items, "total": 5}, value)

    def test_the_default_is_the_first_500(self) -> None:
        names = [self.put() for _ in range(501)]
        odd: tuple[Any, ...] = (
            {},
            {"limit": 0},
            {"limit": 501},
            {"limit": -1},
            {"limit": "5"},
            {"limit": 1.5},
            {"limit": True},
            {"limit": None, "page": None},
            {"page": -1},
            {"page": "1"},
            [],
            5,
            "x",
        )
        for value in odd:
            self.assertEqual(self.list(value)[1]["items"], names[:500], value)
        self.assertEqual(self.list({"limit": 500, "page": 1})[1]["items"], names[500:])

    def test_a_store_that_fails_is_an_error(self) -> None:
        self.break_store("page")
        self.assertEqual(self.list(None), ("error", None, "unable to get queue list"))
        self.assertEqual(self.logged(), 1)


class GetTests(ServiceCase):
    """A mail as it waits, without its passwords."""

    def get(self, value: Any) -> tuple[Any, ...]:
        return self.ask(self.service.get, value)

    def test_the_answer_is_the_mail_and_its_name(self) -> None:
        name = self.put(failToDelivered=1)
        self.assertEqual(self.get(name), ("success", mail(failToDelivered=1), name))

    def test_passwords_are_never_shown(self) -> None:
        name = self.put(smtpUser="u", smtpPassword="secret")
        reply = self.reply(self.service.get, name)
        self.assertEqual(reply.data, mail(smtpUser="u"))
        self.assertNotIn("secret", repr((reply.data, reply.detail)))

    def test_the_detail_holds_the_history_and_the_next_attempt(self) -> None:
        result = outcomes(Outcome.TEMPORARY, "user@example.test")
        moment = Moment(now=NOW, accepted_at=NOW, jitter=0.5)
        state = after_attempt(FRESH, 0, result, self.policy, moment).state
        detail = self.reply(self.service.get, self.put(state)).detail
        assert detail is not None
        self.assertEqual((detail["attemptCount"], detail["nextAttempt"]), (1, NOW + 60))
        (attempt,) = detail["attempts"]
        self.assertEqual((attempt["at"], attempt["reason"]), (NOW, "SMTP Error: temporary"))
        self.assertEqual(attempt["recipients"][0]["reply"], "4.2.0 later")

    def test_a_held_mail_has_no_next_attempt(self) -> None:
        name = self.put(MailState(held="in doubt", in_doubt=("user@example.test",)))
        detail = self.reply(self.service.get, name).detail
        assert detail is not None
        self.assertEqual((detail["nextAttempt"], detail["held"]), (None, "in doubt"))
        self.assertEqual(detail["inDoubt"], ["user@example.test"])

    def test_what_is_no_text_is_an_invalid_payload(self) -> None:
        expected = ("error", "invalid file path string", "invalid payload")
        values: tuple[Any, ...] = (None, 5, [], {}, True)
        for value in values:
            self.assertEqual(self.get(value), expected)

    def test_what_does_not_wait_can_not_be_had(self) -> None:
        for value in ("", "nope", "../../etc/hostname", _GONE, _GONE + "\n", _GONE.upper()):
            self.assertEqual(self.get(value), ("error", None, "unable to get queued mail"))
        self.assertEqual(self.logged(), 0)

    def test_a_mail_that_can_not_be_read_is_an_error_and_logged(self) -> None:
        name = self.put()
        self.successResultOf(self.memory.remove(name))
        self.successResultOf(self.memory.put(name, "bm90IG91cnM=", FRESH))
        self.assertEqual(self.get(name), ("error", None, "unable to get queued mail"))
        self.break_store("get")
        self.assertEqual(self.get(name), ("error", None, "unable to get queued mail"))
        self.assertEqual(self.logged(), 2)

    def test_a_document_that_nobody_decrypts_is_an_error(self) -> None:
        name = self.put()
        self.successResultOf(self.memory.remove(name))
        self.successResultOf(self.memory.put(name, "bm90IG91cnM=", FRESH))
        plain = QueueService(self.memory, self.tools)
        answer = self.ask(plain.get, name)
        self.assertEqual(answer, ("error", None, "unable to get queued mail"))
        self.assertEqual(self.logged(), 1)


class RemoveTests(ServiceCase):
    """One mail, or all."""

    def remove(self, value: Any) -> tuple[Any, ...]:
        return self.ask(self.service.remove, value)

    def test_a_waiting_mail_is_removed(self) -> None:
        name, other = self.put(), self.put()
        self.assertEqual(self.remove(name), ("success", name, "queued mail removed"))
        self.assertEqual(self.names(), [other])
        self.assertEqual(self.remove(name), ("error", None, "unable to remove queued mail"))

    def test_what_is_no_text_is_an_invalid_payload(self) -> None:
        values: tuple[Any, ...] = (None, 5, [], {})
        for value in values:
            self.assertEqual(self.remove(value), ("error", None, "invalid payload"))

    def test_who_removed_what_is_in_the_log(self) -> None:
        events = self.watch_log()
        name = self.put()
        self.remove(name)
        self.put()
        self.ask(self.service.clear, None)
        removed = f"mail {unique_of(name)} ({name}) removed by 192.0.2.1"
        expected = [removed, "queue cleared by 192.0.2.1: 1"]
        self.assertEqual([formatEvent(event) for event in events], expected)

    def test_what_is_no_name_is_told_from_what_is_gone(self) -> None:
        for value in ("", "nope", "../x", "mail_1.1_A.json", _GONE + "\n"):
            self.assertEqual(self.remove(value), ("error", None, "invalid filepath string"))
        self.assertEqual(self.remove(_GONE), ("error", None, "unable to remove queued mail"))

    def test_a_mail_that_is_being_sent_stays(self) -> None:
        name = self.put()
        self.own()
        self.claim()
        self.assertEqual(self.remove(name), ("error", None, "unable to remove queued mail"))

    def test_a_store_that_fails_is_an_error(self) -> None:
        name = self.put()
        self.break_store("remove")
        self.assertEqual(self.remove(name), ("error", None, "unable to remove queued mail"))
        self.break_store("clear")
        expected = ("error", None, "unable to read queue dir")
        self.assertEqual(self.ask(self.service.clear, None), expected)
        self.assertEqual((self.names(), self.logged()), ([name], 2))

    def test_clearing_removes_all_and_counts(self) -> None:
        for _ in range(3):
            self.put()
        expected = ("success", {"removed": 3}, "removed 3 mails in queue")
        self.assertEqual(self.ask(self.service.clear, "anything"), expected)
        self.assertEqual(self.names(), [])

    def test_clearing_an_empty_queue_says_so_as_its_kind_does(self) -> None:
        answer = self.ask(self.service.clear, None)
        self.assertEqual(answer, ("success", [], "queue list is empty"))
        redis = QueueService(self.store, self.tools, lists_when_empty=False)
        expected_redis = ("success", {"removed": 0}, "removed 0 mails in queue")
        self.assertEqual(self.ask(redis.clear, None), expected_redis)
