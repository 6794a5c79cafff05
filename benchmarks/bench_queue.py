# SPDX-License-Identifier: MIT
"""The queue as its users meet it: accepting, listing, keeping time.

Run it as ``python benchmarks/bench_queue.py [accept|many|million|schedule ...]``; all but
``million`` by default, which takes minutes and 5 GB. The service runs in a process of its own, so
do its clients and the SMTP server. ``accept`` compares with a PHP event loop that keeps each mail
as a file and syncs nothing, where php is installed. The exit status says whether the aims were met.
How fast a queue drains is bench_drain.py's matter.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import selectors
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.integration.servers import free_port
from tests.integration.service import Service, until

CONNECTIONS = 50
ACCEPTED = 5_000
ROUNDS = 3
MANY = 100_000
MILLION = 1_000_000
SOON = 1_000
BODY = "<p>A line of a mail that says little.</p>\r\n" * 244
MAIL = {"to": ["user@example.org"], "ccList": [], "bccList": [], "subject": "Benchmark"}
FAR = int(time.time()) + 10_000_000
SETTINGS = {
    "MAILER_QUEUE": True,
    "MAILER_QUEUE_API_READ_ONLY": False,
    "SECRET_KEY": "N7SNJsGAY1hku3PBjpqgDw==",
    "QUEUE_SEND_IMMEDIATELY": True,
    "MAILER_LOG_LEVEL": "error",
}


#: Three times what the service that ours takes the place of did with one worker, unsynced.
ACCEPT_AIM = 2460


def accept() -> bool:
    """Compare accepting mails, synced, with a peer that syncs nothing."""
    print(f"queueMail, {len(BODY) // 1024} KB, {CONNECTIONS} connections, mails a second")
    rates: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        with started(SETTINGS) as service:
            rates.setdefault("smtpmailer, synced", []).append(load(service.port))
        with started(SETTINGS | {"QUEUE_FSYNC": False}) as service:
            rates.setdefault("smtpmailer, QUEUE_FSYNC = false", []).append(load(service.port))
        with started(SETTINGS | {"MAILER_WORKERS": 2}) as service:
            load(service.port)  # Until both are at work.
            rates.setdefault("smtpmailer, two workers, synced", []).append(load(service.port))
            service.terminate()
            service.ended()
        if shutil.which("php"):
            with php_peer() as port:
                rates.setdefault("PHP event loop, nothing synced", []).append(load(port))
    table(rates)
    return met("synced", statistics.median(rates["smtpmailer, synced"]), at_least=ACCEPT_AIM)


def many() -> bool:
    """Measure start, list and memory with many mails waiting."""
    return wait_with(MANY, BODY, megabytes=150)


def million() -> bool:
    """Measure the same with a million small ones."""
    return wait_with(MILLION, "<p>Hello</p>", megabytes=1000)


def wait_with(count: int, body: str, *, megabytes: float) -> bool:
    """Start with so many mails waiting, and look at pages of the list."""
    with started(SETTINGS, fill=count, body=body) as service:
        service.ask({"getQueueList": None})
        waits = []
        for page in (0, 1, 100, count // 500 - 1) * 5:
            begun = time.perf_counter()
            answer = service.ask({"getQueueList": {"limit": 500, "page": page}})
            waits.append(time.perf_counter() - begun)
            assert (len(answer["data"]["items"]), answer["data"]["total"]) == (500, count)
        print(f"{count} mails waiting")
        seconds = 2.0 if count == MANY else 20.0
        return all(
            (
                met("start to first answer, s", service.started_in, at_most=seconds),
                met("getQueueList, median, ms", statistics.median(waits) * 1000, at_most=5),
                met("getQueueList, worst, ms", max(waits) * 1000, at_most=20),
                met("resident memory, MB", resident(service) / 2**20, at_most=megabytes),
            )
        )


def schedule() -> bool:
    """Measure how late scheduled mails leave."""
    with sink() as (port, arrivals), started(SETTINGS | {"SMTP_PORT": port}, fill=MANY) as service:
        begin = int(time.time()) + 15
        mails = [
            {"queueMail": MAIL | {"to": [f"{begin + i % 20}@example.org"], "body": "b",
                                  "fromEmail": "a@example.org", "scheduleTime": begin + i % 20}}
            for i in range(SOON)
        ]  # fmt: skip
        for mail in mails:
            assert service.ask(mail)["status"] == "success"
        assert time.time() < begin, "the machine was too slow to queue them before the first is due"
        late = sorted(arrivals(SOON))
    print(f"{SOON} mails over 20 s, {MANY} more waiting: late by, seconds")
    met("median", statistics.median(late))
    met("worst", late[-1])
    return met("p99", late[len(late) * 99 // 100], at_most=1.0)


def met(what: str, value: float, *, at_least: float = 0.0, at_most: float = math.inf) -> bool:
    """Print a value, with the aim if there is one; tells whether it was met."""
    found = at_least <= value <= at_most
    aim = f"at least {at_least:g}" if at_least else f"at most {at_most:g}"
    missed = "" if found else ": MISSED"
    print(f"  {what:<26} {value:10.3f}" + (f"   (aim: {aim}{missed})" if aim[-3:] != "inf" else ""))
    return found


def load(port: int) -> float:
    """Queue mails over several connections; give the rate."""
    return float(subprocess.check_output([sys.executable, __file__, "load", str(port)]))


def be_load(port: int) -> None:
    """Be the clients, which cost little: each waits for its answer before its next request."""
    request = json.dumps({"queueMail": MAIL | {"body": BODY, "scheduleTime": FAR}}).encode()
    selector = selectors.DefaultSelector()
    asked = answered = 0
    begun = time.perf_counter()
    for _ in range(CONNECTIONS):
        client = socket.create_connection(("127.0.0.1", port))
        selector.register(client, selectors.EVENT_READ, client)
        client.sendall(request)
        asked += 1
    while answered < ACCEPTED:
        for key, _ in selector.select():
            answer = key.data.recv(65536)
            assert b'"success"' in answer, answer
            assert answer.endswith(b"\n"), answer
            answered += 1
            if asked < ACCEPTED:
                key.data.sendall(request)
                asked += 1
    print(ACCEPTED / (time.perf_counter() - begun))


def be_sink(port: int) -> None:
    """Be a fast SMTP server; a line on standard output for each mail: how late it is."""

    class Smtp(asyncio.Protocol):
        buffer = b""
        in_data = False
        due = 0

        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            transport.write(b"220 sink ESMTP\r\n")

        def data_received(self, data: bytes) -> None:
            self.buffer += data
            while True:
                end = b"\r\n.\r\n" if self.in_data else b"\r\n"
                head, found, rest = self.buffer.partition(end)
                if not found:
                    return
                self.buffer = rest
                self.transport.write(self.answer(head))

        def answer(self, head: bytes) -> bytes:
            if self.in_data:
                self.in_data = False
                print(time.time() - self.due if self.due else 0.0, flush=True)
                return b"250 2.0.0 kept\r\n"
            verb = head[:4].upper()
            if verb == b"RCPT":
                local = head.partition(b"<")[2].partition(b"@")[0]
                self.due = int(local) if local.isdigit() else 0
            self.in_data = verb == b"DATA"
            return {
                b"EHLO": b"250-sink\r\n250 8BITMIME\r\n",
                b"DATA": b"354 go on\r\n",
                b"QUIT": b"221 bye\r\n",
            }.get(verb, b"250 fine\r\n")

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Smtp, "127.0.0.1", port, backlog=1024)
        await server.serve_forever()

    asyncio.run(serve())


@contextmanager
def sink() -> Iterator[tuple[int, Callable[[int], list[float]]]]:
    """Run the fast SMTP server; gives its port, and a way to wait for so many mails."""
    port = free_port()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen([sys.executable, __file__, "sink", str(port)], stdout=output)

        def arrivals(count: int) -> list[float]:
            lines: list[bytes] = []
            end = time.monotonic() + 120
            while len(lines) < count and time.monotonic() < end:
                time.sleep(0.2)
                output.seek(0)
                lines = output.read().split()
            return [float(line) for line in lines]

        time.sleep(1)
        try:
            yield port, arrivals
        finally:
            process.kill()
            process.wait()


@contextmanager
def php_peer() -> Iterator[int]:
    """Run the PHP event loop; gives its port."""
    port = free_port()
    script = Path(__file__).parent / "peers/unsynced_queue.php"
    with tempfile.TemporaryDirectory() as directory:
        process = subprocess.Popen(["php", str(script), str(port), directory])
        time.sleep(0.5)
        try:
            yield port
        finally:
            process.kill()
            process.wait()


class Started(Service):
    """A service that knows how long its start took."""

    started_in = 0.0


@contextmanager
def started(
    settings: dict[str, Any], *, fill: int = 0, due: int = FAR, body: str = BODY
) -> Iterator[Started]:
    """Run a service; ``fill`` mails wait in its queue, each due a second after the one before."""
    settings = dict(settings)
    with tempfile.TemporaryDirectory() as directory:
        queue = Path(directory, "mail")
        queue.mkdir()
        settings |= {
            "QUEUE_DIR": str(queue),
            "QUEUE_PROCESS_DIR": f"{directory}/temp",
            "QUEUE_FAILED_DIR": f"{directory}/failed",
        }
        content = json.dumps(MAIL | {"body": body, "failToDelivered": 0})
        for number in range(fill):
            step = number if due == FAR else 0
            name = f"mail_{due + step:019d}.{number:08d}_{number:016x}.json"
            (queue / name).write_text(content, "ascii")
        begun = time.perf_counter()
        service = Started(settings)
        try:
            until_ready(service)
            service.started_in = time.perf_counter() - begun
            yield service
        finally:
            service.clean_up()


def until_ready(service: Service) -> None:
    """Wait for the first answer; a service with many mails may take its time."""
    until("the service answers", lambda: service.listens() and service.ask({"ping": None}))


def resident(service: Service) -> int:
    """Give the resident memory of a service, in bytes."""
    pid = service._running.pid  # noqa: SLF001 - the harness has no need of it otherwise
    pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def table(rates: dict[str, list[float]]) -> None:
    """Print medians, and ratios to the first row."""
    first = statistics.median(next(iter(rates.values())))
    for name, values in rates.items():
        rate = statistics.median(values)
        print(f"  {name:<34} {rate:8.0f}  (the first is {first / rate:.2f} times that)")


PARTS = {"accept": accept, "many": many, "schedule": schedule}
ALL_PARTS = PARTS | {"million": million}
ROLES = {"load": be_load, "sink": be_sink}


def main() -> int:
    """Measure what the command line names, or everything."""
    names = sys.argv[1:]
    if names and names[0] in ROLES:
        ROLES[names[0]](int(names[1]))
        return 0
    results = [ALL_PARTS[name]() for name in names or PARTS]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
