# SPDX-License-Identifier: MIT
"""A service of several processes: what it keeps to when some of them die, or are replaced."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import bcrypt

from smtpmailer.core.names import unique_of
from tests.integration.queue_service import Clients, in_doubt, mail
from tests.integration.service import Service, mail_to, read_answer, until
from tests.integration.worker_service import PING, Load, WorkerCase, WorkerQueueCase

_PONG = "pong"
_STATUS = {"status": None}
_WORKERS = {"worker-1", "worker-2"}


class CarefulClients(Clients):
    """Clients that write down when they can't connect."""

    def __init__(self, *services: Service, **options: Any) -> None:
        self.refused: list[str] = []
        super().__init__(*services, **options)

    def _converse(self, service: Service) -> None:
        try:
            service.connect().close()
        except OSError as error:
            self.refused.append(repr(error))
        super()._converse(service)


class DeathTests(WorkerQueueCase):
    """Processes are killed while mails are queued and sent."""

    def setUp(self) -> None:
        super().setUp()
        self.mailer: Any
        self.mailer = self.launch(MAILER_WORKERS=2)
        self.mailer.await_processes("worker-1", "worker-2", "queue")

    def test_killed_processes_are_replaced_and_what_was_accepted_is_sent(self) -> None:
        """Every connection is let in, too; those that a killed worker had break."""
        clients = CarefulClients(self.mailer)
        self.addCleanup(clients.stop)
        for name in ("worker-1", "queue", "worker-2"):
            enough = len(clients.accepted) + 10
            until("mails are accepted", lambda: len(clients.accepted) >= enough)  # noqa: B023
            process = self.mailer.await_processes(name)[name]
            os.kill(process, signal.SIGKILL)
            self.mailer.await_other(name, process)
        clients.stop()
        self.assertEqual(clients.refused, [])
        self.send_all_now()
        self.check_arrivals(clients.names, clients.recipients, self.mailer)
        self.check_counts(clients)

    def send_all_now(self) -> None:
        """Wait until only mails in doubt are left, which wait for ten minutes; send them, too."""
        until("only mails in doubt wait", lambda: self.left() <= self.doubtful())
        for name in self.place.names(self.place.waiting):
            answer = self.mailer.ask({"updateQueuedMail": name, "content": {"scheduleTime": 1}})
            self.assertEqual(answer["status"], "success", answer)
        self.await_end()

    def left(self) -> set[str]:
        directories = (self.place.claimed, self.place.waiting, self.place.claimed)
        return {unique_of(name) for each in directories for name in self.place.names(each)}

    def doubtful(self) -> set[str]:
        return {mail_id for mail_id, _ in in_doubt(self.mailer)} - {
            unique_of(name) for name in self.place.names(self.place.claimed)
        }

    def check_counts(self, clients: Clients) -> None:
        """Check that what killed processes had counted counts, but for their last moments."""
        counts = self.mailer.ask(_STATUS)["data"]
        self.assertGreaterEqual(counts["sent"], len(clients.accepted) - 5)
        # Some were accepted of which a killed worker could not tell its client any more.
        self.assertLessEqual(counts["sent"], len(self.smtp.received))
        self.assertEqual(self.mailer.command("status")["totals"]["restarts"], 3)

    def test_without_a_supervisor_nobody_serves_for_long(self) -> None:
        family = self.mailer.family()
        self.assertEqual(len(family), 4)
        self.mailer.kill()
        self.await_gone(*family)
        self.assertFalse(self.mailer.listens())

    def test_stopping_ends_what_runs_and_all_processes_with_status_0(self) -> None:
        self.smtp.hold()
        with self.mailer.connect() as connection, connection.makefile("rb") as answers:
            connection.sendall(json.dumps(mail_to()).encode())
            (queued,) = self.enqueue(self.mailer, mail())
            until("two mails are under way", lambda: self.smtp.waiting == 2)
            family = self.mailer.family()
            self.mailer.terminate()
            until("the port is closed", self.mailer.refuses)
            self.smtp.release()
            self.assertEqual(read_answer(answers)["message"], "mail sent successfully")
        self.assertEqual(self.mailer.ended(), 0)
        self.assertFalse(any(map(self.exists, family)))
        self.assertEqual(len(self.smtp.received), 2)
        self.assertNotIn(queued, self.place.names(self.place.waiting))
        self.assertNotIn("Traceback", self.mailer.output())


