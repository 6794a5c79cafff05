# SPDX-License-Identifier: MIT
"""Tests of core.grants: what a key allows."""

from __future__ import annotations

import ipaddress

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.grants import EVERYTHING, Grant, host_of, sender_rule
from smtpmailer.errors import AddressError


class GrantTests(SynchronousTestCase):
    """What is not allowed is forbidden, once there is a limit."""

    def test_without_limits_everything_is_allowed(self) -> None:
        self.assertTrue(EVERYTHING.allows_request("clearQueue"))
        self.assertTrue(EVERYTHING.allows_sender("nobody"))
        self.assertTrue(EVERYTHING.allows_peer("local"))

    def test_requests_are_allowed_by_name(self) -> None:
        grant = Grant(requests=frozenset({"ping"}))
        self.assertTrue(grant.allows_request("ping"))
        self.assertFalse(grant.allows_request("Ping"))

    def test_senders_are_allowed_by_address_and_by_domain(self) -> None:
        rules = frozenset(map(sender_rule, ("Shop@Example.ORG", "bücher.example")))
        grant = Grant(senders=rules)
        for address in ("Shop@example.org", "Shop@EXAMPLE.org", "a@bücher.example"):
            self.assertTrue(grant.allows_sender(address), address)
        for address in (
            "shop@example.org",
            "other@example.org",
            "a@sub.bücher.example",
            "a@b@bücher.example",
            "xn--bcher-kva.example",
            "",
            "a@bücher.example\r\nx",
        ):
            self.assertFalse(grant.allows_sender(address), address)
        self.assertTrue(grant.allows_sender("a@xn--bcher-kva.example"))

    def test_a_rule_is_an_address_or_a_domain(self) -> None:
        for text in ("", "a@", "@example.org", "exa mple.org", "*.example.org", ".example.org"):
            self.assertRaises(AddressError, sender_rule, text)

    def test_clients_are_allowed_by_network(self) -> None:
        networks = tuple(map(ipaddress.ip_network, ("192.0.2.0/24", "2001:db8::/32")))
        grant = Grant(networks=networks)
        for peer in ("192.0.2.7", "::ffff:192.0.2.7", "2001:db8::1", "2001:db8::1%eth0"):
            self.assertTrue(grant.allows_peer(peer), peer)
        for peer in ("192.0.3.7", "::ffff:192.0.3.7", "2001:db9::1", "local", ""):
            self.assertFalse(grant.allows_peer(peer), peer)

    def test_an_address_is_read_or_not(self) -> None:
        self.assertEqual(host_of("::ffff:192.0.2.7"), ipaddress.ip_address("192.0.2.7"))
        self.assertEqual(host_of("::1"), ipaddress.ip_address("::1"))
        self.assertIsNone(host_of("local"))
