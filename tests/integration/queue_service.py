# SPDX-License-Identifier: MIT
"""Services with a queue, the clients that fill it, and the reckoning of what arrived."""

from __future__ import annotations

import itertools
import json
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

from smtpmailer import __version__
from smtpmailer.core.names import unique_of
from tests.integration.servers import AioServer
from tests.integration.service import DEADLINE, Service, ServiceTestCase, until
from tests.stores.queues import SHM, Place

__all__ = [
    "KEY",
    "Clients",
    "QueueServiceCase",
    "ShiftedService",
    "arrivals",
    "in_doubt",
    "mail",
    "seconds_until",
]

KEY = "N7SNJsGAY1hku3PBjpqgDw=="

_MESSAGE_ID = re.compile(rb"^Message-ID: <([0-9a-z]+)@", re.MULTILINE)
_IN_DOUBT = re.compile(
    r"_([0-9a-z]+)\.json\) was being delivered when the service died; "
    r"in doubt, may be delivered twice: (.+)"
)


def mail(*recipients: str, **fields: Any) -> dict[str, Any]:
    """Give a mail object; to one recipient unless they are named."""
    to = list(recipients or ["user@example.org"])
    return {"to": to, "ccList": [], "bccList": [], "subject": "Hi", "body": "<p>Hi</p>"} | fields


def arrivals(server: AioServer) -> Counter[tuple[str, str]]:
    """Count what arrived, by mail (the first half of its Message-ID) and recipient."""
    return Counter(
        (_id_of(each.content), recipient)
        for each in list(server.received)
        for recipient in each.recipients
    )


def _id_of(content: bytes) -> str:
    found = _MESSAGE_ID.search(content)
    assert found is not None, content
    return found[1].decode("ascii")


def in_doubt(*services: Service) -> Counter[tuple[str, str]]:
    """Count how often the services' logs named each mail and recipient in doubt after a crash."""
    return Counter(
        (unique, recipient)
        for service in services
        for unique, recipients in _IN_DOUBT.findall(service.output())
        for recipient in recipients.split(", ")
    )


class Clients:
    """Threads that queue mails, at several services in turn, until stopped.

    Each mail goes to ``recipients``. A thread waits ``pause`` seconds between mails: a queue that
    grows and grows tells nothing new. ``accepted`` holds the names that were answered for, with
    the port of the service.
    """

    recipients: tuple[str, ...] = ("user@example.org",)
    pause = 0.02

    def __init__(self, *services: Service, threads: int = 4) -> None:
        """Begin."""
        self.accepted: list[tuple[str, int]] = []
        self.errors: list[object] = []
        self._services = services
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number,), daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def names(self) -> list[str]:
        """The names that were answered for."""
        return [name for name, _ in self.accepted]

    def count(self, service: Service) -> int:
        """Count what a service has answered for."""
        return sum(port == service.port for _, port in self.accepted)

    def stop(self) -> None:
        """Stop; AssertionError for a mail that was refused."""
        self._stop.set()
        for thread in self._threads:
            thread.join(DEADLINE)
        assert not self.errors, self.errors[:3]

    def _run(self, number: int) -> None:
        while not self._stop.wait(0.01):
            service = self._services[number % len(self._services)]
            number += 1
            try:
                self._converse(service)
            except OSError:
                continue

    def _converse(self, service: Service) -> None:
        """Queue some mails over one connection, unless it breaks."""
        request = json.dumps({"queueMail": mail(*self.recipients)}).encode()
        with service.connect() as connection, connection.makefile("rb") as lines:
            for _ in range(10):
                self._stop.wait(self.pause)
                connection.sendall(request)
                line = lines.readline()
                if not line.endswith(b"\n"):
                    return
                answer = json.loads(line)
                if answer["status"] == "success":
                    self.accepted.append((answer["data"], service.port))
                else:
                    self.errors.append(answer)


class ShiftedService(Service):
    """A service whose wall clock is off by the seconds in the file ``offset``, if there is one."""

    program: ClassVar[str] = """
import time
from pathlib import Path
real, offset = time.time, Path("offset").resolve()
time.time = lambda: real() + (float(offset.read_text()) if offset.exists() else 0.0)
from twisted.scripts.twistd import run
run()
"""


