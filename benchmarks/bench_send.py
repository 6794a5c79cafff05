# SPDX-License-Identifier: MIT
"""``sendMail`` through the API, beside a small HTTP service on a pooled nodemailer.

Run it as ``python benchmarks/bench_send.py``. Mails are 10 KB of HTML, built by each service; the
SMTP server (sink.py) asks for STARTTLS and a login and offers PIPELINING, in the last rows CHUNKING
too, as Postfix does since version 3.4; both keep 20 sessions with it, each for 100 mails: so many
both have by default. 50 or 200 clients, in one process, each wait for their answer before they
write again. Each server answers at once, or 30 ms later.

Aims: 100 times what the predecessor did with one process (20 mails a second), and 35 times what it
did with four (68); 150 times at 30 ms (2 a second); twice the HTTP service; 99 of 100 answers in a
tenth of the time in which half of the predecessor's came (50 clients of 20 mails a second wait
2.5 s, of 2 a second 25 s). The exit status says whether they were met.
"""

from __future__ import annotations

import json
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bench_engine import CHUNKING, PIPELINING, Run, prepare, sink
from benchmarks.engine_contestants import PASSWORD, PEERS, USER, find_contestants
from tests.integration.servers import free_port
from tests.integration.service import Service, until

SESSIONS = 20
#: Mails of a session: the default of both.
MESSAGES = 100
SECONDS = 5.0
WARM_UP = 1.0
ROUNDS = 3
BODY = "<p>A line of a mail that says little, as most of them do.</p>\r\n" * 160
FROM, TO = "sender@example.org", "user@example.org"
Runs = Callable[[int, Path], AbstractContextManager[int]]
#: Mails a second, by the server's delay in ms.
AIMS = {0: max(100 * 20, 35 * 68), 30: 150 * 2}
#: Seconds for 99 of 100 answers, of 50 clients.
LATEST = {0: 0.25, 30: 2.5}
HERE = Path(__file__).resolve().parent


class Server(NamedTuple):
    """What the SMTP server offers, how late it answers (ms), and how often the peer's rate we want.

    Where our mails take a round trip each, and the peer's two, nobody gets to twice its rate.
    """

    offer: str
    delay: int
    times: float

    @property
    def label(self) -> str:
        """Say what it is."""
        return f"{self.delay} ms, {self.offer.rpartition(',')[2]}"


SERVERS = (
    Server(PIPELINING, 0, 2.0),
    Server(PIPELINING, 30, 1.8),
    Server(CHUNKING, 30, 2.0),
)


def main() -> int:
    """Measure all rows; print the table."""
    if sys.argv[1:2] == ["load"]:
        print(json.dumps(load(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
        return 0
    met = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        services: dict[str, Runs] = {"smtpmailer": ours}
        if "nodemailer" in find_contestants()[0]:
            services["Node, nodemailer"] = node
        print("sendMail, 10 KB HTML: mails a second, and ms for an answer (median, p99)")
        for server in SERVERS:
            for clients in (50, 200):
                met = row(services, folder, server, clients) and met
    return 0 if met else 1


def row(services: dict[str, Runs], folder: Path, server: Server, clients: int) -> bool:
    """Measure all services in turn; tell whether the aims were met."""
    found: dict[str, list[list[float]]] = {}
    for _ in range(ROUNDS):
        for name, run in services.items():
            found.setdefault(name, []).append(measure(name, run, folder, server, clients))
    middle = {
        name: [statistics.median(column) for column in zip(*rounds, strict=True)]
        for name, rounds in found.items()
    }
    for name, (rate, median, late) in middle.items():
        label = f"{server.label}, {clients} clients, {name}"
        print(f"  {label:<52}{rate:8.0f}{median * 1000:9.1f}{late * 1000:9.1f}", flush=True)
    rate, _, late = middle.pop("smtpmailer")
    times = [rate / others[0] for others in middle.values()]
    print("".join(f"    {each:.2f} times the peer\n" for each in times), end="", flush=True)
    return (
        rate >= AIMS[server.delay]
        and late <= LATEST[server.delay] * clients / 50
        and min(times, default=9) >= server.times
    )


def measure(name: str, run: Runs, folder: Path, server: Server, clients: int) -> list[float]:
    """Give rate, and median and 99th percentile of the seconds until an answer."""
    with sink(Run(name, SESSIONS, server.delay, 0, server.offer), folder) as process:
        assert process.stdout
        with run(int(process.stdout.readline()), folder) as port:
            kind = "json" if run is ours else "http"
            command = [sys.executable, __file__, "load", kind, str(port), str(clients)]
            result: list[float] = json.loads(subprocess.check_output(command))
    return result


@contextmanager
def ours(smtp_port: int, folder: Path) -> Iterator[int]:
    """Run the service; gives its port."""
    service = Service(
        {
            "MAILER_LOG_LEVEL": "error",
            "MAILER_MAX_CONNECTIONS_PER_PEER": 0,
            "MAIL_FROM_ADDR": FROM,
            "SMTP_HOST": "localhost",
            "SMTP_PORT": smtp_port,
            "SMTP_ENCRYPTION": "tls",
            "SMTP_CA_FILE": str(folder / "authority.pem"),
            "SMTP_USER": USER,
            "SMTP_PASSWORD": PASSWORD,
            "SMTP_MAX_CONNECTIONS": SESSIONS,
            "SMTP_MAX_MESSAGES_PER_CONNECTION": MESSAGES,
        }
    )
    try:
        service.ready()
        yield service.port
    finally:
        service.clean_up()


@contextmanager
def node(smtp_port: int, folder: Path) -> Iterator[int]:
    """Run the HTTP service; gives its port."""
    port = free_port()
    script = PEERS / "nodemailer" / "node_service.cjs"
    script.write_bytes((HERE / "peers" / "node_service.cjs").read_bytes())
    arguments = (port, smtp_port, SESSIONS, MESSAGES, folder / "authority.pem")
    process = subprocess.Popen(["node", str(script), *map(str, arguments)])
    try:
        until("the service listens", lambda: _listens(port))
        yield port
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def load(kind: str, port: int, clients: int) -> list[float]:
    """Be the clients."""
    request = REQUESTS[kind]()
    selector = selectors.DefaultSelector()
    for _ in range(clients):
        client = socket.create_connection(("127.0.0.1", port))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(request)
        selector.register(client, selectors.EVENT_READ, [client, time.perf_counter()])
    begun = time.perf_counter() + WARM_UP
    waits: list[float] = []
    while (now := time.perf_counter()) < begun + SECONDS:
        for key, _ in selector.select():
            client, asked = key.data
            answer = client.recv(65536)
            if not answer.endswith(b"\n"):
                assert answer, "the service closed a connection"
                continue
            assert b'"success"' in answer, answer
            if now >= begun:
                waits.append(time.perf_counter() - asked)
            key.data[1] = time.perf_counter()
            client.sendall(request)
    waits.sort()
    return [len(waits) / SECONDS, statistics.median(waits), waits[len(waits) * 99 // 100]]


def _json() -> bytes:
    fields = {"to": [TO], "ccList": [], "bccList": [], "subject": "Benchmark", "body": BODY}
    return json.dumps({"sendMail": fields}).encode()


def _http() -> bytes:
    content = json.dumps({"from": FROM, "to": TO, "subject": "Benchmark", "html": BODY}).encode()
    return (
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(content) + content
    )


REQUESTS: dict[str, Callable[[], bytes]] = {"json": _json, "http": _http}


if __name__ == "__main__":
    sys.exit(main())
