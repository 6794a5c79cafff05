# SPDX-License-Identifier: MIT
"""Hundreds of hostile inputs against a service on sockets and disk.

Each gets its documented answer; the service lives on; nothing outside its directories changes; and
no secret comes out, neither in an answer nor in the log.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bcrypt

from tests.hostile import framing, mails, names
from tests.hostile.cases import UNAUTHORIZED, Case
from tests.integration.service import Service, ServiceTestCase, mail_to, read_answer, until

_KEY = base64.b64encode(b"secret-key-bytes").decode("ascii")
_SMTP_PASSWORD = "smtp-s3cret"
_OUTSIDE = "outside-s3cret"
_HASH = bcrypt.hashpw(b"auth-s3cret", bcrypt.gensalt(4)).decode("ascii")
_SECRETS = (_KEY, _SMTP_PASSWORD, _OUTSIDE, "auth-s3cret", "key-s3cret", mails.SECRET, _HASH)
_PING = b'{"ping":1}'


class HostileCase(ServiceTestCase):
    """A service with planted links, FIFOs and secrets around it."""

    def setUp(self) -> None:
        self.smtp = self.server()
        self.shown: list[bytes] = []

    def victim(self, **values: object) -> Service:
        """Start a service and plant what it must not fall for."""
        service = self.service(
            self.smtp,
            MAILER_QUEUE=True,
            MAILER_QUEUE_API_READ_ONLY=False,
            SECRET_KEY=_KEY,
            EMAIL_TEMPLATE=True,
            EMAIL_TEMPLATE_API_READ_ONLY=False,
            ATTACHMENT_DIRS="files",
            MAIL_MAX_SIZE=1_000_000,
            MAILER_MAX_REQUEST_SIZE=framing.REQUEST_BYTES,
            QUEUE_SCAN_INTERVAL=3600,
            **{"SMTP_USER": "user", "SMTP_PASSWORD": _SMTP_PASSWORD, **values},
        )
        # Only then all directories are there.
        service.ask({"ping": 1})
        _plant(service.folder)
        return service

    def check(self, service: Service, cases: Iterable[Case]) -> None:
        """Send each input and compare all that comes of it."""
        before = _snapshot(service.folder)
        faults = []
        with service.connect() as other, other.makefile("rb") as lines:
            for case in cases:
                fault = self.fault(service, case)
                other.sendall(_PING)
                alive = read_answer(lines)["message"]
                if fault or alive != "pong":
                    faults.append(f"{case.name}: {fault or alive}")
        self.assertEqual(faults, [], "\n".join(faults))
        self.assertEqual(_snapshot(service.folder), before)
        self.assert_secret(service)

    def fault(self, service: Service, case: Case, source: str = "127.0.0.1") -> str:
        """Send an input; say what is wrong with the answers, empty when nothing is."""
        with socket.create_connection(
            ("127.0.0.1", service.port), timeout=15, source_address=(source, 0)
        ) as connection:
            try:
                connection.sendall(case.sent)
                if case.half_closes:
                    connection.shutdown(socket.SHUT_WR)
            except ConnectionError as error:
                return f"cut off while sending: {error}"
            with connection.makefile("rb") as lines:
                for wanted in case.answers:
                    line = lines.readline()
                    self.shown.append(line)
                    if not line.endswith(b"\n"):
                        return f"no whole answer: {line!r}"
                    fault = wanted.fault(json.loads(line))
                    if fault:
                        return fault
                if not case.closes:
                    connection.sendall(_PING)
                rest = lines.readline()
                if case.closes:
                    return f"goes on with {rest!r}" if rest else ""
                message = json.loads(rest)["message"] if rest else "nothing"
                return "" if message in ("pong", "unauthorized request") else f"then {message}"

    def assert_secret(self, service: Service) -> None:
        """Nothing secret is in what was answered and logged, and each log line is one event's."""
        log = service.output()
        shown = b"".join(self.shown).decode("utf-8")
        for secret in _SECRETS:
            self.assertNotIn(secret, shown)
            self.assertNotIn(secret, log)
        self.assertNotRegex(log, r"request from \S+ failed|Unhandled")
        self.assertNotRegex(log, r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2028]")
        for line in log.splitlines():
            self.assertRegex(
                line, r"^\d{4}-\d\d-\d\dT[\d:.]+Z \[(debug|info|notice|warning|error)\] "
            )


