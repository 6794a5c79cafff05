# SPDX-License-Identifier: MIT
"""The delivery engine alone, beside clients of other projects that keep their sessions open.

Run it as ``python benchmarks/bench_engine.py``. It starts an SMTP server that is no bottleneck
(sink.py) in a process of its own, hands it mails of 10 KB HTML over STARTTLS with a login, and
prints mails a second: with 20 sessions and with one, without delay and with a round trip of 30 ms
(each answer of the server comes 30 ms later), for what a server may offer. The message is prepared
once, for every contestant: what building one costs is bench_build_message.py's matter.

Peers are installed into a folder outside of the tree: nodemailer through npm, Go's net/smtp through
``go build``; one that can't be had is left out. All runs are mixed and repeated, and medians count.
The exit status says whether the aims were met; an aim whose peer is missing is not.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import attrs

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.engine_contestants import RECIPIENT, SENDER, Task, find_contestants
from tests.delivery.certificates import authority, issue

ROUNDS = 3
BODY = b"<p>A line of a mail that says little, as most of them do.</p>\r\n" * 160
MESSAGE = (
    f"From: {SENDER}\r\nTo: {RECIPIENT}\r\nSubject: Benchmark\r\nMIME-Version: 1.0\r\n"
    "Content-Type: text/html; charset=utf-8\r\n\r\n"
).encode() + BODY

NOTHING, PIPELINING, CHUNKING = "", "PIPELINING", "PIPELINING,CHUNKING"


@attrs.frozen
class Run:
    """One row: who sends how many mails over how many sessions, and to what kind of server."""

    who: str
    sessions: int
    delay: int
    mails: int
    offer: str = CHUNKING
    depth: int = 1

    @property
    def label(self) -> str:
        """Say what it is."""
        if self.who != "engine":
            return self.who
        last = self.offer.rpartition(",")[2]
        return f"smtpmailer, {last or 'neither'}" + (f", depth {self.depth}" if last else "")


#: Peers take what they can of all that is offered.
RUNS = (
    Run("engine", 20, 0, 8000, NOTHING),
    Run("engine", 20, 0, 16000, PIPELINING, 2),
    Run("engine", 20, 0, 24000, CHUNKING, 2),
    Run("engine", 20, 0, 24000, CHUNKING, 4),
    Run("nodemailer", 20, 0, 4000),
    Run("net/smtp", 20, 0, 12000),
    Run("aiosmtplib", 20, 0, 2000),
    Run("smtplib", 20, 0, 3000),
    Run("engine", 20, 30, 600, NOTHING),
    Run("engine", 20, 30, 2400, PIPELINING, 2),
    Run("engine", 20, 30, 4800, CHUNKING, 2),
    Run("engine", 20, 30, 9600, CHUNKING, 4),
    Run("nodemailer", 20, 30, 1200),
    Run("net/smtp", 20, 30, 600),
    Run("aiosmtplib", 20, 30, 600),
    Run("smtplib", 20, 30, 600),
    Run("engine", 1, 30, 300, PIPELINING, 2),
    Run("engine", 1, 30, 600, CHUNKING, 2),
    Run("engine", 1, 30, 1200, CHUNKING, 4),
    Run("nodemailer", 1, 30, 150),
)


@attrs.frozen
class Aim:
    """Ours is to be at least ``factor`` times the peer's rate."""

    offer: str
    depth: int
    sessions: int
    delay: int
    peer: str
    factor: float


AIMS = (
    Aim(PIPELINING, 2, 20, 0, "nodemailer", 5),
    Aim(PIPELINING, 2, 20, 30, "nodemailer", 2),
    Aim(CHUNKING, 4, 20, 0, "net/smtp", 3),
    Aim(CHUNKING, 4, 20, 30, "nodemailer", 6),
    Aim(PIPELINING, 2, 1, 30, "nodemailer", 2),
    Aim(CHUNKING, 4, 1, 30, "nodemailer", 8),
)


