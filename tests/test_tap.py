# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.tap."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import syslog
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import bcrypt
from twisted.application.service import Application, IService
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import ILogObserver, LogPublisher, capturedLogs
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python import log as legacy_log
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer import tap
from smtpmailer.core.settings import Settings
from smtpmailer.core.settings_reading import from_values
from smtpmailer.errors import SettingsError, TlsConfigError
from smtpmailer.log import LineObserver
from smtpmailer.protocol import JsonFactory
from smtpmailer.reloading import Reloader
from tests.delivery.certificates import authority, issue

ROOT = Path(__file__).resolve().parent.parent
VALUES = {
    "SMTP_HOST": "smtp.example.org",
    "MAILER_QUEUE": False,
    "EMAIL_TEMPLATE": False,
    "ATTACHMENT_DIRS": "files",
}


def settings(**changes: object) -> Settings:
    """Make settings of these keys over a few that are needed."""
    return from_values(VALUES | changes, "/srv/mailer")


def open_files() -> set[str]:
    """Give the numbers of this process's open files."""
    return {path.name for path in Path("/proc/self/fd").iterdir()}


class BuildTests(SynchronousTestCase):
    """The parts, put together."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()

    def build(self, **changes: object) -> tap.Root:
        return tap.build(settings(**changes), self.reactor, LogPublisher())

    def factory(self, **changes: object) -> Any:
        """Start a service; give what it listens with."""
        root = self.build(**changes)
        root.privilegedStartService()
        root.startService()
        self.addCleanup(lambda: self.successResultOf(root.stopService()))
        return self.reactor.tcpServers[-1][1]

    def test_it_opens_and_schedules_nothing(self) -> None:
        before = open_files()
        self.build()
        self.assertEqual(self.reactor.tcpServers, [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(open_files(), before)

    def test_the_listener_starts_last_and_so_stops_first(self) -> None:
        names = [service.name for service in self.build()]
        self.assertEqual(names[-2:], ["requests", "listener"])
        self.assertLess(names.index("threads"), names.index("deliveries"))
        self.assertLess(names.index("deliveries"), names.index("requests"))

    def test_it_listens_where_the_settings_say_and_stops(self) -> None:
        root = self.build(MAILER_ADDR="127.0.0.2", MAILER_PORT=4000)
        root.privilegedStartService()
        root.startService()
        port, _, _, interface = self.reactor.tcpServers[0]
        self.assertEqual((port, interface), (4000, "127.0.0.2"))
        self.successResultOf(root.stopService())

    def test_the_limits_are_those_of_the_settings(self) -> None:
        factory = self.factory(
            MAILER_MAX_REQUEST_SIZE=2048,
            MAILER_MAX_DEPTH=9,
            MAILER_IDLE_TIMEOUT=8,
            MAILER_REQUEST_TIMEOUT=7,
            MAILER_MAX_CONNECTIONS=6,
            MAILER_MAX_CONNECTIONS_PER_PEER=5,
            MAILER_MAX_IN_FLIGHT=4,
            MAILER_MAX_BUFFERED=2**21,
        )
        assert isinstance(factory, JsonFactory)
        limits = attrs.astuple(factory.limits)
        self.assertEqual(limits[:7], (2048, 9, 8, 7, 6, 5, 4))
        self.assertEqual(factory.limits.max_buffered_bytes, 2**21)

    def test_with_ssl_it_speaks_tls(self) -> None:
        folder = self.mktemp()
        Path(folder).mkdir()
        cert, key = issue("localhost", issuer=authority()).write(str(Path(folder).absolute()))
        factory = self.factory(MAILER_PROTO="ssl", MAILER_SSL_CERT=cert, MAILER_SSL_KEY=key)
        self.assertIsInstance(factory, TLSMemoryBIOFactory)

    def test_a_certificate_that_can_not_be_used_is_an_error_before_anything_opens(self) -> None:
        with self.assertRaises(TlsConfigError):
            self.build(MAILER_PROTO="ssl", MAILER_SSL_CERT="/missing", MAILER_SSL_KEY="/missing")
        self.assertEqual(self.reactor.tcpServers, [])

    def test_with_a_password_nothing_is_answered_without_it(self) -> None:
        secret = bcrypt.hashpw(b"x", bcrypt.gensalt(4)).decode()
        for changes, said in (
            ({}, b"pong"),
            ({"MAILER_AUTH": True, "MAILER_AUTH_HASH": secret}, b"unauthorized request"),
        ):
            protocol = self.factory(**changes).buildProtocol(None)
            transport = StringTransport()
            protocol.makeConnection(transport)
            protocol.dataReceived(b'{"ping":1}')
            self.reactor.advance(1)  # what answers no password at all
            self.assertIn(said, transport.value())
            protocol.connectionLost(Failure(ConnectionDone()))

    def test_new_keys_count_without_a_restart(self) -> None:
        """The file is looked at every five seconds; a faulty one changes nothing."""
        path = Path(self.mktemp()).absolute()
        path.touch(mode=0o600)

        def write(content: str) -> None:
            path.write_text(content, "utf-8")

        def hashed(password: bytes) -> str:
            return bcrypt.hashpw(password, bcrypt.gensalt(4)).decode()

        write(json.dumps([{"name": "a", "hash": hashed(b"old")}]))
        root = self.build(MAILER_AUTH=True, MAILER_KEYS_FILE=str(path))
        assert root.reloader is not None
        auth = root.reloader._items[0]
        root.startService()
        self.addCleanup(lambda: self.successResultOf(root.stopService()))
        applied: list[str] = []
        self.patch(Reloader, "_apply", lambda _self, item: applied.append(item.what))
        write(json.dumps([{"name": "b", "hash": hashed(b"new")}]))
        self.reactor.advance(5)
        self.assertEqual(applied, ["MAILER_KEYS_FILE"])
        auth.apply()
        write("[]")
        self.assertRaises(SettingsError, auth.apply)

    def test_the_warnings_of_the_settings_are_logged_at_start(self) -> None:
        root = self.build(SMTP_TLS_VERIFY=False)
        with capturedLogs() as events:
            root.startService()
        self.successResultOf(root.stopService())
        warnings = [event["text"] for event in events if "text" in event]
        self.assertEqual(warnings, list(settings(SMTP_TLS_VERIFY=False).warnings))
        self.assertTrue(warnings)


class RootTests(SynchronousTestCase):
    """A port that can't be opened is shown wherever the log goes."""

    def shown(self, **changes: object) -> str:
        """Start a service whose port is refused; give what the terminal shows besides the log."""
        path = Path(self.mktemp())
        made = settings(MAILER_ADDR="host.invalid", **changes)
        root = tap.build(made, MemoryReactorClock(), LogPublisher())
        with path.open("w") as terminal:
            self.patch(sys, "__stderr__", terminal)
            self.assertRaises(SystemExit, root.privilegedStartService)
        return path.read_text("utf-8")

    def test_a_refusal_is_shown_unless_the_log_shows_it(self) -> None:
        self.assertIn("can't listen on", self.shown(MAILER_LOG=False))
        self.assertIn("can't listen on", self.shown(MAILER_LOG_OUTPUT="syslog"))
        self.assertEqual(self.shown(), "")