class OvertimeTests(WorkerQueueCase):
    """A stop that takes longer than MAILER_STOP_TIMEOUT."""

    def test_deliveries_are_cut_short_in_a_line_for_each_process_and_no_mail_is_lost(self) -> None:
        mailer: Any = self.launch(MAILER_WORKERS=2, MAILER_STOP_TIMEOUT=1)
        mailer.await_processes("worker-1", "worker-2", "queue")
        self.smtp.hold()
        with mailer.connect() as connection, connection.makefile("rb") as answers:
            connection.sendall(json.dumps(mail_to() | {"detail": True}).encode())
            (queued,) = self.enqueue(mailer, mail())
            until("two mails are under way", lambda: self.smtp.waiting == 2)
            mailer.terminate()
            answer = read_answer(answers)
        self.assertEqual(mailer.ended(), 0)
        self.smtp.release()
        self.assertEqual(answer["data"], "SMTP Error: cut short, as the service stopped")
        again = answer["detail"]["queueName"]
        self.assertEqual(sorted(self.place.names(self.place.waiting)), sorted([again, queued]))
        said = [
            line.partition(" cut short: ")[2]
            for line in mailer.output().splitlines()
            if "the time to stop is over (1 s, MAILER_STOP_TIMEOUT)" in line
        ]
        expected = ["1 mail of the queue, 1 SMTP session", "1 request, 1 SMTP session"]
        self.assertEqual(sorted(said), expected)
        self.assertNotIn("Traceback", mailer.output())
        self.assertNotIn("killed", mailer.output())


