# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.services.once: a repeated request never makes a second mail."""

from __future__ import annotations

import gc
from typing import Any

from twisted.internet.defer import Deferred

from smtpmailer.core.grants import Grant
from smtpmailer.core.model import Outcome
from smtpmailer.errors import (
    NoRecipientError,
    NotAllowedError,
    RedisAwayError,
    RequestInvalidError,
    StoreError,
)
from tests.services.once import OnceCase
from tests.services.queueing import mail

_BOTH = ["a@example.test", "b@example.test"]


def deferreds() -> int:
    """Count all that are kept anywhere."""
    gc.collect()
    return sum(type(each) is Deferred for each in gc.get_objects())


class RepeatTests(OnceCase):
    """What is answered to a repeated request."""

    def test_without_a_key_nothing_is_remembered(self) -> None:
        first, second = (self.asked("queueMail", key="") for _ in range(2))
        self.assertNotEqual(first.data, second.data)
        self.assertIsNone(first.repeated)
        self.assertEqual(self.node.faults.calls, [])
        self.assertFalse(self.keys.exists())

    def test_a_repeated_mail_is_queued_once(self) -> None:
        first, second = (self.asked("queueMail") for _ in range(2))
        self.assertEqual(self.names(), [first.data])
        self.assertEqual(
            (self.said(first), self.said(second)),
            (
                ("success", first.data, "mail added to queue", False),
                ("success", first.data, "mail added to queue", True),
            ),
        )
        self.assertEqual(second.detail, first.detail)

    def test_a_repeated_mail_is_sent_once(self) -> None:
        first, second = (self.asked("sendMail") for _ in range(2))
        self.assertEqual(len(self.server.sent), 1)
        self.assertEqual(self.said(first), ("success", None, "mail sent successfully", False))
        self.assertEqual(self.said(second), ("success", None, "mail sent successfully", True))
        self.assertEqual(second.detail, first.detail)

    def test_any_process_knows_the_answer(self) -> None:
        first = self.asked("queueMail")
        self.successResultOf(self.node.files.stop())
        second = self.asked("queueMail", node=self.make_node())
        self.assertEqual((second.data, second.repeated), (first.data, True))

    def test_other_keys_make_other_mails(self) -> None:
        for key in ("k1", "k2", "K1"):
            self.asked("queueMail", key=key)
        self.assertEqual(len(self.names()), 3)

    def test_each_password_has_keys_of_its_own(self) -> None:
        for name in ("shop", "news"):
            reply = self.successResultOf(self.node.ask("queueMail", mail(), grant=Grant(name=name)))
            self.assertFalse(reply.repeated)
        self.assertEqual(len(self.names()), 2)

    def test_another_mail_under_the_same_key_is_refused(self) -> None:
        self.asked("queueMail")
        for name, fields in (("queueMail", {"subject": "t"}), ("sendMail", {})):
            failure = self.failureResultOf(self.node.ask(name, mail(**fields)), RequestInvalidError)
            (text,) = failure.value.errors["once"]
            self.assertIn("another request", text)
        self.assertEqual((len(self.names()), self.server.sent), (1, []))

    def test_a_mended_password_is_the_same_mail(self) -> None:
        first = self.asked("queueMail", smtpPassword="worng")
        second = self.asked("queueMail", smtpPassword="wrong")
        self.assertEqual((second.data, second.repeated), (first.data, True))

    def test_a_changed_secret_key_changes_nothing(self) -> None:
        first = self.asked("queueMail")
        node = self.make_node((b"new", b"secret"))
        self.assertEqual(self.asked("queueMail", node=node).data, first.data)
        strange = self.make_node((b"new",))
        self.failureResultOf(strange.ask("queueMail", mail()), RequestInvalidError)

    def test_nothing_of_the_mail_is_on_the_disk(self) -> None:
        self.asked("queueMail", smtpPassword="p4ssw0rd", subject="t0psecret", smtpUser="us3r")
        (record,) = [path for path in self.keys.iterdir() if len(path.name) == 64]
        for text in (b"p4ssw0rd", b"t0psecret", b"us3r", b"k1"):
            self.assertNotIn(text, record.read_bytes())