class MakeServiceTests(SynchronousTestCase):
    """What twistd calls."""

    def options(self, text: str) -> tap.Options:
        """Write an env file; give the options that name it."""
        path = Path(self.mktemp())
        path.touch(mode=0o600)
        path.write_text(text, "utf-8")
        options = tap.Options()
        options.parseOptions(["--env", str(path)])
        return options

    def test_all_faults_end_the_process_with_one_text(self) -> None:
        options = self.options("MAILER_PORT = 0x\nSMTP_HOST = 'h'\nMAILER_QUEUE = maybe\n")
        text = str(self.assertRaises(SystemExit, tap.makeService, options).code)
        self.assertTrue(text.startswith("smtpmailer: the configuration is faulty:\n  "))
        self.assertIn("\n  MAILER_PORT", text)
        self.assertIn("\n  MAILER_QUEUE", text)

    def test_an_env_file_that_is_missing_ends_the_process(self) -> None:
        options = tap.Options()
        options.parseOptions(["--env", "/missing/.env"])
        text = str(self.assertRaises(SystemExit, tap.makeService, options).code)
        self.assertIn("/missing/.env", text)

    def test_files_that_the_settings_name_have_to_be_there(self) -> None:
        options = self.options(
            "SMTP_HOST = 'h'\nMAILER_QUEUE = off\nEMAIL_TEMPLATE = off\nSMTP_CA_FILE = no.pem\n"
        )
        text = str(self.assertRaises(SystemExit, tap.makeService, options).code)
        self.assertIn("SMTP_CA_FILE", text)

    def test_importing_it_installs_no_reactor(self) -> None:
        code = "import sys, smtpmailer.tap; sys.exit('twisted.internet.reactor' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
        self.assertEqual(done.returncode, 0)


