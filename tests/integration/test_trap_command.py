# SPDX-License-Identifier: MIT
"""Tests of the trap as a program, with the standard library's SMTP client."""

from __future__ import annotations

import json
import os
import re
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.cli.main import main

ROOT = Path(__file__).parent.parent.parent
LIMIT = 20.0
BIG = (
    b"Subject: big\r\n\r\n"
    + (b"x" * 76 + b"\r\n") * 140_000
    + b".\r\n..\r\n"
    + b"y" * 5000
    + b"\r\n"
)


class Trap:
    """A trap in a process of its own."""

    def __init__(self, directory: str, *arguments: str) -> None:
        self.directory = Path(directory)
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "smtpmailer",
                "trap",
                "--port",
                "0",
                "--dir",
                directory,
                *arguments,
            ],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.head = ""
        for line in self.process.stdout:
            self.head += line
            if line.startswith("mails go to"):
                break

    def port(self, kind: str) -> int:
        """Give the port of a kind."""
        match = re.search(rf"listening on \S+:(\d+) \({kind}", self.head)
        assert match is not None, self.head
        return int(match[1])

    def end(self) -> str:
        """Wait for its end; give what it printed meanwhile."""
        return self.process.communicate(timeout=LIMIT)[0]

    def kill(self) -> None:
        """Leave nothing running."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


class TrapCommandTests(SynchronousTestCase):
    """Every kind of port, exact bytes, and a clean end."""

    def trap(self, *arguments: str) -> Trap:
        """Start a trap."""
        trap = Trap(self.mktemp(), *arguments)
        self.addCleanup(trap.kill)
        return trap

    def test_all_ports_and_an_end_after_the_last_mail(self) -> None:
        """The client hears of each mail and can say goodbye before the trap ends."""
        trap = self.trap("--starttls-port", "0", "--tls-port", "0", "--count", "3")
        trust = ssl.create_default_context(cafile=str(trap.directory / "trap-ca.pem"))
        with smtplib.SMTP("127.0.0.1", trap.port("no TLS"), timeout=LIMIT) as plain:
            self.assertEqual(plain.sendmail("a@b.test", ["c@d.test"], BIG), {})
        with smtplib.SMTP("localhost", trap.port("STARTTLS"), timeout=LIMIT) as starttls:
            starttls.starttls(context=trust)
            starttls.login("u", "p")
            starttls.sendmail("ü@b.test", ["ö@d.test"], b"x\r\n", mail_options=["SMTPUTF8"])
        with smtplib.SMTP_SSL(
            "localhost", trap.port("TLS"), context=trust, timeout=LIMIT
        ) as secured:
            secured.sendmail("a@b.test", ["c@d.test"], b"Subject: last\r\n\r\n")
        printed = trap.end()
        self.assertEqual(trap.process.returncode, 0)
        mails = sorted(trap.directory.glob("*.eml"))
        self.assertEqual(mails[0].read_bytes(), BIG)
        self.assertEqual(mails[1].read_bytes(), b"x\r\n")
        second = json.loads(mails[1].with_suffix(".json").read_text("utf-8"))
        self.assertEqual((second["from"], second["user"]), ("ü@b.test", "u"))
        self.assertRegex(second["tls"], r"^TLSv1\.[23]$")
        self.assertRegex(printed, r'(?m)^\d\d:\d\d:\d\d  a@b.test -> c@d.test  "last"  17 bytes  /')
        self.assertTrue(printed.endswith("caught 3 mails\n"))

    def test_without_tls_ports_no_certificate_is_made(self) -> None:
        trap = self.trap()
        with smtplib.SMTP("127.0.0.1", trap.port("no TLS"), timeout=LIMIT) as client:
            client.ehlo()
            self.assertFalse(client.has_extn("starttls"))
        self.assertFalse(trap.directory.exists())
        trap.process.send_signal(signal.SIGTERM)
        self.assertIn("caught 0 mails", trap.end())

    def test_a_given_login_is_asked_for(self) -> None:
        password = Path(self.mktemp())
        password.write_text("p\n", "utf-8")
        trap = self.trap("--user", "u", "--password-file", str(password))
        with smtplib.SMTP("127.0.0.1", trap.port("no TLS"), timeout=LIMIT) as client:
            self.assertRaises(
                smtplib.SMTPSenderRefused, client.sendmail, "a@b.test", ["c@d.test"], b"x\r\n"
            )
            self.assertRaises(smtplib.SMTPAuthenticationError, client.login, "u", "x")
            client.login("u", "p")
            self.assertEqual(client.sendmail("a@b.test", ["c@d.test"], b"x\r\n"), {})


class UsageTests(SynchronousTestCase):
    """What can't work is said before anything listens."""

    def test_other_machines_are_let_in_on_request_only(self) -> None:
        for address in ("0.0.0.0", "::", "192.0.2.1"):
            result = CliRunner().invoke(main, ["trap", "--listen", address])
            self.assertEqual(result.exit_code, 2)
            self.assertIn("--public", result.stderr)

    def test_options_that_belong_together(self) -> None:
        for arguments in (["--user", "u"], ["--cert", __file__], ["--listen", "host.test"]):
            self.assertEqual(CliRunner().invoke(main, ["trap", *arguments]).exit_code, 2)

    def test_a_busy_port_is_named(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = str(other.getsockname()[1])
            result = CliRunner().invoke(main, ["trap", "--port", port])
        self.assertEqual(result.exit_code, 1)
        self.assertIn(f"127.0.0.1:{port}", result.stderr)
