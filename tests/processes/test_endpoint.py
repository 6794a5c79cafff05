# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.processes.endpoint."""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.errors import ControlError
from smtpmailer.processes.endpoint import Endpoint
from smtpmailer.processes.rundir import RunDirectory


class _Desk:
    """Answers what a test says."""

    def __init__(self) -> None:
        self.story: list[str] = []
        self.result: Deferred[Any] = succeed(None)

    def status(self) -> Deferred[Any]:
        self.story.append("status")
        return succeed({"a": 1})

    def connections(self) -> Deferred[Any]:
        return succeed([])

    def reload(self) -> Deferred[Any]:
        return fail(ControlError("faulty"))

    def stop(self, *, patient: bool) -> Deferred[None]:
        self.story.append(f"stop {patient}")
        return succeed(None)


class _Reactor(Clock):
    """Has one port."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: list[Any] = []
        self.trouble: Exception | None = None

    def listenUNIX(self, address: str, factory: Any, *, mode: int) -> _Reactor:
        if self.trouble is not None:
            raise self.trouble
        self.ports.append((address, factory, mode))
        return self

    def stopListening(self) -> Deferred[None]:
        self.ports.clear()
        return succeed(None)


class EndpointTests(SynchronousTestCase):
    """Commands come in, answers go out."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = directory.name
        self.desk, self.reactor = _Desk(), _Reactor()
        self.endpoint = self.make()

    def make(self) -> Endpoint:
        return Endpoint(self.reactor, RunDirectory(self.path), self.desk)

    def ask(self, what: str, **values: object) -> Any:
        """Call, ask, and give the answer."""
        channel = self.reactor.ports[0][1].buildProtocol(None)
        self.wire = StringTransport()
        channel.makeConnection(self.wire)
        channel.dataReceived(json.dumps({"ask": 1, "what": what, "values": values}).encode())
        channel.dataReceived(b"\n")
        return json.loads(self.wire.value())

    def test_commands_are_carried_out(self) -> None:
        self.endpoint.startService()
        self.assertEqual(self.ask("status"), {"answer": 1, "value": {"a": 1}})
        self.assertEqual(self.ask("connections"), {"answer": 1, "value": []})
        self.assertEqual(self.ask("reload"), {"answer": 1, "fault": "faulty"})
        self.assertIn("nonsense", self.ask("nonsense")["fault"])
        self.ask("stop")
        self.ask("stop", patient=True)
        self.ask("stop", patient="yes")
        self.assertEqual(self.desk.story, ["status", "stop False", "stop True", "stop False"])

    def test_the_socket_is_for_its_user_alone(self) -> None:
        self.endpoint.startService()
        address, _, mode = self.reactor.ports[0]
        self.assertEqual((address, mode), (f"{self.path}/control", 0o600))

    def test_a_directory_that_can_not_be_had_is_only_logged(self) -> None:
        self.make().startService()
        closed = os.path.join(self.path, "file")  # noqa: PTH118 - as the settings have it
        open(closed, "x").close()  # noqa: PTH123
        for directory in (self.path, closed):
            with capturedLogs() as events:
                endpoint = Endpoint(self.reactor, RunDirectory(directory), self.desk)
                endpoint.startService()
            self.assertEqual(len([e for e in events if "MAILER_RUN_DIR" in e["log_format"]]), 1)
            self.successResultOf(endpoint.stopService())
        self.assertEqual(len(self.reactor.ports), 1)

    def test_at_the_end_callers_are_dropped_and_the_directory_is_free(self) -> None:
        self.endpoint.startService()
        self.ask("status")
        self.successResultOf(self.endpoint.stopService())
        self.assertTrue(self.wire.disconnecting)
        self.assertEqual((self.reactor.ports, os.listdir(self.path)), ([], []))  # noqa: PTH208
        self.make().startService()
        self.assertEqual(len(self.reactor.ports), 1)
