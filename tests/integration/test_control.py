# SPDX-License-Identifier: MIT
"""The service as it is run for years: by commands, by signals, by systemd."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TypeVar

import bcrypt

from smtpmailer.errors import ControlError
from tests.integration.queue_service import KEY
from tests.integration.service import DEADLINE, mail_to, read_answer, until
from tests.integration.worker_service import PING, WorkerCase, WorkerService

_PONG = "pong"
_S = TypeVar("_S", bound=WorkerService)


def hashed(password: str) -> str:
    """Give a password's hash, cheaply."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode("ascii")


class _Folder(WorkerService):
    """A service's folder; nothing runs there yet."""

    program = "pass"


class CommandCase(WorkerCase):
    """A folder with an env file, and the command that is run there."""

    mailer: Any

    def run_command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command with the service's env file."""
        return subprocess.run(
            [sys.executable, "-m", "smtpmailer", *arguments, "--env", ".env"],
            cwd=self.mailer.folder,
            env=self.mailer.environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def done(self, *arguments: str) -> str:
        """Run a command that has to work; give what it printed."""
        result = self.run_command(*arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def failed(self, status: int, *arguments: str) -> str:
        """Run a command that has to fail so; give what it said."""
        result = self.run_command(*arguments)
        self.assertEqual((result.returncode, result.stdout), (status, ""), result.stderr)
        return result.stderr


class DaemonTests(CommandCase):
    """Start, stop, restart: of a daemon, which the tests end whatever happens."""

    def setUp(self) -> None:
        super().setUp()
        self.mailer = _Folder({"MAILER_LOG_LEVEL": "notice"})
        self.mailer.ended()
        self.addCleanup(self.mailer.clean_up)
        self.addCleanup(self.run_command, "stop")

    def daemon(self) -> int:
        return int((self.mailer.folder / "run/smtpmailer.pid").read_text("ascii"))

    def test_it_starts_and_restarts_and_stops(self) -> None:
        self.assertIn("smtpmailer runs (process ", self.done("start", "-d"))
        first = self.daemon()
        self.assertEqual(self.mailer.ask({"ping": 1})["message"], _PONG)
        self.assertIn(f"runs already: process {first}", self.failed(1, "start", "-d"))
        self.assertIn(f"service  {first}", self.done("status"))
        self.done("restart", "-d")
        second = self.daemon()
        self.assertNotEqual(first, second)
        self.assertFalse(self.exists(first))
        self.assertIn(f"(process {second})", self.done("stop", "--graceful"))
        self.assertFalse(self.exists(second))
        self.assertEqual(list((self.mailer.folder / "run").glob("[!s]*")), [])
        self.assertIn("no service runs from", self.failed(3, "stop"))

    def test_after_a_crash_nothing_is_in_the_way(self) -> None:
        self.mailer.set(MAILER_WORKERS=2)
        self.done("start", "-d")
        crashed = self.daemon()
        os.kill(crashed, signal.SIGKILL)
        self.await_gone(crashed)
        self.failed(3, "reload")
        until("its workers end", lambda: not self.mailer.listens())
        self.done("start", "-d")
        self.assertNotEqual(self.daemon(), crashed)

    def test_a_daemon_that_can_not_start_says_why(self) -> None:
        with socket.create_server(("127.0.0.1", self.mailer.port)):
            self.assertIn("another program listens there", self.failed(1, "start", "-d"))
        self.mailer.set(MAILER_WORKERS="many")
        self.assertIn('MAILER_WORKERS = "many"', self.failed(2, "restart", "-d"))

    def test_its_log_goes_on_in_a_new_file_after_a_hangup(self) -> None:
        self.done("start", "-d")
        log = self.mailer.folder / "run/smtpmailer.log"
        log.rename(log.with_suffix(".1"))
        os.kill(self.daemon(), signal.SIGHUP)
        until("the log is there", log.exists)
        until("the log goes on", lambda: "settings read again" in log.read_text("utf-8"))


class PatienceTests(WorkerCase):
    """`stop --graceful`: what runs may take any time, whatever MAILER_STOP_TIMEOUT says."""

    def test_what_runs_is_finished_however_long_it_takes(self) -> None:
        for workers in (1, 2):
            smtp = self.server()
            mailer: Any = self.start(
                {"MAILER_WORKERS": workers, "MAILER_STOP_TIMEOUT": 1, "SMTP_PORT": smtp.port}
            )
            mailer.ready()
            smtp.hold()
            with mailer.connect() as connection, connection.makefile("rb") as answers:
                connection.sendall(json.dumps(mail_to()).encode())
                until("the mail waits", lambda: smtp.waiting)  # noqa: B023
                mailer.command("stop", patient=True)
                end = time.monotonic() + 1.5
                until("its time would be over", lambda: time.monotonic() > end)  # noqa: B023
                smtp.release()
                self.assertEqual(read_answer(answers)["message"], "mail sent successfully")
            self.assertEqual(mailer.ended(), 0)
            self.assertNotIn("cut short", mailer.output())


class StatusTests(CommandCase):
    """What a running service tells about itself."""

    def setUp(self) -> None:
        super().setUp()
        self.mailer = self.start({"MAILER_LOG_LEVEL": "notice"}).ready()

    def test_it_tells_about_processes_and_connections(self) -> None:
        with self.mailer.connect() as connection, connection.makefile("rb") as lines:
            connection.sendall(PING + PING)
            for _ in range(2):
                read_answer(lines)
            host, port = connection.getsockname()
            (found,) = json.loads(self.done("connections", "--json"))["connections"]
            self.assertEqual((found["peer"], found["port"], found["requests"]), (host, port, 2))
            self.assertIn(f"{host} port {port}  service", self.done("connections"))
            told = json.loads(self.done("status", "--json"))
        (process,) = told["processes"]
        self.assertEqual(process["pid"], self.mailer.process_id)
        self.assertEqual((process["requests"], process["connections"]), (2, 1))
        self.assertGreater(process["memory"], 2**20)
        self.assertIsNone(told["totals"]["queued"])
        self.assertEqual(self.done("connections"), "no connections\n")

    def test_only_its_own_user_may_ask(self) -> None:
        run = self.mailer.folder / "run"
        self.assertEqual(oct(run.stat().st_mode & 0o777), "0o700")
        for path in run.iterdir():
            self.assertEqual(oct(path.stat().st_mode & 0o777), "0o600", path)

    def test_a_second_service_on_the_same_folder_serves_without_commands(self) -> None:
        second = self.start({"MAILER_RUN_DIR": self.mailer.folder / "run"})
        until("it says so", lambda: "another service runs from" in second.output())
        self.assertEqual(
            self.mailer.command("status")["processes"][0]["pid"], self.mailer.process_id
        )


class ReloadTests(WorkerCase):
    """SIGHUP and `smtpmailer reload` of a service of one process."""

    def setUp(self) -> None:
        super().setUp()
        self.smtp, self.other = self.server(eager=True), self.server(eager=True)
        values = {
            "MAILER_QUEUE": True,
            "SECRET_KEY": KEY,
            "SMTP_PORT": self.smtp.port,
            "QUEUE_SEND_IMMEDIATELY": True,
            "MAILER_LOG_LEVEL": "notice",
        }
        self.mailer: Any = self.start(values)
        self.mailer.ready()
        connection = self.mailer.connect()
        self.addCleanup(connection.close)
        self.connection = connection

    def say(self, request: object) -> Any:
        """Ask on a connection that stays open."""
        self.connection.sendall(json.dumps(request).encode())
        with self.connection.makefile("rb") as lines:
            return read_answer(lines)

    def test_what_can_change_counts_at_once_and_on_open_connections(self) -> None:
        self.assertEqual(self.say({"clearQueue": 1})["message"], "queue service is read-only")
        self.mailer.set(
            MAILER_AUTH=True,
            MAILER_AUTH_HASH=hashed("word"),
            MAILER_QUEUE_API_READ_ONLY=False,
            MAIL_FROM_NAME="Somebody else",
            MAIL_MAX_RECIPIENTS=1,
            MAILER_LOG_LEVEL="error",
            SMTP_PORT=self.other.port,
        )
        self.assertEqual(self.mailer.command("reload")["waiting"], [])
        self.assertEqual(self.say({"ping": 1})["message"], "unauthorized request")
        word = {"auth": "word"}
        self.assertEqual(self.say({"clearQueue": 1} | word)["status"], "success")
        mail = mail_to()
        mail["sendMail"]["to"].append("second@example.org")
        self.assertEqual(self.say(mail | word)["message"], "invalid payload")
        self.assertEqual(self.say(mail_to() | word)["status"], "success")
        self.assertEqual(len(self.smtp.received), 0)
        self.assertIn(b"Somebody else", self.other.received[0].content)
        self.assertEqual(self.mailer.output().count("settings read again"), 0)

    def test_what_is_queued_goes_by_the_new_settings_too(self) -> None:
        self.mailer.set(SMTP_PORT=self.other.port, QUEUE_SCAN_INTERVAL=3600)
        self.assertEqual(
            self.mailer.command("reload"),
            {"applied": ["SMTP_PORT"], "waiting": ["QUEUE_SCAN_INTERVAL"]},
        )
        said = "changed at the next start only: QUEUE_SCAN_INTERVAL"
        self.assertIn(said, self.mailer.output())
        self.assertEqual(self.say({"queueMail": mail_to()["sendMail"]})["status"], "success")
        until("the mail arrives", lambda: self.other.received)

    def test_faulty_settings_change_nothing_and_are_named(self) -> None:
        self.mailer.set(MAIL_FROM_NAME="Somebody else", MAILER_PORT=70000, MAIL_HTML="perhaps")
        refusal = str(self.assertRaises(ControlError, self.mailer.command, "reload"))
        self.assertIn("MAILER_PORT", refusal)
        self.assertIn("MAIL_HTML", refusal)
        self.mailer.hang_up()
        said = "the settings stay as they were: MAILER_PORT = 70000"
        until("the log says so too", lambda: self.mailer.output().count(said) == 2)
        self.assertEqual(self.say(mail_to())["status"], "success")
        self.assertIn(b"The Service", self.smtp.received[0].content)


class WorkerReloadTests(WorkerCase):
    """The same with several processes."""

    def test_faulty_settings_replace_nobody(self) -> None:
        mailer: Any = self.start({"MAILER_WORKERS": 2, "MAILER_LOG_LEVEL": "notice"})
        before = mailer.await_processes("worker-1", "worker-2")
        mailer.set(MAILER_PORT=70000)
        self.assertIn("MAILER_PORT", str(self.assertRaises(ControlError, mailer.command, "reload")))
        self.assertEqual(mailer.processes(), before)
        # Nor do they count for who has to be replaced meanwhile.
        os.kill(before["worker-1"], signal.SIGKILL)
        mailer.await_other("worker-1", before["worker-1"])
        mailer.set(MAILER_PORT=mailer.port, MAILER_WORKERS=1)
        self.assertEqual(mailer.command("reload")["applied"], ["MAILER_WORKERS"])
        until("one is left", lambda: mailer.processes().keys() == {"supervisor", "worker-1"})


class _Watched(WorkerService):
    """A service that systemd watches, as the environment says."""

    watcher: socket.socket

    def environment(self) -> dict[str, str]:
        """Name the socket to tell."""
        self.watcher = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.watcher.bind("")
        self.watcher.settimeout(DEADLINE)
        name = self.watcher.getsockname()[1:].decode("ascii")
        own = {"NOTIFY_SOCKET": f"@{name}", "WATCHDOG_USEC": "200000"}
        return super().environment() | own

    def told(self, beginning: str) -> str:
        """Wait until it tells something that begins so."""
        while True:
            text = self.watcher.recv(4096).decode("ascii")
            if text.startswith(beginning):
                return text

    def clean_up(self) -> None:
        """Close the socket too."""
        self.watcher.close()
        super().clean_up()


class _Activated(WorkerService):
    """A service whose port systemd has opened."""

    listening: socket.socket

    def command_line(self) -> list[str]:
        """Pass the socket as sd_listen_fds(3) describes."""
        self.listening = socket.create_server(("127.0.0.1", 0))
        number = self.listening.fileno()
        self.descriptors = (number,)
        program = (
            "import os, sys; "
            f"os.dup2({number}, 3); "
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1'); "
            "os.execv(sys.argv[1], sys.argv[1:])"
        )
        return [sys.executable, "-c", program, *super().command_line()]


class SystemdTests(WorkerCase):
    """Type=notify, WatchdogSec= and socket units."""

    def begin(self, service: _S) -> _S:
        """Look after a service."""
        self.addCleanup(service.clean_up)
        self._services.append(service)
        return service

    def test_it_tells_when_it_serves_reloads_and_stops_and_that_it_is_alive(self) -> None:
        for workers in (1, 2):
            mailer = self.begin(_Watched({"MAILER_WORKERS": workers}))
            mailer.told("READY=1")
            self.assertEqual(mailer.ask({"ping": 1})["message"], _PONG)
            mailer.told("WATCHDOG=1")
            mailer.hang_up()
            self.assertRegex(mailer.told("RELOADING=1"), r"\nMONOTONIC_USEC=\d+$")
            mailer.told("READY=1")
            mailer.terminate()
            mailer.told("STOPPING=1")
            self.assertEqual(mailer.ended(), 0)

    def test_it_serves_the_port_that_was_opened_for_it(self) -> None:
        for workers in (1, 2):
            mailer = self.begin(_Activated({"MAILER_WORKERS": workers}))
            mailer.port = mailer.listening.getsockname()[1]
            mailer.listening.close()
            self.assertEqual(mailer.ask({"ping": 1})["message"], _PONG)

    def test_the_number_of_a_daemon_s_process_is_in_its_run_directory(self) -> None:
        mailer = self.service()
        path = Path(mailer.folder, "run/smtpmailer.pid")
        until("the file is there", path.exists)
        self.assertEqual(path.read_text("ascii"), f"{mailer.process_id}\n")
