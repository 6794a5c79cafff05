# SPDX-License-Identifier: MIT
"""500 mails at the same moment to an SMTP server that takes 2 s for each.

Run it as ``python benchmarks/bench_slow_server.py``. It starts the real service and an SMTP server
in processes of their own, opens 500 connections to the service with a sendMail on each, and prints
how long all took, and how long ``ping`` on a further connection had to wait meanwhile. Beside it
stand peers that hand the same mails to the same server without a service in between.

Aims: all done in 5 s, each ping answered within 50 ms. The exit status says whether they were met.
"""

# ruff: noqa: PLC0415 -- each process imports what its role needs; a reactor, for one, only some

from __future__ import annotations

import argparse
import asyncio
import json
import os
import smtplib
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.integration.service import Service

MAILS = 500
SECONDS_PER_MAIL = 2.0
ROUNDS = 3
PING_PAUSE = 0.005
MAX_TOTAL = 5.0
MAX_PING = 0.05

SENDER, RECIPIENT = "sender@example.org", "user@example.org"
BODY = "<p>A line of a mail that says little.</p>\r\n" * 24
MESSAGE = (
    f"From: {SENDER}\r\nTo: {RECIPIENT}\r\nSubject: Benchmark\r\nMIME-Version: 1.0\r\n"
    f"Content-Type: text/html; charset=utf-8\r\n\r\n{BODY}"
)


def main() -> int:
    """Measure, print, and say whether the aims were met."""
    parser = argparse.ArgumentParser(description=__doc__, add_help=True)
    parser.add_argument("--role", help="what a process of the benchmark is; for its own use")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    if options.role:
        ROLES[options.role](options.port)
        return 0
    return compare()


