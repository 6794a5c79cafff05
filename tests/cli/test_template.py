# SPDX-License-Identifier: MIT
"""Tests of the template subcommands that ask a service, which has its store in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.cli.main import main
from smtpmailer.core.documents import read
from smtpmailer.stores.memory_templates import MemoryTemplateStore
from tests.integration.scripted import ScriptedService, answering
from tests.transcripts import make_dispatcher


class TemplateCommandTests(SynchronousTestCase):
    """Each subcommand makes its request and tells what came of it."""

    def setUp(self) -> None:
        self.store = MemoryTemplateStore(limit_bytes=1_000_000)
        self.dispatcher = make_dispatcher(templates=self.store)
        self.seen: list[dict[str, Any]] = []
        service = ScriptedService(answering(self.answer, self.seen))
        service.__enter__()
        self.addCleanup(service.__exit__)
        self.port = service.port

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer as the service would."""
        document = read(json.dumps(request).encode())
        reply = self.successResultOf(self.dispatcher.handle(document, "192.0.2.1"))
        answer: dict[str, Any] = json.loads(reply.encode())
        return answer

    def run_command(self, *arguments: str, text: str | bytes = "") -> Result:
        where = ("--host", "127.0.0.1", "--port", str(self.port))
        return CliRunner().invoke(main, ["template", *arguments, *where], input=text)

    def output(self, *arguments: str, text: str | bytes = "") -> str:
        """Run a command that works; gives its standard output."""
        result = self.run_command(*arguments, text=text)
        self.assertEqual(result.exit_code, 0, result.output)
        return result.stdout

    def put(self, name: str, text: str = "text") -> None:
        self.successResultOf(self.store.add(name, text))

    def text(self, name: str) -> str:
        return self.successResultOf(self.store.get(name))

    def test_names_are_listed_a_line_each(self) -> None:
        for name in ("b.html", "a.html", "ü"):
            self.put(name)
        self.assertEqual(self.output("list"), "a.html\nb.html\nü\n")
        answer = json.loads(self.output("list", "--json"))
        self.assertEqual(answer["data"]["items"], ["a.html", "b.html", "ü"])

    def test_an_empty_list_is_told_on_standard_error(self) -> None:
        result = self.run_command("list")
        self.assertEqual((result.stdout, result.stderr), ("", "there are no templates\n"))

    def test_all_pages_are_listed(self) -> None:
        for number in range(1000):
            self.put(f"{number:04}")
        self.assertEqual(len(self.output("list").splitlines()), 1000)
        self.assertEqual(len(self.seen), 3)

    def test_a_template_is_printed_byte_for_byte(self) -> None:
        self.put("a", "Grüße\r\n{{A}}")
        result = self.run_command("show", "a")
        self.assertEqual(result.stdout_bytes, "Grüße\r\n{{A}}".encode())
        self.assertEqual(json.loads(self.output("show", "a", "--json"))["data"], "Grüße\r\n{{A}}")

    def test_a_template_is_added_from_standard_input_or_a_file(self) -> None:
        said = self.output("add", "a.html", text="Grüße\r\n")
        self.assertEqual((said, self.text("a.html")), ("a.html: template added\n", "Grüße\r\n"))
        file = Path(self.mktemp())
        file.write_bytes(b"\xc3\xbc\n")
        self.output("add", "b.html", str(file))
        self.assertEqual(self.text("b.html"), "ü\n")

    def test_a_template_is_replaced(self) -> None:
        self.put("a")
        self.assertEqual(self.output("update", "a", text="new"), "a: template updated\n")
        self.assertEqual(self.text("a"), "new")

    def test_what_is_not_utf_8_is_wrong_usage_and_sends_nothing(self) -> None:
        for command in ("add", "update"):
            result = self.run_command(command, "a", text=b"ab\xff")
            self.assertEqual(result.exit_code, 2)
            self.assertIn("not UTF-8: byte 2", result.stderr)
        self.assertEqual(self.seen, [])

    def test_a_refusal_is_status_1_with_the_reason(self) -> None:
        self.put("a")
        for arguments, why in (
            (("add", "a"), "file already exists"),
            (("update", "gone"), "unable to update template"),
            (("show", "../a"), "unable to get template"),
            (("remove", "gone"), "unable to remove template"),
        ):
            result = self.run_command(*arguments, text="x")
            self.assertEqual(result.exit_code, 1, arguments)
            self.assertIn(why, result.stderr)

    def test_a_refused_removal_does_not_stop_the_others(self) -> None:
        self.put("a")
        self.put("b")
        result = self.run_command("remove", "a", "gone", "b")
        self.assertEqual(result.exit_code, 1)
        self.assertEqual(result.stdout, "a: template removed\nb: template removed\n")
        self.assertEqual(self.output("list"), "")

    def test_a_read_only_api_says_which_setting_it_is(self) -> None:
        self.dispatcher = make_dispatcher(templates=self.store, read_only=True)
        result = self.run_command("remove", "a")
        self.assertIn("EMAIL_TEMPLATE_API_READ_ONLY", result.stderr)
