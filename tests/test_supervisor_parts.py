# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.supervisor_parts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer import supervisor_parts
from smtpmailer.core.board import Field
from smtpmailer.core.settings import Settings
from smtpmailer.errors import ControlError, TlsConfigError
from smtpmailer.processes.child import Child, Launch
from smtpmailer.processes.inheritance import Descriptors, Part, read_settings
from smtpmailer.supervisor_parts import build_supervisor, wants_supervisor
from tests.integration.servers import free_port
from tests.processes.family import Body, Family
from tests.surroundings import gathered, settings, surroundings


class WantsTests(SynchronousTestCase):
    """When there is more than one process."""

    def test_one_worker_is_all_unless_it_is_to_be_recycled(self) -> None:
        for changes, wanted in (
            ({}, False),
            ({"MAILER_MAX_MEMORY": 64, "MAILER_MAX_REQUEST": 0}, False),
            ({"MAILER_WORKERS": 2}, True),
            ({"MAILER_MAX_MEMORY": 128}, True),
            ({"MAILER_MAX_REQUEST": 1}, True),
            ({"MAILER_RESTART_CRON": "0 4 * * *"}, True),
        ):
            self.assertIs(wants_supervisor(settings(**changes)), wanted, changes)


class OfficeCase(SynchronousTestCase):
    """A service of two workers whose processes are the test's."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.family = Family(self.reactor)
        self.launches: list[tuple[Launch, Settings]] = []
        self.patch(supervisor_parts, "launch", self.launch)
        self.patch(self.reactor, "listenUNIX", self.listen)
        self.values: dict[str, object] = {
            "MAILER_WORKERS": 2,
            "MAILER_PORT": free_port(),
            "MAILER_RUN_DIR": str(Path(self.mktemp()).absolute()),
        }

    def launch(self, _reactor: object, child: Child, how: Launch) -> None:
        """Start a process in memory, with what it would find."""
        self.family.bodies.append(Body(child, 1000 + len(self.family.bodies)))
        made = read_settings(how.descriptors[Descriptors.SETTINGS]).settings()
        self.launches.append((how, made))

    def listen(self, _path: str, factory: Any, **_more: object) -> Any:
        self.desk = factory._asked
        return SimpleNamespace(stopListening=lambda: None)

    def started(self) -> None:
        """Start it; all are ready."""
        made = settings(**self.values)
        around = surroundings(made, self.reactor)
        around = attrs.evolve(around, read=lambda: gathered(**self.values))
        self.root = build_supervisor(made, gathered(**self.values), self.reactor, around)
        self.root.privilegedStartService()
        self.root.startService()
        self.addCleanup(self.stop)
        self.settle()

    def settle(self) -> None:
        """Let everybody be ready until nobody new comes."""
        for body in self.family.bodies:
            if not (body.child.ready or body.child.ended):
                body.get_ready()

    def stop(self) -> None:
        stopped = self.root.stopService()
        for body in self.family.bodies:
            if not body.child.ended:
                body.end()
        self.successResultOf(stopped)

    def ask(self, what: str, **values: object) -> Any:
        return self.desk(what, values)


class LaunchTests(OfficeCase):
    """How processes are started."""

    def test_each_knows_who_it_is_and_one_is_the_first(self) -> None:
        self.started()
        parts = [Part.parse(how.command[-1]) for how, _ in self.launches]
        self.assertEqual([part.name for part in parts], ["worker-1", "worker-2"])
        self.assertEqual([part.first for part in parts], [True, False])
        self.assertEqual([p.seat for p in parts], [b.child.seat for b in self.family.bodies])
        self.family.bodies[0].end(signal=9)
        self.reactor.advance(0)
        self.assertFalse(Part.parse(self.launches[-1][0].command[-1]).first)

    def test_no_secret_is_on_its_command_line_or_in_its_environment(self) -> None:
        self.values |= {"SMTP_USER": "me", "SMTP_PASSWORD": "very-secret"}
        self.started()
        how, made = self.launches[0]
        self.assertEqual(made.smtp_password, "very-secret")
        self.assertNotIn("very-secret", f"{how.command}{dict(how.environ)}")
        self.assertNotIn("very-secret", repr(how))

    def test_a_faulty_certificate_ends_the_start(self) -> None:
        self.values |= {
            "MAILER_PROTO": "ssl",
            "MAILER_SSL_CERT": "/missing",
            "MAILER_SSL_KEY": "/missing",
        }
        self.assertRaises(TlsConfigError, self.started)


class ReloadTests(OfficeCase):
    """New settings by new processes."""

    def test_nothing_new_is_read_again_by_those_that_are_there(self) -> None:
        self.started()
        reloaded = self.ask("reload")
        self.assertEqual(self.successResultOf(reloaded), {"applied": [], "waiting": []})
        for body in self.family.bodies:
            self.assertEqual(body.orders, [("reload", {})])

    def test_new_settings_are_those_of_new_processes(self) -> None:
        self.started()
        self.values |= {"MAIL_FROM_NAME": "new", "MAILER_RUN_DIR": "/elsewhere"}
        reloaded = self.ask("reload")
        self.settle()
        result = self.successResultOf(reloaded)
        self.assertEqual(result, {"applied": ["MAIL_FROM_NAME"], "waiting": ["MAILER_RUN_DIR"]})
        names = [made.mail_from_name for _, made in self.launches]
        self.assertEqual(names, ["", "", "new", "new"])
        self.assertEqual(self.family.bodies[0].orders[-1], ("retire", {}))

    def test_settings_with_which_a_process_does_not_start_count_for_nobody(self) -> None:
        self.started()
        self.values |= {"MAIL_FROM_NAME": "new", "MAILER_WORKERS": 3}
        reloaded = self.ask("reload")
        self.family.bodies[2].get_ready()
        self.family.bodies[3].end(status=1)
        self.family.bodies[4].get_ready()
        why = str(self.failureResultOf(reloaded, ControlError).value)
        self.assertIn("did not start with the new settings", why)
        names = [made.mail_from_name for _, made in self.launches]
        self.assertEqual(names, ["", "", "new", "new", ""])
        for body in self.family.bodies:
            if body.child.retiring:
                body.end()
        self.assertEqual(self.family.names(), ["worker-1", "worker-2"])
        self.family.living("worker-2")[0].end(signal=9)
        self.reactor.advance(0)
        self.assertEqual(self.launches[-1][1].mail_from_name, "")

    def test_one_reload_at_a_time(self) -> None:
        self.started()
        self.values |= {"MAIL_FROM_NAME": "new"}
        first = self.ask("reload")
        self.failureResultOf(self.ask("reload"), ControlError)
        self.settle()
        self.successResultOf(first)
        self.successResultOf(self.ask("reload"))


class DeskTests(OfficeCase):
    """What it answers for all."""

    def seat(self, index: int) -> Any:
        office: Any = self.root.getServiceNamed("supervisor")
        return office._board.seat(self.family.bodies[index].child.seat)

    def answer(self, value: Any) -> None:
        """Let every process that was asked answer."""
        for body in self.family.bodies:
            body.answer(value)

    def test_status_is_that_of_all_processes(self) -> None:
        self.started()
        for index in range(2):
            self.seat(index)[Field.SENT] = 10 + index
            self.seat(index)[Field.CONNECTIONS] = 1
        self.family.bodies[0].end(signal=9)
        asked = self.ask("status")
        self.family.bodies[1].answer({"waiting": 7})
        found = self.successResultOf(asked)
        names = [(each["name"], each["state"]) for each in found["processes"]]
        self.assertEqual(names, [("supervisor", "running"), ("worker-2", "running")])
        totals = found["totals"]
        self.assertEqual((totals["sent"], totals["connections"], totals["queued"]), (21, 1, 7))
        self.assertEqual(totals["restarts"], 1)

    def test_without_an_answer_it_is_not_known_how_many_wait(self) -> None:
        self.started()
        asked = self.ask("status")
        self.reactor.advance(2)
        self.assertNoResult(asked)
        self.reactor.advance(2)
        self.assertIsNone(self.successResultOf(asked)["totals"]["queued"])

    def test_connections_are_those_of_all_workers_that_answer(self) -> None:
        self.started()
        asked = self.ask("connections")
        self.family.bodies[1].answer([{"peer": "a"}])
        self.reactor.advance(5)
        self.assertEqual(self.successResultOf(asked), [{"peer": "a", "process": "worker-2"}])

    def test_a_patient_stop_has_no_limit(self) -> None:
        self.started()
        stops: list[object] = []
        self.patch(self.reactor, "stop", lambda: stops.append(None))
        self.successResultOf(self.ask("stop", patient=True))
        self.assertEqual(stops, [])
        self.reactor.advance(0)
        self.assertEqual((len(stops), self.root.stop_limit), (1, None))

    def test_an_unknown_command_is_refused(self) -> None:
        self.started()
        self.assertRaises(ControlError, self.ask, "nonsense")
