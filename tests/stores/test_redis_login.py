# SPDX-License-Identifier: MIT
"""Tests for how the link gets in: passwords, users and their rules, databases, TLS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.logger import capturedLogs

from smtpmailer.errors import RedisRefusedError, TlsConfigError
from smtpmailer.stores.redis_connection import Limits, Login
from smtpmailer.stores.redis_counters import RedisCounters
from smtpmailer.stores.redis_link import RedisLink
from smtpmailer.stores.redis_servers import FixedServer
from smtpmailer.stores.redis_templates import RedisTemplateStore
from smtpmailer.stores.redis_tls import RedisTls
from tests.delivery.certificates import Identity, authority, issue
from tests.redis_server import RedisServer, free_port
from tests.stores.redis_case import PREFIX, RedisTestCase

_PAGE = Path(__file__).parent.parent.parent / "docs" / "how-to" / "redis.md"


class PasswordTests(RedisTestCase):
    """Redis lets in whom it knows."""

    def test_the_password_of_the_default_user(self) -> None:
        server = self.start_server(requirepass="right")
        link = self.start_link(server, login=Login(password="right"))
        self.assertEqual(self.wait(link.call("PING")), b"PONG")

    def test_a_missing_password_is_said(self) -> None:
        link = self.start_link(self.start_server(requirepass="right"))
        self.assertIn("NOAUTH", link.state().reason)

    def test_a_wrong_password_is_said_but_never_shown_and_a_mended_one_is_used(self) -> None:
        server = self.start_server(requirepass="right")
        with capturedLogs() as events:
            link = self.start_link(server, login=Login(password="hunter2"))
            self.assertIn("WRONGPASS", link.state().reason)
        self.assertNotIn("hunter2", f"{events} {link.state()} {Login(password='hunter2')}")
        server.call("CONFIG", "SET", "requirepass", "hunter2")
        server.password = "hunter2"
        self.until("it is let in", lambda: link.state().up)

    def test_a_user_with_a_name(self) -> None:
        server = self.start_server()
        server.call("ACL", "SETUSER", "mailer", "on", ">right", "~*", "+@all")
        link = self.start_link(server, login=Login(user="mailer", password="right"))
        self.assertEqual(self.wait(link.call("ACL", "WHOAMI")), b"mailer")
        link = self.start_link(server, login=Login(user="mailer", password="wrong"))
        self.assertIn("WRONGPASS", link.state().reason)

    def test_a_user_needs_no_more_than_the_documented_rules(self) -> None:
        server = self.start_server()
        page = _PAGE.read_text("utf-8")
        (line,) = [line for line in page.splitlines() if line.startswith("ACL SETUSER")]
        server.call(*line.replace("SMTP_MAILER:", PREFIX).split())
        link = self.start_link(server, login=Login(user="mailer", password="password", database=1))
        self.assertIs(link.state().append_only, False)
        self.results_of([link.call("ROLE"), link.call("WAIT", 0, 1), link.call("TIME")])
        counters = RedisCounters(link, PREFIX, self.reactor, reset=True)
        counters.start()
        self.wait(counters.add_sent())
        self.assertEqual(self.wait(counters.read()), (1, 0))
        store = RedisTemplateStore(link, PREFIX, limit_bytes=100)
        self.wait(store.add("a", "x"))
        self.wait(store.update("a", "y"))
        self.assertEqual(self.wait(store.get("a")), "y")
        self.assertEqual(self.wait(store.page(1, 0)).names, ("a",))
        self.wait(store.remove("a"))
        self.assertEqual(self.wait(store.clear()), 0)

    def test_what_a_user_may_not_do_is_refused_and_the_rest_goes_on(self) -> None:
        server = self.start_server()
        server.call("ACL", "SETUSER", "mailer", "on", ">right", "~*", "+ping", "+get")
        link = self.start_link(server, login=Login(user="mailer", password="right"))
        error: Any = self.failureResultOf(link.call("SET", "a", "b"), RedisRefusedError).value
        self.assertEqual(error.code, "NOPERM")
        self.assertIsNone(self.wait(link.call("GET", "a")))

    def test_whether_the_server_keeps_an_append_only_file_is_known_if_it_may_be_asked(self) -> None:
        for settings, expected in (({}, False), ({"appendonly": "yes"}, True)):
            server = self.start_server(**settings)
            self.assertIs(self.start_link(server).state().append_only, expected)
        server.call("ACL", "SETUSER", "mailer", "on", ">right", "~*", "+ping")
        link = self.start_link(server, login=Login(user="mailer", password="right"))
        self.assertEqual((link.state().up, link.state().append_only), (True, None))

    def test_the_database_is_selected_on_every_connection(self) -> None:
        server = self.start_server(appendonly="yes")
        link = self.start_link(server, login=Login(database=3))
        self.results_of([link.call("INCR", "n") for _ in range(4)])
        server.stop()
        self.until("it is away", lambda: not link.state().up)
        server.start()
        self.until("it is back", lambda: link.state().up)
        self.assertEqual(self.wait(link.call("INCR", "n")), 5)
        self.assertEqual(server.call("INFO", "keyspace").count(b"db"), 1)

    def test_a_database_that_is_not_there_is_said(self) -> None:
        link = self.start_link(self.start_server(databases=1), login=Login(database=3))
        self.assertIn("DB index is out of range", link.state().reason)


class TlsTests(RedisTestCase):
    """The server's certificate has to be of a trusted authority, and for its name."""

    def secured(self, *names: str, issuer: Identity | None = None) -> RedisServer:
        """Start a server that speaks TLS alone, with a certificate for these names."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        identity = issue(*names, issuer=issuer or authority())
        cert, key = identity.write(str(folder))
        port = free_port()
        settings = {
            "port": 0,
            "tls-port": port,
            "tls-cert-file": cert,
            "tls-key-file": key,
            "tls-auth-clients": "no",
        }
        server = RedisServer(settings, port=port)
        self.addCleanup(server.clean_up)
        return server

    def ca_file(self, content: bytes) -> str:
        """Write a file of authorities."""
        path = Path(self.mktemp())
        path.write_bytes(content)
        return str(path)

    def link(self, server: RedisServer, host: str = "127.0.0.1") -> RedisLink:
        """Start a link that trusts the tests' authority."""
        network = self.network(tls=RedisTls(self.ca_file(authority().cert_pem)).options)
        return self.start_link(FixedServer((host, server.port)), network=network)

    def test_a_certificate_for_the_address_or_the_name_is_trusted(self) -> None:
        server = self.secured("127.0.0.1", "localhost")
        for host in ("127.0.0.1", "localhost"):
            link = self.link(server, host)
            self.assertEqual(self.wait(link.call("SET", host, "x" * 100_000)), b"OK")

    def test_a_certificate_for_another_host_is_refused(self) -> None:
        server = self.secured("redis.example.test")
        for host in ("127.0.0.1", "localhost"):
            reason = self.link(server, host).state().reason
            self.assertIn("the certificate is for another host", reason)

    def test_a_certificate_of_another_authority_is_refused(self) -> None:
        stranger = issue("Stranger", is_ca=True)
        reason = self.link(self.secured("127.0.0.1", issuer=stranger)).state().reason
        self.assertIn("TLS: the certificate is not of a trusted authority", reason)
        self.assertIn("REDIS_CA_FILE", reason)

    def test_without_a_file_the_authorities_of_the_system_count(self) -> None:
        server = self.secured("127.0.0.1")
        network = self.network(tls=RedisTls().options)
        place = FixedServer(("127.0.0.1", server.port))
        for _ in range(2):
            link = self.start_link(place, network=network)
            self.assertIn("not of a trusted authority", link.state().reason)

    def test_no_password_goes_to_a_server_that_is_not_trusted(self) -> None:
        server = self.secured("redis.example.test")
        network = self.network(tls=RedisTls(self.ca_file(authority().cert_pem)).options)
        place = FixedServer(("127.0.0.1", server.port))
        link = self.start_link(place, network=network, login=Login(user="u", password="p"))
        self.assertFalse(link.state().up)
        self.assertEqual(server.call("ACL", "LOG"), [])
        self.assertNotIn(b"cmdstat_auth", server.call("INFO", "commandstats"))

    def test_a_server_that_does_not_speak_tls_points_to_the_setting(self) -> None:
        network = self.network(tls=RedisTls().options)
        server = self.start_server()
        place = FixedServer(("127.0.0.1", server.port))
        link = self.start_link(place, network=network, limits=Limits(answer=0.2))
        self.assertIn("(REDIS_PROTO, REDIS_READ_TIMEOUT)", link.state().reason)

    def test_a_server_that_speaks_tls_alone_is_no_use_without(self) -> None:
        server = self.secured("127.0.0.1")
        link = self.start_link(FixedServer(("127.0.0.1", server.port)))
        self.assertFalse(link.state().up)

    def test_a_file_of_authorities_may_change_while_the_service_runs(self) -> None:
        path = self.ca_file(issue("Stranger", is_ca=True).cert_pem)
        network = self.network(tls=RedisTls(path).options)
        place = FixedServer(("127.0.0.1", self.secured("127.0.0.1").port))
        link = self.start_link(place, network=network)
        Path(path).unlink()
        self.until("it says so", lambda: "cannot read" in link.state().reason)
        Path(path).write_bytes(authority().cert_pem)
        self.until("it is trusted", lambda: link.state().up)

    def test_a_file_that_holds_no_authorities_is_refused_at_once(self) -> None:
        for path, words in (
            ("/nowhere/ca.pem", "REDIS_CA_FILE: cannot read /nowhere/ca.pem"),
            (self.ca_file(b"no pem"), "holds no PEM certificate"),
            (
                self.ca_file(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
                "holds no PEM",
            ),
        ):
            self.assertIn(words, str(self.assertRaises(TlsConfigError, RedisTls, path)))