class SigtermTests(SynchronousTestCase):
    """SIGTERM is an orderly end."""

    def test_the_reactor_stops_once_however_often_the_signal_comes(self) -> None:
        stops: list[object] = []
        reactor = SimpleNamespace(stop="stop", callFromThread=stops.append)
        self.addCleanup(signal.signal, signal.SIGTERM, signal.getsignal(signal.SIGTERM))
        tap._end_well_on_sigterm(reactor)
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
        self.assertEqual(stops, ["stop"])


class SighupTests(SynchronousTestCase):
    """SIGHUP reads certificates and keys again."""

    def test_the_signal_reloads_in_the_reactor_s_own_time(self) -> None:
        calls: list[Any] = []
        reactor = SimpleNamespace(callFromThread=calls.append)
        self.addCleanup(signal.signal, signal.SIGHUP, signal.getsignal(signal.SIGHUP))
        root = tap.build(settings(), MemoryReactorClock(), LogPublisher())
        tap._reload_on_sighup(reactor, root)
        signal.raise_signal(signal.SIGHUP)
        self.assertEqual(calls, [root.reload])
        with capturedLogs() as events:
            root.reload()
        self.assertEqual(len(events), 1)


class ObserverTests(SynchronousTestCase):
    """Where the log goes."""

    def observer(self, twistd: dict[str, object] | None = None, **changes: object) -> Any:
        return tap._observer(settings(**changes), twistd or {})

    def event(self, text: str, **more: object) -> dict[str, object]:
        return {"log_time": 0.0, "log_format": text, **more}

    def test_without_a_log_nobody_observes(self) -> None:
        observer = self.observer({"logfile": self.mktemp()}, MAILER_LOG=False)
        self.assertIsInstance(observer, LogPublisher)
        self.assertEqual(observer._observers, [])

    def test_it_writes_to_twistds_log_file_at_the_level_of_the_settings(self) -> None:
        path = Path(self.mktemp())
        observer = self.observer({"logfile": str(path)}, MAILER_LOG_LEVEL="notice")
        observer(self.event("left out"))
        observer(self.event("kept", notice=True))
        lines = path.read_text("utf-8").splitlines()
        self.assertEqual(len(lines), 1)
        self.assertTrue(lines[0].endswith(" -: kept"), lines)

    def test_in_the_foreground_it_writes_to_standard_error(self) -> None:
        path = Path(self.mktemp())
        with path.open("w") as stream:
            self.patch(sys, "stderr", stream)
            ways: tuple[dict[str, object], ...] = ({"nodaemon": True}, {"logfile": "-"}, {})
            for twistd in ways:
                self.observer(twistd)(self.event("kept", notice=True))
        self.assertEqual(path.read_text("utf-8").count("kept"), 3)

    def test_a_daemon_writes_to_twistds_default_log_file(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(folder)
        self.observer({"nodaemon": False})(self.event("kept", notice=True))
        self.assertIn("kept", Path("twistd.log").read_text("utf-8"))

    def test_with_syslog_it_writes_there(self) -> None:
        written: list[tuple[int, str]] = []
        self.patch(syslog, "openlog", lambda *_: None)
        self.patch(syslog, "syslog", lambda level, line: written.append((level, line)))
        observer = self.observer(MAILER_LOG_OUTPUT="syslog")
        observer(self.event("kept", notice=True))
        ((level, line),) = written
        self.assertEqual(level, syslog.LOG_NOTICE)
        self.assertIn("kept", line)

    def test_the_application_logs_with_it(self) -> None:
        observer = LineObserver(lambda _level, _line: None, "debug")
        root = tap.build(settings(), MemoryReactorClock(), observer)
        application = Application("test")
        root.setServiceParent(application)
        self.assertIs(application.getComponent(legacy_log.ILogObserver), observer)
        self.assertTrue(ILogObserver.providedBy(observer))
        self.assertIs(IService(root.parent), IService(application))
