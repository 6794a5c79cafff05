# SPDX-License-Identifier: MIT
"""What the service takes of memory while a relay is slow, or mails are large.

Run it as ``python benchmarks/bench_memory.py``. The SMTP server (sink.py) answers 100 ms late.
First 10,000 clients' mails of 10 KB wait for 10 sessions at once; then 50 mails with a file of
25 MB are sent at the same moment. The aims: 400 and 300 MB at the most, every mail sent. The exit
status says whether they were met.
"""

from __future__ import annotations

import json
import socket
import sys
import tempfile
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bench_drain import Row
from tests.integration.service import Service, mail_to

MANY, LARGE = 10_000, 50
FILE_BYTES = 25 * 2**20
BODY = "<p>A line of a mail that says little.</p>\r\n" * 244
#: Requests that are written to a connection at once.
PER_CONNECTION = 100
SETTINGS = {
    "MAILER_LOG_LEVEL": "error",
    "MAILER_MAX_BUFFERED": 2**30,
    "MAILER_MAX_CONNECTIONS_PER_PEER": 0,
    "MAILER_MAX_IN_FLIGHT": 1000,
}


def main() -> int:
    """Measure both."""
    many = measure("10,000 mails of 10 KB", MANY, PER_CONNECTION, mail_to(body=BODY), 400)
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(FILE_BYTES)
        mail = mail_to(attachments=[[file.name, "large.bin"]])
        large = measure("50 mails with 25 MB", LARGE, 1, mail, 300)
    return 0 if many and large else 1


def measure(what: str, count: int, each: int, mail: object, aim: float) -> bool:
    """Send so many mails, ``each`` on a connection; tell whether the aim was met."""
    delay = 100 if count == MANY else 0
    with Row("PIPELINING", delay, count).server() as smtp_port:
        service = Service(SETTINGS | {"SMTP_PORT": smtp_port})
        try:
            before = memory(service.ready(), "VmRSS")
            request = json.dumps(mail).encode()
            sent = send(service, request, count, each)
            most = memory(service, "VmHWM")
        finally:
            service.clean_up()
    missed = "" if most <= aim and sent == count else ": MISSED"
    print(f"{what}: {before:.0f} MB before, {most:.0f} MB at most (aim {aim:g}{missed})")
    print(f"  {sent} of {count} sent")
    return not missed


def send(service: Service, request: bytes, count: int, each: int) -> int:
    """Write all, then read all answers; give how many say success."""
    good: list[int] = []

    def client(connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            connection.sendall(request * each)
            good.append(sum(b'"success"' in lines.readline() for _ in range(each)))

    threads = []
    for _ in range(count // each):
        connection = service.connect()
        connection.settimeout(600)
        threads.append(threading.Thread(target=client, args=(connection,)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(good)


def memory(service: Service, what: str) -> float:
    """Give a figure of /proc/PID/status, in MB."""
    text = Path(f"/proc/{service.process_id}/status").read_text("ascii")
    (line,) = (line for line in text.splitlines() if line.startswith(f"{what}:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    sys.exit(main())
