# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.processes.notify."""

from __future__ import annotations

import socket
import tempfile

from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.processes.notify import Notifier, Watchdog


class NotifyTests(SynchronousTestCase):
    """A socket in the place of systemd's."""

    def setUp(self) -> None:
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.systemd.close)
        self.systemd.setblocking(False)

    def bind(self) -> str:
        """Give the socket a path that is short enough for one."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        path = f"{directory.name}/notify"
        self.systemd.bind(path)
        return path

    def heard(self) -> list[str]:
        """Give what was told."""
        found = []
        while True:
            try:
                found.append(self.systemd.recv(1000).decode("ascii"))
            except BlockingIOError:
                return found

    def test_a_path_and_an_abstract_name_are_addresses(self) -> None:
        path = self.bind()
        Notifier(path).ready()
        self.assertEqual(self.heard(), ["READY=1"])
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as abstract:
            abstract.bind("")
            name = abstract.getsockname()[1:].decode("ascii")
            Notifier(f"@{name}").stopping()
            self.assertEqual(abstract.recv(100), b"STOPPING=1")

    def test_what_it_says(self) -> None:
        path = self.bind()
        notifier = Notifier(path)
        notifier.reloading(12.5)
        notifier.ready()
        notifier.alive()
        said = ["RELOADING=1\nMONOTONIC_USEC=12500000", "READY=1", "WATCHDOG=1"]
        self.assertEqual(self.heard(), said)

    def test_where_nobody_asked_nothing_is_said(self) -> None:
        with capturedLogs() as events:
            Notifier().ready()
        self.assertEqual(events, [])

    def test_a_systemd_that_is_gone_is_only_logged(self) -> None:
        with capturedLogs() as events:
            Notifier("/no/such/socket").ready()
        self.assertEqual([event["text"] for event in events], ["READY=1"])

    def test_the_environment_is_read_and_left_clean_for_children(self) -> None:
        environ = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "500000", "WATCHDOG_PID": "7", "A": "b"}
        notifier = Notifier.take(environ, 7)
        self.assertEqual((notifier._address, notifier.watchdog_seconds), ("/x", 0.5))
        self.assertEqual(environ, {"A": "b"})

    def test_a_watchdog_of_another_process_or_none_is_not_ours(self) -> None:
        for environ in (
            {},
            {"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "8"},
            {"WATCHDOG_USEC": "soon"},
        ):
            self.assertEqual(Notifier.take(dict(environ), 7).watchdog_seconds, 0)

    def test_the_watchdog_hears_twice_in_its_time_while_the_service_runs(self) -> None:
        path = self.bind()
        clock = Clock()
        watchdog = Watchdog(clock, Notifier(path, 2.0))
        watchdog.startService()
        for _ in range(4):
            clock.advance(1)
        self.assertEqual(self.heard(), ["WATCHDOG=1"] * 4)
        watchdog.stopService()
        clock.advance(10)
        self.assertEqual((self.heard(), clock.getDelayedCalls()), ([], []))

    def test_without_a_watchdog_nothing_is_scheduled(self) -> None:
        clock = Clock()
        watchdog = Watchdog(clock, Notifier())
        watchdog.startService()
        self.assertEqual(clock.getDelayedCalls(), [])
        watchdog.stopService()
