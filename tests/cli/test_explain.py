# SPDX-License-Identifier: MIT
"""Tests of the explain subcommand, against the service on stores in memory."""

from __future__ import annotations

import json
from typing import Any

import attrs
from click.testing import CliRunner, Result

from smtpmailer.cli.main import main
from smtpmailer.cli.tables import local_time
from smtpmailer.core.dialogue import MAX_CHARACTERS
from smtpmailer.core.model import Outcome
from smtpmailer.core.names import unique_of
from smtpmailer.core.queuestate import MAX_ATTEMPTS, Attempt, MailState
from tests.integration.scripted import ScriptedService, answering
from tests.services.dispatching import ask, make_dispatcher
from tests.services.queueing import NOW, QueueCase, outcomes

_USER = "user@example.test"
_SAID = (f"C: RCPT TO:<{_USER}>", "S: 450 4.2.0 later \x1b[31m")


class ExplainTests(QueueCase):
    """Runs the command against a service in a thread."""

    def setUp(self) -> None:
        super().setUp()
        dispatcher = make_dispatcher(self)
        self.seen: list[dict[str, Any]] = []
        answer = answering(lambda request: ask(self, dispatcher, request), self.seen)
        service = ScriptedService(answer)
        service.__enter__()
        self.addCleanup(service.__exit__)
        self.port = service.port

    def explain(self, *arguments: str) -> Result:
        """Run ``smtpmailer explain``."""
        where = ("--host", "127.0.0.1", "--port", str(self.port))
        return CliRunner().invoke(main, ["explain", *arguments, *where])

    def tried(self) -> str:
        """Let a mail fail once; gives its name."""
        later = outcomes(Outcome.TEMPORARY, _USER)
        self.server.script = [attrs.evolve(later, dialogue=_SAID)]
        name = self.put(smtpPassword="secret", subject="Grüße", ccList=[["c@example.test", "C"]])
        self.own()
        settlement = self.successResultOf(self.postman().decide(self.claim()))
        self.successResultOf(self.store.settle(name, settlement))
        return name

    def test_the_history_of_a_mail_is_shown_with_what_was_said(self) -> None:
        name = self.tried()
        for text in (name, unique_of(name), f"<{unique_of(name)}@example.org>"):
            result = self.explain(text)
            self.assertEqual(result.exit_code, 0, result.output)
            self.assertEqual(
                result.stdout.splitlines(),
                [
                    f"Mail:         {unique_of(name)}",
                    f"Name:         {name}",
                    "State:        waits in the queue",
                    "Waits for:    its next attempt",
                    "To:           user@example.test",
                    "Cc:           C <c@example.test>",
                    "Subject:      Grüße",
                    f"Next attempt: {local_time(NOW + 60)}",
                    "Attempts:     1",
                    f"  {local_time(NOW)}  s:587, 0.5 s: SMTP Error: temporary",
                    f"    {_USER}: temporary 450 4.2.0 later",
                    f"      C: RCPT TO:<{_USER}>",
                    "      S: 450 4.2.0 later \N{REPLACEMENT CHARACTER}[31m",
                ],
            )

    def test_what_is_not_kept_of_a_long_history_is_said(self) -> None:
        once = Attempt(at=NOW, server="s:587", seconds=1.0, reason="no", outcomes=())
        state = MailState(next_at=NOW + 60)
        for number in range(MAX_ATTEMPTS + 2):
            said = (f"S: {number}", "x" * MAX_CHARACTERS)
            state = state.attempted(attrs.evolve(once, dialogue=said), (), ())
        lines = self.explain(self.put(state)).stdout.splitlines()
        tried = f"  {local_time(NOW)}  s:587, 1.0 s: no"
        first = lines.index(tried)
        self.assertEqual(lines[first - 1], f"Attempts:     {MAX_ATTEMPTS + 2}")
        self.assertEqual(
            [line for line in lines[first:] if "xx" not in line],
            [
                *(tried, "      S: 0"),
                "  ... 2 attempts are not kept ...",
                *((tried, "      -- what was said is not kept any more") * (MAX_ATTEMPTS - 15)),
                *(text for number in range(38, 52) for text in (tried, f"      S: {number}")),
            ],
        )

    def test_json_is_the_services_answer(self) -> None:
        name = self.tried()
        answer = json.loads(self.explain("--json", name).stdout)
        self.assertEqual((answer["status"], answer["data"]["place"]), ("success", "waiting"))
        self.assertEqual(answer["data"]["attempts"][0]["dialogue"], list(_SAID))
        self.assertEqual(self.seen, [{"getMailHistory": name}])

    def test_a_mail_that_is_gone_is_status_1_and_points_to_the_log(self) -> None:
        for text in ("0123456789abcdef", "mail_1.2_0123456789abcdef.json"):
            result = self.explain(text)
            self.assertEqual((result.exit_code, result.stdout), (1, ""))
            self.assertIn("neither in the queue nor among dead letters", result.stderr)
            self.assertIn("  grep 0123456789abcdef FILE\n", result.stderr)
        result = self.explain("--json", "0123456789abcdef")
        self.assertEqual((result.exit_code, json.loads(result.stdout)["status"]), (1, "error"))

    def test_what_can_be_no_mail_is_wrong_usage_and_asks_nobody(self) -> None:
        for text in ("", "../x", "a b"):
            result = self.explain(text)
            self.assertEqual(result.exit_code, 2)
            self.assertIn("a mail id is 16 letters and digits", result.stderr)
        self.assertEqual(self.seen, [])
