# SPDX-License-Identifier: MIT
"""Tests of what only the shell's client has: options, exit statuses."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.clients.languages import ROOT
from tests.integration.scripted import ScriptedService


class ShellOptionTests(SynchronousTestCase):
    """Options become a request."""

    def setUp(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def run_client(self, *options: str, text: str = "", **environment: str) -> tuple[int, str, str]:
        """Run it against a service that notes requests; give status, output and errors."""

        def answer(connection: socket.socket) -> None:
            request = json.loads(b"".join(iter(lambda: connection.recv(65536), b"")))
            self.seen.append(request)
            number = {"id": request["id"]} if "id" in request else {}
            whole = {"status": "success", "data": None, "message": None, **number}
            connection.sendall(json.dumps(whole, separators=(",", ":")).encode() + b"\n")

        with ScriptedService(answer) as service:
            ran = subprocess.run(
                [
                    "sh",
                    str(ROOT / "clients/shell/smtpmailer.sh"),
                    "-p",
                    str(service.port),
                    *options,
                ],
                input=text.encode(),
                env={"PATH": os.environ["PATH"], **environment},
                capture_output=True,
                check=False,
                timeout=20,
            )
        return ran.returncode, ran.stdout.decode(), ran.stderr.decode()

    def test_every_option_has_its_place_in_the_request(self) -> None:
        password = Path(self.mktemp()).absolute()
        password.write_text('pass"word\nnot this\n', "utf-8")
        status, out, err = self.run_client(
            *("-t", "Ada Löwe <ada@b.test>", "-t", "bob@b.test", "-c", "<cc@b.test>"),
            *("-b", '"B" <bcc@b.test>', "-r", "answers@b.test", "-f", "me@b.test"),
            *("-a", "/srv/a b.pdf", "-a", "/srv/c.pdf", "-s", 'Grüße "\\', "-i", 'x"y', "-q"),
            *("-A", str(password)),
            text="\x01Grüße\t<\\n>\r\n\n\x1b[0m",
        )
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(json.loads(out)["id"], 'x"y')
        self.assertEqual(
            self.seen,
            [
                {
                    "queueMail": {
                        "to": [["ada@b.test", "Ada Löwe"], "bob@b.test"],
                        "ccList": ["cc@b.test"],
                        "bccList": [["bcc@b.test", '"B"']],
                        "subject": 'Grüße "\\',
                        "body": "Grüße\t<\\n>\r\n\n[0m",
                        "replyTo": ["answers@b.test"],
                        "attachments": [["/srv/a b.pdf"], ["/srv/c.pdf"]],
                        "fromEmail": "me@b.test",
                    },
                    "id": 'x"y',
                    "auth": 'pass"word',
                }
            ],
        )

    def test_a_whole_request_gets_only_what_is_given(self) -> None:
        text = ' {"getQueueList": {"limit": 1},\n "detail": true}\n\n'
        for options, environment, more in (
            ((), {}, {}),
            (("-i", "x"), {}, {"id": "x"}),
            ((), {"SMTPMAILER_PASSWORD": "secret"}, {"auth": "secret"}),
        ):
            status, _, err = self.run_client("-j", *options, text=text, **environment)
            self.assertEqual((status, err), (0, ""))
            self.assertEqual(self.seen.pop(), {"getQueueList": {"limit": 1}, "detail": True} | more)

    def test_wrong_usage_is_status_2_and_sends_nothing(self) -> None:
        for options in (
            ("-s", "x"),
            ("-t", "a@b.test"),
            ("-z",),
            ("-s", "x", "-t", "a@b.test", "more"),
            ("-s", "x", "-t", "a@b.test", "-C", "ca.pem"),
            ("-s", "x", "-t", "a@b.test", "-A", "/missing"),
            ("-s", "x", "-t", "a@b.test", "-A", "/dev/null"),
        ):
            status, out, err = self.run_client(*options, text="Hi")
            self.assertEqual((status, out), (2, ""), options)
            self.assertTrue(err, options)
        self.assertEqual(self.seen, [])
