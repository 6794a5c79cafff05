# SPDX-License-Identifier: MIT
"""What a service tells of its mails: by `smtpmailer explain`, and in the lines of its log."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner

from smtpmailer.cli.main import main
from smtpmailer.core.names import unique_of
from tests.integration.queue_service import QueueServiceCase, mail
from tests.integration.service import Service, mail_to, until
from tests.redis_server import RedisServer

_HELD, _LATER, _NEVER = ("held@example.org", "later@example.org", "never@example.org")
_KEEPING: dict[str, object] = {
    "QUEUE_RETRY_DELAY": 3600,
    "MAILER_LOG_FORMAT": "json",
    "MAILER_LOG_LEVEL": "debug",
}


class FileTests(QueueServiceCase):
    """With the queue in files."""

    def settings(self) -> dict[str, object]:
        """Give what this case is about."""
        return {}

    def check_store(self) -> None:
        """Look at what is kept."""

    def history(self, service: Service, text: str) -> dict[str, Any]:
        """Explain a mail."""
        where = ["--host", "127.0.0.1", "--port", str(service.port)]
        result = CliRunner().invoke(main, ["explain", "--json", text, *where])
        self.assertEqual(result.exit_code, 0, result.output)
        data: dict[str, Any] = json.loads(result.stdout)["data"]
        return data

    def said(self, history: dict[str, Any]) -> list[str]:
        """Give what was said in the one attempt of a mail."""
        (attempt,) = history["attempts"]
        lines: list[str] = attempt["dialogue"]
        return lines

    def lines(self, service: Service, name: str) -> list[dict[str, Any]]:
        """Give the log's lines on a mail."""
        every = [json.loads(line) for line in service.output().splitlines() if line[:1] == "{"]
        return [line for line in every if line.get("mail_id") == unique_of(name)]

    def test_a_mail_is_explained_wherever_it_is_and_each_step_is_a_line(self) -> None:
        service = self.running(**_KEEPING, **self.settings())
        self.smtp.refuse(_LATER, "450 4.2.1 full")
        self.smtp.refuse(_NEVER, "550 5.1.1 nobody")
        self.smtp.hold()
        mails = [mail(to, fromEmail="zebra@example.org") for to in (_HELD, _LATER, _NEVER)]
        held, later, never = self.enqueue(service, *mails)
        until("one is being delivered", lambda: self.smtp.waiting)
        until("one is put off", lambda: self.history(service, later)["attempts"])
        until("one is dead", lambda: self.history(service, never)["place"] == "dead")

        sending = self.history(service, unique_of(held))
        self.assertEqual((sending["place"], sending["queueName"]), ("sending", held))
        self.assertIn("reply to the message", sending["waitsFor"])

        waiting = self.history(service, unique_of(later))
        self.assertEqual((waiting["place"], waiting["queueName"]), ("waiting", later))
        self.assertEqual(waiting["waitsFor"], "its next attempt")
        talk = self.said(waiting)
        self.assertTrue(talk[0].startswith("C: MAIL FROM:<zebra@example.org>"), talk)
        self.assertIn(f"C: RCPT TO:<{_LATER}>", talk)
        self.assertIn("S: 450 4.2.1 full", talk)

        dead = self.history(service, unique_of(never))
        self.assertIn("550 5.1.1 nobody", dead["why"])
        self.assertIn("S: 550 5.1.1 nobody", self.said(dead))

        self.check_store()
        self.smtp.release()
        until("the first is sent", lambda: self.lines(service, held)[-1]["outcome"] == "sent")
        gone = service.ask({"getMailHistory": unique_of(held)})
        self.assertEqual(gone["message"], "unable to get mail history")

        self.check_lines(self.lines(service, held), "sent", 250, _HELD)
        self.check_lines(self.lines(service, later), "put off", 450, _LATER)
        self.check_lines(self.lines(service, never), "dead letter", 550, _NEVER)

    def check_lines(self, lines: list[dict[str, Any]], outcome: str, code: int, to: str) -> None:
        """Check that there is one line for each change of a mail, and what the last one has."""
        found = [line["outcome"] for line in lines if "outcome" in line]
        self.assertEqual(found, ["queued", "claimed", outcome])
        last = lines[-1]
        told = {key: last[key] for key in ("domains", "server", "code", "attempt")}
        server = f"127.0.0.1:{self.smtp.port}"
        expected = {"domains": "example.org", "server": server, "code": code, "attempt": 1}
        self.assertEqual(told, expected)
        self.assertGreater(last["seconds"], 0)
        self.assertEqual(lines[0]["domains"], "example.org")
        self.assertGreater(lines[0]["request"], 0)
        self.assertNotIn(to.partition("@")[0], lines[0]["text"])

    def test_every_attempt_is_told_with_its_dialogue_also_after_a_restart(self) -> None:
        service = self.running(**_KEEPING, QUEUE_MAX_FAILED_RETRY=9, **self.settings())
        self.smtp.refuse(_LATER, "450 4.2.1 full")
        (name,) = self.enqueue(service, mail(_LATER))
        for number in range(1, 7):
            until(
                "it is tried",
                lambda: self.history(service, unique_of(name))["attemptCount"] == number,  # noqa: B023
            )
            if number == 3:
                service.terminate()
                self.assertEqual(service.ended(), 0)
                service.start_again().ready()
            if number < 6:
                self.smtp.refuse(_LATER, "450 4.2.1 full")
                content = {"scheduleTime": number}
                changed = service.ask({"updateQueuedMail": name, "content": content})
                name = changed["message"]["updated"]
        told = self.history(service, unique_of(name))
        self.assertEqual((len(told["attempts"]), told["attemptsNotKept"]), (6, 0))
        for attempt in told["attempts"]:
            self.assertIn("S: 450 4.2.1 full", attempt["dialogue"])

    def test_a_send_at_once_is_one_line(self) -> None:
        service = self.running(**_KEEPING, **self.settings())
        self.smtp.refuse(_LATER, "450 4.2.1 full")
        for to, outcome in ((_HELD, "sent"), (_LATER, "put off")):
            answer = service.ask(mail_to(to=[to]) | {"detail": True})
            found = self.lines(service, answer["detail"]["mailId"])
            self.assertEqual([line["outcome"] for line in found], [outcome])
            self.assertEqual((found[0]["attempt"], found[0]["peer"]), (1, "127.0.0.1"))
            self.assertIn(f"request {found[0]['request']})", found[0]["text"])
        again = self.history(service, answer["detail"]["mailId"])
        self.assertIn("S: 450 4.2.1 full", self.said(again))


class RedisTests(FileTests):
    """With the queue in Redis, documents encrypted as a whole."""

    def setUp(self) -> None:
        super().setUp()
        self.redis = RedisServer()
        self.addCleanup(self.redis.clean_up)

    def settings(self) -> dict[str, object]:
        """Use Redis."""
        return {
            "REDIS_ENABLE": True,
            "REDIS_PORT": self.redis.port,
            "REDIS_STORE_QUEUE": True,
            "QUEUE_FULL_ENCRYPT": True,
        }

    def check_store(self) -> None:
        """Look for what must not be there."""
        self.assertNotIn("zebra", repr(self.redis.dump()))
