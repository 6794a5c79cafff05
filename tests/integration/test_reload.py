# SPDX-License-Identifier: MIT
"""SIGHUP, and what the process makes: a service that runs on with new certificates and keys."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
from pathlib import Path

import bcrypt

from tests.delivery.certificates import issue
from tests.integration.service import DEADLINE, Service, ServiceTestCase, until


def _hash(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode("ascii")


class ReloadTests(ServiceTestCase):
    """Nothing is cut off, and what was taken away does not count any more."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.cert, self.key = issue("127.0.0.1").write(str(self.folder))
        self.keys = self.folder / "keys.json"
        self.keys.touch(mode=0o600)
        self.write_keys("old")

    def write_keys(self, password: str) -> None:
        self.keys.write_text(json.dumps([{"name": "client", "hash": _hash(password)}]), "utf-8")

    def connect(self, service: Service) -> ssl.SSLSocket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        plain = socket.create_connection(("127.0.0.1", service.port), timeout=DEADLINE)
        connection = context.wrap_socket(plain)
        self.addCleanup(connection.close)
        return connection

    def ask(self, connection: ssl.SSLSocket, password: str) -> str:
        connection.sendall(json.dumps({"ping": 1, "auth": password}).encode())
        return str(json.loads(connection.recv(4096))["message"])

    def test_sighup_reads_certificates_and_keys_again_and_drops_nobody(self) -> None:
        service = self.service(
            MAILER_PROTO="ssl",
            MAILER_SSL_CERT=self.cert,
            MAILER_SSL_KEY=self.key,
            MAILER_AUTH=True,
            MAILER_KEYS_FILE=self.keys,
        )
        first = self.connect(service)
        before = first.getpeercert(binary_form=True)
        self.assertEqual(self.ask(first, "old"), "pong")
        issue("127.0.0.1").write(str(self.folder))
        self.write_keys("new")
        os.kill(service._running.pid, signal.SIGHUP)
        until("all is read again", lambda: service.output().count("read again") >= 2)
        self.assertEqual(self.ask(first, "new"), "pong")
        self.assertEqual(self.ask(first, "old"), "unauthorized request")
        second = self.connect(service)
        self.assertNotEqual(second.getpeercert(binary_form=True), before)
        self.assertEqual(self.ask(second, "client:new"), "pong")

    def test_what_it_makes_is_for_its_user_alone(self) -> None:
        service = self.service()
        status = Path(f"/proc/{service._running.pid}/status").read_text("ascii")
        self.assertIn("Umask:\t0077", status)

    def test_a_file_of_keys_that_others_may_read_ends_the_start(self) -> None:
        self.keys.chmod(0o644)
        service = self.start({"MAILER_AUTH": True, "MAILER_KEYS_FILE": self.keys})
        self.assertEqual(service.ended(), 1)
        self.assertIn("(mode 0644); chmod 600 it", service.output())
        self.assertNotIn("Traceback", service.output())
