# SPDX-License-Identifier: MIT
"""How much a flood of wrong passwords slows right ones.

Run it as ``python benchmarks/bench_auth_flood.py``. It starts the real service with a bcrypt hash
of the usual cost, and measures how long a ``ping`` with the right password takes: remembered from
an earlier request, and for the first time (a connection and a key of its own for each measurement,
so that each one pays for a hash). Then again while wrong passwords, each another one, come in as
fast as the service takes them: from 100 other addresses, and from the measuring client's own
address.

Aim: the median of remembered passwords stays under 20 ms in a flood, that of new ones within three
hashes of what it is without one, and none is refused.

Two further floods from the client's own address are shown, without an aim: they make a connection
for each guess, so that nothing but its age tells the client's from theirs. One waits a little for
the answer, as who wants to know whether a guess was right has to; one does not.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import bcrypt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.integration.service import Service

COST = 10
REMEMBERED = 300
COLD = 20
FLOODERS = 100
AHEAD = 50
PATIENCE = 0.3
REMEMBERED_AIM = 0.02
SETTLE = 5.0


def main() -> int:
    """Measure, print, and say whether the aims were met."""
    if len(sys.argv) > 1:
        flood(int(sys.argv[1]), Flood(sys.argv[2], *map(float, sys.argv[3:])))
        return 0
    started = time.perf_counter()
    digest = bcrypt.hashpw(b"right", bcrypt.gensalt(COST)).decode("ascii")
    hash_time = time.perf_counter() - started
    keys = [{"name": f"key{i}", "hash": digest} for i in range(5 * COLD)]
    folder = Path("/tmp/smtpmailer-bench-keys")  # noqa: S108 - the service wants a path
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / "keys.json"
    path.touch(0o600)
    path.write_text(json.dumps(keys), "utf-8")
    service = Service(
        {
            "MAILER_AUTH": True,
            "MAILER_AUTH_HASH": digest,
            "MAILER_KEYS_FILE": path,
            "MAILER_LOG_LEVEL": "warning",
        }
    )
    try:
        service.ready()
        return report(service.port, hash_time)
    finally:
        service.clean_up()
        path.unlink()
        folder.rmdir()


@dataclass(frozen=True)
class Flood:
    """Where guesses come from: addresses that begin so, or the client's own.

    With ``patience`` each has a connection of its own, and so many seconds to be answered.
    """

    network: str = ""
    patience: float | None = None


def report(port: int, hash_time: float) -> int:
    """Measure each row; give the exit status."""
    names = iter(f"key{i}:right" for i in range(5 * COLD))
    rows = [("no flood", *measure(port, names))]
    for name, flood_of in (
        (f"flood from {FLOODERS} other addresses", Flood("127.0.2.")),
        ("flood from the same address", Flood()),
        ("same, a connection for each guess", Flood(patience=PATIENCE)),
        ("same, not waiting for answers", Flood(patience=0)),
    ):
        with flooding(port, flood_of):
            rows.append((name, *measure(port, names)))
        time.sleep(SETTLE)
    print(f"one bcrypt hash of cost {COST}: {hash_time * 1000:.0f} ms; {os.cpu_count()} cores\n")
    heads = ("median", "p95", "max", "median", "max", "refused")
    print(f"{'milliseconds':<34}{'remembered':>24}{'for the first time':>24}")
    print(" " * 34 + "".join(f"{head:>8}" for head in heads))
    for name, known, new in rows:
        known.sort()
        figures = [statistics.median(known), known[len(known) * 95 // 100], known[-1]]
        right = [seconds for seconds in new if seconds >= 0]
        figures += [statistics.median(right), max(right)] if right else [float("nan")] * 2
        shown = "".join(f"{seconds * 1000:>8.1f}" for seconds in figures)
        print(f"{name:<34}{shown}{len(new) - len(right):>8}")
    limit = statistics.median(rows[0][2]) + 3 * hash_time
    met = all(
        statistics.median(known) < REMEMBERED_AIM
        and statistics.median(new) < limit
        and min(new) >= 0
        for _, known, new in rows[:3]
    )
    print(f"\naims: {'met' if met else 'NOT MET'}")
    return 0 if met else 1


def measure(port: int, names: Iterator[str]) -> tuple[list[float], list[float]]:
    """Give the times of remembered passwords, and of new ones: -1 for one that was refused."""
    with connect(port) as connection:
        ask(connection, "right")
        remembered = []
        for _ in range(REMEMBERED):
            remembered.append(ask(connection, "right"))
            time.sleep(0.01)
    cold = []
    for _ in range(COLD):
        with connect(port) as connection:
            cold.append(ask(connection, next(names)))
    return remembered, cold


def connect(port: int) -> socket.socket:
    """Open a connection that sends at once what it is given."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def ask(connection: socket.socket, password: str) -> float:
    """Ping; give the time, or -1 when it was refused."""
    start = time.perf_counter()
    try:
        connection.sendall(json.dumps({"ping": 1, "auth": password}).encode())
        answer = connection.recv(1000)
    except OSError:  # dropped: there are too many connections
        return -1.0
    return time.perf_counter() - start if b"pong" in answer else -1.0


@contextlib.contextmanager
def flooding(port: int, what: Flood) -> Iterator[None]:
    """Flood meanwhile, from a process of its own."""
    arguments = (what.network,) if what.patience is None else (what.network, what.patience)
    process = subprocess.Popen(
        [sys.executable, __file__, str(port), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(SETTLE)
    try:
        yield
    finally:
        process.kill()
        process.communicate()


def flood(port: int, what: Flood) -> None:
    """Guess on many connections until killed."""

    def guess(number: int) -> None:
        source = f"{what.network}{number + 1}" if what.network else "127.0.0.1"
        guesses = (b'{"ping":1,"auth":"%d-%d"}' % (number, attempt) for attempt in range(10**9))
        while True:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(
                    ("127.0.0.1", port), source_address=(source, 0)
                ) as connection,
            ):
                connection.settimeout(what.patience or None)
                for attempt, text in enumerate(guesses):
                    connection.sendall(text)
                    if what.patience == 0:
                        break
                    if what.patience or attempt >= AHEAD:
                        connection.recv(4096)

    for number in range(FLOODERS):
        threading.Thread(target=guess, args=(number,), daemon=True).start()
    print("floods", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    sys.exit(main())