class QueueServiceCase(ServiceTestCase):
    """Services on queue directories that outlast them, and an SMTP server, ``smtp``."""

    def setUp(self) -> None:
        super().setUp()
        directory = tempfile.TemporaryDirectory(dir=SHM, ignore_cleanup_errors=True)
        self.addCleanup(directory.cleanup)
        self.place = Place(root=Path(directory.name))
        self.smtp = self.server(eager=True)

    def launch(self, **values: object) -> Service:
        """Start a service on the directories, without waiting for it."""
        settings: dict[str, object] = {
            "MAILER_QUEUE": True,
            "MAILER_QUEUE_API_READ_ONLY": False,
            "MAILER_LOG_LEVEL": "notice",
            "QUEUE_DIR": self.place.waiting,
            "QUEUE_PROCESS_DIR": self.place.claimed,
            "QUEUE_FAILED_DIR": self.place.failed,
            "QUEUE_SEND_IMMEDIATELY": True,
            "QUEUE_SCAN_INTERVAL": 3600,
            "SECRET_KEY": KEY,
            "SMTP_PORT": self.smtp.port,
        }
        return self.start(settings | values)

    def running(self, **values: object) -> Service:
        """Start a service and wait until it runs the queue."""
        service = self.launch(**values).ready()
        self.await_owner(service)
        return service

    def await_owner(self, service: Service) -> None:
        """Wait until a service has taken the queue's run over."""
        until(f"process {service.process_id} runs the queue", lambda: self.runs(service))

    def runs(self, service: Service) -> bool:
        """Tell whether the newest process of a service says that it runs the queue."""
        newest = service.output().rpartition(f"smtpmailer {__version__} starts")[2]
        return "this process runs the queue" in newest

    def runner(self, service: Service) -> str | None:
        """Give who runs the queue, as a service's ``status`` tells."""
        answer = service.ask({"status": None, "detail": True})
        runner: str | None = answer["detail"]["queue"]["runner"]
        return runner

    def enqueue(self, service: Service, *mails: dict[str, Any]) -> list[str]:
        """Queue mails over one connection; give their names."""
        data = b"".join(json.dumps({"queueMail": each}).encode() for each in mails)
        answers = service.exchange(data, answers=len(mails))
        self.assertEqual({answer["status"] for answer in answers}, {"success"}, answers)
        return [answer["data"] for answer in answers]

    def shift(self, service: Service, seconds: float) -> None:
        """Set the wall clock of a ShiftedService, for which it is later by so much from now on."""
        self.assertIsInstance(service, ShiftedService)
        new = service.folder / "offset.new"
        new.write_text(str(seconds), "ascii")
        new.rename(service.folder / "offset")

    def send_doubtful(self, service: Service) -> None:
        """Let the time pass after which mails in doubt are sent again, and send them."""
        self.shift(service, 700)
        # It notices when something happens, or within seconds.
        self.enqueue(service, mail())
        self.await_end()

    def detail(self, service: Service, name: str, request: str = "getQueuedMail") -> Any:
        """Give what is known about a mail beyond itself."""
        return service.ask({request: name, "detail": True})["detail"]

    def await_mails(self, *names: str) -> None:
        """Wait until these have arrived."""
        ids = {unique_of(name) for name in names}
        until("the mails arrive", lambda: ids <= {key for key, _ in arrivals(self.smtp)})

    def await_end(self) -> None:
        """Wait until no mail waits or is being delivered, as long as they get fewer."""
        left = self.unfinished()
        while left:
            until("the queue gets shorter", lambda: self.unfinished() < left)  # noqa: B023
            left = self.unfinished()

    def unfinished(self) -> int:
        """Count the mails that wait or are being delivered; those that move may count twice."""
        # In this order one that goes from here to there is not overlooked.
        order = (self.place.claimed, self.place.waiting, self.place.claimed)
        return sum(len(self.place.names(directory)) for directory in order)

    def check_arrivals(
        self, names: Iterable[str], recipients: Iterable[str], *services: Service
    ) -> None:
        """Lost 0; doubled 0, but for those that the logs named in doubt, as often as they did."""
        arrived, doubt = arrivals(self.smtp), in_doubt(*services)
        owed = itertools.product(map(unique_of, names), recipients)
        self.assertEqual([each for each in owed if not arrived[each]], [], "lost")
        doubled = {key: count for key, count in arrived.items() if count > 1 + doubt[key]}
        self.assertEqual(doubled, {}, "doubled without a word")
        self.assertEqual(self.place.names(self.place.failed), [])


def seconds_until(what: str, probe: Callable[[], object]) -> float:
    """Wait for something, and give how long it took."""
    begun = time.monotonic()
    until(what, probe)
    return time.monotonic() - begun
