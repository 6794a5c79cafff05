# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.services.queue: changing waiting mails, and the recorded answers."""

from __future__ import annotations

import json
import math
from typing import Any

from twisted.internet.defer import fail

from smtpmailer.core.model import Outcome
from smtpmailer.core.names import due_of, unique_of
from smtpmailer.core.queuestate import FRESH, MailState
from smtpmailer.core.replies import Reply
from smtpmailer.core.requests import Arguments
from smtpmailer.errors import NoRecipientError, RequestInvalidError
from tests.services.queueing import NOW, mail, outcomes
from tests.services.test_queue import ServiceCase
from tests.vectors import DATA

_GONE = "mail_0000000000000000001.1_a.json"


class UpdateTests(ServiceCase):
    """Changed fields over the old ones, under a new name."""

    def update(self, *value: Any) -> tuple[Any, ...]:
        return self.ask(self.service.update, *value)

    def changed(self, name: str, **content: Any) -> dict[str, Any]:
        """Update a mail, later; gives what waits then."""
        self.clock.advance(0.25)
        status, data, names = self.update(name, content)
        self.assertEqual((status, names["original"]), ("success", name))
        self.assertEqual(self.names(), [names["updated"]])
        stored = self.successResultOf(self.store.get(names["updated"]))
        assert not isinstance(stored.document, str)
        self.assertEqual({**data, **_password(stored.document)}, stored.document)
        return dict(stored.document)

    def test_given_fields_are_changed_and_the_others_stay(self) -> None:
        name = self.put(fromName="N", failToDelivered=1)
        changed = self.changed(name, subject="new", ccList=["c@example.test"])
        expected = mail(fromName="N", failToDelivered=1, subject="new", ccList=["c@example.test"])
        self.assertEqual(changed, expected)

    def test_the_id_stays_and_the_name_is_of_the_time(self) -> None:
        name = self.put()
        self.clock.advance(9.75)
        self.changed(name, subject="new")
        (updated,) = self.names()
        self.assertEqual(unique_of(updated), unique_of(name))
        self.assertEqual(due_of(updated), math.floor(self.now()))

    def test_a_schedule_is_kept_and_can_be_changed(self) -> None:
        name = self.put(due=1_800_000_000, scheduleTime=1_800_000_000)
        self.changed(name, subject="new")
        self.assertEqual(int(due_of(self.names()[0])), 1_800_000_000)
        self.changed(self.names()[0], scheduleTime=1_900_000_000)
        self.assertEqual(int(due_of(self.names()[0])), 1_900_000_000)

    def test_a_retry_or_a_held_mail_is_due_as_its_new_name_says(self) -> None:
        for state in (MailState(next_at=NOW + 500), MailState(held="in doubt")):
            name = self.put(state)
            self.clock.advance(0.25)
            reply = self.reply(self.service.update, name, {"subject": "new"})
            assert reply.detail is not None
            said = (reply.detail["nextAttempt"], reply.detail["held"])
            self.assertEqual(said, (math.floor(self.now()), None))
            self.assertEqual(reply.detail["queueName"], reply.message["updated"])
            self.own()
            self.claim()

    def test_history_and_settled_recipients_stay(self) -> None:
        delivered = outcomes(Outcome.DELIVERED, "user@example.test").outcomes
        name = self.put(MailState(settled=delivered, attempt_count=4))
        self.changed(name, ccList=["c@example.test"])
        state = self.successResultOf(self.store.get(self.names()[0])).state
        self.assertEqual((state.settled, state.attempt_count), (delivered, 4))

    def test_a_text_replaces_a_template(self) -> None:
        name = self.put(useTemplate="t.html", replaceContent={"K": "v"})
        document = self.successResultOf(self.store.get(name)).document
        assert not isinstance(document, str)
        self.successResultOf(self.store.remove(name))
        document = {key: value for key, value in document.items() if key != "body"}
        self.successResultOf(self.store.put(name, document, FRESH))
        changed = self.changed(name, body="text")
        self.assertEqual(changed, mail(body="text"))

    def test_a_template_is_refused_while_there_are_none(self) -> None:
        name = self.put()
        answer = self.update(name, {"useTemplate": "t.html"})
        self.assertEqual(answer, ("error", None, "template service is not enabled"))
        self.assertEqual(self.names(), [name])

    def test_a_password_is_kept_changed_and_never_shown(self) -> None:
        name = self.put(smtpPassword="first")
        self.assertEqual(self.changed(name, subject="new")["smtpPassword"], "first")
        self.clock.advance(0.25)
        reply = self.reply(self.service.update, self.names()[0], {"smtpPassword": "second"})
        self.assertNotIn("smtpPassword", reply.data)
        self.assertNotIn("second", repr((reply.data, reply.detail)))
        stored = self.successResultOf(self.store.get(self.names()[0])).document
        assert not isinstance(stored, str)
        self.assertEqual(stored["smtpPassword"], "second")

    def test_a_login_does_not_go_to_another_server_than_it_was_meant_for(self) -> None:
        own: dict[str, Any] = {"smtpHost": "own.test", "smtpPort": 465, "smtpEncryption": "ssl"}
        login: dict[str, Any] = {"smtpUser": "u", "smtpPassword": "p"}
        for change in ({"smtpHost": "evil.test"}, {"smtpPort": 25}, {"smtpEncryption": "none"}):
            name = self.put(**own, **login)
            self.assertEqual(self.changed(name, **change), mail(**own | change))
            self.successResultOf(self.store.remove(self.names()[0]))
        name = self.put(**login)
        self.assertEqual(self.changed(name, smtpHost="evil.test"), mail(smtpHost="evil.test"))

    def test_a_login_goes_along_when_its_password_comes_with_the_server(self) -> None:
        name = self.put(smtpHost="own.test", smtpUser="u", smtpPassword="p")
        new = {"smtpHost": "new.test", "smtpPassword": "q"}
        self.assertEqual(self.changed(name, **new), mail(smtpUser="u", **new))
        (name,) = self.names()
        moved = {"smtpHost": "other.test", "smtpUser": "v"}
        self.assertEqual(self.changed(name, **moved), mail(**moved))

    def test_a_server_that_stays_keeps_its_login(self) -> None:
        own: dict[str, Any] = {
            "smtpHost": "own.test",
            "smtpPort": 465,
            "smtpUser": "u",
            "smtpPassword": "p",
        }
        name = self.put(**own)
        changed = self.changed(name, smtpHost="own.test", smtpPort=465, subject="new")
        self.assertEqual(changed, mail(**own, subject="new"))

    def test_no_text_or_no_content_is_an_invalid_payload(self) -> None:
        said = "invalid file path string or missing content"
        expected = ("error", said, "invalid payload")
        for value in ((None, {"subject": "s"}), (5, {"subject": "s"}), (_GONE,), (None,)):
            self.assertEqual(self.update(*value), expected, value)

    def test_content_that_breaks_the_rules_is_told_where(self) -> None:
        name = self.put()
        for content, path in (
            ({}, "payload"),
            (None, "payload"),
            ([], "payload"),
            ({"subject": ""}, "subject"),
            ({"nope": 1}, "payload"),
            ({"scheduleTime": -1}, "scheduleTime"),
            ({"scheduleTime": 253_402_300_800}, "scheduleTime"),
            ({"body": "b", "useTemplate": "t"}, "payload"),
        ):
            arguments = Arguments(value=name, content=content, has_content=True)
            failing = self.service.update(arguments)
            fault = self.failureResultOf(failing, RequestInvalidError).value
            self.assertEqual(list(fault.errors), [path], content)
        self.assertEqual(self.names(), [name])

    def test_nobody_left_to_send_to_is_refused(self) -> None:
        name = self.put()
        arguments = Arguments(value=name, content={"to": []}, has_content=True)
        self.failureResultOf(self.service.update(arguments), NoRecipientError)
        self.assertEqual(self.names(), [name])

    def test_a_missing_file_is_refused_by_name(self) -> None:
        name = self.put()
        answer = self.update(name, {"attachments": [["a.pdf"]]})
        said = "could not attach a.pdf: no such file"
        self.assertEqual(answer, ("error", said, "unable to update queued mail"))
        self.assertEqual(self.names(), [name])

    def test_what_does_not_wait_can_not_be_updated(self) -> None:
        expected = ("error", None, "unable to update queued mail")
        for value in ("", "x", "../x", _GONE):
            self.assertEqual(self.update(value, {"subject": "n"}), expected)
        name = self.put()
        self.own()
        self.claim()
        self.assertEqual(self.update(name, {"subject": "n"}), expected)

    def test_a_store_that_fails_is_an_error_and_changes_nothing(self) -> None:
        name = self.put()
        for method in ("get", "replace"):
            self.break_store(method)
            answer = self.update(name, {"subject": "n"})
            self.assertEqual(answer, ("error", None, "unable to update queued mail"))
        self.assertEqual((self.names(), self.logged()), ([name], 2))

    def test_an_unexpected_fault_is_not_swallowed(self) -> None:
        name = self.put()
        self.patch(self.store, "replace", lambda *_: fail(ZeroDivisionError()))
        arguments = Arguments(value=name, content={"subject": "n"}, has_content=True)
        self.failureResultOf(self.service.update(arguments), ZeroDivisionError)


class RecordedTests(ServiceCase):
    """What was recorded of the predecessor with an empty queue."""

    def test_every_recorded_answer_is_given(self) -> None:
        handlers = self.service.handlers()
        count = 0
        for pair in json.loads((DATA / "transcripts.json").read_text("utf-8"))["pairs"]:
            request = json.loads(pair["request"])
            name = next(iter(request)) if isinstance(request, dict) else ""
            if name not in handlers:
                continue
            count += 1
            arguments = Arguments(
                value=request[name],
                content=request.get("content"),
                has_content="content" in request,
            )
            self.assertEqual(self.answer(handlers[name], arguments), pair["response"], request)
        self.assertEqual(count, 32)

    def answer(self, handler: Any, arguments: Arguments) -> dict[str, Any]:
        """Answer as the dispatcher does."""
        done = handler(arguments)
        done.addErrback(_as_reply)
        answer: dict[str, Any] = json.loads(self.successResultOf(done).encode())
        return answer


def _as_reply(failure: Any) -> Reply:
    failure.trap(RequestInvalidError)
    return Reply(status="error", data=failure.value.errors, message="invalid payload")


def _password(document: Any) -> dict[str, Any]:
    return {key: document[key] for key in ("smtpPassword",) if key in document}
