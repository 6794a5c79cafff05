# SPDX-License-Identifier: MIT
"""Tests of ``template preview``: what a template makes of values, without a service."""

from __future__ import annotations

import email
import email.policy
import json
import os
from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.cli.main import main

_TEXT = "<p>.{{NAME}}\n..{{B}}</p>\n"


class PreviewTests(SynchronousTestCase):
    """A template and values in, a text or a mail out."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.templates = self.folder / "Template" / "html"
        self.templates.mkdir(parents=True)
        (self.templates / "t.html").write_text(_TEXT)
        for key in [key for key in os.environ if key.startswith(("EMAIL_", "MAIL_", "SMTP"))]:
            self.patch(os, "environ", {**os.environ})
            del os.environ[key]

    def run_command(self, *arguments: str, text: str = "", **environ: str) -> Result:
        where = () if "--env" in arguments else ("--basepath", str(self.folder))
        command = ["template", "preview", *arguments, *where]
        return CliRunner().invoke(main, command, input=text, env=environ)

    def made(self, *arguments: str, text: str = "", **environ: str) -> str:
        """Run a command that works; gives its standard output."""
        result = self.run_command(*arguments, text=text, **environ)
        self.assertEqual(result.exit_code, 0, result.output)
        return result.stdout_bytes.decode()

    def failed(self, status: int, *arguments: str, text: str = "") -> str:
        """Run a command that fails; gives its standard error."""
        result = self.run_command(*arguments, text=text)
        self.assertEqual((result.exit_code, result.stdout), (status, ""), result.output)
        return result.stderr

    def file(self, content: str | bytes) -> str:
        path = Path(self.mktemp())
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def env(self, text: str = "") -> str:
        path = self.folder / "my.env"
        path.write_text(f"SMTP_HOST = 'localhost'\nMAILER_QUEUE = false\n{text}")
        path.chmod(0o600)
        return str(path)

    def test_a_template_of_the_directory_is_filled(self) -> None:
        made = self.made("t.html", "--set", "NAME=a=<b>", "--set", "B=")
        self.assertEqual(made, "<p>.a=<b>\n..</p>\n")

    def test_a_file_or_standard_input_is_filled(self) -> None:
        self.assertEqual(self.made("--file", self.file("{{A}}ü"), "--set", "A=x"), "xü")
        self.assertEqual(self.made("--file", "-", "--set", "A=x", text="{{A}}\r\n"), "x\r\n")

    def test_values_come_from_a_json_file_and_are_texts_as_in_the_api(self) -> None:
        file = self.file(json.dumps({"A": 2.0, "B": True, "C": None, "D": "d"}))
        template = self.file("{{A}},{{B}},{{C}},{{D}}")
        made = self.made("--file", template, "--values", file, "--set", "D=x")
        self.assertEqual(made, "2,1,,x")

    def test_what_does_not_fit_is_told_and_is_an_error_only_when_strict(self) -> None:
        result = self.run_command("t.html", "--set", "NAME=x", "--set", "Z=1")
        self.assertIn("tags without a value: B", result.stderr)
        self.assertIn("no tag for: Z", result.stderr)
        self.assertEqual(result.exit_code, 0)
        for strict in (("--strict",), ("--env", self.env("EMAIL_TEMPLATE_STRICT = true\n"))):
            said = self.failed(1, "t.html", "--set", "NAME=x", "--set", "Z=1", *strict)
            self.assertIn("replaceContent: The required properties (B) are missing", said)
            self.assertIn("not allowed: Z", said)

    def test_an_empty_text_is_told(self) -> None:
        result = self.run_command("--file", "-")
        self.assertIn("the text is empty", result.stderr)

    def test_the_settings_are_those_of_the_env_file(self) -> None:
        (self.folder / "other").mkdir()
        (self.folder / "other" / "o").write_text("<%A%>")
        env = self.env(
            "EMAIL_TEMPLATE_DIR = 'other'\nEMAIL_TEMPLATE_ESCAPE = 'html'\n"
            "EMAIL_TEMPLATE_STRING_TAG_OPEN = '<%'\nEMAIL_TEMPLATE_STRING_TAG_CLOSE = '%>'\n"
        )
        self.assertEqual(self.made("o", "--env", env, "--set", "A=<"), "&lt;")
        env = self.env("EMAIL_TEMPLATE_ESCAPE = 'html'\nMAIL_HTML = false\n")
        made = self.made("--env", env, "--file", self.file("{{A}}"), "--set", "A=<")
        self.assertEqual(made, "<")

    def test_without_an_env_file_the_environment_counts(self) -> None:
        made = self.made("t.html", "--set", "NAME=<", EMAIL_TEMPLATE_ESCAPE="html", SMTP_PORT="x")
        self.assertEqual(made, "<p>.&lt;\n..{{B}}</p>\n")

    def test_an_env_file_of_the_base_path_counts(self) -> None:
        (self.folder / ".env").write_text(Path(self.env("MAIL_HTML = 5\n")).read_text())
        self.assertIn("MAIL_HTML", self.failed(1, "t.html"))
        self.assertIn("cannot read", self.failed(1, "t.html", "--env", "missing.env"))

    def test_a_mail_is_written_that_parses_to_the_text(self) -> None:
        eml = self.folder / "x.eml"
        env = self.env("MAIL_FROM_ADDR = 'me@example.org'\nMAIL_FROM_NAME = 'Ü'\n")
        arguments = ("--eml", str(eml), "--subject", "Grüße", "--to", "ada@example.org")
        made = self.made("t.html", "--env", env, "--set", "NAME=ü", "--set", "B=b", *arguments)
        mail = email.message_from_bytes(eml.read_bytes(), policy=email.policy.default)
        self.assertEqual(made, "")
        self.assertEqual(
            [mail["From"], mail["To"], mail["Subject"], mail.get_content_type()],
            ["Ü <me@example.org>", "ada@example.org", "Grüße", "text/html"],
        )
        content = mail.get_content().replace("\r\n", "\n")
        self.assertEqual(content, "<p>.ü\n..b</p>\n")

    def test_nothing_outside_the_directory_is_read(self) -> None:
        (self.folder / "secret").write_text("secret")
        (self.templates / "link").symlink_to("../../secret")
        for name in ("../../secret", str(self.folder / "secret"), "link", "gone"):
            self.assertIn("template not found", self.failed(1, name))

    def test_what_makes_no_sense_is_wrong_usage(self) -> None:
        for arguments in (
            (),
            ("t.html", "--file", self.file("x")),
            ("t.html", "--set", "A"),
            ("t.html", "--values", self.file("[1]")),
            ("t.html", "--values", self.file("{")),
            ("t.html", "--values", self.file(b"\xff\xfe")),
            ("t.html", "--values", self.file('{"A": {}}')),
            ("t.html", "--to", "nobody"),
            ("--file", self.file(b"\xff")),
        ):
            self.failed(2, *arguments)

    def test_what_can_not_be_done_is_status_1(self) -> None:
        (self.templates / "bad").write_bytes(b"\xff")
        self.assertIn("not UTF-8", self.failed(1, "bad"))
        missing = str(self.folder / "missing" / "x.eml")
        self.assertIn("could not write", self.failed(1, "t.html", "--eml", missing))