class HostileInputTests(HostileCase):
    """Every row of the tables."""

    def test_there_are_many(self) -> None:
        cases = (*framing.CASES, *mails.CASES, *names.CASES)
        self.assertGreater(len(cases), 600)
        self.assertEqual(len({case.name for case in cases}), len(cases))

    def test_bytes_that_are_no_request(self) -> None:
        self.check(self.victim(), framing.CASES)

    def test_mails_that_are_none(self) -> None:
        self.check(self.victim(), mails.CASES)
        self.assertEqual(self.smtp.received, [])

    def test_names_that_lead_elsewhere(self) -> None:
        self.check(self.victim(), names.CASES)

    def test_without_the_password_all_of_it_is_answered_alike(self) -> None:
        service = self.victim(MAILER_AUTH=True, MAILER_AUTH_HASH=_HASH)
        # A first wrong password of an address is answered after a second, so all go at once.
        cases = [
            Case(c.name, c.sent, (UNAUTHORIZED,) * len(c.answers), c.closes, c.half_closes)
            for c in (*framing.CASES, *mails.CASES[::10], *names.CASES[::10])
            if not c.name.startswith(("bomb", "truncated: b'{\"sendMail"))
        ]
        before = _snapshot(service.folder)

        def fault(numbered: tuple[int, Case]) -> str:
            number, case = numbered
            said = self.fault(service, case, f"127.0.1.{number + 1}")
            return f"{case.name}: {said}" if said else ""

        with ThreadPoolExecutor(100) as pool:
            faults = list(filter(None, pool.map(fault, enumerate(cases))))
        self.assertEqual(faults, [])
        self.assertEqual(service.ask({"ping": 1, "auth": "auth-s3cret"})["message"], "pong")
        self.assertEqual(_snapshot(service.folder), before)
        self.assert_secret(service)


class InjectionTests(HostileCase):
    """Texts that are fine in JSON stay texts, wherever they go."""

    def test_no_header_comes_of_a_text(self) -> None:
        """An encoded word that hides a line break is sent as the text it is (CVE-2024-6923)."""
        service = self.victim(SMTP_USER="", SMTP_PASSWORD="")
        word = "=?utf-8?Q?x=0D=0AX-Injected:_yes?="
        for odd in (
            word,
            f"a {word} b",
            "x\u2028X-Injected: yes",
            "x\x85X-Injected: yes",
            "\x1b[2J",
        ):
            answer = service.ask(mail_to(subject=odd, fromName=odd, to=[["user@example.org", odd]]))
            self.assertEqual(answer["message"], "mail sent successfully", odd)
        self.assertEqual(len(self.smtp.received), 5)
        for mail in self.smtp.received:
            head = mail.content.partition(b"\r\n\r\n")[0]
            self.assertNotRegex(head, rb"(?mi)^X-Injected")
            self.assertNotRegex(head, rb"[^\x20-\x7e\r\n]")

    def test_no_log_line_comes_of_a_text(self) -> None:
        service = self.victim()
        forged = "x\n2026-01-01T00:00:00.000Z [error] forged: \x1b[31m\u202e"
        for name in ("getTemplate", "removeTemplate", "addTemplate", "getQueuedMail", forged):
            service.ask({name: forged, "content": forged, "id": forged})
        service.ask({"sendMail": mails.mail(attachments=[["missing\u2028" + forged[2:40]]])})
        service.exchange(forged.encode())
        until("the last line", lambda: "refused" in service.output())
        self.assert_secret(service)
        self.assertNotRegex(service.output(), r"(?m)^\S+ \[error\] forged")


def _plant(folder: Path) -> None:
    """Put links, FIFOs and secrets where a service could fall for them."""
    outside, files = folder / "outside", folder / "files"
    for directory in (outside, files, files / "sub"):
        directory.mkdir(parents=True)
    (outside / "secret.html").write_text(_OUTSIDE)
    (files / "a.txt").write_text("content")
    (files / "link-out").symlink_to(outside / "secret.html")
    (files / "link-directory").symlink_to(outside)
    (files / "link-env").symlink_to(folder / ".env")
    (files / "hard-env").hardlink_to(folder / ".env")
    (files / "loop").symlink_to("loop")
    with (files / "large").open("wb") as large:
        large.truncate(900_000)
    os.mkfifo(files / "fifo")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(os.path.relpath(files / "socket"))
    templates, queue = folder / "Template/html", folder / "Queue/mail"
    for directory in (templates, queue):
        directory.mkdir(parents=True, exist_ok=True)
    (templates / "link-out.html").symlink_to(outside / "secret.html")
    (templates / "loop.html").symlink_to("loop.html")
    (templates / "directory.html").mkdir()
    (templates / "latin1.html").write_bytes(b"\xe9")
    os.mkfifo(templates / "fifo.html")
    (queue / "mail_0000000000000000001.00000001_0000000000000001.json").symlink_to(
        outside / "secret.html"
    )
    os.mkfifo(queue / "mail_0000000000000000001.00000002_0000000000000002.json")


def _snapshot(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Describe every file but the log and what the queue keeps for itself."""
    seen = {}
    for path in sorted(folder.rglob("*")):
        if path.name == "output" or ".smtpmailer" in path.parts:
            continue
        status = path.lstat()
        content = ""
        if stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        elif stat.S_ISLNK(status.st_mode):
            content = str(path.readlink())
        seen[str(path.relative_to(folder))] = (status.st_mode, status.st_ino, content)
    return seen
