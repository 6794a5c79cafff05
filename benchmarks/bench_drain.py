# SPDX-License-Identifier: MIT
"""How fast a queue of due mails drains, beside the delivery engine alone.

Run it as ``python benchmarks/bench_drain.py``. The SMTP server runs in a process of its own, and so
do the service and the engine: sink.py, which throws away what it gets, answers late or at once; a
Postfix that delivers into a maildir (where there is one, and for root). Each mail is 10 KB of HTML,
built anew by both; both have 20 mails in hand and 10 sessions, as the settings' defaults are. The
exit status says whether the queue reached 80 % of the engine's rate in every row.
"""

# ruff: noqa: PLC0415 -- each process imports what its role needs; a reactor, for one, only some

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bench_queue import BODY, SETTINGS, started
from tests.integration.servers import Postfix, free_port
from tests.integration.service import until

AIM = 0.8
ROUNDS = 3
SESSIONS = 10
IN_HAND = 20


@attrs.frozen
class Row:
    """What the sink offers, how late it answers (ms), and how many mails it is sent."""

    offer: str
    delay: int
    mails: int

    @property
    def label(self) -> str:
        """Say what it is."""
        return f"{self.delay} ms, {self.offer or 'no extensions'}"

    @contextmanager
    def server(self) -> Iterator[int]:
        """Run the sink; gives its port."""
        script = str(Path(__file__).resolve().parent / "sink.py")
        command = [sys.executable, script, "--offer", self.offer, "--delay", str(self.delay)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as server:
            assert server.stdout
            try:
                yield int(server.stdout.readline())
            finally:
                server.kill()


@attrs.frozen
class PostfixRow:
    """A Postfix, and how many mails it is sent."""

    mails: int
    label = "Postfix"

    @contextmanager
    def server(self) -> Iterator[int]:
        """Run it; gives its port."""
        with tempfile.TemporaryDirectory() as directory:
            root = Path(directory)
            root.chmod(0o755)  # It has users of its own.
            postfix = Postfix(root)
            try:
                until("Postfix is ready", postfix.is_ready)
                yield postfix.port
            finally:
                postfix.stop()


@attrs.frozen
class AioRow:
    """The aiosmtpd that everybody has for tests, and how many mails it is sent."""

    mails: int
    label = "aiosmtpd"

    @contextmanager
    def server(self) -> Iterator[int]:
        """Run it; gives its port."""
        port = free_port()
        command = [sys.executable, "-m", "aiosmtpd", "-n", "-l", f"127.0.0.1:{port}"]
        with subprocess.Popen([*command, "-c", "aiosmtpd.handlers.Sink"]) as server:
            try:
                until("aiosmtpd listens", lambda: listens(port))
                yield port
            finally:
                server.kill()


AnyRow = Row | PostfixRow | AioRow

ROWS: tuple[AnyRow, ...] = (
    PostfixRow(10_000),
    AioRow(10_000),
    Row("", 0, 6000),
    Row("PIPELINING", 0, 6000),
    Row("", 5, 4000),
    Row("PIPELINING", 5, 6000),
    Row("", 30, 1000),
    Row("PIPELINING", 30, 3000),
)


def main() -> int:
    """Measure all rows; print the table."""
    if sys.argv[1:2] == ["engine"]:
        be_engine(int(sys.argv[2]), int(sys.argv[3]))
        return 0
    print(f"due mails of {len(BODY) // 1024} KB, {SESSIONS} sessions, mails a second, medians")
    missed = False
    for row in ROWS:
        if isinstance(row, PostfixRow) and not has_postfix():
            print(f"  {row.label:<22} not measured: there is none, or you are not root", flush=True)
            continue
        rounds = [(engine(row), queue(row)) for _ in range(ROUNDS)]
        alone, drained = (statistics.median(rates) for rates in zip(*rounds, strict=True))
        share = statistics.median(drained / alone for alone, drained in rounds)
        missed = missed or share < AIM
        print(
            f"  {row.label:<22} engine {alone:6.0f}  queue {drained:6.0f}  ({share:.0%})",
            flush=True,
        )
    return 1 if missed else 0


def listens(port: int) -> bool:
    """Tell whether somebody listens at a port of this machine."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def has_postfix() -> bool:
    """Tell whether Postfix can be run."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    return os.geteuid() == 0 and shutil.which("postfix", path=path) is not None


def engine(row: AnyRow) -> float:
    """Give the rate of the engine."""
    with row.server() as port:
        command = [sys.executable, __file__, "engine", str(port), str(row.mails)]
        return float(subprocess.check_output(command))


def queue(row: AnyRow) -> float:
    """Give the rate of a queue."""
    past = int(time.time()) - 1000
    with row.server() as port:
        settings = SETTINGS | {
            "SMTP_PORT": port,
            "SMTP_MAX_CONNECTIONS": SESSIONS,
            "QUEUE_CONCURRENCY": IN_HAND,
        }
        with started(settings, fill=row.mails, due=past) as service:
            begun = time.perf_counter()
            waiting = first = service.ask({"getQueueList": None})["data"]["total"]
            while waiting:
                time.sleep(0.05)
                waiting = service.ask({"getQueueList": None})["data"]["total"]
            return float(first / (time.perf_counter() - begun))


def be_engine(port: int, count: int) -> None:
    """Be the delivery engine alone."""
    from twisted.internet import reactor as installed
    from twisted.internet.defer import Deferred

    from smtpmailer.bundle import bundled
    from smtpmailer.core.mime import MessageOptions, Stamp, compose
    from smtpmailer.core.model import Address, Encryption, MailRequest, Route
    from smtpmailer.delivery.limits import PoolLimits
    from smtpmailer.delivery.sender import Sender

    reactor = bundled(installed)
    sender = Sender(reactor, 60, PoolLimits(connections=SESSIONS))
    route = Route(host="127.0.0.1", port=port, encryption=Encryption.NONE, ehlo_name="x.example")
    request = MailRequest(to=(Address(email="user@example.org"),), subject="s", body=BODY)
    left = iter(range(count))
    running = IN_HAND

    def go() -> None:
        nonlocal running
        number = next(left, None)
        if number is None:
            running -= 1
            if not running:
                print(count / (time.perf_counter() - begun))
                reactor.stop()
            return
        mail = compose(
            request,
            body=BODY,
            sender=Address(email="a@example.org"),
            files=(),
            stamp=Stamp(unique=f"{number}", epoch_seconds=time.time()),
            options=MessageOptions(),
        )
        done: Deferred[Any] = sender.send(mail, route)
        done.addCallback(lambda _: go())

    def begin() -> None:
        for _ in range(IN_HAND):
            go()

    begun = time.perf_counter()
    reactor.callWhenRunning(begin)
    reactor.run()


if __name__ == "__main__":
    sys.exit(main())
