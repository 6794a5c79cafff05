# SPDX-License-Identifier: MIT
"""The service as users run it: a twistd process with an env file, talked to over sockets."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, TypeVar

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.servers import AioOptions, AioServer, free_port

__all__ = ["DEADLINE", "Service", "ServiceTestCase", "mail_to", "read_answer", "until"]

_T = TypeVar("_T")

#: Seconds that anything may take before a test gives up.
DEADLINE = 15.0
_ROOT = Path(__file__).resolve().parent.parent.parent

_DEFAULTS: Mapping[str, object] = {
    "MAILER_QUEUE": False,
    "EMAIL_TEMPLATE": False,
    "MAILER_LOG_LEVEL": "debug",
    "MAIL_FROM_ADDR": "service@example.org",
    "MAIL_FROM_NAME": "The Service",
    "SMTP_HOST": "127.0.0.1",
    "SMTP_ENCRYPTION": "none",
    "SMTP_EHLO_NAME": "client.example.org",
}


def until(what: str, probe: Callable[[], _T]) -> _T:
    """Ask ``probe`` until it gives something true; AssertionError at the deadline."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        found = probe()
        if found:
            return found
        time.sleep(0.005)
    raise AssertionError(f"{what}: not so after {DEADLINE:g} s")


def mail_to(recipient: str = "user@example.org", **fields: Any) -> dict[str, Any]:
    """Give a sendMail request for a small mail."""
    mail = {"to": [recipient], "ccList": [], "bccList": [], "subject": "Hi", "body": "<p>Hi</p>"}
    return {"sendMail": mail | fields}


class Service:
    """A twistd process with the service, and a folder for it.

    The folder holds the env file, is the working directory, and is removed with the process.
    ``program`` is what Python runs.
    """

    program: ClassVar[str] = "from twisted.scripts.twistd import run; run()"
    #: Open files that it gets besides.
    descriptors: tuple[int, ...] = ()

    def __init__(self, values: Mapping[str, object], *options: str) -> None:
        """Start it with these keys over the defaults; ``options`` are twistd's own."""
        self.folder = Path(tempfile.mkdtemp(prefix="smtpmailer-"))
        self.port = free_port()
        self._write_env({"MAILER_PORT": self.port} | dict(_DEFAULTS) | dict(values))
        self._arguments = options or ("--nodaemon", "--pidfile=")
        self._is_daemon = bool(options)
        self._running = self._launch()

    @property
    def process_id(self) -> int:
        """The id of its process, which has ended if the service is a daemon."""
        return self._running.pid

    def ready(self) -> Service:
        """Wait until it takes connections; give itself."""
        until("the service listens", self._is_ready)
        return self

    def connect(self) -> socket.socket:
        """Open a connection, each wait of which is bounded."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE)

    def exchange(self, data: bytes, *, answers: int = 1) -> list[Any]:
        """Write ``data`` on a connection of its own; give so many answers."""
        with self.connect() as connection, connection.makefile("rb") as lines:
            connection.sendall(data)
            return [read_answer(lines) for _ in range(answers)]

    def ask(self, request: object) -> Any:
        """Make one request and give its answer."""
        return self.exchange(json.dumps(request).encode())[0]

    def listens(self) -> bool:
        """Tell whether it takes connections now."""
        try:
            self.connect().close()
        except OSError:
            return False
        return True

    def daemon_id(self) -> int:
        """Give the process id of a daemon with ``--pidfile=service.pid``; 0 without one."""
        try:
            return int((self.folder / "service.pid").read_text("ascii") or 0)
        except FileNotFoundError:
            return 0

    def kill_daemon(self) -> None:
        """Kill the daemon unless it has ended."""
        daemon = self.daemon_id()
        if daemon:
            os.kill(daemon, signal.SIGKILL)

    def output(self) -> str:
        """Give what it printed so far; its log, unless it is a daemon."""
        return (self.folder / "output").read_text("utf-8", "replace")

    def ended(self) -> int:
        """Wait for its end; give the exit status."""
        return self._running.wait(DEADLINE)

    def is_running(self) -> bool:
        """Tell whether it still runs."""
        return self._running.poll() is None

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""
        self._running.terminate()

    def kill(self) -> None:
        """Kill it (SIGKILL) unless it has ended."""
        self._running.kill()
        self._running.wait()

    def start_again(self) -> Service:
        """Start another process after the end of the last one; it adds to the same output."""
        assert not self.is_running()
        self._running = self._launch()
        return self

    def clean_up(self) -> None:
        """Kill it if it still runs, and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder)

    def _is_ready(self) -> bool:
        assert self._is_daemon or self.is_running(), self.output()
        return self.listens()

    def command_line(self) -> list[str]:
        """Give what is run."""
        twistd = (sys.executable, "-c", self.program, *self._arguments)
        return [*twistd, "smtpmailer", "--env", str(self.folder / ".env")]

    def environment(self) -> dict[str, str]:
        """Give the environment in which it is run."""
        kept = ("HOME", "LANG", "PATH", "TMPDIR")
        own = {key: os.environ[key] for key in kept if key in os.environ}
        return own | {"PYTHONPATH": str(_ROOT)}

    def _launch(self) -> subprocess.Popen[bytes]:
        with (self.folder / "output").open("ab") as output:
            return subprocess.Popen(
                self.command_line(),
                cwd=self.folder,
                env=self.environment(),
                pass_fds=self.descriptors,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def _write_env(self, values: Mapping[str, object]) -> None:
        lines = (f"{key} = {_ini(value)}\n" for key, value in values.items())
        path = self.folder / ".env"
        path.touch(mode=0o600)
        path.write_text("".join(lines), "utf-8")


def _ini(value: object) -> str:
    """Write a value as PHP's INI reader wants it; nothing is special in single quotes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else f"'{value}'"


def read_answer(lines: BinaryIO) -> Any:
    """Read an answer: one line of JSON."""
    line = lines.readline()
    assert line.endswith(b"\n"), f"no whole answer: {line!r}"
    return json.loads(line)


class ServiceTestCase(SynchronousTestCase):
    """Starts services and SMTP servers for a test, and shows the services' logs if it fails."""

    service_class: ClassVar[type[Service]] = Service

    def run(self, result: Any = None) -> Any:
        """Run the test; when it fails print what its services printed."""
        self._services: list[Service] = []
        method = getattr(self, self._testMethodName)

        @functools.wraps(method)
        def watched() -> None:
            try:
                method()
            except Exception:
                for service in self._services:
                    sys.stderr.write(f"\n--- a service in {self.id()}:\n{service.output()}---\n")
                raise

        setattr(self, self._testMethodName, watched)
        return super().run(result)

    def service(self, server: AioServer | None = None, /, **values: object) -> Service:
        """Start a service that hands its mails to ``server``."""
        if server is not None:
            values.setdefault("SMTP_PORT", server.port)
        return self.start(values).ready()

    def start(self, values: Mapping[str, object], *options: str) -> Service:
        """Start a process, without waiting for it; ``options`` are twistd's own."""
        service = self.service_class(values, *options)
        self.addCleanup(service.clean_up)
        self._services.append(service)
        return service

    def server(self, **options: Any) -> AioServer:
        """Start an SMTP server; ``options`` are those of AioOptions."""
        server = AioServer(AioOptions(**options))
        self.addCleanup(server.stop)
        return server
