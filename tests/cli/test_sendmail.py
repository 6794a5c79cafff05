# SPDX-License-Identifier: MIT
"""Tests of the sendmail command's options and statuses, against a service that notes requests."""

from __future__ import annotations

import os
import resource
import socket
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.cli import sendmail_settings
from smtpmailer.cli.main import main
from smtpmailer.cli.sendmail_message import File
from smtpmailer.cli.sendmail_spool import Spool, SpoolError
from tests.integration.scripted import ScriptedService, answering
from tests.integration.test_client import saying

NAME = "mail_0000000001800000000.50000000_5b1d7c2e9a3f8460.json"
MESSAGE = "To: ada@b.test\nCc: bob@b.test\nSubject: Hello\n\nHi\n"


class SendmailCase(SynchronousTestCase):
    """Runs the command with a machine's settings of its own."""

    def setUp(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.reply: dict[str, Any] = {"data": NAME, "message": "mail added to queue"}
        service = ScriptedService(answering(lambda _: self.reply, self.seen))
        service.__enter__()
        self.addCleanup(service.__exit__)
        self.port = service.port
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        for name in ("DEFAULT_ENV", "DEFAULT_ALIASES", "MAILNAME"):
            self.patch(sendmail_settings, name, self.folder / name)

    def file(self, name: str, text: str) -> Path:
        """Write a file; give its path."""
        path = self.folder / name
        path.write_text(text, "utf-8")
        return path

    def run_command(
        self, *arguments: str, text: str | bytes = MESSAGE, **environment: str
    ) -> Result:
        """Run the command; what it left unsaid about the service's place is in the environment."""
        environment.setdefault("MAILER_PORT", str(self.port))
        return CliRunner().invoke(main, ["sendmail", *arguments], input=text, env=dict(environment))

    def mail(self, *arguments: str, text: str | bytes = MESSAGE, **environment: str) -> Any:
        """Run the command to a good end; give the mail object it queued."""
        result = self.run_command(*arguments, text=text, **environment)
        self.assertEqual((result.exit_code, result.output), (os.EX_OK, ""))
        (request,) = self.seen
        self.seen.clear()
        return request["queueMail"]

    def fails(self, status: int, named: str, *arguments: str, **more: Any) -> None:
        """Run the command to a bad end, with nothing said on standard output."""
        result = self.run_command(*arguments, **more)
        self.assertEqual(result.exit_code, status, result.output)
        self.assertIn(named, result.stderr)
        self.assertEqual(result.stdout, "")


class OptionTests(SendmailCase):
    """What programs give it."""

    def test_t_takes_the_header_s_recipients(self) -> None:
        self.assertEqual(
            self.mail("-t"),
            {
                "to": ["ada@b.test"],
                "ccList": ["bob@b.test"],
                "bccList": [],
                "subject": "Hello",
                "body": '<pre style="white-space: pre-wrap">Hi\n</pre>\n',
            },
        )
        for also in (("-ot",), ("-ti",), ("-t", "-i"), ("-i", "-t"), ("-t", "--")):
            self.assertEqual(self.mail(*also)["ccList"], ["bob@b.test"], also)

    def test_t_with_further_recipients_adds_them(self) -> None:
        self.assertEqual(self.mail("-t", "eve@b.test")["bccList"], ["eve@b.test"])

    def test_named_recipients_are_all_there_are(self) -> None:
        mail = self.mail("ada@b.test", "eve@b.test,Eva <eva@b.test>")
        self.assertEqual(
            (mail["to"], mail["ccList"], mail["bccList"]),
            (["ada@b.test"], [], ["eve@b.test", "eva@b.test"]),
        )

    def test_behind_two_dashes_nothing_is_an_option(self) -> None:
        self.assertEqual(self.mail("-i", "--", "-t@b.test")["bccList"], ["-t@b.test"])

    def test_a_lonely_dot_ends_the_message_unless_told_otherwise(self) -> None:
        text = "To: a@b.test\n\none\n..\n.\ntwo\n"
        for arguments, body in (
            (("-t",), "one\n..\n"),
            (("-t", "-i"), "one\n..\n.\ntwo\n"),
            (("-t", "-oi"), "one\n..\n.\ntwo\n"),
            (("-t", "-o", "i"), "one\n..\n.\ntwo\n"),
        ):
            self.assertEqual(self.mail(*arguments, "--plain", text=text)["body"], body, arguments)
        crlf = text.replace("\n", "\r\n")
        self.assertEqual(self.mail("-t", "--plain", text=crlf)["body"], "one\n..\n")

    def test_the_sender_is_who_from_says_else_f(self) -> None:
        headed = "From: Me <me@b.test>\n" + MESSAGE
        for arguments, text, sender in (
            ((), MESSAGE, (None, None)),
            (("-fme@b.test",), MESSAGE, ("me@b.test", None)),
            (("-f", "<me@b.test>", "-F", "Me Myself"), MESSAGE, ("me@b.test", "Me Myself")),
            (("-r", "me@b.test", "-FMe"), MESSAGE, ("me@b.test", "Me")),
            (("-F", "Me"), MESSAGE, (None, "Me")),
            (("-f", ""), MESSAGE, (None, None)),
            (("-f", "bounces@b.test", "-F", "You"), headed, ("me@b.test", "Me")),
            ((), "From: me@b.test\n" + MESSAGE, ("me@b.test", None)),
        ):
            mail = self.mail("-t", *arguments, text=text)
            self.assertEqual((mail.get("fromEmail"), mail.get("fromName")), sender, arguments)

    def test_a_local_sender_is_the_service_s_unless_its_domain_is_set(self) -> None:
        """An address that nobody made would be refused, or be somebody else's."""
        text = "From: root (Cron Daemon)\n" + MESSAGE
        self.file("MAILNAME", "web1.example.org\n")
        mail = self.mail("-t", "-FCronDaemon", text=text)
        self.assertEqual((mail.get("fromEmail"), mail["fromName"]), (None, "Cron Daemon"))
        mail = self.mail("-t", text=text, SMTPMAILER_DOMAIN="b.test")
        self.assertEqual((mail["fromEmail"], mail["fromName"]), ("root@b.test", "Cron Daemon"))
        mail = self.mail("-t", "-f", "www-data", "--domain", "b.test")
        self.assertEqual(mail["fromEmail"], "www-data@b.test")

    def test_answers_go_where_there_is_an_address(self) -> None:
        text = "Reply-To: Ada <ada@b.test>, root\n" + MESSAGE
        self.assertEqual(self.mail("-t", text=text)["replyTo"], [["ada@b.test", "Ada"]])
        mail = self.mail("-t", "--domain", "b.test", text=text)
        self.assertEqual(mail["replyTo"], [["ada@b.test", "Ada"], "root@b.test"])
        self.assertNotIn("replyTo", self.mail("-t", text="Reply-To: root\n" + MESSAGE))

    def test_what_programs_give_besides_changes_nothing(self) -> None:
        """Postfix's, Exim's and Sendmail's manuals list these; cron, PHP and mutt give some."""
        plain = self.mail("-t")
        for given in (
            "-oem -odi -odb -odq -oee -om -o7",
            "-bm -m -G -U -n",
            "-em -ep -B8BITMIME -B 7BIT",
            "-N never -Rhdrs -R full -V id -Lmail",
            "-O DeliveryMode=b -h 3 -pSMTP -X /dev/null -Am",
        ):
            self.assertEqual(self.mail("-t", *given.split(" ")), plain, given)

    def test_other_work_is_refused_and_says_who_does_it(self) -> None:
        for arguments, named in (
            (("-bs",), "speaks no SMTP"),
            (("-bp",), "smtpmailer queue list"),
            (("-bd",), "twistd"),
            (("-bi",), "aliases"),
            (("-bx",), "no such mode"),
            (("-I",), "aliases"),
            (("-q",), "by itself"),
            (("-q15m",), "by itself"),
            (("-C", "x.cf", "-t"), "--env"),
            (("-z", "-t"), "-z"),
            ((), "nobody to send to"),
        ):
            self.fails(os.EX_USAGE, named, *arguments)
        self.assertEqual(self.seen, [])

    def test_v_tells_what_became_of_it(self) -> None:
        text = "In-Reply-To: <x@y>\nX-Mailer: z\n" + MESSAGE
        result = self.run_command("-v", "ada@b.test", text=text)
        self.assertEqual(result.exit_code, os.EX_OK)
        self.assertIn(f"queued as {NAME}", result.stderr)
        self.assertIn("left out: In-Reply-To, X-Mailer, bob@b.test in To or Cc", result.stderr)

    def test_strict_refuses_what_would_be_left_out(self) -> None:
        self.mail("-t", "--strict", text="X-Mailer: z\nDate: now\n" + MESSAGE)
        text = "In-Reply-To: <x@y>\n" + MESSAGE
        self.fails(os.EX_DATAERR, "In-Reply-To", "-t", "--strict", text=text)
        self.fails(os.EX_DATAERR, "bob@b.test", "--strict", "ada@b.test")
        self.assertEqual(self.seen, [])


class SettingsTests(SendmailCase):
    """What no program gives, the machine does."""

    def test_settings_come_from_options_then_the_env_file_then_the_environment(self) -> None:
        text = "To: root\n\nHi\n"
        self.file("DEFAULT_ENV", f"MAILER_PORT = {self.port}\nSMTPMAILER_DOMAIN = c.test\n")
        environment = {"MAILER_PORT": "1", "SMTPMAILER_DOMAIN": "d.test"}
        self.assertEqual(self.mail("-t", text=text, **environment)["to"], ["root@c.test"])
        mail = self.mail("-t", "--domain", "b.test", text=text, **environment)
        self.assertEqual(mail["to"], ["root@b.test"])
        named = self.file("named.env", f"MAILER_PORT = {self.port}\n")
        mail = self.mail("-t", "--env", str(named), text=text, **environment)
        self.assertEqual(mail["to"], ["root@d.test"])

    def test_the_service_s_kind_of_body_is_a_setting(self) -> None:
        for value, body in (("false", "Hi\n"), ("off", "Hi\n"), ("true", None), ("1", None)):
            env_file = self.file("x.env", f"MAIL_HTML = {value}\n")
            mail = self.mail("-t", "--env", str(env_file))
            self.assertEqual(mail["body"], body or mail["body"], value)
            self.assertEqual(mail["body"].startswith("<pre"), body is None, value)
        self.assertEqual(self.mail("-t", "--plain", MAIL_HTML="true")["body"], "Hi\n")
        self.assertIn("<pre", self.mail("-t", "--html", MAIL_HTML="false")["body"])

    def test_aliases_are_those_of_the_machine_unless_others_are_named(self) -> None:
        text = "To: root\n\nHi\n"
        self.file("DEFAULT_ALIASES", "root: a@b.test\n")
        self.assertEqual(self.mail("-t", text=text)["to"], ["a@b.test"])
        other = str(self.file("other", "root: c@d.test\n"))
        self.assertEqual(self.mail("-t", text=text, SMTPMAILER_ALIASES=other)["to"], ["c@d.test"])
        self.assertEqual(self.mail("-t", "--aliases", other, text=text)["to"], ["c@d.test"])
        self.fails(os.EX_NOUSER, "root is no mail address", "-t", "-n", text=text)

    def test_debian_s_mail_name_is_the_domain_if_it_is_one(self) -> None:
        self.file("MAILNAME", "web1\n")
        self.fails(os.EX_NOUSER, "root is no mail address", "root")
        self.file("MAILNAME", "web1.example.org\n")
        self.assertEqual(self.mail("root", text="\nHi")["to"], ["root@web1.example.org"])

    def test_the_password_s_file_is_a_setting(self) -> None:
        path = self.file("password", "secret\n")
        self.mail("-t", SMTPMAILER_PASSWORD_FILE=str(path))
        self.assertEqual(self.run_command("-t", "--password-file", str(path)).exit_code, 0)
        self.assertEqual([each["auth"] for each in self.seen], ["secret"])

    def test_faulty_settings_are_named(self) -> None:
        missing = str(self.folder / "missing")
        for arguments in (
            ("--env", missing),
            ("--env", str(self.file("bad.env", "no entry\n"))),
            ("--aliases", missing),
            ("--password-file", missing),
            ("--insecure",),
        ):
            self.fails(os.EX_CONFIG, arguments[-1], "-t", *arguments)
        self.fails(os.EX_CONFIG, missing, "-t", SMTPMAILER_ALIASES=missing)
        latin = self.folder / "latin"
        latin.write_bytes("root: löwe@b.test\n".encode("latin-1"))
        self.fails(os.EX_CONFIG, str(latin), "-t", "--aliases", str(latin))

    def test_files_that_only_may_be_there_are_passed_over(self) -> None:
        for name in ("DEFAULT_ENV", "DEFAULT_ALIASES", "MAILNAME"):
            self.patch(sendmail_settings, name, self.folder / ("x" * 5000))
        self.mail("-t")


class StatusTests(SendmailCase):
    """How it ends when the mail can't be queued."""

    def test_each_refusal_has_its_status(self) -> None:
        for status, message, data in (
            (os.EX_DATAERR, "invalid payload", {"to->0": ["The data must match"]}),
            (os.EX_DATAERR, "failed to add mail to queue", "could not attach x: no such file"),
            (os.EX_TEMPFAIL, "failed to add mail to queue", None),
            (os.EX_TEMPFAIL, "service is busy", "try again later"),
            (os.EX_TEMPFAIL, "too many connections", "at most 3 connections"),
            (os.EX_TEMPFAIL, "exception occurred", None),
            (os.EX_NOPERM, "unauthorized request", None),
            (os.EX_UNAVAILABLE, "queue service is not enabled", None),
        ):
            self.reply = {"status": "error", "message": message, "data": data}
            self.fails(status, message, "-t", "--retry-for", "0")

    def test_no_service_is_a_temporary_failure(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.fails(os.EX_TEMPFAIL, "refused", "-t", "--retry-for", "0", MAILER_PORT=str(port))

    def test_no_answer_is_a_temporary_failure_with_a_word_about_the_doubt(self) -> None:
        with ScriptedService(saying()) as service:
            self.fails(os.EX_TEMPFAIL, "may have been queued", "-t", MAILER_PORT=str(service.port))
            self.assertEqual(service.connections, 1)

    def test_something_else_that_answers_is_no_service(self) -> None:
        self.reply = {"status": "what"}
        self.fails(os.EX_UNAVAILABLE, "another service", "-t")

    def test_a_message_to_nobody_is_faulty(self) -> None:
        self.fails(os.EX_DATAERR, "nobody to send to", "-t", text="Subject: x\n\nHi\n")

    def test_what_can_t_be_carried_is_refused_and_nothing_sent(self) -> None:
        signed = 'To: a@b.test\nContent-Type: multipart/signed; boundary="x"\n\n--x\n\na\n'
        self.fails(os.EX_DATAERR, "signed", "-t", text=signed)
        html = "To: a@b.test\nContent-Type: text/html\n\n<p>Hi</p>\n"
        self.fails(os.EX_DATAERR, "HTML only", "-t", "--plain", text=html)
        self.assertEqual(self.seen, [])


class SpoolTests(SendmailCase):
    """Attachments are put where the service reads them."""

    def setUp(self) -> None:
        super().setUp()
        self.spool = self.folder / "spool"
        self.spool.mkdir()
        message = EmailMessage()
        message["To"] = "ada@b.test"
        message.set_content("<img src='cid:logo'>", subtype="html")
        message.add_related(b"png", "image", "png", cid="<logo>", filename="logo.png")
        message.add_attachment(b"%PDF\r\n", "application", "pdf", filename="report.pdf")
        self.message = message.as_bytes()

    def test_files_are_in_the_spool_and_named_in_the_mail(self) -> None:
        self.addCleanup(os.umask, os.umask(0o077))
        mail = self.mail("-t", text=self.message, SMTPMAILER_SPOOL=str(self.spool))
        ((path, name),) = mail["attachments"]
        ((image, cid, image_name),) = mail["embedded"]
        self.assertEqual((name, cid, image_name), ("report.pdf", "logo", "logo.png"))
        self.assertEqual(Path(path).read_bytes(), b"%PDF\r\n")
        self.assertEqual(Path(image).read_bytes(), b"png")
        self.assertEqual({Path(path), Path(image)}, set(self.spool.iterdir()))
        self.assertEqual({each.stat().st_mode & 0o777 for each in self.spool.iterdir()}, {0o640})

    def test_without_a_spool_they_are_refused(self) -> None:
        self.fails(os.EX_DATAERR, "--spool", "-t", text=self.message)
        self.assertEqual(self.seen, [])

    def test_what_was_not_queued_leaves_nothing_there(self) -> None:
        arguments = ("-t", "--spool", str(self.spool), "--retry-for", "0")
        self.reply = {"status": "error", "message": "failed to add mail to queue", "data": "x"}
        self.fails(os.EX_DATAERR, "x", *arguments, text=self.message)
        self.assertEqual(list(self.spool.iterdir()), [])
        self.fails(os.EX_TEMPFAIL, "refused", *arguments, text=self.message, MAILER_PORT="1")
        self.assertEqual(list(self.spool.iterdir()), [])

    def test_what_may_have_been_queued_keeps_its_files(self) -> None:
        with ScriptedService(saying()) as service:
            arguments = ("-t", "--spool", str(self.spool))
            port = str(service.port)
            self.fails(os.EX_TEMPFAIL, "may", *arguments, text=self.message, MAILER_PORT=port)
        self.assertEqual(len(list(self.spool.iterdir())), 2)

    def test_the_files_stay_too_where_the_service_itself_does_not_know(self) -> None:
        for message in ("mail may have been added to queue", "exception occurred"):
            self.reply = {"status": "error", "message": message, "data": None}
            before = len(list(self.spool.iterdir()))
            arguments = ("-t", "--spool", str(self.spool), "--retry-for", "0")
            self.fails(os.EX_TEMPFAIL, "may have been queued", *arguments, text=self.message)
            self.assertEqual(len(list(self.spool.iterdir())), before + 2)

    def test_of_several_files_all_are_there_or_none(self) -> None:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, limits)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
        files = [File(name="a", content=b"a"), File(name="b", content=bytes(2_000_000))]
        error = self.assertRaises(SpoolError, Spool(self.spool).put, files)
        self.assertIn("too large", str(error))
        self.assertEqual(list(self.spool.iterdir()), [])

    def test_a_spool_that_is_not_there_is_named(self) -> None:
        missing = str(self.folder / "missing")
        self.fails(os.EX_CANTCREAT, missing, "-t", "--spool", missing, text=self.message)
