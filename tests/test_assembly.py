# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.assembly: other settings while it runs, and each process's parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import bcrypt
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.assembly import Assembly, Place
from smtpmailer.core.board import Field
from smtpmailer.core.documents import Document
from smtpmailer.errors import SettingsError, TlsConfigError
from smtpmailer.front_parts import build_front
from smtpmailer.processes.sharing import alone
from tests.connections import Client
from tests.delivery.certificates import authority, issue
from tests.integration.queue_service import KEY
from tests.services.parts import Sender
from tests.surroundings import settings


def hashed(password: bytes) -> str:
    """Give a password's hash, cheaply."""
    return bcrypt.hashpw(password, bcrypt.gensalt(4)).decode()


class AssemblyCase(SynchronousTestCase):
    """Parts that are not started."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.shared = alone()
        self.seat = self.shared.board.seat(self.shared.board.give(1))

    def assemble(self, place: Any = None, **changes: object) -> Assembly:
        place = place or Place(shared=self.shared, seat=self.seat)
        return Assembly(settings(**changes), self.reactor, place)


class UseTests(AssemblyCase):
    """Settings that count without a restart."""

    def certificate(self, name: str) -> dict[str, object]:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        cert, key = issue(name, issuer=authority()).write(str(folder))
        return {"MAILER_PROTO": "ssl", "MAILER_SSL_CERT": cert, "MAILER_SSL_KEY": key}

    def test_a_connection_that_was_open_already_goes_by_them(self) -> None:
        assembly = self.assemble()
        client = Client(assembly.factory)
        client.write(b'{"ping":1}')
        self.assertEqual(client.messages, ["pong"])
        assembly.use(settings(MAILER_AUTH=True, MAILER_AUTH_HASH=hashed(b"x")))
        client.write(b'{"ping":1}')
        self.reactor.advance(1)  # what answers no password at all
        self.assertEqual(client.messages[1:], ["unauthorized request"])
        assembly.use(settings())
        client.write(b'{"ping":1}')
        self.assertEqual(client.messages[2:], ["pong"])

    def test_limits_are_those_of_new_connections(self) -> None:
        assembly = self.assemble()
        assembly.use(settings(MAILER_MAX_IN_FLIGHT=7, MAILER_MAX_CONNECTIONS=1))
        self.assertEqual(assembly.factory.limits.max_in_flight, 7)
        Client(assembly.factory)
        self.assertEqual(Client(assembly.factory).messages, ["too many connections"])

    def test_files_that_are_looked_after_are_the_new_ones(self) -> None:
        certificate = self.certificate("localhost")
        assembly = self.assemble(**certificate)
        other = self.certificate("other.example")
        assembly.use(settings(**other))
        (item,) = assembly.reloader._items
        self.assertEqual(item.files, (other["MAILER_SSL_CERT"], other["MAILER_SSL_KEY"]))
        (Path(str(other["MAILER_SSL_CERT"]))).write_text("nonsense", "ascii")
        self.assertRaises(TlsConfigError, item.apply)

    def test_what_can_not_be_used_changes_nothing(self) -> None:
        certificate = self.certificate("localhost")
        assembly = self.assemble(**certificate)
        dispatcher, limits = assembly._switch.current, assembly.factory.limits
        for changes, fault in (
            ({"MAILER_AUTH": True, "MAILER_KEYS_FILE": "/missing"}, SettingsError),
            ({"MAILER_SSL_CERT": "/missing"}, TlsConfigError),
        ):
            self.assertRaises(fault, assembly.use, settings(**certificate | changes))
            self.assertIs(assembly._switch.current, dispatcher)
            self.assertIs(assembly.factory.limits, limits)


class LogTests(AssemblyCase):
    """A line that nobody would see is not made."""

    def test_a_mail_that_was_sent_has_one_at_the_levels_that_show_it(self) -> None:
        ground = attrs.evolve(self.assemble()._ground, sender=Sender())
        mail = {
            "to": ["user@example.org"],
            "ccList": [],
            "bccList": [],
            "subject": "s",
            "body": "b",
            "fromEmail": "me@example.org",
        }
        for changes, lines in (
            ({"MAILER_LOG_LEVEL": "debug"}, 1),
            ({"MAILER_LOG_LEVEL": "info"}, 1),
            ({"MAILER_LOG_LEVEL": "notice"}, 0),
            ({"MAILER_LOG_LEVEL": "error"}, 0),
            ({"MAILER_LOG_LEVEL": "info", "MAILER_LOG": False}, 0),
        ):
            dispatcher = build_front(settings(**changes), ground).dispatcher
            with capturedLogs() as events:
                asked = dispatcher.handle(Document({"sendMail": mail}, None, 0), "peer")
            self.assertEqual(self.successResultOf(asked).status, "success")
            self.assertEqual([event.get("outcome") for event in events], ["sent"] * lines)


class PartTests(AssemblyCase):
    """What belongs to which process."""

    def names(self, **changes: Any) -> list[str]:
        place = Place(shared=self.shared, seat=self.seat, **changes)
        queue = {"MAILER_QUEUE": True, "SECRET_KEY": KEY}
        return [part.name for part in self.assemble(place, **queue).parts()]

    def test_a_worker_serves_and_looks_after_the_queue_without_running_it(self) -> None:
        names = self.names(runs_queue=False)
        self.assertIn("listener", names)
        self.assertIn("queue lookout", names)
        self.assertNotIn("queue runner", names)

    def test_who_runs_the_queue_serves_nobody(self) -> None:
        names = self.names(serves=False)
        self.assertNotIn("listener", names)
        self.assertIn("queue runner", names)
        self.assertNotIn("queue lookout", names)

    def test_alone_it_does_both(self) -> None:
        names = self.names()
        self.assertLessEqual({"listener", "queue runner"}, set(names))
        self.assertEqual((names[0], names[-1]), ("pulse", "listener"))

    def test_at_the_end_no_mail_is_claimed_while_requests_are_waited_for(self) -> None:
        assembly = self.assemble(MAILER_QUEUE=True, SECRET_KEY=KEY)
        parts: dict[str, Any] = {part.name: part for part in assembly.parts()}
        parts["queue runner"].startService()
        assembly.factory.load.requests_in_flight = 1
        stopped = parts["requests"].stopService()
        self.assertNoResult(stopped)
        self.assertFalse(parts["queue runner"].running)
        assembly.factory.load.requests_in_flight = 0
        assembly.factory.progressed()
        self.successResultOf(stopped)

    def test_it_counts_on_its_seat(self) -> None:
        assembly = self.assemble()
        client = Client(assembly.factory)
        client.write(b'{"ping":1}')
        assembly.pulse.beat()
        found = [self.seat[field] for field in (Field.CONNECTIONS, Field.REQUESTS)]
        self.assertEqual(found, [1, 1])
        client.lose()
        self.assertEqual(self.seat[Field.CONNECTIONS], 0)