class ReplacementTests(WorkerQueueCase):
    """Processes are replaced while clients ask: nobody notices."""

    def run_under(self, load: Load) -> None:
        """Let clients ask a little more, stop them, and check that none was let down."""
        load.await_more()
        load.stop()
        self.assertEqual((load.refused, load.broken, load.wrong), ([], [], []))

    def test_new_settings_replace_all_processes_and_no_request_fails(self) -> None:
        mailer: Any = self.launch(MAILER_WORKERS=2)
        before = mailer.await_processes("worker-1", "worker-2", "queue")
        load = Load(mailer)
        self.addCleanup(load.stop)
        load.await_more()
        mailer.set(MAIL_FROM_NAME="Somebody else")
        self.assertEqual(mailer.command("reload"), {"applied": ["MAIL_FROM_NAME"], "waiting": []})
        after = mailer.processes()
        self.assertEqual(after["supervisor"], before.pop("supervisor"))
        self.assertFalse(set(before.values()) & set(after.values()))
        self.run_under(load)
        self.await_gone(*before.values())
        self.enqueue(mailer, mail())
        until("a mail arrives", lambda: self.smtp.received)
        self.assertIn(b"Somebody else", self.smtp.received[0].content)

    def test_workers_with_enough_requests_are_replaced_and_no_request_fails(self) -> None:
        mailer: Any = self.launch(MAILER_MAX_REQUEST=300, MAILER_QUEUE=False)
        first = mailer.await_processes("worker-1")["worker-1"]
        load = Load(mailer)
        self.addCleanup(load.stop)
        second = mailer.await_other("worker-1", first)
        mailer.await_other("worker-1", second)
        self.run_under(load)

    def test_workers_with_too_much_memory_are_replaced_and_no_request_fails(self) -> None:
        """Nor do those of the clients whose long requests they hold meanwhile."""
        mailer: Any = self.launch(
            MAILER_WORKERS=2, MAILER_MAX_REQUEST_SIZE=100_000_000, MAILER_QUEUE=False
        )
        before = mailer.await_processes("worker-1", "worker-2")
        load = Load(mailer)
        self.addCleanup(load.stop)
        load.await_more()
        long = self.connect_to_each(mailer)
        for connection in long:
            connection.sendall(b'{"ping":' + b" " * 40_000_000)
        for name, process in before.items():
            if name in _WORKERS:
                mailer.await_other(name, process)
        load.await_more()
        self.assertEqual(mailer.output().count("(MAILER_MAX_MEMORY)"), 2)
        for connection in long:
            connection.sendall(b"null}")
            with connection.makefile("rb") as lines:
                self.assertEqual(read_answer(lines)["message"], _PONG)
        self.run_under(load)
        self.await_gone(before["worker-1"], before["worker-2"])

    def connect_to_each(self, mailer: Any) -> list[socket.socket]:
        """Open connections until each worker has taken one; give one of each."""
        taken: dict[str, socket.socket] = {}

        def connect() -> bool:
            connection = mailer.connect()
            self.addCleanup(connection.close)
            port = connection.getsockname()[1]
            found = until(
                "the connection is taken",
                lambda: [c["process"] for c in mailer.command("connections") if c["port"] == port],
            )
            taken.setdefault(found[0], connection)
            return taken.keys() >= _WORKERS

        until("each worker has a connection", connect)
        return list(taken.values())

    def test_all_are_replaced_when_the_crontab_says_so_and_no_request_fails(self) -> None:
        mailer: Any = self.launch(MAILER_WORKERS=2, MAILER_RESTART_CRON="*/4 * * * * *")
        before = mailer.await_processes(*_WORKERS, "queue")
        load = Load(mailer)
        self.addCleanup(load.stop)
        for name in (*_WORKERS, "queue"):
            mailer.await_other(name, before[name])
        self.run_under(load)

    def test_a_connection_outlasts_the_worker_that_took_it(self) -> None:
        mailer: Any = self.launch(MAILER_WORKERS=2, MAILER_QUEUE=False)
        mailer.await_processes("worker-1", "worker-2")
        self.smtp.hold()
        with mailer.connect() as half, mailer.connect() as busy, mailer.connect() as idle:
            half.sendall(PING[:5])
            busy.sendall(json.dumps(mail_to()).encode())
            idle.sendall(PING)
            with idle.makefile("rb") as lines:
                self.assertEqual(read_answer(lines)["message"], _PONG)
            until("the mail waits", lambda: self.smtp.waiting)
            mailer.set(MAIL_FROM_NAME="new")
            mailer.command("reload")
            until("the idle worker's end", lambda: len(mailer.processes("retiring")) == 1)
            for connection, rest in ((half, PING[5:]), (idle, PING)):
                connection.sendall(rest)
                with connection.makefile("rb") as lines:
                    self.assertEqual(read_answer(lines)["message"], _PONG)
            self.smtp.release()
            with busy.makefile("rb") as lines:
                self.assertEqual(read_answer(lines)["message"], "mail sent successfully")
            until("the old worker ends", lambda: not mailer.processes("retiring"))
            busy.sendall(PING)
            with busy.makefile("rb") as lines:
                self.assertEqual(read_answer(lines)["message"], _PONG)


