# SPDX-License-Identifier: MIT
"""A repeated request never makes a second mail: through cut connections, workers, and kills."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

from smtpmailer.client import Client
from smtpmailer.errors import ServiceAnswerError, ServiceUnreachableError
from tests.integration.queue_service import KEY, QueueServiceCase, mail
from tests.integration.service import DEADLINE, Service, ServiceTestCase, until
from tests.integration.worker_service import WorkerQueueCase
from tests.redis_server import RedisServer

#: The end of the year 2032.
_LATER = 1_988_150_400


class CuttingProxy:
    """Stands before a service, and cuts connections once a mail's request was handed on.

    For each of ``cuts`` one is cut: when the service has answered (True), or at once.
    """

    def __init__(self, service: Service, *cuts: bool) -> None:
        """Listen."""
        self._service = service
        self._cuts = list(cuts)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.mails = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with (
            client,
            client.makefile("rb") as requests,
            self._service.connect() as service,
            service.makefile("rb") as answers,
        ):
            for request in requests:
                service.sendall(request)
                is_mail = "ping" not in json.loads(request)
                self.mails += is_mail
                cuts = is_mail and bool(self._cuts)
                if cuts and not self._cuts.pop(0):
                    return
                answer = answers.readline()
                if cuts:
                    return
                client.sendall(answer)


def together(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Do something in so many threads at the same time; give what came of each."""
    results: list[Any] = [None] * count
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        barrier.wait(DEADLINE)
        try:
            results[number] = work(number)
        except Exception as error:  # noqa: BLE001 - it is the result
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * DEADLINE)
    return results


def later(**fields: Any) -> dict[str, Any]:
    """Give a mail object that stays in the queue."""
    return mail(scheduleTime=_LATER, **fields)


def waiting(service: Service) -> list[str]:
    """Give the names of all mails that wait."""
    names: list[str] = service.ask({"getQueueList": None})["data"]["items"]
    return names


class CutTests(QueueServiceCase):
    """Connections that end between request and answer."""

    def proxy(self, *cuts: bool, **values: object) -> tuple[Service, CuttingProxy]:
        service = self.running(**values)
        proxy = CuttingProxy(service, *cuts)
        self.addCleanup(proxy.close)
        return service, proxy

    def test_a_mail_is_queued_once_however_often_the_connection_is_cut(self) -> None:
        service, proxy = self.proxy(True, False, True)
        with Client("127.0.0.1", proxy.port, retry_for=10) as client:
            name = client.queue_mail(later())
        self.assertEqual((waiting(service), proxy.mails), ([name], 4))

    def test_a_mail_is_sent_once_however_often_the_connection_is_cut(self) -> None:
        _, proxy = self.proxy(False, True)
        with Client("127.0.0.1", proxy.port, retry_for=10) as client:
            answer = client.send_mail(mail())
        self.assertEqual((answer["message"], answer["repeated"]), ("mail sent successfully", True))
        self.assertEqual((len(self.smtp.received), proxy.mails), (1, 3))

    def test_a_key_of_the_programs_own_outlives_program_and_service(self) -> None:
        service = self.running()
        names = []
        for _ in range(2):
            with Client("127.0.0.1", service.port) as client:
                names.append(client.queue_mail(later(), once="order-17"))
            service.kill()
            self.await_owner(service.start_again().ready())
        self.assertEqual(names, waiting(service) * 2)

    def test_passwords_and_the_rest_of_the_mail_stay_off_the_disk(self) -> None:
        service, _ = self.proxy(QUEUE_FULL_ENCRYPT=True)
        with Client("127.0.0.1", service.port) as client:
            secret = later(smtpUser="us3r", smtpPassword="p4ssw0rd", subject="t0psecret")
            client.queue_mail(secret, once="order-17")
            client.send_mail(mail("s0meone@example.org"), once="k2", detail=True)
        contents = [path.read_bytes() for path in self.place.waiting.rglob("*") if path.is_file()]
        for text in (b"p4ssw0rd", b"us3r", b"t0psecret", b"order-17", b"s0meone"):
            self.assertFalse([each for each in contents if text in each], text)

    def test_without_a_queue_it_is_remembered_too(self) -> None:
        service = self.launch(MAILER_QUEUE=False).ready()
        request = {"sendMail": mail(), "once": "k"}
        answers = [service.ask(request) for _ in range(2)]
        self.assertEqual([each["repeated"] for each in answers], [False, True])
        self.assertEqual(len(self.smtp.received), 1)
        kept = [path for path in self.place.ours.joinpath("once").iterdir() if len(path.name) == 64]
        answer = service.ask({"sendMail": mail(attachments=[[str(kept[0])]])})
        self.assertIn("could not attach", answer["data"])


class WorkerTests(WorkerQueueCase):
    """Several processes share what is remembered."""

    def test_many_at_once_make_one_mail(self) -> None:
        service = self.launch(MAILER_WORKERS=2).ready()
        service.await_processes("worker-1", "worker-2", "queue")  # type: ignore[attr-defined]

        def work(number: int) -> str:
            with Client("127.0.0.1", service.port, timeout=DEADLINE) as client:
                return client.queue_mail(later(subject=str(number % 3)), once=f"k{number % 3}")

        names = together(24, work)
        until("all are there", lambda: len(waiting(service)) >= 3)
        self.assertEqual(sorted(Counter(names).values()), [8, 8, 8], names)
        self.assertEqual(sorted(set(names)), waiting(service))


