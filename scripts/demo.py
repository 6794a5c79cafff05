# SPDX-License-Identifier: MIT
"""Sends a mail through a service and a mail trap of its own, and shows each step.

Needs no account, no SMTP server and no network. Everything lies in ``.demo`` afterwards: the
configuration, the request, both logs and the delivered message.
"""

from __future__ import annotations

import email
import email.message
import email.policy
import json
import os
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

_T = TypeVar("_T")

ROOT: Final = Path(__file__).resolve().parent.parent
DEMO: Final = ROOT / ".demo"
DEADLINE: Final = 30.0
TAIL_LINES: Final = 15
SUBJECT: Final = "Grüße aus der Demo: 你好, мир! 🚀"
HTML: Final = """\
<h1>It works</h1>
<p>This mail came in as JSON and went out over SMTP with STARTTLS and a login.</p>
<p><img src="cid:logo" alt="A picture inside the mail" width="96" height="96"></p>
"""
TWISTD: Final = "from twisted.scripts.twistd import run; run()"


class DemoError(Exception):
    """A step did not do what it has to."""


def main() -> int:
    """Run all steps; give the exit status."""
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    try:
        run()
    except (DemoError, OSError, ValueError, subprocess.SubprocessError) as error:
        print(f"\nThe demo failed: {error}")
        show_logs()
        return 1
    print("\nThat was the whole way. Next: make run, and docs/reference/protocol.md")
    return 0


def run() -> None:
    """Do the demo, one step after the other."""
    prepare()
    with process("trap", trap_command()) as trap:
        smtp_port = wait_for("the mail trap", trap_port, trap)
        port = free_port()
        write_env(smtp_port, port)
        step("Mail trap and service")
        print(f"  smtpmailer trap        127.0.0.1:{smtp_port}  STARTTLS, login required")
        with process("service", service_command()) as service:
            wait_for("the service", lambda: pings(port), service)
            print(f"  twistd -n smtpmailer   127.0.0.1:{port}  configured by {shown('.env')}")
            answer = send(port)
            path = wait_for("the delivered mail", delivered, trap)
        if answer != {"status": "success", "data": None, "message": "mail sent successfully"}:
            raise DemoError(f"the service answered {answer}")
    show_message(path)


def prepare() -> None:
    """Make a fresh directory with the files that the mail carries."""
    shutil.rmtree(DEMO, ignore_errors=True)
    for name in ("files", "queue/mail", "queue/temp", "templates"):
        (DEMO / name).mkdir(parents=True)
    (DEMO / "files/Übersicht 2024.csv").write_text("Ort,Größe\nKöln,405\n東京,2194\n", "utf-8")
    (DEMO / "files/logo.png").write_bytes(picture(96))
    write_secret("smtp-password", secrets.token_urlsafe(16))


def write_env(smtp_port: int, port: int) -> None:
    """Write the configuration, with a key of its own, as an operator would."""
    key = subprocess.run(
        [sys.executable, "-m", "smtpmailer", "generate-key"],
        env=environment(),
        check=True,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    ).stdout.strip()
    lines = {
        "MAILER_ADDR": "127.0.0.1",
        "MAILER_PORT": port,
        "SECRET_KEY": f"'{key}'",
        "QUEUE_DIR": "queue/mail/",
        "QUEUE_PROCESS_DIR": "queue/temp/",
        "EMAIL_TEMPLATE_DIR": "templates/",
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": smtp_port,
        "SMTP_ENCRYPTION": "tls",
        "SMTP_CA_FILE": "mail/trap-ca.pem",
        "SMTP_USER": "demo",
        "SMTP_PASSWORD": f"'{(DEMO / 'smtp-password').read_text('utf-8')}'",
        "MAIL_FROM_ADDR": "demo@example.test",
        "MAIL_FROM_NAME": "smtpmailer demo",
        "ATTACHMENT_DIRS": "files/",
    }
    write_secret(".env", "".join(f"{key} = {value}\n" for key, value in lines.items()))


def send(port: int) -> Any:
    """Send the request over a plain socket, show it and the answer; give the answer."""
    mail = {
        "to": [["ada@example.test", "Ada Löwe"]],
        "ccList": ["bob@example.test"],
        "bccList": ["archive@example.test"],
        "subject": SUBJECT,
        "body": HTML,
        "attachments": [[str(DEMO / "files/Übersicht 2024.csv")]],
        "embedded": [[str(DEMO / "files/logo.png"), "logo"]],
    }
    fields = (f'  "{key}": {json.dumps(value, ensure_ascii=False)}' for key, value in mail.items())
    text = '{"sendMail": {\n' + ",\n".join(fields) + "\n}}\n"
    (DEMO / "request.json").write_text(text, "utf-8")
    step("Request: JSON over TCP")
    print(indented(text))
    print(f"\n  The same by hand:  nc -N 127.0.0.1 {port} < {shown('request.json')}")
    started = time.monotonic()
    answer = exchange(port, text.encode())
    step(f"Answer, after {(time.monotonic() - started) * 1000:.0f} ms")
    print(f"  {answer.decode().strip()}")
    return json.loads(answer)


