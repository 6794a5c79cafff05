# SPDX-License-Identifier: MIT
"""What bench_engine.py compares: our engine, and clients that keep their sessions open.

Run as a script it is one of those written in Python; it prints how many seconds it took. The
arguments are the same for all: port, sessions, mails, file of the authority to trust, file of the
message; for the engine also the depth.
"""

# ruff: noqa: PLC0415 -- each process imports what its role needs; a reactor, for one, only one

from __future__ import annotations

import asyncio
import shutil
import smtplib
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import attrs

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

#: Where peers are installed: outside of the tree, and kept for the next run.
PEERS = Path(tempfile.gettempdir()) / "smtpmailer-benchmark-peers"

SENDER, RECIPIENT = "sender@example.org", "user@example.org"
USER, PASSWORD = "user", "pass"


@attrs.frozen
class Task:
    """What a process is to do."""

    port: int
    sessions: int
    mails: int
    authority: str
    message: str
    depth: int = 1

    def arguments(self) -> list[str]:
        """Give it as a command line."""
        fields = (self.port, self.sessions, self.mails, self.authority, self.message, self.depth)
        return [str(field) for field in fields]


def run_engine(task: Task) -> None:
    """Be our engine; the message is prepared, as it is for all."""
    from twisted.internet import reactor as installed
    from twisted.logger import LogPublisher, globalLogBeginner

    from smtpmailer.bundle import bundled
    from smtpmailer.core.model import DeliveryResult, Encryption, Envelope, OutgoingMail, Route
    from smtpmailer.core.wire import to_wire
    from smtpmailer.delivery.limits import PoolLimits
    from smtpmailer.delivery.sender import Sender

    installed.seconds = time.monotonic  # type: ignore[method-assign] # as tap.py does
    reactor = bundled(installed)
    globalLogBeginner.beginLoggingTo([LogPublisher()], redirectStandardIO=False)
    limits = PoolLimits(
        connections=task.sessions,
        connections_in_all=task.sessions,
        mails_per_connection=task.mails,
        depth=task.depth,
    )
    sender = Sender(reactor, 600, limits)
    route = Route(
        host="localhost",
        port=task.port,
        encryption=Encryption.STARTTLS,
        user=USER,
        password=PASSWORD,
        ehlo_name="client.example.org",
        ca_file=task.authority,
    )
    wire = to_wire(Path(task.message).read_bytes())
    mail = OutgoingMail(
        mail_id="1",
        envelope=Envelope(sender=SENDER, recipients=(RECIPIENT,)),
        wire=lambda _: wire,
    )
    left, open_ = iter(range(task.mails)), task.mails
    begun = time.perf_counter()

    def send() -> None:
        if next(left, None) is not None:
            sender.send(mail, route).addCallback(sent)

    def sent(result: DeliveryResult) -> None:
        nonlocal open_
        open_ -= 1
        if result.reason:
            print(result, file=sys.stderr)
        if open_ == 0:
            print(time.perf_counter() - begun, flush=True)
            sender.drain().addCallback(lambda _: reactor.stop())
        send()

    def begin() -> None:
        for _ in range(task.sessions * (task.depth + 2)):
            send()

    reactor.callWhenRunning(begin)
    reactor.run()


def run_smtplib(task: Task) -> None:
    """Be the standard library, a thread for each session."""
    left, message = iter(range(task.mails)), Path(task.message).read_bytes()
    trust = ssl.create_default_context(cafile=task.authority)

    def send() -> None:
        with smtplib.SMTP("localhost", task.port, local_hostname="client.example.org") as smtp:
            smtp.starttls(context=trust)
            smtp.login(USER, PASSWORD)
            for _ in left:
                smtp.sendmail(SENDER, [RECIPIENT], message)

    threads = [threading.Thread(target=send) for _ in range(task.sessions)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(time.perf_counter() - begun)


def run_aiosmtplib(task: Task) -> None:
    """Be aiosmtplib, a task for each session."""
    import aiosmtplib

    left, message = iter(range(task.mails)), Path(task.message).read_bytes()
    trust = ssl.create_default_context(cafile=task.authority)

    async def send() -> None:
        smtp = aiosmtplib.SMTP(
            hostname="localhost",
            port=task.port,
            username=USER,
            password=PASSWORD,
            local_hostname="client.example.org",
            start_tls=True,
            tls_context=trust,
        )
        async with smtp:
            for _ in left:
                await smtp.sendmail(SENDER, [RECIPIENT], message)

    async def send_all() -> None:
        await asyncio.gather(*(send() for _ in range(task.sessions)))

    begun = time.perf_counter()
    asyncio.run(send_all())
    print(time.perf_counter() - begun)


ROLES: Mapping[str, Callable[[Task], None]] = {
    "engine": run_engine,
    "smtplib": run_smtplib,
    "aiosmtplib": run_aiosmtplib,
}


def find_contestants() -> tuple[dict[str, list[str]], dict[str, str]]:
    """Install the peers; give the command of each contestant, and why others are missing."""
    commands = {role: [sys.executable, __file__, role] for role in ROLES}
    missing: dict[str, str] = {}
    if find_spec("aiosmtplib") is None:
        missing["aiosmtplib"] = "not installed (pip install aiosmtplib)"
        del commands["aiosmtplib"]
    for name, install in (("nodemailer", _install_nodemailer), ("net/smtp", _install_go)):
        try:
            commands[name] = install()
        except (OSError, subprocess.CalledProcessError) as error:
            missing[name] = str(error)
    return commands, missing


def _install_nodemailer() -> list[str]:
    folder = PEERS / "nodemailer"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "node_modules" / "nodemailer").exists():
        (folder / "package.json").write_text('{"private": true}\n', "utf-8")
        _call("npm", "install", "--no-audit", "--no-fund", "nodemailer", cwd=folder)
    shutil.copy(HERE / "peers" / "nodemailer.cjs", folder)
    return [_find("node"), str(folder / "nodemailer.cjs")]


def _install_go() -> list[str]:
    folder = PEERS / "net_smtp"
    folder.mkdir(parents=True, exist_ok=True)
    _call("go", "build", "-o", str(folder / "peer"), ".", cwd=HERE / "peers" / "net_smtp")
    return [str(folder / "peer")]


def _find(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise OSError(f"{program} is not installed")
    return found


def _call(program: str, *arguments: str, cwd: Path) -> None:
    subprocess.run([_find(program), *arguments], cwd=cwd, check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    """Be what the first argument names."""
    port, sessions, mails, authority, message, depth = sys.argv[2:8]
    ROLES[sys.argv[1]](Task(int(port), int(sessions), int(mails), authority, message, int(depth)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
