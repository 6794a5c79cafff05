# SPDX-License-Identifier: MIT
"""TLS: what is verified and how a failed check is told; options for listening."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionLost
from twisted.internet.ssl import TLSVersion
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.model import DeliveryResult, Encryption, Outcome
from smtpmailer.delivery.connecting import Link
from smtpmailer.delivery.limits import PoolLimits
from smtpmailer.delivery.sender import Sender
from smtpmailer.delivery.tls import (
    ClientTls,
    client_options,
    describe_tls_failure,
    server_options,
)
from smtpmailer.errors import SmtpConnectError, TlsConfigError
from tests.delivery.certificates import Identity, authority, issue
from tests.delivery.hostile import PASSWORD, Rig, ScriptedServer, mail, plain_route, says

HOST = "mx.example"
CONNECT = "SMTP Error: Could not connect to SMTP host."


class _TlsCase(SynchronousTestCase):
    """Delivers in memory, with real TLS."""

    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        self.folder = str(folder)
        self.ca_file = str(folder / "ca.pem")
        Path(self.ca_file).write_bytes(authority().cert_pem)

    def deliver(self, tls: Any, **changes: Any) -> tuple[Rig, DeliveryResult]:
        route = plain_route(
            **{"host": HOST, "encryption": Encryption.STARTTLS, "ca_file": self.ca_file} | changes
        )
        server = ScriptedServer(
            extensions=("STARTTLS",),
            tls_extensions=("AUTH PLAIN", "SIZE"),
            tls=tls,
            implicit=route.encryption is Encryption.TLS,
        )
        rig = Rig(server)
        rig.reactor.names[route.host] = ("192.0.2.1",)
        return rig, rig.deliver(route=route)

    def assert_check_failed(self, identity: Identity, *said: str, **changes: Any) -> None:
        for encryption in (Encryption.STARTTLS, Encryption.TLS):
            rig, result = self.deliver(identity.options(), encryption=encryption, **changes)
            (outcome,) = result.outcomes
            self.assertIs(outcome.outcome, Outcome.TEMPORARY)
            self.assertEqual(result.reason, CONNECT)
            for text in said:
                self.assertIn(text, outcome.reply)
            self.assertIn("SMTP_TLS_VERIFY", outcome.reply)
            self.assertNotIn("MAIL", str(rig.server.commands))
            rig.advance(5)
            self.assertEqual(rig.reactor.getDelayedCalls(), [])
            self.assertTrue(rig.server.lost)


class VerificationTests(_TlsCase):
    """Chain and host name are verified, and the error says which check failed."""

    def test_a_right_certificate_is_accepted(self) -> None:
        identity = issue(HOST, issuer=authority())
        for encryption in (Encryption.STARTTLS, Encryption.TLS):
            rig, result = self.deliver(
                identity.options(), encryption=encryption, user="user", password=PASSWORD
            )
            self.assertTrue(result.delivered, result)
            self.assertEqual(len(rig.server.logins), 1)
            self.assertEqual(rig.reactor.getDelayedCalls(), [])

    def test_a_large_mail_arrives_under_tls(self) -> None:
        identity = issue(HOST, issuer=authority())
        server = ScriptedServer(tls=identity.options(), implicit=True)
        rig = Rig(server)
        rig.reactor.names[HOST] = ("192.0.2.1",)
        wire = b"A: b\r\n\r\n" + b"0123456789abcde\r\n" * 100_000
        rig.send(
            mail(wire=wire),
            plain_route(host=HOST, encryption=Encryption.TLS, ca_file=self.ca_file),
        )
        rig.accept()
        self.assertTrue(rig.results[0].delivered)
        self.assertEqual(server.bodies, [wire])
        self.assertLess(rig.client.most_buffered, 400_000)

    def test_an_intermediate_is_followed_to_the_root(self) -> None:
        middle = issue("Middle CA", issuer=authority(), is_ca=True)
        self.assertTrue(self.deliver(issue(HOST, issuer=middle).options())[1].delivered)

    def test_a_self_signed_certificate_is_refused(self) -> None:
        self.assert_check_failed(issue(HOST), "self-signed", "SMTP_CA_FILE")

    def test_a_self_signed_certificate_may_be_trusted_by_file(self) -> None:
        identity = issue(HOST)
        cert, _ = identity.write(self.folder)
        self.assertTrue(self.deliver(identity.options(), ca_file=cert)[1].delivered)

    def test_an_expired_certificate_is_refused(self) -> None:
        self.assert_check_failed(issue(HOST, issuer=authority(), days=(-9, -1)), "has expired")

    def test_a_certificate_of_the_future_is_refused(self) -> None:
        self.assert_check_failed(issue(HOST, issuer=authority(), days=(2, 9)), "not valid yet")

    def test_an_unknown_ca_is_refused(self) -> None:
        other = issue("Other CA", is_ca=True)
        self.assert_check_failed(issue(HOST, issuer=other), "unknown CA", "SMTP_CA_FILE")

    def test_the_wrong_host_is_refused_with_the_names_in_the_certificate(self) -> None:
        identity = issue("a.example", "*.b.example", "192.0.2.5", issuer=authority())
        self.assert_check_failed(
            identity, "for a.example, *.b.example, 192.0.2.5, not for mx.example", "SMTP_HOST"
        )

    def test_a_certificate_without_names_is_refused(self) -> None:
        self.assert_check_failed(issue(issuer=authority()), "no usable host names")

    def test_wildcards_ip_addresses_and_idn_hosts_work(self) -> None:
        for name, host in (
            ("*.mx.example", "a.mx.example"),
            ("192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("xn--bcher-kva.example", "bücher.example"),
        ):
            tls = issue(name, issuer=authority()).options()
            self.assertTrue(self.deliver(tls, host=host)[1].delivered, host)

    def test_the_wrong_ip_address_is_refused(self) -> None:
        identity = issue("192.0.2.2", issuer=authority())
        self.assert_check_failed(identity, "not for 192.0.2.1", host="192.0.2.1")

    def test_without_verification_any_certificate_will_do(self) -> None:
        identity = issue("elsewhere.example", days=(-9, -1))
        rig, result = self.deliver(identity.options(), verify=False, ca_file="")
        self.assertTrue(result.delivered)
        self.assertIn("EHLO", rig.server.commands[2])

    def test_the_server_is_told_the_name_but_never_an_address(self) -> None:
        seen: list[bytes | None] = []
        for host in (HOST, "192.0.2.1"):
            tls = issue(host, issuer=authority()).options()
            tls.getContext().set_tlsext_servername_callback(
                lambda connection: seen.append(connection.get_servername())
            )
            self.deliver(tls, host=host)
        self.assertEqual(seen, [HOST.encode(), None])

    def test_old_tls_is_refused_with_a_reason(self) -> None:
        old = issue(HOST, issuer=authority()).options(
            insecurelyLowerMinimumTo=TLSVersion.TLSv1_0, lowerMaximumSecurityTo=TLSVersion.TLSv1_1
        )
        tls = ClientTls()
        ours: Any = tls.client_options(HOST, verify=True, ca_file=self.ca_file)
        for context in (old.getContext(), ours.context):  # OpenSSL itself would let them meet
            context.set_cipher_list(b"ALL:@SECLEVEL=0")
        rig = Rig(ScriptedServer(extensions=("STARTTLS",), tls=old))
        rig.sender = Sender(
            rig.reactor,
            600,
            PoolLimits(idle_seconds=0),
            connect=lambda route: Link(rig.reactor, route, tls),
        )
        rig.reactor.names[HOST] = ("192.0.2.1",)
        route = plain_route(host=HOST, encryption=Encryption.STARTTLS, ca_file=self.ca_file)
        result = rig.deliver(route=route)
        self.assertEqual(result.reason, CONNECT)
        self.assertIn("TLS 1.2 or newer is needed", result.outcomes[0].reply)

    def test_a_server_without_tls_on_a_tls_port_is_told_so(self) -> None:
        rig = Rig(ScriptedServer())
        rig.reactor.names[HOST] = ("192.0.2.1",)
        result = rig.deliver(route=plain_route(host=HOST, encryption=Encryption.TLS))
        self.assertEqual(result.reason, CONNECT)
        self.assertIn("does not speak TLS here (SMTP_ENCRYPTION", result.outcomes[0].reply)

    def test_helo_is_not_tried_under_tls(self) -> None:
        tls = issue(HOST, issuer=authority()).options()
        rig = Rig(ScriptedServer({"EHLO": says("502 unknown")}, tls=tls, implicit=True))
        rig.reactor.names[HOST] = ("192.0.2.1",)
        route = plain_route(host=HOST, encryption=Encryption.TLS, ca_file=self.ca_file)
        self.assertIn("EHLO not accepted: 502", rig.deliver(route=route).reason)

    def test_a_handshake_that_stalls_is_bounded(self) -> None:
        def stall(server: ScriptedServer) -> None:
            server.reply("220 go ahead")
            server.setRawMode()

        rig = Rig(ScriptedServer({"STARTTLS": stall}, extensions=("STARTTLS",)))
        rig.send(route=plain_route(encryption=Encryption.STARTTLS, timeout=9))
        rig.accept()
        rig.advance(9)
        (result,) = rig.results
        self.assertEqual(result.reason, CONNECT)
        self.assertIn("TLS handshake", result.outcomes[0].reply)


class TrustTests(_TlsCase):
    """Trust is loaded once, and files that can't be used are named."""

    def test_hosts_share_what_is_costly(self) -> None:
        tls = ClientTls()
        first: Any = tls.client_options("a.example", verify=True, ca_file=self.ca_file)
        second: Any = tls.client_options("b.example", verify=True, ca_file=self.ca_file)
        other: Any = tls.client_options("a.example", verify=True, ca_file="")
        self.assertIs(first.context, second.context)
        self.assertIsNot(first.context, other.context)

    def test_a_changed_trust_file_is_noticed(self) -> None:
        tls = ClientTls()
        first: Any = tls.client_options(HOST, verify=True, ca_file=self.ca_file)
        Path(self.ca_file).write_bytes(authority().cert_pem + issue("x", is_ca=True).cert_pem)
        second: Any = tls.client_options(HOST, verify=True, ca_file=self.ca_file)
        self.assertIsNot(first.context, second.context)
        self.assertEqual(len(tls._contexts), 1)

    def test_an_unusable_trust_file_names_file_and_setting(self) -> None:
        junk = Path(self.folder, "junk.pem")
        junk.write_text("no certificate")
        for path in (str(junk), str(junk) + ".missing", self.folder):
            with self.assertRaises(TlsConfigError) as caught:
                client_options(HOST, verify=True, ca_file=path)
            self.assertIn("SMTP_CA_FILE", str(caught.exception))
            self.assertIn(path, str(caught.exception))

    def test_an_unusable_trust_file_makes_a_temporary_result(self) -> None:
        rig = Rig()
        rig.send(route=plain_route(encryption=Encryption.TLS, ca_file="/no/such/file"))
        (result,) = rig.results
        self.assertEqual(result.reason, CONNECT)
        self.assertIs(result.outcomes[0].outcome, Outcome.TEMPORARY)
        self.assertIn("SMTP_CA_FILE", result.outcomes[0].reply)
        self.assertEqual((rig.reactor.getDelayedCalls(), rig.reactor.tcpClients), ([], []))
        self.successResultOf(rig.sender.drain())

    def test_names_no_certificate_can_hold_are_refused(self) -> None:
        for host in ("bücher..example", "mail server"):
            rig = Rig()
            rig.reactor.names[host] = ("192.0.2.1",)
            rig.send(route=plain_route(host=host, encryption=Encryption.TLS))
            self.assertIn(host, rig.results[0].outcomes[0].reply)


