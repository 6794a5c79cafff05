# SPDX-License-Identifier: MIT
"""TLS sessions are resumed, and only where the same server was verified in the same way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.ssl import TLSVersion
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.model import Encryption, Outcome
from smtpmailer.delivery import tls
from smtpmailer.delivery.limits import PoolLimits
from smtpmailer.delivery.resumption import LIFE
from tests.delivery.certificates import Identity, authority, issue
from tests.delivery.hostile import ScriptedServer, plain_route
from tests.delivery.network import Network, StrictServer

HOST, OTHER = "mx.example", "other.example"


class ResumptionTests(SynchronousTestCase):
    """``checked`` counts the certificates that were checked."""

    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        self.ca_file = str(folder / "ca.pem")
        Path(self.ca_file).write_bytes(authority().cert_pem)
        self.checked = 0
        check = tls._name_fault

        def count(*about: Any) -> str:
            self.checked += 1
            return check(*about)

        self.patch(tls, "_name_fault", count)

    def network(self, identity: Identity, **options: Any) -> Network:
        """Give a sender whose connections end with each mail; the server resumes TLS sessions."""
        server_tls = identity.options(enableSessions=True, enableSessionTickets=True, **options)

        def make() -> ScriptedServer:
            return StrictServer(extensions=("STARTTLS",), tls_extensions=("SIZE",), tls=server_tls)

        network = Network(make, limits=PoolLimits(idle_seconds=0))
        for host in (HOST, OTHER):
            network.reactor.names[host] = ("192.0.2.1",)
        return network

    def deliver(self, network: Network, **changes: Any) -> Outcome:
        route = plain_route(
            **{"host": HOST, "encryption": Encryption.STARTTLS, "ca_file": self.ca_file} | changes
        )
        network.send(route=route)
        network.settle()
        return network.outcomes[-1]

    def test_a_second_connection_needs_no_full_handshake(self) -> None:
        for version in (TLSVersion.TLSv1_2, TLSVersion.TLSv1_3):
            self.checked = 0
            network = self.network(issue(HOST, issuer=authority()), lowerMaximumSecurityTo=version)
            for _ in range(5):
                self.assertIs(self.deliver(network), Outcome.DELIVERED)
            self.assertEqual((len(network.servers), self.checked), (5, 1), version)

    def test_another_route_is_verified_itself(self) -> None:
        network = self.network(issue(HOST, issuer=authority()))
        self.deliver(network)
        for changes in (
            {"port": 587},
            {"user": "user"},
            {"ehlo_name": "client2.example"},
        ):
            before = self.checked
            self.deliver(network, **changes)
            self.assertEqual(self.checked, before + 1, changes)

    def test_another_host_is_never_believed_for_the_firsts_sake(self) -> None:
        network = self.network(issue(HOST, issuer=authority()))
        self.assertIs(self.deliver(network), Outcome.DELIVERED)
        self.assertIs(self.deliver(network, host=OTHER), Outcome.TEMPORARY)

    def test_what_was_not_verified_serves_no_route_that_verifies(self) -> None:
        network = self.network(issue(HOST))
        self.assertIs(self.deliver(network, verify=False), Outcome.DELIVERED)
        self.assertIs(self.deliver(network), Outcome.TEMPORARY)

    def test_a_changed_trust_file_is_asked_again(self) -> None:
        network = self.network(issue(HOST, issuer=authority()))
        self.assertIs(self.deliver(network), Outcome.DELIVERED)
        Path(self.ca_file).write_bytes(issue("Other CA", is_ca=True).cert_pem)
        self.assertIs(self.deliver(network), Outcome.TEMPORARY)

    def test_after_an_hour_the_server_is_verified_again(self) -> None:
        network = self.network(issue(HOST, issuer=authority()))
        self.deliver(network)
        network.advance(LIFE / 2)
        self.deliver(network)
        self.assertEqual(self.checked, 1)
        network.advance(LIFE / 2)
        self.deliver(network)
        self.assertEqual(self.checked, 2, "resuming does not prolong it")

    def test_a_session_is_given_out_once(self) -> None:
        network = self.network(issue(HOST, issuer=authority()))
        self.deliver(network)
        network.deaf = True
        for _ in range(3):
            network.send(
                route=plain_route(host=HOST, encryption=Encryption.STARTTLS, ca_file=self.ca_file)
            )
        network.deaf = False
        network.settle()
        self.assertEqual(network.outcomes, [Outcome.DELIVERED] * 4)
        self.assertEqual(self.checked, 1 + 2)

    def test_a_server_that_resumes_nothing_is_verified_each_time(self) -> None:
        identity = issue(HOST, issuer=authority())
        network = self.network(identity)
        network.make = lambda: StrictServer(extensions=("STARTTLS",), tls=identity.options())
        for _ in range(3):
            self.assertIs(self.deliver(network), Outcome.DELIVERED)
        self.assertEqual(self.checked, 3)