class RedisTests(ServiceTestCase):
    """Several nodes share what is remembered in Redis."""

    def test_two_nodes_make_one_mail(self) -> None:
        redis = RedisServer()
        self.addCleanup(redis.clean_up)
        values = {
            "MAILER_QUEUE": True,
            "REDIS_ENABLE": True,
            "REDIS_STORE_QUEUE": True,
            "REDIS_PORT": redis.port,
            "SECRET_KEY": KEY,
            "SMTP_PORT": 9,
        }
        nodes = [self.start(values), self.start(values)]
        for node in nodes:
            node.ready()

        def work(number: int) -> Any:
            return nodes[number % 2].ask({"queueMail": later(), "once": "k"})

        answers = together(8, work)
        self.assertEqual(len({each["data"] for each in answers}), 1, answers)
        self.assertEqual(sorted(each["repeated"] for each in answers), [False] + [True] * 7)
        self.assertEqual(waiting(nodes[0]), [answers[0]["data"]])
        nodes[0].kill()
        self.assertTrue(nodes[1].ask({"queueMail": later(), "once": "k"})["repeated"])


class DyingService(Service):
    """A service that kills itself at the step in the file ``die``, which it removes first."""

    program: ClassVar[str] = """
import os, signal
from pathlib import Path
from smtpmailer.stores.files import FileQueueStore
from smtpmailer.stores.once_files import FileOnceStore
order = Path("die").resolve()
def die(step):
    if order.exists() and order.read_text() == step:
        order.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
def around(kind, method, name):
    real = getattr(kind, method)
    def call(*arguments):
        die(f"before {name}")
        def over(result):
            die(f"after {name}")
            return result
        return real(*arguments).addCallback(over)
    setattr(kind, method, call)
around(FileOnceStore, "claim", "claim")
around(FileQueueStore, "put", "put")
around(FileOnceStore, "answer", "answer")
from twisted.scripts.twistd import run
run()
"""

    def die_at(self, step: str) -> None:
        """Let it kill itself at this step."""
        (self.folder / "die").write_text(step)


class CrashTests(QueueServiceCase):
    """A service that is killed between claim and answer."""

    service_class = DyingService

    def queued_through_a_kill(self, step: str, service: DyingService) -> Any:
        """Queue a mail by a client that repeats, at a service that dies meanwhile."""
        service.die_at(step)
        results: list[Any] = []

        def queue() -> None:
            with Client("127.0.0.1", service.port, retry_for=DEADLINE) as client:
                try:
                    results.append(client.queue_mail(later(subject=step)))
                except ServiceAnswerError as error:
                    results.append(error.answer["message"])

        thread = threading.Thread(target=queue)
        thread.start()
        until("it dies", lambda: not service.is_running())
        self.await_owner(service.start_again().ready())
        thread.join(2 * DEADLINE)
        return results[0]

    def test_killed_at_each_step_it_makes_no_second_mail(self) -> None:
        service = self.running()
        assert isinstance(service, DyingService)
        steps = ("before claim", "before put", "after put", "before answer", "after answer")
        results = {step: self.queued_through_a_kill(step, service) for step in steps}
        # Nothing tells one that was never put from one that is gone since.
        self.assertEqual(results.pop("before put"), "request is in doubt")
        self.assertEqual(sorted(results.values()), waiting(service))

    def test_killed_at_random_no_mail_is_there_twice_and_none_is_lost(self) -> None:
        service = self.running()
        stop = threading.Event()
        told: dict[str, str] = {}

        def client(number: int) -> None:
            count = 0
            while not stop.is_set():
                count += 1
                subject = f"{number}-{count}"
                with Client("127.0.0.1", service.port, retry_for=DEADLINE) as one:
                    try:
                        told[subject] = one.queue_mail(later(subject=subject))
                    except (ServiceAnswerError, ServiceUnreachableError) as error:
                        told[subject] = f"in doubt: {error}"
                stop.wait(0.01)

        threads = [threading.Thread(target=client, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for pause in (0.3, 0.1, 0.2):
            stop.wait(pause)
            service.kill()
            service.start_again().ready()
        self.await_owner(service)
        stop.set()
        for thread in threads:
            thread.join(2 * DEADLINE)
        found = Counter(
            json.loads(path.read_bytes())["subject"] for path in self.place.waiting.glob("mail_*")
        )
        self.assertEqual(max(found.values()), 1)
        sure = {subject for subject, what in told.items() if not what.startswith("in doubt")}
        self.assertEqual(sure - found.keys(), set())
        self.assertLessEqual(found.keys(), told.keys())
        names = {told[subject] for subject in sure}
        self.assertLessEqual(names, {path.name for path in self.place.waiting.glob("mail_*")})
        self.assertGreater(len(sure), 20)
        for what in told.values():
            if what.startswith("in doubt"):
                self.assertIn("request is in doubt", what)
