# SPDX-License-Identifier: MIT
"""The queue of a running service: from a request to what an SMTP server that is not ours gets."""

from __future__ import annotations

import socket
import time
from typing import Any

from click.testing import CliRunner

from smtpmailer.cli.main import main
from smtpmailer.core.names import due_of, unique_of
from smtpmailer.core.settings import OPTIONS
from tests.integration.queue_service import QueueServiceCase, ShiftedService, arrivals, mail
from tests.integration.service import DEADLINE, Service, until

_LATER, _NEVER = "450 4.2.0 later", "550 5.1.1 never"
_A, _B, _C = ("a@example.org", "b@example.org", "c@example.org")

#: So that a test need not wait for a second attempt longer than this (seconds).
_SOON = {"QUEUE_RETRY_DELAY": 1, "QUEUE_RETRY_FACTOR": 1}
_FAR = 4_000_000_000


class DeliveryTests(QueueServiceCase):
    """Mails leave when they are due, and as often as it takes."""

    def test_a_mail_due_now_leaves_at_once_and_a_scheduled_one_at_its_time(self) -> None:
        service = self.running()
        at = int(time.time()) + 2
        (later,) = self.enqueue(service, mail(scheduleTime=at))
        (now,) = self.enqueue(service, mail())
        self.await_mails(now)
        self.assertLess(time.time(), at)
        self.assertEqual(arrivals(self.smtp), {(unique_of(now), "user@example.org"): 1})
        self.await_mails(later)
        late = time.time() - due_of(later)
        self.assertTrue(0 <= late < 1, late)
        self.assertLessEqual(at, due_of(later))

    def test_a_failed_send_mail_waits_in_the_queue_and_is_sent_later(self) -> None:
        service = self.running(**_SOON)
        self.smtp.refuse(_A, _LATER)
        answer = service.ask({"sendMail": mail(_A), "detail": True})
        self.assertEqual(answer["message"], "failed to send mail")
        self.assertIn("450 4.2.0 later", answer["data"])
        name = answer["detail"]["queueName"]
        self.assertGreater(answer["detail"]["nextAttempt"], time.time())
        self.assertEqual(self.place.names(self.place.waiting), [name])
        self.await_end()
        self.assertEqual(arrivals(self.smtp), {(answer["detail"]["mailId"], _A): 1})

    def test_of_three_recipients_only_the_one_put_off_is_tried_again(self) -> None:
        service = self.running(**_SOON)
        self.smtp.refuse(_B, _LATER)
        (name,) = self.enqueue(service, mail(_A, _B, _C))
        self.await_end()
        self.assertEqual([each.recipients for each in self.smtp.received], [(_A, _C), (_B,)])
        one = unique_of(name)
        self.assertEqual(arrivals(self.smtp), {(one, _A): 1, (one, _B): 1, (one, _C): 1})
        first, second = (each.content for each in self.smtp.received)
        self.assertEqual(first, second)

    def test_a_refusal_for_good_is_a_dead_letter_that_can_be_retried(self) -> None:
        service = self.running(**_SOON, QUEUE_MAX_FAILED_RETRY=5)
        self.smtp.refuse(_B, _LATER, _NEVER)
        (name,) = self.enqueue(service, mail(_A, _B))
        until("it is a dead letter", lambda: self.place.names(self.place.failed) == [name])
        listed = service.ask({"getFailedList": None})["data"]
        self.assertEqual(listed, {"items": [name], "total": 1})
        detail = self.detail(service, name, "getFailedMail")
        self.assertIn(f"{_B}: 550 5.1.1 never", detail["why"])
        replies = [
            [(each["address"], each["outcome"], each["code"]) for each in attempt["recipients"]]
            for attempt in detail["attempts"]
        ]
        self.assertEqual(
            replies,
            [[(_A, "delivered", 250), (_B, "temporary", 450)], [(_B, "permanent", 550)]],
        )
        answer = service.ask({"retryFailedMail": name})
        self.assertEqual(answer["message"], "failed mail added to queue")
        self.await_end()
        one = unique_of(name)
        self.assertEqual(arrivals(self.smtp), {(one, _A): 1, (one, _B): 1})
        self.assertEqual(self.place.names(self.place.failed), [])


