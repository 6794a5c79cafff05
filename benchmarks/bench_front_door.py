# SPDX-License-Identifier: MIT
"""Memory of the service under thousands of connections that ask nothing, little, or garbage.

Run it as ``python benchmarks/bench_front_door.py``. For each load a fresh service is started, and
the resident memory of its process taken before, at its highest while the load lasts, and after it
has gone; and how long a ``ping`` took meanwhile. The load comes from a process of its own.

Aims: less than 250 MB at any time with MAILER_MAX_BUFFERED at 64 MiB; and a ping within a second
under the first three loads. The others use all of a core: their pings are for comparison.
"""

from __future__ import annotations

import contextlib
import json
import resource
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.integration.service import Service

CONNECTIONS = 5000
SECONDS = 12.0
MAX_MB = 250
TIMED = 3
MAX_PING = 1.0
MAILER_MAX_BUFFERED = 64 * 2**20


def main() -> int:
    """Measure every load; give the exit status."""
    if len(sys.argv) > 1:
        _more_files()
        LOADS[sys.argv[1]](int(sys.argv[2]))
        return 0
    print(f"{'load':<44}{'MB before':>10}{'highest':>9}{'after':>8}{'worst ping, ms':>16}")
    met = True
    _more_files()
    for number, name in enumerate(LOADS):
        before, highest, after, ping = measure(name)
        met = met and highest < MAX_MB and (ping < MAX_PING or number >= TIMED)
        print(f"{name:<44}{before:>10.0f}{highest:>9.0f}{after:>8.0f}{ping * 1000:>16.0f}")
    print(f"\naims (under {MAX_MB} MB, ping in {MAX_PING:g} s): {'met' if met else 'NOT MET'}")
    return 0 if met else 1


def measure(name: str) -> tuple[float, float, float, float]:
    """Give the memory before, at most and after a load, in MB, and the worst ping in seconds."""
    service = Service(
        {"MAILER_LOG_LEVEL": "error", "MAILER_MAX_BUFFERED": MAILER_MAX_BUFFERED, "SMTP_PORT": 9}
    )
    try:
        service.ready()
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            before = memory(service)
            highest, worst = before, ping(connection)
            load = subprocess.Popen([sys.executable, __file__, name, str(service.port)])
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                worst = max(worst, ping(connection))
                highest = max(highest, memory(service))
                time.sleep(0.05)
            load.kill()
            load.wait()
            time.sleep(2)
            return before, highest, memory(service), worst
    finally:
        service.clean_up()


def memory(service: Service) -> float:
    """Give the resident memory of the service's process, in MB."""
    status = Path(f"/proc/{service._running.pid}/status").read_text("ascii")  # noqa: SLF001
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def ping(connection: socket.socket) -> float:
    """Give how long a ping takes, in seconds."""
    start = time.perf_counter()
    connection.sendall(b'{"ping":null}')
    json.loads(connection.recv(1000))
    return time.perf_counter() - start


def _more_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connections(port: int, count: int = CONNECTIONS) -> list[socket.socket]:
    """Open connections from many addresses."""
    return [
        socket.create_connection(
            ("127.0.0.1", port), timeout=30, source_address=(f"127.0.3.{i % 250 + 1}", 0)
        )
        for i in range(count)
    ]


def idle(port: int) -> None:
    """Ask nothing."""
    kept = connections(port)
    time.sleep(1000)
    del kept


def dribble(port: int) -> None:
    """Send a large request on each connection, some bytes at a time."""
    kept = connections(port)
    for connection in kept:
        connection.sendall(b'{"sendMail":{"body":"')
    while True:
        for connection in kept:
            with contextlib.suppress(OSError):
                connection.sendall(b"xxxx")
        time.sleep(1)


def unfinished(port: int) -> None:
    """Send as much of a 30 MB request as the service takes, on 100 connections."""
    _pump(port, 100, lambda: iter([b'{"ping":"'] + [b"x" * 2**20] * 29))


def bombs(port: int) -> None:
    """Send lists of empty lists, which take much memory as values, again and again."""
    bomb = b'{"ping":[' + b"[]," * 90_000 + b"0]}"
    _pump(port, 50, lambda: iter([bomb] * 1000))


def small(port: int) -> None:
    """Pipeline requests without reading the answers."""
    _pump(port, 50, lambda: iter([b'{"status":1}' * 5000] * 1000))


def garbage(port: int) -> None:
    """Send garbage without end, on connection after connection."""
    _pump(port, 100, lambda: iter([b"garbage " * 8192] * 1000))


def _pump(port: int, count: int, make: Callable[[], Iterator[bytes]]) -> None:
    """Write to connections as long as they take it, then to new ones in their place."""

    def work() -> None:
        while True:
            with contextlib.suppress(OSError), connections(port, 1)[0] as connection:
                connection.settimeout(5)
                for piece in make():
                    connection.sendall(piece)
                select.select([connection], [], [], 5)

    for _ in range(count):
        threading.Thread(target=work, daemon=True).start()
    time.sleep(1000)


LOADS: dict[str, Callable[[int], None]] = {
    "5,000 idle connections": idle,
    "5,000 dribbling connections": dribble,
    "100 unfinished requests of 30 MB": unfinished,
    "50 connections with value bombs": bombs,
    "50 pipelining connections that never read": small,
    "100 connections with endless garbage": garbage,
}

if __name__ == "__main__":
    sys.exit(main())
