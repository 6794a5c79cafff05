# SPDX-License-Identifier: MIT
"""The service as a process: how it starts, refuses to start, listens with TLS, and ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
from pathlib import Path

from tests.delivery.certificates import authority, issue
from tests.integration.service import Service, ServiceTestCase, mail_to, read_answer, until

PONG = {"status": "success", "data": None, "message": "pong"}


class StartTests(ServiceTestCase):
    """A service that can't do its work says why, all of it, and ends."""

    def refused(self, **values: object) -> str:
        """Start a service that must not run; give what it printed."""
        service = self.start(values)
        self.assertEqual(service.ended(), 1, service.output())
        self.assertNotIn("Traceback", service.output())
        return service.output()

    def test_every_fault_of_the_configuration_is_shown_at_once(self) -> None:
        said = self.refused(
            MAILER_PORT=70000,
            MAILER_PROTO="http",
            SMPT_HOST="x",
            SMTP_CA_FILE="missing.pem",
            MAILER_AUTH=True,
            SMTP_PASSWORD="secret-1",
            MAILER_AUTH_HASH="secret-2",
        )
        for key in ("MAILER_PORT", "MAILER_PROTO", "SMPT_HOST", "MAILER_AUTH_HASH"):
            self.assertIn(key, said)
        self.assertIn("SMTP_HOST", said)
        self.assertNotIn("secret-", said)

    def test_files_that_are_missing_are_faults(self) -> None:
        said = self.refused(
            SMTP_CA_FILE="missing.pem", MAILER_PROTO="ssl", MAILER_SSL_CERT="c", MAILER_SSL_KEY="k"
        )
        for key in ("SMTP_CA_FILE", "MAILER_SSL_CERT", "MAILER_SSL_KEY"):
            self.assertIn(key, said)

    def test_a_busy_port_is_one_clear_line(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as busy:
            port = busy.getsockname()[1]
            said = self.refused(MAILER_PORT=port, MAILER_LOG=False)
        self.assertEqual(
            said,
            f"smtpmailer: can't listen on 127.0.0.1:{port}: another program listens there "
            "(MAILER_ADDR, MAILER_PORT)\n",
        )

    def test_an_address_that_is_not_ours_is_one_clear_line(self) -> None:
        said = self.refused(MAILER_ADDR="192.0.2.1", MAILER_LOG=False)
        self.assertEqual(said.count("\n"), 1)
        self.assertIn("192.0.2.1", said)

    def test_it_listens_on_ipv6_and_on_names(self) -> None:
        for name in ("::1", "localhost"):
            service = self.start({"MAILER_ADDR": name})

            def answers(name: str = name, service: Service = service) -> bool:
                try:
                    socket.create_connection((name, service.port), 1).close()
                except OSError:
                    return False
                return True

            until(f"listens on {name}", answers)


class StopTests(ServiceTestCase):
    """An orderly end loses nothing."""

    def test_a_delivery_under_way_is_finished_and_answered(self) -> None:
        server = self.server()
        server.hold()
        service = self.service(server)
        with service.connect() as connection, connection.makefile("rb") as answers:
            connection.sendall(json.dumps(mail_to()).encode())
            until("the mail waits", lambda: server.waiting)
            service.terminate()
            until("the port is closed", lambda: not service.listens())
            self.assertTrue(service.is_running())
            server.release()
            self.assertEqual(read_answer(answers)["message"], "mail sent successfully")
            self.assertEqual(answers.read(), b"")
        self.assertEqual(service.ended(), 0)
        self.assertEqual(len(server.received), 1)
        self.assertNotIn("Traceback", service.output())

    def test_an_idle_service_ends_at_once_and_closes_its_connections(self) -> None:
        service = self.service()
        with service.connect() as connection, connection.makefile("rb") as answers:
            # One that the kernel alone has accepted so far would be reset.
            connection.sendall(b'{"ping":1}')
            self.assertEqual(read_answer(answers), PONG)
            service.terminate()
            self.assertEqual(answers.read(), b"")
        self.assertEqual(service.ended(), 0)

    def test_a_second_request_to_end_changes_nothing(self) -> None:
        server = self.server()
        server.hold()
        service = self.service(server)
        with service.connect() as connection, connection.makefile("rb") as answers:
            connection.sendall(json.dumps(mail_to()).encode())
            until("the mail waits", lambda: server.waiting)
            service.terminate()
            until("the port is closed", lambda: not service.listens())
            service.terminate()
            server.release()
            self.assertEqual(read_answer(answers)["message"], "mail sent successfully")
        self.assertEqual(service.ended(), 0)
        self.assertNotIn("Traceback", service.output())

    def test_a_daemon_starts_answers_and_stops(self) -> None:
        service = self.start({}, "--pidfile=service.pid")
        self.assertEqual(service.ended(), 0, service.output())
        self.addCleanup(service.kill_daemon)
        service.ready()
        self.assertEqual(service.ask({"ping": 1}), PONG)
        log = service.folder / "twistd.log"
        self.assertIn("listening on", log.read_text("utf-8"))
        os.kill(service.daemon_id(), signal.SIGTERM)
        until("the daemon has removed its PID file", lambda: not service.daemon_id())
        self.assertFalse(service.listens())
        self.assertNotIn("Traceback", log.read_text("utf-8"))


class TlsTests(ServiceTestCase):
    """MAILER_PROTO = ssl, with the standard library's TLS client."""

    def setUp(self) -> None:
        super().setUp()
        folder = Path(self.mktemp())
        folder.mkdir()
        cert, key = issue("localhost", issuer=authority()).write(str(folder.absolute()))
        self.mailer = self.start(
            {"MAILER_PROTO": "ssl", "MAILER_SSL_CERT": cert, "MAILER_SSL_KEY": key}
        ).ready()
        self.context = ssl.create_default_context(
            cadata=authority().cert_pem.decode("ascii"),
        )

    def tls(self) -> ssl.SSLSocket:
        """Connect and shake hands."""
        connection = self.mailer.connect()
        self.addCleanup(connection.close)
        secure = self.context.wrap_socket(connection, server_hostname="localhost")
        self.addCleanup(secure.close)
        return secure

    def test_requests_are_answered_over_tls(self) -> None:
        client = self.tls()
        self.assertIn(client.version(), {"TLSv1.2", "TLSv1.3"})
        client.sendall(b'{"ping":1}')
        with client.makefile("rb") as answers:
            self.assertEqual(read_answer(answers), PONG)

    def test_a_request_over_many_records_is_answered(self) -> None:
        client = self.tls()
        client.sendall(b'{"ping":"' + b"x" * 200_000 + b'"}')
        with client.makefile("rb") as answers:
            self.assertEqual(read_answer(answers), PONG)

    def test_a_client_that_stays_open_does_not_hold_up_the_end(self) -> None:
        client = self.tls()
        client.sendall(b'{"ping":1}')
        with client.makefile("rb") as answers:
            self.assertEqual(read_answer(answers), PONG)
        self.mailer.terminate()
        self.assertEqual(client.recv(1), b"")
        self.assertEqual(self.mailer.ended(), 0)

    def test_old_tls_is_refused_by_the_service(self) -> None:
        self.context.set_ciphers("ALL:@SECLEVEL=0")
        self.context.minimum_version = ssl.TLSVersion.TLSv1
        self.context.maximum_version = ssl.TLSVersion.TLSv1_1
        refusal = self.assertRaises(ssl.SSLError, self.tls)
        self.assertIn("ALERT_PROTOCOL_VERSION", str(refusal))

    def test_a_clear_request_is_not_answered(self) -> None:
        with self.mailer.connect() as connection:
            connection.sendall(b'{"ping":1}')
            self.assertNotIn(b"pong", connection.recv(1000))