def compare() -> int:
    """Run all contestants for some rounds; give the exit status."""
    totals: dict[str, list[float]] = {}
    pings: list[float] = []
    with role("server") as server:
        smtp_port = int(server.stdout.readline())
        for _ in range(ROUNDS):
            total, waits = ours(smtp_port)
            totals.setdefault("smtpmailer (service, JSON over TCP)", []).append(total)
            pings += waits
            for name, peer in PEERS.items():
                if peer == "aiosmtplib" and find_spec("aiosmtplib") is None:
                    continue
                with role(peer, smtp_port) as running:
                    totals.setdefault(name, []).append(float(running.stdout.readline()))
    print(f"{MAILS} mails at once, {SECONDS_PER_MAIL:g} s each, {os.cpu_count()} cores")
    print(f"\n{'seconds until all were sent':<40} {'median':>8} {'worst':>8}")
    for name, seconds in totals.items():
        print(f"{name:<40} {statistics.median(seconds):>8.2f} {max(seconds):>8.2f}")
    worst_total = max(next(iter(totals.values())))
    pings.sort()
    p99 = pings[len(pings) * 99 // 100]
    print(
        f"\n{'ping meanwhile, milliseconds':<24} {'count':>7} {'median':>8} {'p99':>8} {'max':>8}"
    )
    figures = " ".join(f"{x * 1000:>8.2f}" for x in (statistics.median(pings), p99, pings[-1]))
    print(f"{'smtpmailer':<28} {len(pings):>7} {figures}")
    met = worst_total < MAX_TOTAL and pings[-1] < MAX_PING
    verdict = "met" if met else "NOT MET"
    print(f"\naims (all in {MAX_TOTAL:g} s, ping in {MAX_PING * 1000:g} ms): {verdict}")
    return 0 if met else 1


def ours(smtp_port: int) -> tuple[float, list[float]]:
    """Send all mails through a fresh service; give the total time and the pings' times."""
    settings = {
        "SMTP_PORT": smtp_port,
        "SMTP_MAX_CONNECTIONS": MAILS,
        "MAILER_LOG_LEVEL": "warning",
    }
    service = Service(settings)
    try:
        service.ready()
        with role("ping", service.port) as ping:
            ping.stdout.readline()
            total = asyncio.run(send_all(service.port))
            ping.stdin.close()
            waits: list[float] = json.loads(ping.stdout.readline())
    finally:
        service.clean_up()
    return total, waits


async def send_all(port: int) -> float:
    """Make all requests at once, a connection each; give the time until the last answer."""
    mail = {"to": [RECIPIENT], "ccList": [], "bccList": [], "subject": "Benchmark", "body": BODY}
    request = json.dumps({"sendMail": mail | {"fromEmail": SENDER}}).encode()

    async def send() -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        answer = json.loads(await reader.readline())
        writer.close()
        return bool(answer["status"] == "success")

    start = time.perf_counter()
    sent = await asyncio.gather(*(send() for _ in range(MAILS)))
    total = time.perf_counter() - start
    if not all(sent):
        raise SystemExit(f"only {sum(sent)} of {MAILS} mails were sent")
    return total


@contextmanager
def role(name: str, port: int = 0) -> Iterator[Any]:
    """Run a part of the benchmark in a process of its own, which is ended afterwards."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--role", name, "--port", str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


def serve(_port: int) -> None:
    """Be the SMTP server: print the port, then take mails, slowly."""
    from twisted.internet import reactor as installed
    from twisted.internet.protocol import Factory
    from twisted.protocols.basic import LineOnlyReceiver

    reactor: Any = installed

    class Smtp(LineOnlyReceiver):
        transport: Any
        in_data = False

        def connectionMade(self) -> None:
            self.transport.setTcpNoDelay(True)
            self.sendLine(b"220 slow.example.org ESMTP")

        def lineReceived(self, line: bytes) -> None:
            if self.in_data:
                if line == b".":
                    self.in_data = False
                    reactor.callLater(SECONDS_PER_MAIL, self.sendLine, b"250 2.0.0 kept")
                return
            verb = line[:4].upper()
            self.in_data = verb == b"DATA"
            replies = {b"EHLO": b"250-slow.example.org\r\n250 8BITMIME", b"DATA": b"354 go on"}
            self.sendLine(replies.get(verb, b"221 bye" if verb == b"QUIT" else b"250 fine"))
            if verb == b"QUIT":
                self.transport.loseConnection()

    port = reactor.listenTCP(0, Factory.forProtocol(Smtp), backlog=1024, interface="127.0.0.1")
    print(port.getHost().port, flush=True)
    reactor.run()


def ping(port: int) -> None:
    """Ping until standard input ends; print how long each answer took, in seconds."""
    ended = threading.Event()

    def watch() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=watch, daemon=True).start()
    waits = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print("ready", flush=True)
        while not ended.is_set():
            start = time.perf_counter()
            connection.sendall(b'{"ping":null}')
            connection.recv(1000)
            waits.append(time.perf_counter() - start)
            time.sleep(PING_PAUSE)
    print(json.dumps(waits), flush=True)


def peer_smtplib(port: int) -> None:
    """Send all mails with the standard library, a thread for each."""

    def send() -> None:
        with smtplib.SMTP("127.0.0.1", port, local_hostname="client.example.org") as smtp:
            smtp.sendmail(SENDER, [RECIPIENT], MESSAGE)

    threads = [threading.Thread(target=send) for _ in range(MAILS)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(time.perf_counter() - start, flush=True)


def peer_aiosmtplib(port: int) -> None:
    """Send all mails with aiosmtplib, a task for each."""
    import aiosmtplib

    async def send_all() -> None:
        mails = (
            aiosmtplib.send(
                MESSAGE,
                sender=SENDER,
                recipients=[RECIPIENT],
                hostname="127.0.0.1",
                port=port,
                local_hostname="client.example.org",
                start_tls=False,
            )
            for _ in range(MAILS)
        )
        await asyncio.gather(*mails)

    start = time.perf_counter()
    asyncio.run(send_all())
    print(time.perf_counter() - start, flush=True)


def peer_twisted(port: int) -> None:
    """Send all mails with Twisted's stock sender."""
    from twisted.internet import reactor as installed
    from twisted.internet.defer import Deferred, gatherResults
    from twisted.mail.smtp import ESMTPSenderFactory

    reactor: Any = installed

    def send() -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        factory = ESMTPSenderFactory(
            None,
            None,
            SENDER,
            [RECIPIENT],
            BytesIO(MESSAGE.replace("\r\n", "\n").encode()),
            done,
            retries=0,
            requireAuthentication=False,
            requireTransportSecurity=False,
        )
        factory.noisy = False
        reactor.connectTCP("127.0.0.1", port, factory)
        return done

    def begin() -> None:
        start = time.perf_counter()

        def finish(_: object) -> None:
            print(time.perf_counter() - start, flush=True)
            reactor.stop()

        gatherResults([send() for _ in range(MAILS)]).addCallback(finish)

    reactor.callWhenRunning(begin)
    reactor.run()


PEERS = {
    "aiosmtplib (a task per mail)": "aiosmtplib",
    "smtplib (a thread per mail)": "smtplib",
    "Twisted's stock sender": "twisted",
}
ROLES: dict[str, Callable[[int], None]] = {
    "server": serve,
    "ping": ping,
    "aiosmtplib": peer_aiosmtplib,
    "smtplib": peer_smtplib,
    "twisted": peer_twisted,
}

if __name__ == "__main__":
    sys.exit(main())
