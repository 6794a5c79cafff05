# SPDX-License-Identifier: MIT
"""Tests of check-config."""

from __future__ import annotations

import json
import time
from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.cli.main import main
from smtpmailer.core.settings import OPTIONS
from smtpmailer.trap_certificate import self_made_certificate

RIGHT = """\
SMTP_HOST = smtp.example.test
SMTP_USER = me
SMTP_PASSWORD = 'very secret'
SECRET_KEY = 'N7SNJsGAY1hku3PBjpqgDw=='
MAIL_FROM_ADDR = me@example.test
"""


class CheckConfigTests(SynchronousTestCase):
    """All faults, or all settings."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def check(self, text: str, *arguments: str, environ: dict[str, str] | None = None) -> Result:
        """Check an env file in an environment without settings but ``environ``."""
        path = self.directory / ".env"
        path.write_text(text, "utf-8")
        path.chmod(0o600)
        clean: dict[str, str | None] = dict.fromkeys(OPTIONS)
        return CliRunner().invoke(
            main, ["check-config", "--env", str(path), *arguments], env=clean | (environ or {})
        )

    def test_the_effective_settings_are_shown_without_secrets(self) -> None:
        result = self.check(RIGHT, environ={"MAILER_PORT": "3001"})
        self.assertEqual(result.exit_code, 0, result.output)
        entries = (line.partition("=") for line in result.stdout.splitlines())
        shown = {key.strip(): value.strip() for key, _, value in entries}
        self.assertEqual(list(shown), list(OPTIONS))
        self.assertEqual(shown["MAILER_PORT"], "3001")
        self.assertNotIn("very secret", result.output)
        self.assertNotIn("N7SNJs", result.output)

    def test_json_holds_the_same(self) -> None:
        result = self.check(RIGHT, "--json")
        self.assertEqual(list(json.loads(result.stdout)), list(OPTIONS))

    def test_every_fault_is_named(self) -> None:
        result = self.check("MAILER_PORT = x\nMAILER_PROT = tcp\nMAILER_QUEUE = off\n")
        self.assertEqual(result.exit_code, 1)
        self.assertEqual(result.stdout, "")
        self.assertIn("3 faults", result.stderr)
        for named in ("MAILER_PORT", "MAILER_PROTO", "SMTP_HOST"):
            self.assertIn(named, result.stderr)

    def test_files_are_looked_at(self) -> None:
        result = self.check(RIGHT + "SMTP_CA_FILE = missing.pem\n")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("missing.pem", result.stderr)

    def test_a_certificate_with_another_key_is_a_fault(self) -> None:
        for name in ("a", "b"):
            self_made_certificate(self.directory / name, time.time())
        cert = "MAILER_PROTO = ssl\nMAILER_SSL_CERT = a/trap-cert.pem\n"
        right = self.check(RIGHT + cert + "MAILER_SSL_KEY = a/trap-key.pem\n")
        wrong = self.check(RIGHT + cert + "MAILER_SSL_KEY = b/trap-key.pem\n")
        self.assertEqual((right.exit_code, wrong.exit_code), (0, 1), right.output)
        self.assertIn("1 fault", wrong.stderr)

    def test_a_missing_env_file_is_named(self) -> None:
        result = CliRunner().invoke(main, ["check-config", "--env", "/nowhere/.env"])
        self.assertEqual(result.exit_code, 1)
        self.assertIn("/nowhere/.env", result.stderr)
