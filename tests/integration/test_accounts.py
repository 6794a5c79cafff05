# SPDX-License-Identifier: MIT
"""Several accounts in a running service: which one gets a mail, at once or from the queue."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from smtpmailer.cli.main import main
from tests.integration.queue_service import QueueServiceCase, mail
from tests.integration.service import Service, until
from tests.ports import free_port

_SHOP = "shop@example.org"


class AccountTests(QueueServiceCase):
    """The default account's server is ``self.smtp``; others have servers of their own."""

    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory(prefix="smtpmailer-")
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name, "accounts.json")
        self.path.touch(mode=0o600)
        self.shop, self.spare = self.server(eager=True), self.server(eager=True)
        self.write(self.account("shop", self.shop.port, **{"from": [_SHOP, "shop.example"]}))

    def account(self, name: str, port: int, **more: Any) -> dict[str, Any]:
        entry = {"name": name, "host": "127.0.0.1", "port": port, "encryption": "none"}
        return {**entry, "user": "user", "password": "right", **more}

    def write(self, *accounts: dict[str, Any]) -> None:
        self.path.write_text(json.dumps(accounts), "utf-8")

    def with_accounts(self) -> Service:
        return self.running(SMTP_ACCOUNTS_FILE=self.path)

    def send(self, service: Service, **fields: Any) -> Any:
        return service.ask({"sendMail": mail(**fields)})

    def taken(self) -> tuple[int, int, int]:
        """Count what the default account, shop and spare have."""
        servers = (self.smtp, self.shop, self.spare)
        return (
            len(servers[0].received),
            len(servers[1].received),
            len(servers[2].received),
        )

    def test_a_mail_goes_through_the_account_of_its_sender_or_the_one_it_names(self) -> None:
        service = self.with_accounts()
        for fields, taken in (
            ({}, (1, 0, 0)),
            ({"fromEmail": _SHOP}, (1, 1, 0)),
            ({"fromEmail": "any@shop.example"}, (1, 2, 0)),
            ({"fromEmail": "other@example.org"}, (2, 2, 0)),
            ({"account": "shop"}, (2, 3, 0)),
            ({"fromEmail": _SHOP, "account": "default"}, (3, 3, 0)),
        ):
            answer = self.send(service, **fields)
            self.assertEqual(answer["message"], "mail sent successfully", answer)
            self.assertEqual(self.taken(), taken, fields)
        self.assertEqual({each.user for each in self.shop.received}, {"user"})
        answer = self.send(service, account="spare")
        self.assertEqual(answer["data"], {"account": ["unknown account"]})

    def test_a_queued_mail_keeps_its_account_and_fails_over(self) -> None:
        away = self.account("away", free_port(), failover=["shop"])
        self.write(away, self.account("shop", self.shop.port))
        service = self.with_accounts()
        self.enqueue(service, mail(account="away"))
        until("it has arrived", lambda: self.taken() == (0, 1, 0))
        self.assertIn("(shop), as 127.0.0.1", service.output())

    def test_a_changed_file_counts_without_a_restart_and_a_faulty_one_does_not(self) -> None:
        service = self.with_accounts()
        self.write(self.account("spare", self.spare.port))
        os.kill(service.process_id, signal.SIGHUP)
        until("it is read", lambda: "SMTP_ACCOUNTS_FILE read again" in service.output())
        self.assertEqual(self.send(service, account="spare")["status"], "success")
        self.assertEqual(self.taken(), (0, 0, 1))
        self.write({"name": "spare", "host": "127.0.0.1", "rate": "fast"})
        os.kill(service.process_id, signal.SIGHUP)
        why = "0->rate: has to be mails in a time"
        until("it is refused", lambda: why in service.output())
        self.assertEqual(self.send(service, account="spare")["status"], "success")

    def test_check_config_tells_what_is_wrong(self) -> None:
        self.write({"name": "shop", "host": "a b"})
        env = self.path.with_name("env")
        lines = (
            'SMTP_HOST = "a.test"',
            "MAILER_QUEUE = false",
            "EMAIL_TEMPLATE = false",
            f'SMTP_ACCOUNTS_FILE = "{self.path}"',
        )
        env.write_text("\n".join(lines), "utf-8")
        result = CliRunner().invoke(main, ["check-config", "--env", str(env)])
        self.assertEqual(result.exit_code, 1, result.output)
        self.assertIn(f"SMTP_ACCOUNTS_FILE = {self.path}: 0->host: has to be", result.output)