class OutcomeTests(OnceCase):
    """Which outcomes are remembered, and which let the client try anew."""

    def assert_released(self, name: str, **fields: Any) -> None:
        reply = self.asked(name, **fields)
        self.assertEqual((reply.status, reply.repeated), ("success", False))

    def test_what_is_no_mail_may_be_made_again(self) -> None:
        for value, error in (
            (None, RequestInvalidError),
            ({**mail(), "to": []}, NoRecipientError),
        ):
            for name in ("queueMail", "sendMail"):
                self.failureResultOf(self.node.ask(name, value), error)
        self.assert_released("queueMail")

    def test_what_is_nested_too_deeply_is_no_mail_and_takes_no_key(self) -> None:
        deep: Any = "x"
        for _ in range(500):
            deep = [deep]
        for name in ("queueMail", "sendMail"):
            deferred = self.node.ask(name, mail(replaceContent=deep))
            self.failureResultOf(deferred, RequestInvalidError)
        self.assert_released("queueMail")

    def test_who_was_not_allowed_may_ask_again(self) -> None:
        limited = Grant(senders=frozenset({"other.test"}))
        deferred = self.node.ask("queueMail", mail(), grant=limited)
        self.failureResultOf(deferred, NotAllowedError)
        self.assert_released("queueMail")

    def test_what_could_not_be_built_may_be_made_again(self) -> None:
        for name in ("queueMail", "sendMail"):
            self.assertEqual(self.asked(name, attachments=[["a.txt"]], key=name).status, "error")
            self.files.contents["a.txt"] = b"x"
            self.assert_released(name, attachments=[["a.txt"]], key=name)
            del self.files.contents["a.txt"]

    def test_what_a_full_disk_refused_may_be_made_again(self) -> None:
        self.faulty.faults["put"] = [StoreError("full")]
        self.assertEqual(self.asked("queueMail").status, "error")
        self.flushLoggedErrors(StoreError)
        self.assert_released("queueMail")

    def test_what_the_server_refused_may_be_made_again(self) -> None:
        self.server.script = [Outcome.PERMANENT]
        self.assertEqual(self.asked("sendMail").status, "error")
        self.assert_released("sendMail")

    def test_what_failed_for_now_and_is_not_queued_may_be_made_again(self) -> None:
        self.server.script = [Outcome.TEMPORARY, Outcome.TEMPORARY]
        self.assertEqual(self.asked("sendMail", node=self.make_node(queue=False)).status, "error")
        self.faulty.faults["put"] = [StoreError("full")]
        self.assertEqual(self.asked("sendMail").status, "error")
        self.flushLoggedErrors(StoreError)
        self.assert_released("sendMail")

    def test_what_is_queued_after_a_failure_is_not_sent_again(self) -> None:
        self.server.script = [Outcome.TEMPORARY]
        first, second = (self.asked("sendMail") for _ in range(2))
        self.assertEqual(self.said(second), ("error", first.data, "failed to send mail", True))
        self.assertEqual((len(self.server.sent), len(self.names())), (1, 1))
        assert second.detail
        self.assertEqual(second.detail["queueName"], self.names()[0])

    def test_what_somebody_has_is_not_sent_again(self) -> None:
        some = {_BOTH[0]: Outcome.DELIVERED, _BOTH[1]: Outcome.PERMANENT}
        doubt = {_BOTH[0]: Outcome.UNCERTAIN, _BOTH[1]: Outcome.TEMPORARY}
        for key, outcome in (("some", some), ("doubt", doubt)):
            node = self.make_node(queue=False)
            self.server.script = [outcome]
            sent = len(self.server.sent)
            for repeated in (False, True):
                reply = self.asked("sendMail", node=node, key=key, to=_BOTH)
                self.assertEqual((reply.status, reply.repeated), ("error", repeated))
            self.assertEqual(len(self.server.sent), sent + 1)

    def test_a_lost_answer_of_redis_is_looked_into(self) -> None:
        put = self.memory.put

        def lost(*arguments: Any) -> Any:
            put(*arguments)
            raise RedisAwayError("no answer", sent=True)

        self.patch(self.memory, "put", lost)
        self.assertEqual(self.asked("queueMail").status, "error")
        self.flushLoggedErrors(RedisAwayError)
        reply = self.asked("queueMail")
        self.assertEqual(self.said(reply), ("success", *self.names(), "mail added to queue", True))

    def test_a_lost_answer_about_a_mail_that_failed_is_looked_into(self) -> None:
        self.server.script = [Outcome.TEMPORARY]
        self.faulty.faults["put"] = [RedisAwayError("no answer", sent=True)]
        self.assertEqual(self.asked("sendMail").status, "error")
        self.flushLoggedErrors(RedisAwayError)
        self.assertEqual(self.asked("sendMail").message, "request is in doubt")
        self.assertEqual(len(self.server.sent), 1)

    def test_nobody_knows_how_far_an_unexpected_fault_let_it_come(self) -> None:
        self.server.script = [ZeroDivisionError()]
        self.failureResultOf(self.node.ask("sendMail", mail()), ZeroDivisionError)
        reply = self.asked("sendMail")
        self.assertEqual((reply.status, reply.message), ("error", "request is in doubt"))
        self.assertEqual(len(self.server.sent), 1)


