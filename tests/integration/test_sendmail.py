# SPDX-License-Identifier: MIT
"""The sendmail command as programs call it: cron, mail(1), PHP's mail(), with a real service."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from tests.integration.servers import Received, parse
from tests.integration.service import ServiceTestCase, until

_ROOT = Path(__file__).resolve().parent.parent.parent
_KEY = "N7SNJsGAY1hku3PBjpqgDw=="

#: What Debian's cron writes (cron 3.0pl1-162, do_command.c).
_CRON = """\
From: root (Cron Daemon)
To: root
Subject: Cron <root@web1> /usr/local/bin/backup
MIME-Version: 1.0
Content-Type: text/plain; charset=ANSI_X3.4-1968
Content-Transfer-Encoding: 8bit
X-Cron-Env: <SHELL=/bin/sh>
X-Cron-Env: <LOGNAME=root>

größe < 5 GB & genug
.
fertig
"""


class SendmailTests(ServiceTestCase):
    """A message that goes in comes out as a mail."""

    def setUp(self) -> None:
        """Start a service whose queue is worked on at once, and install sendmail for it."""
        super().setUp()
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.spool = self.folder / "spool"
        self.spool.mkdir()
        self.smtp = self.server(eager=True)

    def install(self, **values: object) -> str:
        """Start a service; give a program that is sendmail for it."""
        self.service_there = self.service(
            self.smtp,
            MAILER_QUEUE=True,
            QUEUE_SEND_IMMEDIATELY=True,
            SECRET_KEY=_KEY,
            ATTACHMENT_DIRS=self.spool,
            **values,
        )
        (self.folder / "aliases").write_text("root: admin\nadmin: ops@example.org\n", "ascii")
        lines = {
            "MAILER_PORT": self.service_there.port,
            "SMTPMAILER_ALIASES": self.folder / "aliases",
            "SMTPMAILER_SPOOL": self.spool,
        } | {key: str(value).lower() for key, value in values.items() if key == "MAIL_HTML"}
        env_file = self.folder / "sendmail.env"
        env_file.write_text("".join(f"{k} = {v}\n" for k, v in lines.items()), "utf-8")
        program = self.folder / "sendmail"
        program.write_text(
            f"#!/bin/sh\nPYTHONPATH={_ROOT} exec {sys.executable} -m smtpmailer.cli.sendmail "
            f'--env {env_file} "$@"\n',
            "utf-8",
        )
        program.chmod(0o755)
        return str(program)

    def run_program(self, *command: str, text: str | bytes = "", **environment: str) -> None:
        """Run a program to a good end."""
        ran = subprocess.run(
            command,
            input=text if isinstance(text, bytes) else text.encode(),
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), **environment},
            capture_output=True,
            check=False,
            timeout=30,
        )
        self.assertEqual((ran.returncode, ran.stdout, ran.stderr), (0, b"", b""))

    def arrived(self) -> tuple[Received, EmailMessage]:
        """Wait for one mail."""
        until("a mail arrives", lambda: self.smtp.received)
        (received,) = self.smtp.received
        return received, parse(received.content)

    def found(self, program: str) -> str:
        """Give where a program is."""
        path = shutil.which(program)
        assert path is not None, f"{program} is missing: sh scripts/test-tools.sh installs it"
        return path

    def test_cron_s_mail_reaches_the_alias_and_looks_as_it_did(self) -> None:
        sendmail = self.install(MAIL_HTML=True)
        options = ("-i", "-FCronDaemon", "-B8BITMIME", "-oem", "root")
        self.run_program(sendmail, *options, text=_CRON)
        received, message = self.arrived()
        self.assertEqual(received.recipients, ("ops@example.org",))
        self.assertEqual(message["To"], "ops@example.org")
        self.assertEqual(message["From"], "Cron Daemon <service@example.org>")
        self.assertEqual(message["Subject"], "Cron <root@web1> /usr/local/bin/backup")
        self.assertEqual(message.get_content_type(), "text/html")
        body = message.get_content().replace("\r\n", "\n")
        self.assertIn(">größe &lt; 5 GB &amp; genug\n.\nfertig\n</pre>", body)

    def test_mail_1_sends_through_it(self) -> None:
        sendmail = self.install(MAIL_HTML=False)
        settings = self.folder / "mailrc"
        settings.write_text(f"set sendmail={sendmail}\nset sendwait\n", "utf-8")
        self.run_program(
            self.found("bsd-mailx"),
            *("-s", "Grüße", "-c", "copy@example.org", "-b", "blind@example.org", "to@example.org"),
            text="Hallo\n",
            MAILRC=str(settings),
            LC_ALL="C.UTF-8",
        )
        received, message = self.arrived()
        self.assertEqual(
            set(received.recipients), {"to@example.org", "copy@example.org", "blind@example.org"}
        )
        self.assertEqual((message["To"], message["Cc"]), ("to@example.org", "copy@example.org"))
        self.assertNotIn(b"blind", received.content)
        self.assertEqual(message["Subject"], "Grüße")
        self.assertEqual(message.get_content().strip(), "Hallo")

    def test_php_s_mail_sends_through_it(self) -> None:
        sendmail = self.install(MAIL_HTML=True)
        script = (
            "exit(mail('Ada <ada@example.org>', '=?UTF-8?B?R3LDvMOfZQ==?=', '<p>Grüße</p>',"
            " ['From' => 'Shop <shop@example.org>', 'Reply-To' => 'help@example.org',"
            " 'Cc' => 'copy@example.org', 'MIME-Version' => '1.0',"
            " 'Content-Type' => 'text/html; charset=utf-8'], '-fshop@example.org') ? 0 : 1);"
        )
        self.run_program(self.found("php"), "-d", f"sendmail_path={sendmail} -t -i", "-r", script)
        received, message = self.arrived()
        self.assertEqual(received.sender, "shop@example.org")
        self.assertEqual(set(received.recipients), {"ada@example.org", "copy@example.org"})
        self.assertEqual(message["From"], "Shop <shop@example.org>")
        self.assertEqual(message["Reply-To"], "help@example.org")
        self.assertEqual(message["Subject"], "Grüße")
        self.assertEqual(message.get_content().strip(), "<p>Grüße</p>")

    def test_attachments_and_images_go_through_the_spool(self) -> None:
        sendmail = self.install(MAIL_HTML=True)
        message = EmailMessage()
        message["To"] = "ada@example.org"
        message["Subject"] = "Bericht"
        message.set_content("siehe Bild")
        message.add_alternative("<img src='cid:logo'>", subtype="html")
        parts: Any = message.get_payload()
        parts[1].add_related(b"\x89PNG", "image", "png", cid="<logo>", filename="logo.png")
        message.add_attachment(b"%PDF\r\n", "application", "pdf", filename="Übersicht.pdf")
        self.run_program(sendmail, "-t", "-oi", text=message.as_bytes())
        _, mail = self.arrived()
        files = {
            (str(part.get_filename()), part["Content-ID"], part.get_payload(decode=True))
            for part in mail.walk()
            if part.get_filename()
        }
        self.assertEqual(
            files, {("logo.png", "<logo>", b"\x89PNG"), ("Übersicht.pdf", None, b"%PDF\r\n")}
        )
        self.assertEqual(mail.get_body(("html",)).get_content().strip(), "<img src='cid:logo'>")  # type: ignore[union-attr]

    def test_a_service_that_starts_late_is_waited_for(self) -> None:
        sendmail = self.install(MAIL_HTML=False)
        self.service_there.kill()
        with subprocess.Popen(
            [sendmail, "ada@example.org"], stdin=subprocess.PIPE, stderr=subprocess.PIPE
        ) as running:
            assert running.stdin is not None
            assert running.stderr is not None
            running.stdin.write(b"Subject: late\n\nHi\n")
            running.stdin.close()
            self.service_there.start_again()
            self.assertEqual((running.wait(30), running.stderr.read()), (0, b""))
        self.assertEqual(self.arrived()[1]["Subject"], "late")
