# SPDX-License-Identifier: MIT
"""What the API costs besides mail: ``ping`` on kept connections, and a connection for each request.

Run it as ``python benchmarks/bench_api.py``. Each server runs in a process of its own, alone, with
50 clients in one other process that do nothing but write and read. The peers do the same for
``ping`` and nothing else: an event loop in PHP (where php is installed; the predecessor's own loop
is one, with more around it), Twisted's LineReceiver with the standard library's json, and asyncio's
streams. Rounds alternate between the servers; the table shows medians.
"""

from __future__ import annotations

import selectors
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.integration.servers import free_port
from tests.integration.service import Service, until

CONNECTIONS = 50
SECONDS = 2.0
ROUNDS = 5
PEERS = Path(__file__).resolve().parent / "peers"
PING = b'{"ping": null}'
AIMS = {"kept": 0.6, "fresh": 0.8}
PHP = "PHP event loop"


def main() -> int:
    """Measure all, print the table, and say whether the aims were met."""
    if sys.argv[1:2] == ["load"]:
        print(LOADS[sys.argv[2]](int(sys.argv[3])))
        return 0
    rates: dict[str, dict[str, list[float]]] = {}
    for _ in range(ROUNDS):
        for name, server in servers().items():
            with server() as port:
                for kind in LOADS:
                    rate = load(kind, port)
                    rates.setdefault(name, {}).setdefault(kind, []).append(rate)
    middle = {
        name: {kind: statistics.median(values) for kind, values in kinds.items()}
        for name, kinds in rates.items()
    }
    print(f"ping, {CONNECTIONS} connections, requests a second, medians of {ROUNDS}\n")
    print(f"{'':<40}{'kept':>10}{'one a request':>16}")
    for name, kinds in middle.items():
        print(f"{name:<40}{kinds['kept']:>10.0f}{kinds['fresh']:>16.0f}")
    return verdict(middle)


def verdict(middle: dict[str, dict[str, float]]) -> int:
    """Compare with the aims; gives the exit status."""
    if PHP not in middle:
        print("\nphp is not installed: nothing to compare with")
        return 0
    ratios = {kind: middle["smtpmailer"][kind] / middle[PHP][kind] for kind in AIMS}
    for kind, aim in AIMS.items():
        met = "met" if ratios[kind] >= aim else "NOT MET"
        print(f"\n{kind}: {ratios[kind]:.2f} of the {PHP} (aim {aim}): {met}", end="")
    print()
    return 0 if all(ratios[kind] >= aim for kind, aim in AIMS.items()) else 1


def load(kind: str, port: int) -> float:
    """Run the clients; give the rate."""
    command = [sys.executable, __file__, "load", kind, str(port)]
    return float(subprocess.check_output(command))


def kept(port: int) -> float:
    """Ask again and again on kept connections."""
    selector = selectors.DefaultSelector()
    for _ in range(CONNECTIONS):
        client = socket.create_connection(("127.0.0.1", port))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(client, selectors.EVENT_READ, client)
        client.sendall(PING)
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < SECONDS:
        for key, _ in selector.select():
            client = key.data
            assert b"pong" in client.recv(1000)
            client.send(PING)
            count += 1
    return count / (time.perf_counter() - begun)


def fresh(port: int) -> float:
    """Ask once on each connection."""
    selector = selectors.DefaultSelector()

    def connect() -> None:
        client = socket.create_connection(("127.0.0.1", port))
        client.send(PING)
        selector.register(client, selectors.EVENT_READ, client)

    for _ in range(CONNECTIONS):
        connect()
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < SECONDS:
        for key, _ in selector.select():
            client = key.data
            assert b"pong" in client.recv(1000)
            selector.unregister(client)
            client.close()
            connect()
            count += 1
    return count / (time.perf_counter() - begun)


LOADS: dict[str, Callable[[int], float]] = {"kept": kept, "fresh": fresh}


@contextmanager
def ours() -> Iterator[int]:
    """Run the service."""
    service = Service({"MAILER_LOG_LEVEL": "error", "MAILER_MAX_CONNECTIONS_PER_PEER": 0})
    try:
        service.ready()
        yield service.port
    finally:
        service.clean_up()


def peer(*command: str) -> Callable[[], AbstractContextManager[int]]:
    """Give what runs a peer, which is told its port as the last argument."""

    @contextmanager
    def run() -> Iterator[int]:
        port = free_port()
        process = subprocess.Popen([*command, str(port)], stderr=subprocess.DEVNULL)
        try:
            until("the peer listens", lambda: listens(port))
            yield port
        finally:
            process.kill()
            process.wait()

    return run


def listens(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def servers() -> dict[str, Callable[[], AbstractContextManager[int]]]:
    """Give what can be measured here."""
    found: dict[str, Callable[[], AbstractContextManager[int]]] = {"smtpmailer": ours}
    if shutil.which("php"):
        found[PHP] = peer("php", str(PEERS / "ping.php"))
    for name in ("LineReceiver and json", "asyncio streams and json"):
        kind = name.partition(" ")[0].lower()
        found[name] = peer(sys.executable, str(PEERS / f"ping_{kind}.py"))
    return found


if __name__ == "__main__":
    raise SystemExit(main())
