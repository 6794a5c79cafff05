# SPDX-License-Identifier: MIT
"""Tests of the subcommand queue rescue."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.cli.main import main
from smtpmailer.core.ciphers import seal
from smtpmailer.core.settings import OPTIONS

_KEY = bytes(range(16))
_NAME = "mail_0000000001657084500.39823600_9e51fa6fad25da44.json"
_MAIL = {"to": ["a@example.test"], "ccList": [], "bccList": [], "subject": "Grüße", "body": "b"}


class RescueTests(SynchronousTestCase):
    """A dry run first; then each mail is taken in or named."""

    def setUp(self) -> None:
        self.root = Path(self.mktemp())
        for name in ("mail", "temp", "failed/quarantine/.records"):
            (self.root / "Queue" / name).mkdir(parents=True)
        self.queue = self.root / "Queue"
        self.env = self.root / ".env"
        self.env.write_text(
            "SMTP_HOST = smtp.example.test\nMAIL_FROM_ADDR = me@example.test\n"
            f"SECRET_KEY = '{base64.b64encode(_KEY).decode()}'\n"
            "QUEUE_FAILED_DIR = Queue/failed/\n",
            "utf-8",
        )
        self.env.chmod(0o600)

    def run_command(self, *arguments: str, env: Path | None = None) -> Result:
        clean: dict[str, str | None] = dict.fromkeys(OPTIONS)
        command = ["queue", "rescue", "--env", str(env or self.env), *arguments]
        return CliRunner().invoke(main, command, env=clean)

    def strand(self, where: str = f"temp/{_NAME}", document: Any = _MAIL) -> Path:
        """Put a mail where no service looks."""
        path = self.queue / where
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        path.write_bytes(content)
        os.utime(path, (1, 1))
        return path

    def quarantine(self, document: Any = _MAIL) -> Path:
        record = self.queue / "failed" / "quarantine" / ".records" / _NAME
        record.write_bytes(json.dumps({"why": "no key fits", "at": 1, "state": {}}).encode())
        return self.strand(f"failed/quarantine/{_NAME}", document)

    def waiting(self) -> list[str]:
        return sorted(path.name for path in (self.queue / "mail").glob("mail_*"))

    def test_nothing_found_is_said(self) -> None:
        for options in ([], ["--apply"], ["--quarantine"], ["--quarantine", "--apply"]):
            result = self.run_command(*options)
            self.assertEqual((result.exit_code, result.stdout), (0, "nothing to rescue\n"))

    def test_without_apply_mails_are_only_shown(self) -> None:
        path = self.strand()
        result = self.run_command()
        head, line = result.stdout.splitlines()
        self.assertEqual(head.split(), ["FILE", "WHY", "SUBJECT", "RECIPIENTS", "AGE"])
        self.assertIn(str(path.absolute()), line)
        self.assertRegex(line, r"was being sent when the service ended +Grüße +1 +\d+ d$")
        self.assertIn("--apply", result.stderr)
        self.assertTrue(path.exists())
        self.assertFalse((self.queue / "mail" / ".smtpmailer").exists())

    def test_with_apply_they_are_taken_in(self) -> None:
        path = self.strand()
        self.strand("mailmail_0000000001657084500.5_a.json")
        self.strand("mail/mail_00000000000000000-5.39823600_9e51fa6fad25da44.json")
        result = self.run_command("--apply")
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertIn(f"{path.absolute()}: waits as {_NAME} now\n", result.stdout)
        self.assertEqual(len(self.waiting()), 3)
        self.assertIn("mail_0000000000000000001.00000000_9e51fa6fad25da44.json", self.waiting())
        self.assertEqual(self.run_command().stdout, "nothing to rescue\n")

    def test_encrypted_mails_are_readable(self) -> None:
        sealed = seal("AES128", _KEY, bytes(12), json.dumps(_MAIL).encode())
        self.strand(document=sealed.encode())
        self.assertIn("Grüße", self.run_command().stdout)

    def test_unreadable_ones_are_shown_and_taken_in_too(self) -> None:
        self.strand(document=b"{")
        self.assertIn("(unreadable: malformed JSON", self.run_command().stdout)
        self.assertEqual(self.run_command("--apply").exit_code, 0)
        self.assertEqual(self.waiting(), [_NAME])

    def test_what_could_not_be_sent_says_why(self) -> None:
        self.strand(document={"subject": "Offer"})
        self.assertIn("Offer (can't be sent: payload: The required", self.run_command().stdout)

    def test_json_holds_all_that_is_known(self) -> None:
        path = self.strand()
        shown = json.loads(self.run_command("--json").stdout)
        expected = {
            "path": str(path.absolute()),
            "why": "was being sent when the service ended",
            "name": _NAME,
            "writtenAt": 1.0,
            "subject": "Grüße",
            "recipients": 1,
            "fault": None,
        }
        self.assertEqual(shown, {"applied": False, "mails": [expected]})
        applied = json.loads(self.run_command("--json", "--apply").stdout)
        expected |= {"queued": True, "error": None}
        self.assertEqual(applied, {"applied": True, "mails": [expected]})

    def test_what_can_not_be_taken_in_is_status_1(self) -> None:
        path = self.strand()
        self.strand(f"mail/{_NAME}", {**_MAIL, "subject": "other"})
        result = self.run_command("--apply")
        self.assertEqual(result.exit_code, 1)
        self.assertIn(f"there is another mail {_NAME} already", result.stdout)
        self.assertTrue(path.exists())
        mails = json.loads(self.run_command("--apply", "--json").stdout)["mails"]
        self.assertEqual([each["queued"] for each in mails], [False])

    def test_quarantined_mails_are_for_the_option_only(self) -> None:
        self.quarantine()
        self.assertEqual(self.run_command("--apply").stdout, "nothing to rescue\n")
        self.strand()
        result = self.run_command("--quarantine")
        self.assertEqual(len(result.stdout.splitlines()), 2)
        self.assertIn("in quarantine: no key fits", result.stdout)

    def test_a_quarantined_mail_that_can_be_sent_now_is_taken_in(self) -> None:
        path = self.quarantine()
        self.assertEqual(self.run_command("--quarantine", "--apply").exit_code, 0)
        self.assertEqual((self.waiting(), path.exists()), ([_NAME], False))

    def test_a_quarantined_mail_that_still_can_not_be_sent_stays(self) -> None:
        for document in (b"{", {"nope": 1}, {**_MAIL, "to": []}):
            path = self.quarantine(document)
            result = self.run_command("--quarantine", "--apply")
            self.assertEqual(result.exit_code, 1)
            self.assertIn("left where it is", result.stdout)
            self.assertEqual((self.waiting(), path.exists()), ([], True))

    def test_a_time_that_makes_no_sense_is_no_reason_to_leave_a_mail(self) -> None:
        self.quarantine({**_MAIL, "scheduleTime": -5})
        self.assertEqual(self.run_command("--quarantine", "--apply").exit_code, 0)
        self.assertEqual(self.waiting(), [_NAME])

    def test_root_writes_no_files_that_the_service_could_not_read(self) -> None:
        path = self.strand()
        self.patch(os, "geteuid", lambda: 0)
        owner = (self.queue / "mail").stat().st_uid
        if owner == 0:
            os.chown(self.queue / "mail", 65534, -1)
        result = self.run_command("--apply")
        self.assertEqual(result.exit_code, 2)
        self.assertIn("sudo -u", result.stderr)
        self.assertTrue(path.exists())
        self.assertEqual(self.run_command().exit_code, 0)

    def test_a_configuration_that_is_faulty_is_wrong_usage(self) -> None:
        self.env.write_text("MAILER_PROT = tcp\n", "utf-8")
        result = self.run_command()
        self.assertEqual((result.exit_code, result.stdout), (2, ""))
        self.assertIn("MAILER_PROT", result.stderr)
        self.assertEqual(self.run_command(env=self.root / "none").exit_code, 2)

    def test_a_directory_that_can_not_be_looked_through_is_named(self) -> None:
        (self.queue / "temp").rmdir()
        (self.queue / "temp").write_bytes(b"")
        result = self.run_command()
        self.assertEqual(result.exit_code, 1)
        self.assertIn("temp", result.stderr)