class RestartTests(QueueServiceCase):
    """What a service knows outlasts it."""

    def everything(self, service: Service) -> dict[str, Any]:
        """Give all that the API tells about mails."""
        told: dict[str, Any] = {}
        for list_request, request in (
            ("getQueueList", "getQueuedMail"),
            ("getFailedList", "getFailedMail"),
        ):
            names = service.ask({list_request: None})["data"]["items"]
            told[list_request] = names
            for name in names:
                told[f"{request} {name}"] = service.ask({request: name, "detail": True})
        return told

    def test_a_restart_keeps_everything(self) -> None:
        service = self.running(QUEUE_RETRY_DELAY=3600)
        self.smtp.refuse(_A, _NEVER)
        self.smtp.refuse(_B, _LATER)
        scheduled, dead, put_off = self.enqueue(
            service, mail(scheduleTime=_FAR, smtpPassword="x"), mail(_A), mail(_B, _C)
        )
        until("one is a dead letter", lambda: self.place.names(self.place.failed) == [dead])
        until("one waits", lambda: len(self.place.names(self.place.waiting)) == 2)
        before = self.everything(service)
        self.assertEqual(before["getQueueList"], sorted((scheduled, put_off)))
        attempts = before[f"getQueuedMail {put_off}"]["detail"]["attempts"]
        self.assertEqual([len(each["recipients"]) for each in attempts], [2])
        for end in (service.terminate, service.kill):
            end()
            service.ended()
            self.await_owner(service.start_again().ready())
            self.assertEqual(self.everything(service), before)

    def test_a_wrong_key_puts_mails_aside_and_rescue_brings_them_back(self) -> None:
        service = self.running(QUEUE_SEND_IMMEDIATELY=False)
        (name,) = self.enqueue(service, mail(smtpPassword="x"))
        service.terminate()
        service.ended()
        wrong = self.running(SECRET_KEY="AAAAAAAAAAAAAAAAAAAAAA==")
        aside = self.place.failed / "quarantine" / name
        until("it is put aside", aside.exists)
        self.assertRegex(wrong.output(), rf"\({name}\) goes to quarantine: can't be decrypted.*")
        wrong.kill()
        service = self.running()
        env = str(service.folder / ".env")
        clean: dict[str, str | None] = dict.fromkeys(OPTIONS)
        command = ["queue", "rescue", "--env", env, "--quarantine", "--apply"]
        result = CliRunner().invoke(main, command, env=clean)
        self.assertEqual(result.exit_code, 0, result.output)
        self.await_mails(name)
        self.await_end()
        self.assertFalse(aside.exists())
        self.assertEqual(arrivals(self.smtp), {(unique_of(name), "user@example.org"): 1})


class StopTests(QueueServiceCase):
    """A delivery that outlasts the time which it has when the service stops."""

    service_class = ShiftedService

    def stop_amid(self, service: Service, name: str) -> None:
        """Stop the service, which gives the delivery a second, and takes the mail back."""
        service.terminate()
        self.assertEqual(service.ended(), 0)
        self.assertEqual(self.place.names(self.place.claimed), [])
        self.assertEqual(self.place.names(self.place.waiting), [name])
        lines = [line for line in service.output().splitlines() if "cut short:" in line]
        self.assertEqual(len(lines), 1)
        self.assertIn(
            "the time to stop is over (1 s, MAILER_STOP_TIMEOUT); cut short: "
            "1 mail of the queue, 1 SMTP session",
            lines[0],
        )
        self.assertNotIn("Traceback", service.output())

    def test_a_mail_that_was_not_handed_over_is_sent_after_the_next_start(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            service = self.running(MAILER_STOP_TIMEOUT=1, SMTP_PORT=port)
            (name,) = self.enqueue(service, mail())
            silent.settimeout(DEADLINE)
            session, _ = silent.accept()
            with session:
                self.stop_amid(service, name)
        self.running(**_SOON)
        self.await_mails(name)
        self.await_end()
        self.assertEqual(arrivals(self.smtp), {(unique_of(name), "user@example.org"): 1})

    def test_one_of_which_nobody_knows_is_sent_after_the_next_start_too(self) -> None:
        service = self.running(MAILER_STOP_TIMEOUT=1)
        self.smtp.hold()
        (name,) = self.enqueue(service, mail())
        until("the server has the mail", lambda: self.smtp.waiting)
        self.stop_amid(service, name)
        self.smtp.release()
        self.await_owner(service.start_again().ready())
        self.send_doubtful(service)
        self.assertEqual(arrivals(self.smtp)[unique_of(name), "user@example.org"], 2)


class HoldTests(QueueServiceCase):
    """QUEUE_ON_DOUBT = hold: what may have been delivered waits for a person."""

    def held_mail(self) -> tuple[Service, str]:
        """Kill a service after the final dot; give its successor and the mail's name."""
        service = self.running(QUEUE_ON_DOUBT="hold")
        self.smtp.hold()
        (name,) = self.enqueue(service, mail(_A))
        until("the server has the mail", lambda: self.smtp.waiting)
        service.kill()
        self.smtp.release()
        self.await_owner(service.start_again().ready())
        until("it waits", lambda: self.place.names(self.place.waiting) == [name])
        self.assertRegex(service.output(), rf"{name}.* in doubt, may be delivered twice: {_A}\n")
        return service, name

    def check_held(self, service: Service, name: str) -> None:
        detail = self.detail(service, name)
        self.assertEqual((detail["inDoubt"], detail["nextAttempt"]), ([_A], None))
        self.assertIn("QUEUE_ON_DOUBT = hold", detail["held"])
        # One that came later goes; this one does not.
        self.await_mails(*self.enqueue(service, mail()))
        self.assertEqual(arrivals(self.smtp)[unique_of(name), _A], 1)

    def test_it_is_shown_with_the_doubt_and_sent_when_an_operator_retries_it(self) -> None:
        service, name = self.held_mail()
        self.check_held(service, name)
        command = ["queue", "retry", "--host", "127.0.0.1", "--port", str(service.port), name]
        result = CliRunner().invoke(main, command)
        self.assertEqual(result.exit_code, 0, result.output)
        self.await_end()
        self.assertEqual(arrivals(self.smtp)[unique_of(name), _A], 2)

    def test_it_is_held_after_a_restart_too_and_sent_when_it_is_updated(self) -> None:
        service, name = self.held_mail()
        service.terminate()
        self.assertEqual(service.ended(), 0)
        self.await_owner(service.start_again().ready())
        self.check_held(service, name)
        answer = service.ask({"updateQueuedMail": name, "content": {"subject": "Once more"}})
        self.assertEqual(answer["status"], "success")
        self.await_end()
        self.assertEqual(arrivals(self.smtp)[unique_of(name), _A], 2)
        self.assertIn(b"Subject: Once more", self.smtp.received[-1].content)
