# SPDX-License-Identifier: MIT
"""Services of several processes, looked at and ordered through their run directory."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from smtpmailer.core.control import Answer, Ask, decode, encode
from smtpmailer.errors import ControlError
from smtpmailer.processes.rundir import call
from tests.integration.queue_service import QueueServiceCase
from tests.integration.service import DEADLINE, Service, ServiceTestCase, read_answer, until

__all__ = ["PING", "Load", "WorkerCase", "WorkerQueueCase", "WorkerService"]

PING = b'{"ping":null}'


def exists(process: int) -> bool:
    """Tell whether a process is there, and no zombie."""
    try:
        text = Path(f"/proc/{process}/stat").read_text("ascii", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return re.sub(r".*\) ", "", text)[0] != "Z"


class WorkerService(Service):
    """A service of which each process is known."""

    def command(self, what: str, **values: object) -> Any:
        """Give a command's answer, ControlError when there is none."""
        called = call(str(self.folder / "run"), DEADLINE)
        if called is None:
            raise ControlError("it does not run")
        connection, _ = called
        with connection, connection.makefile("rb") as lines:
            connection.sendall(encode(Ask(1, what, values)) + b"\n")
            answer = decode(lines.readline())
        assert isinstance(answer, Answer)
        if answer.fault:
            raise ControlError(answer.fault)
        return answer.value

    def takes_commands(self) -> bool:
        """Tell whether it, or whoever has its run directory, can be asked."""
        called = call(str(self.folder / "run"), DEADLINE)
        if called is not None:
            called[0].close()
        return called is not None

    def processes(self, state: str = "running") -> dict[str, int]:
        """Give the processes in a state: their names and ids."""
        try:
            found = self.command("status")["processes"]
        except ControlError:
            return {}
        return {each["name"]: each["pid"] for each in found if each["state"] == state}

    def await_processes(self, *names: str) -> dict[str, int]:
        """Wait until these run."""
        return until(f"{names} run", lambda: self._all(names))

    def await_other(self, name: str, process: int) -> int:
        """Wait until another process has taken the place of one; give its id."""
        return until(f"another {name} runs", lambda: self._other(name, process))

    def family(self) -> list[int]:
        """Give the ids of all its processes, as the machine knows them."""
        own = self.process_id
        try:
            children = Path(f"/proc/{own}/task/{own}/children").read_text("ascii").split()
        except FileNotFoundError:
            return []
        return [own, *map(int, children)]

    def refuses(self) -> bool:
        """Tell whether its port is closed; one that is open and that nobody serves is not."""
        try:
            self.connect().close()
        except ConnectionRefusedError:
            return True
        return False

    def hang_up(self) -> None:
        """Have it read its settings again (SIGHUP)."""
        os.kill(self.process_id, signal.SIGHUP)

    def set(self, **values: object) -> None:
        """Change keys of the env file."""
        path = self.folder / ".env"
        kept = [
            line
            for line in path.read_text("utf-8").splitlines(keepends=True)
            if line.partition(" = ")[0] not in values
        ]
        path.write_text("".join(kept) + env_lines(values), "utf-8")

    def clean_up(self) -> None:
        """Kill all processes, and remove the folder once they are gone."""
        if self.is_running():
            # A supervisor would replace what it sees dying.
            os.kill(self.process_id, signal.SIGSTOP)
        family = self.family()
        for process in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        until("its processes end", lambda: not any(map(exists, family)))
        super().clean_up()

    def _is_ready(self) -> bool:
        """Tell whether all is there: its port is open before it takes commands."""
        return super()._is_ready() and self.takes_commands()

    def _all(self, names: tuple[str, ...]) -> dict[str, int]:
        running = self.processes()
        return running if running.keys() >= set(names) else {}

    def _other(self, name: str, process: int) -> int:
        found = self.processes().get(name, process)
        return found if found != process else 0


def env_lines(values: Mapping[str, object]) -> str:
    """Write keys as an env file holds them."""
    return "".join(
        f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}\n"
        for key, value in values.items()
    )


class _Processes:
    """What tests of such services share."""

    def exists(self, process: int) -> bool:
        """Tell whether a process is there, and no zombie."""
        return exists(process)

    def await_gone(self, *processes: int) -> None:
        """Wait until these processes have ended."""
        until("the processes end", lambda: not any(map(exists, processes)))


class WorkerCase(_Processes, ServiceTestCase):
    """Services without a queue."""

    service_class = WorkerService


class WorkerQueueCase(_Processes, QueueServiceCase):
    """Services with a queue on directories that outlast them, and an SMTP server."""

    service_class = WorkerService


class Load:
    """Clients that ask all the time, each in a way of its own, until stopped.

    ``connect`` counts failed connections, ``broken`` those that ended in the midst of a request.
    ``answers`` counts what was answered, and ``wrong`` keeps what should have been otherwise.
    """

    def __init__(self, service: Service, request: bytes = PING, *, once: int = 2) -> None:
        """Begin: ``once`` clients with a connection for each request, two that keep theirs."""
        self.answers = 0
        self.refused: list[str] = []
        self.broken: list[str] = []
        self.wrong: list[Any] = []
        self._service = service
        self._request = request
        self._stop = threading.Event()
        ways: list[Callable[[], None]] = [self._one_each] * once
        ways += [self._keep, self._pipeline]
        self._threads = [threading.Thread(target=self._run, args=(way,)) for way in ways]
        for thread in self._threads:
            thread.start()

    def stop(self) -> Load:
        """Stop; give itself."""
        self._stop.set()
        for thread in self._threads:
            thread.join(DEADLINE)
        return self

    def await_more(self, number: int = 200) -> None:
        """Wait until so many more answers have come."""
        enough = self.answers + number
        until("requests are answered", lambda: self.answers >= enough)

    def _run(self, way: Callable[[], None]) -> None:
        while not self._stop.is_set():
            try:
                way()
            except (OSError, AssertionError) as error:
                self.broken.append(f"{way.__name__}: {error!r}")
                self._stop.wait(0.01)

    def _connect(self) -> Any:
        while True:
            try:
                return self._service.connect()
            except OSError as error:
                self.refused.append(repr(error))
                self._stop.wait(0.01)

    def _one_each(self) -> None:
        with self._connect() as connection, connection.makefile("rb") as lines:
            connection.sendall(self._request)
            self._take(lines)
        self._pause()

    def _keep(self) -> None:
        with self._connect() as connection, connection.makefile("rb") as lines:
            while not self._stop.is_set():
                connection.sendall(self._request)
                self._take(lines)
                self._pause()

    def _pipeline(self) -> None:
        """Write requests in pieces that don't end where they do."""
        text = self._request * 7
        with self._connect() as connection, connection.makefile("rb") as lines:
            while not self._stop.is_set():
                connection.sendall(text[:-5])
                self._pause()
                connection.sendall(text[-5:])
                for _ in range(7):
                    self._take(lines)

    def _pause(self) -> None:
        """Leave the machine to the service: processes take longer to start than requests."""
        self._stop.wait(0.003)

    def _take(self, lines: BinaryIO) -> None:
        answer = read_answer(lines)
        self.answers += 1
        if answer["status"] != "success":
            self.wrong.append(answer)
