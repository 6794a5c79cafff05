# SPDX-License-Identifier: MIT
"""Tests of the subcommands that talk to a service."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.cli.main import main
from tests.integration.scripted import ScriptedService, answering, remembering

SENT = {"message": "mail sent successfully"}
REFUSED = {
    "status": "error",
    "data": {"to->0": ["The data must match the 'email' format"]},
    "message": "invalid payload",
}


def unused_port() -> int:
    """Give a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


class CommandTestCase(SynchronousTestCase):
    """Runs the command against a service that notes its requests in ``seen``."""

    def setUp(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.reply: dict[str, Any] = SENT
        self.refused: tuple[str, ...] = ()
        service = ScriptedService(answering(self.answer, self.seen))
        service.__enter__()
        self.addCleanup(service.__exit__)
        self.port = service.port

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer with ``reply``, or with an error for a recipient in ``refused``."""
        to = request.get("sendMail", {}).get("to", [])
        return REFUSED if to and to[0] in self.refused else self.reply

    def run_command(
        self, *arguments: str, text: str | bytes = "", port: int | None = None
    ) -> Result:
        """Run the command."""
        where = ("--host", "127.0.0.1", "--port", str(port or self.port))
        return CliRunner().invoke(main, [arguments[0], *where, *arguments[1:]], input=text)

    def file(self, text: str) -> str:
        """Write a file; give its path."""
        path = Path(self.mktemp())
        path.write_text(text, "utf-8")
        return str(path)


class AskTests(CommandTestCase):
    """Ping, status and request."""

    def test_ping(self) -> None:
        self.reply = {"message": "pong"}
        result = self.run_command("ping")
        self.assertEqual(result.exit_code, 0)
        self.assertRegex(result.stdout, r"^pong from 127\.0\.0\.1:\d+ in [\d.]+ ms\n$")

    def test_status_for_people_and_for_programs(self) -> None:
        self.reply = {"data": {"sent": 12, "failed": 3}}
        self.assertEqual(self.run_command("status").stdout, "sent    12\nfailed  3\n")
        self.assertEqual(
            json.loads(self.run_command("status", "--json").stdout)["data"], self.reply["data"]
        )

    def test_an_error_of_the_service_is_status_1(self) -> None:
        self.reply = {"status": "error", "message": "unauthorized request"}
        for command in ("ping", "status"):
            result = self.run_command(command)
            self.assertEqual(result.exit_code, 1)
            self.assertIn("unauthorized request", result.stderr)

    def test_no_service_is_status_3_with_a_hint(self) -> None:
        for command in (["ping"], ["status"], ["request"], ["send", "--to", "a", "--subject", "s"]):
            result = self.run_command(*command, text='{"ping":1}', port=unused_port())
            self.assertEqual(result.exit_code, 3, command)
            self.assertIn("--host", result.stderr)
            self.assertEqual(result.stdout, "")

    def test_requests_go_out_in_order_and_are_answered_a_line_each(self) -> None:
        result = self.run_command("request", text='{"ping":null,"b":1,"a":2}\n\n{"status":null}')
        self.assertEqual([list(one) for one in self.seen], [["ping", "b", "a"], ["status"]])
        self.assertEqual(len(result.stdout.splitlines()), 2)
        self.assertEqual(result.exit_code, 0)

    def test_a_request_can_come_from_a_file(self) -> None:
        self.run_command("request", self.file('{"ping":"ü"}'))
        self.assertEqual(self.seen, [{"ping": "ü"}])

    def test_a_refused_request_prints_its_answer_and_is_status_1(self) -> None:
        self.reply = REFUSED
        result = self.run_command("request", text='{"x":1}')
        self.assertEqual(result.exit_code, 1)
        self.assertEqual(json.loads(result.stdout), REFUSED)

    def test_what_is_no_request_is_wrong_usage_and_sends_nothing(self) -> None:
        for text in ("", "  \n", "[]", "5", '{"ping":null', '{"a":NaN}', '{"a":1}x', b"\xff"):
            self.assertEqual(self.run_command("request", text=text).exit_code, 2, text)
        self.assertEqual(self.seen, [])


class SendTests(CommandTestCase):
    """One mail to some recipients."""

    def test_a_mail_with_everything(self) -> None:
        html = self.file("<p>Grüße</p>")
        result = self.run_command(
            "send",
            *("--to", "Ada Löwe <a@b.test>", "--to", "c@d.test", "--cc", "e@f.test"),
            *("--bcc", "g@h.test", "--reply-to", "i@j.test", "--subject", "Hallo"),
            *("--html", html, "--attach", "x/report.pdf", "--embed", "C:logo.png:logo"),
            *("--from-email", "me@b.test", "--from-name", "Me"),
        )
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertEqual(result.stdout, "mail sent successfully\n")
        self.assertEqual(
            self.seen[0]["sendMail"],
            {
                "to": [["a@b.test", "Ada Löwe"], "c@d.test"],
                "ccList": ["e@f.test"],
                "bccList": ["g@h.test"],
                "replyTo": ["i@j.test"],
                "subject": "Hallo",
                "body": "<p>Grüße</p>",
                "attachments": [[str(Path("x/report.pdf").absolute()), "report.pdf"]],
                "embedded": [[str(Path("C:logo.png").absolute()), "logo", "C:logo.png"]],
                "fromEmail": "me@b.test",
                "fromName": "Me",
            },
        )

    def test_a_key_goes_with_one_mail(self) -> None:
        mail = ("--subject", "s", "--body", "b", "--once", "order-17")
        seen: list[dict[str, Any]] = []
        with ScriptedService(remembering(seen, SENT)) as service:
            result = self.run_command("send", "--to", "a@b.test", *mail, port=service.port)
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertEqual(seen[0]["once"], "order-17")
        many = self.run_command("send", "--recipients", self.file("a@b.test\n"), *mail)
        self.assertIn("--once is for one mail", many.output)
        self.assertEqual((many.exit_code, self.seen), (2, []))

    def test_the_body_comes_from_standard_input(self) -> None:
        self.run_command("send", "--to", "a@b.test", "--subject", "s", text="Grüße\n")
        self.assertEqual(
            self.seen[0]["sendMail"],
            {
                "to": ["a@b.test"],
                "ccList": [],
                "bccList": [],
                "subject": "s",
                "body": "Grüße\n",
            },
        )

    def test_a_refused_mail_is_status_1_and_says_why(self) -> None:
        self.reply = REFUSED
        result = self.run_command("send", "--to", "x", "--subject", "s", "--body", "b")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("invalid payload\n  to->0: The data must match", result.stderr)

    def test_json_is_the_answer_as_it_is(self) -> None:
        result = self.run_command("send", "--to", "x", "--subject", "s", "--body", "b", "--json")
        self.assertEqual(json.loads(result.stdout), {"status": "success", "data": None, **SENT})

    def test_wrong_usage_sends_nothing(self) -> None:
        listed = self.file("a@b.test\n")
        for arguments, text in (
            (["--subject", "s", "--body", "b"], ""),
            (["--to", "a@b.test", "--body", "b"], ""),
            (["--to", "a@b.test", "--subject", "s"], "  \n"),
            (["--to", "a@b.test", "--subject", "s"], b"\xff"),
            (["--to", "a@b.test", "--subject", "s", "--body", "b", "--html", listed], ""),
            (["--to", "a@b.test", "--subject", "s", "--body", "b", "--embed", "x.png"], ""),
            (["--to", "a@b.test", "--subject", "s", "--body", "b", "--recipients", listed], ""),
            (["--recipients", self.file("nobody\n"), "--subject", "s", "--body", "b"], ""),
        ):
            self.assertEqual(
                self.run_command("send", *arguments, text=text).exit_code, 2, arguments
            )
        self.assertEqual(self.seen, [])


class BatchTests(CommandTestCase):
    """One mail to each recipient of a file."""

    def send(self, recipients: str, *more: str, port: int | None = None) -> Result:
        """Send to a file of recipients."""
        listed = self.file(recipients)
        arguments = ("--recipients", listed, "--subject", "s", "--body", "b")
        return self.run_command("send", *arguments, *more, port=port)

    def test_each_gets_a_mail_alone(self) -> None:
        result = self.send("a@b.test\nc@d.test,Cy\n")
        self.assertEqual(result.exit_code, 0)
        self.assertEqual(result.stdout, "sent 2 of 2 mails\n")
        self.assertEqual(
            [one["sendMail"]["to"] for one in self.seen], [["a@b.test"], [["c@d.test", "Cy"]]]
        )

    def test_one_that_fails_stops_no_other_and_is_named(self) -> None:
        self.refused = ("c@d.test",)
        result = self.send("a@b.test\nc@d.test\ne@f.test\n")
        self.assertEqual(result.exit_code, 1)
        self.assertEqual(len(self.seen), 3)
        self.assertEqual(result.stdout, "sent 2 of 3 mails\n")
        self.assertIn("not sent:\n  c@d.test: invalid payload to->0:", result.stderr)

    def test_a_wrong_password_ends_it_at_once(self) -> None:
        self.reply = {"status": "error", "message": "unauthorized request"}
        result = self.send("a@b.test\nc@d.test\n")
        self.assertEqual((result.exit_code, len(self.seen)), (1, 1))
        self.assertIn(
            "not tried, because the service refuses the password:\n  c@d.test", result.stderr
        )

    def test_a_lost_service_is_status_3_and_names_who_was_not_tried(self) -> None:
        result = self.send("a@b.test\nc@d.test\n", port=unused_port())
        self.assertEqual(result.exit_code, 3)
        self.assertIn("not tried, because the service was lost:\n  c@d.test", result.stderr)

    def test_json_is_an_answer_a_line_and_nothing_else(self) -> None:
        result = self.send("a@b.test\nc@d.test\n", "--json")
        self.assertEqual(len([json.loads(line) for line in result.stdout.splitlines()]), 2)
        self.assertIn("sent 2 of 2 mails", result.stderr)