class SharingTests(WorkerCase):
    """What one process knows all know, where it matters."""

    def setUp(self) -> None:
        super().setUp()
        self.smtp = self.server()

    def running(self, **values: object) -> Any:
        """Start a service with two workers."""
        service: Any = self.start(
            {"MAILER_WORKERS": 2, "SMTP_PORT": self.smtp.port, "MAILER_LOG_LEVEL": "notice"}
            | values
        )
        service.await_processes("worker-1", "worker-2")
        return service

    def connect_some(self, service: Any, number: int) -> list[socket.socket]:
        """Open connections that have been let in; closed with the test."""
        made = []
        for _ in range(number):
            connection = service.connect()
            self.addCleanup(connection.close)
            connection.sendall(PING)
            made.append(connection)
            with connection.makefile("rb") as lines:
                self.assertEqual(read_answer(lines)["message"], _PONG)
        return made

    def say(self, connection: socket.socket, request: object) -> Any:
        connection.sendall(json.dumps(request).encode())
        with connection.makefile("rb") as lines:
            return read_answer(lines)

    def test_connections_are_spread_and_each_worker_knows_what_all_have_sent(self) -> None:
        service = self.running()
        connections = self.connect_some(service, 6)
        spread = Counter(each["process"] for each in service.command("connections"))
        self.assertEqual(spread, {"worker-1": 3, "worker-2": 3})
        for connection in connections:
            self.assertEqual(self.say(connection, mail_to())["status"], "success")
        counted = [self.say(connection, _STATUS)["data"] for connection in connections]
        self.assertEqual(counted, [{"sent": 6, "failed": 0}] * 6)
        for name, process in service.processes().items():
            if name.startswith("worker"):
                os.kill(process, signal.SIGKILL)
                service.await_other(name, process)
        self.assertEqual(service.ask(_STATUS)["data"], {"sent": 6, "failed": 0})

    def test_the_limits_of_connections_hold_for_all_together(self) -> None:
        service = self.running(MAILER_MAX_CONNECTIONS_PER_PEER=4)
        first, *_ = self.connect_some(service, 4)
        self.assertEqual(service.ask({"ping": 1})["message"], "too many connections")
        first.close()
        until("there is room again", lambda: service.ask({"ping": 1})["message"] == _PONG)

    def test_a_key_s_rate_holds_for_all_together(self) -> None:
        keys = self.key_file("client", mails_per_minute=3)
        service = self.running(MAILER_AUTH=True, MAILER_KEYS_FILE=keys)
        answers = Counter(
            service.ask(mail_to() | {"auth": "client:word"})["message"] for _ in range(6)
        )
        self.assertEqual(answers, {"mail sent successfully": 3, "unauthorized request": 3})

    def key_file(self, name: str, mails_per_minute: int) -> str:
        """Write a file of keys with one, whose password is ``word``."""
        path = Path(self.mktemp()).absolute()
        path.touch(mode=0o600)
        self.write_key(str(path), b"word", name=name, mailsPerMinute=mails_per_minute)
        return str(path)

    def write_key(self, path: str, password: bytes, **key: object) -> None:
        hashed = bcrypt.hashpw(password, bcrypt.gensalt(4)).decode("ascii")
        Path(path).write_text(json.dumps([key | {"hash": hashed}]), "utf-8")

    def test_a_password_that_was_taken_away_is_refused_by_all(self) -> None:
        """Also by those that have checked it before, and remember that it was right."""
        keys = self.key_file("client", mails_per_minute=100)
        service = self.running(MAILER_AUTH=True, MAILER_KEYS_FILE=keys)
        connections: list[socket.socket] = []

        def both_serve() -> bool:
            connections.append(service.connect())
            self.addCleanup(connections[-1].close)
            self.assertEqual(self.ping(connections[-1], "word"), _PONG)
            serving = {each["process"] for each in service.command("connections")}
            return serving == {"worker-1", "worker-2"}

        until("both workers serve", both_serve)
        for connection in connections:
            self.assertEqual(self.ping(connection, "word"), _PONG)
        self.write_key(keys, b"new", name="client")
        service.hang_up()
        until("all know", lambda: service.output().count("MAILER_KEYS_FILE read again") >= 2)
        for connection in connections:
            self.assertEqual(self.ping(connection, "word"), "unauthorized request")
        for connection in connections:
            self.assertEqual(self.ping(connection, "new"), _PONG)

    def ping(self, connection: socket.socket, password: str) -> str:
        return str(self.say(connection, {"ping": 1, "auth": f"client:{password}"})["message"])

    def test_a_template_is_there_for_every_worker_at_once(self) -> None:
        service = self.running(
            EMAIL_TEMPLATE=True, EMAIL_TEMPLATE_API_READ_ONLY=False, EMAIL_TEMPLATE_DIR="t"
        )
        connections = self.connect_some(service, 4)
        self.say(connections[0], {"addTemplate": "a.html", "content": "old"})
        for connection in connections:
            self.assertEqual(self.say(connection, {"getTemplate": "a.html"})["data"], "old")
        self.say(connections[1], {"updateTemplate": "a.html", "content": "new"})
        for connection in connections:
            self.assertEqual(self.say(connection, {"getTemplate": "a.html"})["data"], "new")


class StartTests(WorkerCase):
    """How it starts, or does not."""

    def test_a_busy_port_is_one_clear_line(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as busy:
            port = busy.getsockname()[1]
            service = self.start({"MAILER_WORKERS": 2, "MAILER_PORT": port, "MAILER_LOG": False})
            self.assertEqual(service.ended(), 1)
        self.assertEqual(
            service.output(),
            f"smtpmailer: can't listen on 127.0.0.1:{port}: another program listens there "
            "(MAILER_ADDR, MAILER_PORT)\n",
        )
