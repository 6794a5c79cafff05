# SPDX-License-Identifier: MIT
"""What the service takes of memory for mails with large files."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.service import Service, ServiceTestCase, mail_to

MB = 2**20
FILE_MB = 8


class LargeMailTests(ServiceTestCase):
    """Mails of which one at a time may be built and sent."""

    def test_many_take_no_more_memory_than_one(self) -> None:
        file = Path(self.mktemp()).absolute()
        file.write_bytes(bytes(FILE_MB * MB))
        service = self.service(
            self.server(), MAILER_LOG_LEVEL="error", MAIL_MAX_MEMORY=4 * FILE_MB * MB
        )
        request = json.dumps(mail_to(attachments=[[str(file), "large.bin"]])).encode()
        before = _megabytes(service, "VmRSS")
        answers = service.exchange(request * 6, answers=6)
        self.assertEqual({answer["status"] for answer in answers}, {"success"})
        self.assertLess(_megabytes(service, "VmHWM") - before, 6 * FILE_MB)


def _megabytes(service: Service, what: str) -> int:
    """Give a figure of /proc/PID/status."""
    text = Path(f"/proc/{service.process_id}/status").read_text("ascii")
    (line,) = (line for line in text.splitlines() if line.startswith(f"{what}:"))
    return int(line.split()[1]) // 1024