class KeepingTests(OnceCase):
    """Faults of what remembers."""

    def test_nothing_is_done_that_can_not_be_remembered(self) -> None:
        for name in ("queueMail", "sendMail"):
            self.node.faults.faults["claim"] = [StoreError("full")]
            reply = self.asked(name)
            self.assertEqual(
                (reply.status, reply.message), ("error", "request can't be remembered")
            )
        self.assertEqual((self.names(), self.server.sent), ([], []))
        self.assertEqual(len(self.flushLoggedErrors(StoreError)), 2)
        self.assertFalse(self.asked("queueMail").repeated)

    def test_an_answer_that_can_not_be_kept_is_given_and_found_out_later(self) -> None:
        self.node.faults.faults["answer"] = [StoreError("full")]
        first, second = self.asked("queueMail"), self.asked("queueMail")
        self.assertEqual(len(self.flushLoggedErrors(StoreError)), 1)
        self.assertEqual((second.data, second.repeated), (first.data, True))
        self.assertEqual(self.names(), [first.data])

    def test_a_key_that_can_not_be_released_is_in_doubt(self) -> None:
        self.node.faults.faults["release"] = [StoreError("full")]
        self.failureResultOf(self.node.ask("queueMail", None), RequestInvalidError)
        self.assertEqual(len(self.flushLoggedErrors(StoreError)), 1)
        reply = self.successResultOf(self.node.ask("queueMail", None))
        self.assertEqual(reply.message, "request is in doubt")

    def test_an_answer_that_can_not_be_read_is_in_doubt(self) -> None:
        self.asked("sendMail")
        (record,) = [path for path in self.keys.iterdir() if len(path.name) == 64]
        note, _, _ = record.read_bytes().partition(b"\n")
        for content in (note + b"\n{}\n", note + b'\n"sealed"\n', b"\n"):
            record.write_bytes(content)
            self.assertEqual(self.asked("sendMail").message, "request is in doubt")
        self.assertEqual(len(self.server.sent), 1)


class WaitingTests(OnceCase):
    """A repeat while the first one is under way."""

    def begin(self, **fields: Any) -> Any:
        self.server.script = ["stuck"]
        return self.node.ask("sendMail", mail(**fields))

    def test_it_waits_for_the_same_answer(self) -> None:
        first = self.begin()
        others = [self.node.ask("sendMail", mail()) for _ in range(2)]
        for deferred in (first, *others):
            self.assertNoResult(deferred)
        self.server.release()
        replies = [self.successResultOf(deferred) for deferred in (first, *others)]
        self.assertEqual([each.repeated for each in replies], [False, True, True])
        self.assertEqual({each.message for each in replies}, {"mail sent successfully"})
        self.assertEqual(len(self.server.sent), 1)

    def test_another_mail_does_not_wait(self) -> None:
        first = self.begin()
        deferred = self.node.ask("sendMail", mail(subject="t"))
        self.failureResultOf(deferred, RequestInvalidError)
        self.server.release()
        self.successResultOf(first)

    def test_it_fails_as_the_first_does(self) -> None:
        first = self.begin()
        second = self.node.ask("sendMail", mail())
        self.server.stuck.pop().errback(ZeroDivisionError())
        for deferred in (first, second):
            self.failureResultOf(deferred, ZeroDivisionError)

    def test_it_does_not_wait_for_ever(self) -> None:
        first = self.begin()
        second = self.node.ask("sendMail", mail())
        self.clock.advance(31)
        self.assertEqual(self.successResultOf(second).message, "request is under way")
        self.server.release()
        self.assertEqual(self.successResultOf(first).status, "success")
        self.assertTrue(self.asked("sendMail").repeated)

    def test_who_has_given_up_is_forgotten(self) -> None:
        """A delivery may take minutes, and be asked for again and again meanwhile."""
        first = self.begin()
        before = deferreds()
        for _ in range(50):
            self.node.ask("sendMail", mail())
        self.assertGreater(deferreds(), before + 49)
        self.clock.advance(31)
        self.assertLess(deferreds(), before + 10)
        still = self.node.ask("sendMail", mail())
        self.server.release()
        self.assertEqual(self.successResultOf(first).status, "success")
        self.assertTrue(self.successResultOf(still).repeated)

    def test_it_waits_for_another_process_too(self) -> None:
        first = self.begin()
        second = self.make_node().ask("sendMail", mail())
        self.clock.pump([0.1] * 50)
        self.assertNoResult(second)
        self.server.release()
        self.successResultOf(first)
        self.clock.pump([0.1] * 11)
        reply = self.successResultOf(second)
        self.assertEqual(self.said(reply), ("success", None, "mail sent successfully", True))
        self.assertEqual(len(self.server.sent), 1)

    def test_another_mail_does_not_wait_for_another_process(self) -> None:
        first = self.begin()
        deferred = self.make_node().ask("sendMail", mail(subject="t"))
        self.failureResultOf(deferred, RequestInvalidError)
        self.server.release()
        self.successResultOf(first)

    def test_it_does_not_wait_for_another_process_for_ever(self) -> None:
        first = self.begin()
        other = self.make_node()
        second = other.ask("sendMail", mail())
        self.clock.pump([0.5] * 60)
        self.assertEqual(self.successResultOf(second).message, "request is under way")
        self.assertLess(len(other.faults.calls), 45)
        self.server.release()
        self.successResultOf(first)

    def test_it_begins_when_another_process_released_the_key(self) -> None:
        first = self.begin()
        second = self.make_node().ask("sendMail", mail())
        self.server.release(Outcome.PERMANENT)
        self.assertEqual(self.successResultOf(first).status, "error")
        self.clock.pump([0.1] * 11)
        self.assertEqual(self.said(self.successResultOf(second))[0::3], ("success", False))