def show_message(path: Path) -> None:
    """Show what arrived: envelope, headers, tree of parts; raise DemoError when it is not right."""
    raw = path.read_bytes()
    envelope = json.loads(path.with_suffix(".json").read_text("utf-8"))
    message = email.message_from_bytes(raw, policy=email.policy.default)
    step("Delivered")
    print(
        f"  envelope: from {envelope['from']} to {', '.join(envelope['to'])}\n"
        f"  session:  {envelope['tls']}, logged in as {envelope['user']}\n"
    )
    for name, value in message.items():
        print(f"  {name}: {value}")
    print("\n  Parts:")
    for line in tree(message, "    "):
        print(line)
    print(f"\n  {len(raw):,} bytes in {shown(path)}")
    files = {part.get_filename(): part.get_payload(decode=True) for part in message.walk()}
    for sent in sorted((DEMO / "files").iterdir()):
        if files.get(sent.name) != sent.read_bytes():
            raise DemoError(f"{sent.name} did not arrive as it was sent")
    if message["Subject"] != SUBJECT or "archive@" in str(message):
        raise DemoError("the headers are not what they have to be")


def tree(part: email.message.Message, indent: str) -> Iterator[str]:
    """Give a line for each part."""
    about = part.get_content_type()
    if not part.is_multipart():
        payload = part.get_payload(decode=True)
        size = len(payload) if isinstance(payload, bytes) else 0
        name = f'  "{part.get_filename()}"' if part.get_filename() else ""
        cid = f"  cid {part['Content-ID']}" if part["Content-ID"] else ""
        about = f"{about}{name}{cid}  {size} bytes"
    yield indent + about
    for child in part.iter_parts() if isinstance(part, email.message.EmailMessage) else ():
        yield from tree(child, indent + "  ")


def trap_command() -> list[str]:
    """Give the trap's command line; it picks its ports."""
    return [
        *(sys.executable, "-m", "smtpmailer", "trap", "--port", "0", "--starttls-port", "0"),
        *("--dir", str(DEMO / "mail"), "--user", "demo"),
        *("--password-file", str(DEMO / "smtp-password")),
    ]


def service_command() -> list[str]:
    """Give the service's command line: twistd, by the Python that runs this."""
    run_twistd = (sys.executable, "-c", TWISTD, "--nodaemon", "--pidfile=")
    return [*run_twistd, "smtpmailer", "--env", str(DEMO / ".env")]


@contextmanager
def process(name: str, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program, its output in a log file; stop it in the end and check how it ended."""
    with (DEMO / f"{name}.log").open("wb") as log:
        running = subprocess.Popen(
            command, cwd=DEMO, env=environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        yield running
        ended = running.poll()
        running.terminate()
        status = running.wait(DEADLINE)
    finally:
        if running.poll() is None:
            running.kill()
            running.wait()
    # twistd stops in order, then ends itself with the signal that stopped it.
    if ended is not None or status not in (0, -signal.SIGTERM):
        raise DemoError(f"the {name} ended {'early ' if ended is not None else ''}with {status}")


def environment() -> dict[str, str]:
    """Give an environment in which nothing configures the service but its env file."""
    kept = ("HOME", "LANG", "LC_ALL", "PATH", "TMPDIR")
    return {key: os.environ[key] for key in kept if key in os.environ} | {"PYTHONPATH": str(ROOT)}


def wait_for(what: str, probe: Callable[[], _T | None], running: subprocess.Popen[bytes]) -> _T:
    """Ask ``probe`` until it gives something.

    Raises DemoError when ``running`` ended, and at the deadline.
    """
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if running.poll() is not None:
            raise DemoError(f"{what} ended with status {running.returncode}")
        found = probe()
        if found:
            return found
        time.sleep(0.05)
    raise DemoError(f"{what} was not there after {DEADLINE:.0f} s")


def trap_port() -> int | None:
    """Give the trap's STARTTLS port once it listens."""
    log = (DEMO / "trap.log").read_text("utf-8", "replace")
    match = re.search(r"listening on \S+:(\d+) \(STARTTLS\)", log)
    return int(match[1]) if match else None


def pings(port: int) -> bool:
    """Tell whether the service answers."""
    try:
        return b"pong" in exchange(port, b'{"ping":null}')
    except OSError:
        return False


def exchange(port: int, request: bytes) -> bytes:
    """Write a request, read the line of its answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as connection:
        connection.sendall(request)
        with connection.makefile("rb") as answers:
            return answers.readline()


def delivered() -> Path | None:
    """Give the caught mail's file once it is there."""
    return next((DEMO / "mail").glob("*.eml"), None)


def free_port() -> int:
    """Give a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def picture(side: int) -> bytes:
    """Give a small PNG of coloured tiles; ``side`` is at most 96 pixels."""
    tiles = [at // 12 * 12 for at in range(side)]
    rows = b"".join(
        b"\0" + b"".join(bytes((40 + x, 90 + y, 220 - x)) for x in tiles) for y in tiles
    )
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def write_secret(name: str, text: str) -> None:
    """Write a file that only its owner may read."""
    (DEMO / name).touch(mode=0o600)
    (DEMO / name).write_text(text, "utf-8")


def show_logs() -> None:
    """Print the ends of both logs."""
    for log in sorted(DEMO.glob("*.log")):
        print(f"\n--- end of {shown(log)}")
        print("\n".join(log.read_text("utf-8", "replace").splitlines()[-TAIL_LINES:]))


def step(title: str) -> None:
    """Print a heading."""
    bold, plain = ("\033[1m", "\033[0m") if coloured() else ("", "")
    print(f"\n{bold}{title}{plain}", flush=True)


def coloured() -> bool:
    """Tell whether escape sequences are welcome."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def shown(path: Path | str) -> str:
    """Give a file's path as seen from here."""
    return os.path.relpath(DEMO / path)


def indented(text: str) -> str:
    """Give text with two blanks before each line."""
    return "\n".join(f"  {line}" for line in text.splitlines())


if __name__ == "__main__":
    sys.exit(main())
