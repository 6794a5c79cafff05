# SPDX-License-Identifier: MIT
"""Limits of an account in a running service: over its processes, its stops and its starts."""

from __future__ import annotations

import stat
import urllib.request

import orjson

from tests.integration.queue_service import QueueServiceCase, mail, seconds_until
from tests.integration.servers import free_port
from tests.integration.service import mail_to, until
from tests.integration.worker_service import WorkerCase


class QueueLimitTests(QueueServiceCase):
    """The queue's mails wait for their turn."""

    def test_a_stop_gives_them_back_untried_and_the_next_start_sends_them(self) -> None:
        service = self.running(SMTP_RATE_LIMIT="30/h", MAILER_STOP_TIMEOUT=10)
        names = self.enqueue(service, *[mail() for _ in range(12)])
        until("three are sent", lambda: len(self.smtp.received) == 3)
        until("the others are claimed", lambda: not self.place.names(self.place.waiting))
        service.terminate()
        self.assertLess(seconds_until("it ends", lambda: not service.is_running()), 8)
        self.assertEqual(len(self.place.names(self.place.waiting)), 9)
        self.assertEqual(self.place.names(self.place.claimed), [])
        again = self.running(SMTP_RATE_LIMIT="3000/s")
        self.await_mails(*names)
        self.await_end()
        self.check_arrivals(names, ["user@example.org"], service, again)
        self.assertEqual(len(self.smtp.received), 12)

    def test_what_a_server_asked_for_is_remembered_and_shown(self) -> None:
        port = free_port()
        values = {"MAILER_METRICS_PORT": port, "SMTP_RATE_LIMIT": "100/s"}
        service = self.running(**values)
        self.smtp.refuse("slow@example.org", "451 4.7.0 too much mail, slow down")
        self.assertEqual(service.ask(mail_to("slow@example.org"))["status"], "error")
        self.assertIn("is to get less mail", service.output())
        service.terminate()
        service.ended()
        path = self.place.waiting / ".smtpmailer" / "limits.json"
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        account = f"127.0.0.1:{self.smtp.port}"
        self.assertLess(orjson.loads(path.read_bytes())[account]["rate"], 0.1)
        again = self.running(**values)
        self.assertEqual(again.ask(mail_to())["status"], "success")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        labels = f'{{process="service",account="{account}"}}'
        self.assertIn(f"smtpmailer_smtp_limits_lowered{labels} 1.0\n", text)


class WorkerLimitTests(WorkerCase):
    """Several processes send as one."""

    def test_they_share_a_rate(self) -> None:
        smtp = self.server(eager=True)
        service = self.service(
            smtp, MAILER_WORKERS=2, SMTP_RATE_LIMIT="20/h", SMTP_DELIVERY_LIMIT=100
        ).ready()
        answers = [service.ask(mail_to())["status"] for _ in range(8)]
        self.assertEqual(answers.count("success"), 2)
        self.assertEqual(len(smtp.received), 2)
