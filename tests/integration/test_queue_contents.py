# SPDX-License-Identifier: MIT
"""What lies in the queue's directories: the predecessor's files, very many files, no secrets."""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path

from smtpmailer.core.names import make_file_name
from tests.integration.queue_service import QueueServiceCase, mail
from tests.integration.servers import parse
from tests.integration.service import Service, until
from tests.stores.test_sealed import SAMPLE, SAMPLE_KEY
from tests.vectors import load_vectors

_MANY = 100_000


class PredecessorTests(QueueServiceCase):
    """A queue that the predecessor wrote drains."""

    def setUp(self) -> None:
        super().setUp()
        self.smtp = self.server(eager=True, login=None)
        self.place.waiting.mkdir()
        self.place.claimed.mkdir()

    def test_its_queue_drains_and_what_it_stranded_is_only_listed(self) -> None:
        rows = [r for r in load_vectors("queue-ciphers.json") if r["plaintext"].startswith("{")]
        contents = [SAMPLE, *(row["ciphertext"].encode() for row in rows)]
        names = [make_file_name(1657084500 + n, f"{n:016x}") for n in range(len(contents))]
        for name, content in zip(names, contents, strict=True):
            (self.place.waiting / name).write_bytes(content)
        scheduled = "mail_0000000001999999999.72759300_694f7f804c5c14bf.json"
        (self.place.waiting / scheduled).write_bytes(SAMPLE)
        stranded = self.place.claimed / make_file_name(1657084400, "f" * 16)
        stranded.write_bytes(SAMPLE)
        service = self.running(
            SMTP_USER="user",
            SMTP_PASSWORD="not asked for",
            SECRET_KEY=base64.b64encode(SAMPLE_KEY).decode(),
            SECRET_KEY_OLD=",".join(row["secretKey"] for row in rows),
        )
        self.await_mails(*names)
        until("all are done", lambda: self.place.names(self.place.claimed) == [stranded.name])
        self.assertEqual(self.place.names(self.place.waiting), [scheduled])
        self.assertIn(str(stranded), service.output())
        self.assertEqual(stranded.read_bytes(), SAMPLE)
        sent = [(each.recipients, parse(each.content)) for each in self.smtp.received]
        self.assertEqual(
            sorted((*to, str(message["Subject"]), message.get_content()) for to, message in sent),
            [
                *[("user@example.test", "a@b.test", "Ünïcode / slash", "<p>line1\r\nline2</p>\r\n")]
                * 3,
                ("user@example.test", "b@example.test", "s/ü", "<p>x</p>\r\n"),
            ],
        )
        logins = [("user", "abc"), *[("user", 's3cr3t;"x')] * 3]
        self.assertEqual(sorted(self.smtp.logins), logins)


class ManyTests(QueueServiceCase):
    """100,000 mails wait when the service starts."""

    def setUp(self) -> None:
        super().setUp()
        self.place.waiting.mkdir()
        first = 4_000_000_000
        self.names = [make_file_name(first + n, f"{n:016x}") for n in range(_MANY)]
        content = self.place.root / "content"
        content.write_text(json.dumps(mail(body="<p>x</p>" * 1250)), "utf-8")
        for name in self.names:
            os.link(content, self.place.waiting / name)

    def timed_start(self) -> tuple[Service, float]:
        """Start a service; gives the seconds until its first answer too."""
        begun = time.monotonic()
        service = self.launch().ready()
        self.assertEqual(service.ask({"ping": None})["message"], "pong")
        return service, time.monotonic() - begun

    def test_it_starts_at_once_lists_them_and_takes_little_memory(self) -> None:
        # Other work on the machine may be in the way, but not each time.
        for _ in range(3):
            service, seconds = self.timed_start()
            if seconds < 2:
                break
            service.kill()
        self.assertLess(seconds, 2)
        for limit, page in ((500, 0), (7, 1234), (500, _MANY // 500 - 1), (500, _MANY // 500)):
            answer = service.ask({"getQueueList": {"limit": limit, "page": page}})
            items = self.names[limit * page : limit * (page + 1)]
            self.assertEqual(answer["data"], {"items": items, "total": _MANY})
        self.await_mails(*self.enqueue(service, mail()))
        status = Path(f"/proc/{service.process_id}/status").read_text("ascii")
        resident = int(status.partition("VmHWM:")[2].split()[0]) / 1024
        self.assertLess(resident, 200)
