# SPDX-License-Identifier: MIT
"""Templates in the service as a process: from the command line to the mail that arrives."""

from __future__ import annotations

import base64
import json
import time
from functools import partial
from typing import Any

from click.testing import CliRunner

from smtpmailer.cli.main import main
from tests.integration.servers import AioServer, parse
from tests.integration.service import Service, ServiceTestCase, mail_to, until

_KEY = base64.b64encode(bytes(16)).decode()
_TEXT = "<p>Dear {{NAME}},</p>\n<p>{{WHAT}}</p>\n"


class TemplateServiceTests(ServiceTestCase):
    """What is added is used, and nothing leads out of the directory."""

    def started(self, server: AioServer | None = None, **values: object) -> Service:
        """Start a service whose templates may be changed."""
        values = {
            "EMAIL_TEMPLATE": True,
            "EMAIL_TEMPLATE_API_READ_ONLY": False,
            "EMAIL_TEMPLATE_ESCAPE": "html",
            **values,
        }
        return self.service(server, **values)

    def command(self, service: Service, *arguments: str, text: str = "") -> str:
        """Run a subcommand that works; gives its standard output."""
        env = ("--env", str(service.folder / ".env"))
        result = CliRunner().invoke(main, ["template", *arguments, *env], input=text)
        self.assertEqual(result.exit_code, 0, result.output)
        return result.stdout

    def use(self, service: Service, request: str = "sendMail", **fields: Any) -> Any:
        """Send or queue a mail that uses the template."""
        return service.ask({request: self.mail("t.html", **fields)})

    def bodies(self, server: AioServer) -> list[str]:
        texts = [parse(mail.content).get_content() for mail in server.received]
        return [text.replace("\r\n", "\n") for text in texts]

    def test_a_template_goes_all_its_way(self) -> None:
        server = self.server()
        service = self.started(server)
        self.assertEqual(self.command(service, "list"), "")
        self.command(service, "add", "t.html", text=_TEXT)
        directory = service.folder / "Template" / "html"
        self.assertEqual((directory / "t.html").read_text(), _TEXT)
        self.assertEqual(self.command(service, "list"), "t.html\n")
        self.assertEqual(self.command(service, "show", "t.html"), _TEXT)
        values = ("--set", "NAME=<Ada>", "--set", "WHAT={{NAME}}")
        preview = self.command(service, "preview", "t.html", *values)
        answer = self.use(service, replaceContent={"NAME": "<Ada>", "WHAT": "{{NAME}}"})
        self.assertEqual(answer["message"], "mail sent successfully")
        self.assertEqual(preview, "<p>Dear &lt;Ada&gt;,</p>\n<p>{{NAME}}</p>\n")
        self.assertEqual(self.bodies(server), [preview])
        self.command(service, "update", "t.html", text="short")
        self.use(service)
        self.assertEqual(self.bodies(server)[1:], ["short\n"])
        self.command(service, "remove", "t.html")
        answer = self.use(service)
        self.assertEqual(answer["data"], "template not found: t.html")
        self.assertEqual(sorted(path.name for path in directory.iterdir()), [])

    def test_a_queued_mail_keeps_its_text_or_takes_the_newest(self) -> None:
        servers = {}
        for snapshot in (True, False):
            servers[snapshot] = server = self.server()
            service = self.started(
                server,
                MAILER_QUEUE=True,
                SECRET_KEY=_KEY,
                QUEUE_SCAN_INTERVAL=1,
                QUEUE_SNAPSHOT_TEMPLATE=snapshot,
            )
            self.command(service, "add", "t.html", text="first")
            self.use(service, "queueMail", scheduleTime=int(time.time()) + 2)
            (name,) = service.ask({"getQueueList": None})["data"]["items"]
            stored = json.loads((service.folder / "Queue" / "mail" / name).read_text())
            self.assertEqual("useTemplate" in stored, not snapshot)
            self.command(service, "update", "t.html", text="second")
        for snapshot, expected in ((True, "first\n"), (False, "second\n")):
            bodies = partial(self.bodies, servers[snapshot])
            self.assertEqual(until("the mail arrives", bodies), [expected])

    def test_values_that_do_not_fit_are_named(self) -> None:
        service = self.started(SMTP_PORT=1, EMAIL_TEMPLATE_STRICT=True)
        self.command(service, "add", "t.html", text=_TEXT)
        answer = self.use(service, replaceContent={"NAME": "x", "OTHER": "y"})
        faults = [
            "The required properties (WHAT) are missing",
            "Additional object properties are not allowed: OTHER",
        ]
        expected = {
            "status": "error",
            "data": {"replaceContent": faults},
            "message": "invalid payload",
        }
        self.assertEqual(answer, expected)

    def test_no_name_leads_out_of_the_directory(self) -> None:
        service = self.started()
        (service.folder / "Template" / "html").mkdir(parents=True)
        (service.folder / "Template" / "html" / "link").symlink_to("../../.env")
        before = (service.folder / ".env").read_bytes()
        names = ("../../.env", str(service.folder / ".env"), "..", "a\0", "link", "x" * 256)
        for name in names:
            for request in ("getTemplate", "addTemplate", "updateTemplate", "removeTemplate"):
                answer = service.ask({request: name, "content": "x"})
                self.assertEqual(answer["status"], "error", (request, name))
            answer = service.ask({"sendMail": self.mail(name)})
            self.assertEqual(answer["status"], "error", name)
        self.assertEqual(service.ask({"clearTemplate": None})["data"], [])
        self.assertEqual((service.folder / ".env").read_bytes(), before)
        self.assertTrue((service.folder / "Template" / "html" / "link").is_symlink())
        self.assertNotIn("Traceback", service.output())

    def mail(self, template: str, **fields: Any) -> dict[str, Any]:
        """Give a mail that uses a template."""
        mail: dict[str, Any] = mail_to(useTemplate=template, **fields)["sendMail"]
        del mail["body"]
        return mail