def main() -> int:
    """Measure, print, and say whether the aims were met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds: int = parser.parse_args().rounds
    commands, missing = find_contestants()
    for name, why in missing.items():
        print(f"{name} is left out: {why}")
    runs = [run for run in RUNS if run.who in commands]
    rates: dict[Run, list[float]] = {run: [] for run in runs}
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        for _ in range(rounds):
            for run in runs:
                rates[run].append(measure(run, commands[run.who], Path(folder)))
    table(rates)
    return judge(rates)


def prepare(folder: Path) -> None:
    """Write the server's certificate and the message."""
    issue("localhost", issuer=authority()).write(str(folder))
    (folder / "authority.pem").write_bytes(authority().cert_pem)
    (folder / "message").write_bytes(MESSAGE)


def measure(run: Run, command: list[str], folder: Path) -> float:
    """Let a contestant send its mails to a new server; give the rate."""
    with sink(run, folder) as server:
        assert server.stdin and server.stdout
        task = Task(
            port=int(server.stdout.readline()),
            sessions=run.sessions,
            mails=run.mails,
            authority=str(folder / "authority.pem"),
            message=str(folder / "message"),
            depth=run.depth,
        )
        seconds = float(subprocess.check_output([*command, *task.arguments()], text=True))
        print("mails", file=server.stdin, flush=True)
        taken = int(server.stdout.readline())
    assert taken == run.mails, f"{run.label}: {taken} of {run.mails} mails arrived"
    return run.mails / seconds


@contextmanager
def sink(run: Run, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the server for one contestant."""
    options = {
        "--offer": run.offer,
        "--delay": str(run.delay),
        "--cert": str(folder / "cert.pem"),
        "--key": str(folder / "key.pem"),
    }
    script = str(Path(__file__).resolve().parent / "sink.py")
    server = subprocess.Popen(
        [sys.executable, script, *chain.from_iterable(options.items())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield server
    finally:
        server.kill()
        server.communicate()


def table(rates: dict[Run, list[float]]) -> None:
    """Print the rates."""
    print(f"\n10 KB HTML, STARTTLS and a login, {os.cpu_count()} cores; mails a second")
    heading = None
    for run, found in rates.items():
        if heading != (heading := (run.sessions, run.delay)):
            plural = "s" if run.sessions > 1 else ""
            title = f"{run.sessions} session{plural}, {run.delay} ms"
            print(f"\n{title:<36} {'median':>8} {'lowest':>8} {'highest':>8}")
        middle = statistics.median(found)
        print(f"{run.label:<36} {middle:>8.0f} {min(found):>8.0f} {max(found):>8.0f}")


def judge(rates: dict[Run, list[float]]) -> int:
    """Print which aims are met; give the exit status.

    What counts is the median of the rounds' own ratios: the machine's speed changes between rounds.
    """
    print(f"\n{'aims':<62} {'aim':>5} {'found':>6}")
    status = 0
    for aim in AIMS:
        ours, theirs = rates_of(rates, "engine", aim), rates_of(rates, aim.peer, aim)
        ratios = [our / their for our, their in zip(ours, theirs, strict=False)]
        found = statistics.median(ratios) if ratios else 0.0
        met = found >= aim.factor
        status |= not met
        what = (
            f"{aim.sessions} x {aim.offer.rpartition(',')[2]}, depth {aim.depth}, "
            f"{aim.delay} ms, against {aim.peer}"
        )
        verdict = "met" if met else "NOT MET" if found else "no peer"
        print(f"{what:<62} {aim.factor:>5g} {found:>6.1f}  {verdict}")
    return status


def rates_of(rates: dict[Run, list[float]], who: str, aim: Aim) -> list[float]:
    """Give the rates of a contestant in the setting of an aim; none when it did not run."""
    for run, found in rates.items():
        same = (run.who, run.sessions, run.delay) == (who, aim.sessions, aim.delay)
        if same and (who != "engine" or (run.offer, run.depth) == (aim.offer, aim.depth)):
            return found
    return []


if __name__ == "__main__":
    sys.exit(main())
