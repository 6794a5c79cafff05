# SPDX-License-Identifier: MIT
"""What a second worker brings, what each process takes of memory, and how soon there is an answer.

Run it as ``python benchmarks/bench_workers.py`` on a machine that does nothing else. Clients and
the SMTP server are processes of their own that do as little as they can, since they share the
machine's cores with the workers: a ping costs them a twentieth of what it costs the service.

Memory is what a process takes from the machine: its own, and its share of what it has in common
with others (PSS, as /proc/PID/smaps_rollup tells). The resident size, which counts all that is
shared in full, stands beside it.

Aims, on two cores: 1.6 times the pings and 1.5 times the mails with two workers; 60 MB with one
worker, 45 MB for each further one; an answer within a second of the start.
"""

from __future__ import annotations

import json
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.integration.service import mail_to
from tests.integration.worker_service import PING, WorkerService

CONNECTIONS: Final = 16
SECONDS: Final = 3.0
ROUNDS: Final = 3
STARTS: Final = 5
#: Requests that a client writes before it reads their answers.
BATCH: Final = {"ping": 50, "sendMail": 4}
AIMS: Final = {"ping": 1.6, "sendMail": 1.5}
MOST_MB, MOST_FURTHER_MB, MOST_SECONDS = 60.0, 45.0, 1.0
SINK: Final = Path(__file__).resolve().parent / "sink.py"


def main() -> int:
    """Measure everything, and say whether the aims were met."""
    if sys.argv[1:2] == ["load"]:
        print(load(sys.argv[2], int(sys.argv[3])))
        return 0
    met = [speed(), memory(), start()]
    return 0 if all(met) else 1


def speed() -> bool:
    """Compare one worker with two; tell whether the aims were met."""
    print(f"requests a second, {CONNECTIONS} connections, medians of {ROUNDS}\n")
    print(f"{'':<12}{'1 worker':>10}{'2 workers':>11}{'times':>8}{'aim':>6}")
    met = True
    with sink() as smtp_port:
        rates: dict[tuple[str, int], list[float]] = {}
        for _ in range(ROUNDS):
            for workers in (1, 2):
                with service(workers, SMTP_PORT=smtp_port) as running:
                    for kind in AIMS:
                        rates.setdefault((kind, workers), []).append(measure(kind, running.port))
    for kind, aim in AIMS.items():
        one, two = (statistics.median(rates[kind, workers]) for workers in (1, 2))
        met = met and two / one >= aim
        print(f"{kind:<12}{one:>10.0f}{two:>11.0f}{two / one:>8.2f}{aim:>6}")
    return met


def memory() -> bool:
    """Show the memory of idle services; tell whether the aims were met."""
    print("\nidle memory, MB of the machine's (resident in brackets)\n")
    taken = {}
    for workers in (1, 2, 3):
        with service(workers) as running:
            found = [megabytes(process) for process in running.family()]
        taken[workers] = sum(own for own, _ in found)
        parts = ", ".join(f"{own:.0f} ({resident:.0f})" for own, resident in found)
        print(f"{workers} worker{'s' * (workers > 1)}: {taken[workers]:.0f} in all: {parts}")
    further = taken[3] - taken[2]
    print(f"a further worker: {further:.0f} (aim {MOST_FURTHER_MB:g})")
    print(f"one worker: {taken[1]:.0f} (aim {MOST_MB:g})")
    return taken[1] <= MOST_MB and further <= MOST_FURTHER_MB


def start() -> bool:
    """Show how long it takes from the start to the first answer."""
    print("\nseconds from the start to the first answer\n")
    met = True
    for workers in (1, 2):
        seconds = statistics.median(first_answer(workers) for _ in range(STARTS))
        met = met and seconds <= MOST_SECONDS
        print(f"{workers} worker{'s' * (workers > 1)}: {seconds:.2f} (aim {MOST_SECONDS:g})")
    return met


def first_answer(workers: int) -> float:
    """Start a service and ask until it answers; give the seconds."""
    begun = time.perf_counter()
    running = WorkerService({"MAILER_WORKERS": workers, "MAILER_LOG_LEVEL": "error"})
    try:
        while True:
            try:
                running.exchange(PING)
            except OSError:
                time.sleep(0.002)
            else:
                return time.perf_counter() - begun
    finally:
        running.clean_up()


@contextmanager
def service(workers: int, **values: object) -> Iterator[WorkerService]:
    """Run a service; all its processes serve."""
    names = [f"worker-{number}" for number in range(1, workers + 1)]
    running = WorkerService(
        {
            "MAILER_WORKERS": workers,
            "MAILER_LOG_LEVEL": "error",
            "MAILER_MAX_CONNECTIONS_PER_PEER": 0,
        }
        | values
    )
    try:
        running.await_processes(*(names if workers > 1 else ["service"]))
        yield running
    finally:
        running.clean_up()


@contextmanager
def sink() -> Iterator[int]:
    """Run an SMTP server; give its port."""
    process = subprocess.Popen(
        [sys.executable, str(SINK), "--offer", "PIPELINING"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def measure(kind: str, port: int) -> float:
    """Run the clients in a process of their own; give the rate."""
    command = [sys.executable, __file__, "load", kind, str(port)]
    return float(subprocess.check_output(command))


def load(kind: str, port: int) -> float:
    """Write batches on kept connections, and read their answers; give requests a second."""
    request = PING if kind == "ping" else json.dumps(mail_to()).encode()
    batch = request * BATCH[kind]
    selector = selectors.DefaultSelector()
    for _ in range(CONNECTIONS):
        client = socket.create_connection(("127.0.0.1", port))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(batch)
        selector.register(client, selectors.EVENT_READ, [client, 0])
    count, begun, end = 0, 0.0, 0.0
    while True:
        now = time.perf_counter()
        if not begun and count > CONNECTIONS * BATCH[kind]:
            count, begun, end = 0, now, now + SECONDS
        if begun and now >= end:
            return count / (now - begun)
        for key, _ in selector.select():
            client, answered = key.data
            data = client.recv(65536)
            assert data and b'"error"' not in data, data
            new = data.count(b"\n")
            count += new
            answered += new
            if answered >= BATCH[kind]:
                answered -= BATCH[kind]
                client.sendall(batch)
            key.data[1] = answered


def megabytes(process: int) -> tuple[float, float]:
    """Give what a process takes of the machine's memory, and its resident size."""
    text = Path(f"/proc/{process}/smaps_rollup").read_text("ascii")
    sizes = {line.split(":")[0]: line.split() for line in text.splitlines()[1:]}
    own, resident = (int(sizes[name][1]) / 1024 for name in ("Pss", "Rss"))
    return own, resident


if __name__ == "__main__":
    raise SystemExit(main())