class DescriptionTests(SynchronousTestCase):
    """Failures become texts."""

    def test_every_kind_of_failure_has_words(self) -> None:
        for error, said in (
            (SmtpConnectError("the certificate has expired"), "has expired"),
            (SSL.Error([("SSL routines", "", "wrong version number")]), "SMTP_ENCRYPTION"),
            (SSL.Error([("SSL routines", "", "unsupported protocol")]), "TLS 1.2"),
            (SSL.Error([("SSL routines", "", "no shared cipher")]), "no shared cipher"),
            (SSL.Error(), "no reason given"),
            (ConnectionLost(), "ended during the TLS handshake"),
            (None, "ended during the TLS handshake"),
        ):
            self.assertIn(said, describe_tls_failure(error))


class ServerOptionsTests(_TlsCase):
    """Listening with a certificate, its chain and its key."""

    def refused(self, cert: str, key: str) -> str:
        with self.assertRaises(TlsConfigError) as caught:
            server_options(cert, key)
        return str(caught.exception)

    def test_the_whole_chain_is_sent(self) -> None:
        middle = issue("Middle CA", issuer=authority(), is_ca=True)
        cert, key = issue(HOST, issuer=middle).write(self.folder)
        self.assertTrue(self.deliver(server_options(cert, key))[1].delivered)

    def test_only_modern_protocols_and_ciphers_are_offered(self) -> None:
        cert, key = issue(HOST).write(self.folder)
        options = server_options(cert, key)
        ciphers = SSL.Connection(options.getContext(), None).get_cipher_list()
        old = [c for c in ciphers if not c.startswith(("ECDHE-", "TLS_"))]
        self.assertEqual(old, [])
        weak = [c for c in ciphers if not any(aead in c for aead in ("GCM", "POLY1305", "CCM"))]
        self.assertEqual(weak, [])
        self.assertTrue(options._options & SSL.OP_NO_TLSv1_1)

    def test_a_missing_file_is_named_with_its_setting(self) -> None:
        cert, key = issue(HOST).write(self.folder)
        self.assertIn("MAILER_SSL_CERT: cannot read /none", self.refused("/none", key))
        self.assertIn("MAILER_SSL_KEY: cannot read /none", self.refused(cert, "/none"))
        self.assertIn("MAILER_SSL_CERT: no file is named", self.refused("", key))

    def test_a_file_of_another_kind_is_named_with_its_setting(self) -> None:
        cert, key = issue(HOST).write(self.folder)
        self.assertIn("MAILER_SSL_CERT", self.refused(key, key))
        self.assertIn("MAILER_SSL_KEY", self.refused(cert, cert))

    def test_a_key_of_another_certificate_is_refused(self) -> None:
        cert, key = issue(HOST).write(self.folder)
        Path(key).write_bytes(issue(HOST).key_pem())
        self.assertIn("does not belong to the certificate", self.refused(cert, key))

    def test_a_key_with_a_pass_phrase_is_refused_without_asking_for_it(self) -> None:
        identity = issue(HOST)
        cert, key = identity.write(self.folder)
        Path(key).write_bytes(identity.key_pem(b"secret"))
        self.assertIn("without pass phrase", self.refused(cert, key))
