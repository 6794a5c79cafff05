# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.core.routing."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.model import Encryption, MailRequest, Route, SmtpOverrides
from smtpmailer.core.routing import route_for

DEFAULT = Route(
    host="relay.example.test",
    port=587,
    encryption=Encryption.STARTTLS,
    user="user",
    password="secret",
    ehlo_name="client.example.test",
    ca_file="/ca.pem",
    timeout=300,
)


def routed(timeout: int | None = None, **smtp: Any) -> Route:
    """Route a mail with these ``smtp*`` fields."""
    request = MailRequest(subject="s", body="b", timeout=timeout, smtp=SmtpOverrides(**smtp))
    return route_for(request, DEFAULT)


class RouteForTests(SynchronousTestCase):
    """A mail's own fields win, and the configured credentials stay where they belong."""

    def test_a_mail_without_fields_takes_the_configured_route(self) -> None:
        self.assertEqual(routed(), DEFAULT)

    def test_a_mail_has_a_server_of_its_own_with_any_field(self) -> None:
        self.assertFalse(MailRequest(subject="s").has_own_server)
        self.assertFalse(MailRequest(subject="s", smtp=SmtpOverrides()).has_own_server)
        for field in ({"port": 25}, {"password": ""}, {"encryption": Encryption.TLS}):
            self.assertTrue(MailRequest(subject="s", smtp=SmtpOverrides(**field)).has_own_server)

    def test_a_route_is_foreign_when_a_mail_names_another_than_the_configured_one(self) -> None:
        self.assertFalse(routed().foreign)
        self.assertFalse(routed(timeout=7, port=DEFAULT.port, user="user").foreign)
        itself: dict[str, Any] = {"host": DEFAULT.host, "user": "user", "password": "secret"}
        self.assertFalse(routed(**itself).foreign)
        for name, value in {"password": "other", "port": 25, "host": "other.test"}.items():
            self.assertTrue(routed(**(itself | {name: value})).foreign, name)

    def test_an_own_host_never_receives_the_configured_credentials(self) -> None:
        for host in ("other.example.test", DEFAULT.host):
            route = routed(host=host)
            self.assertEqual((route.host, route.user, route.password), (host, "", ""))

    def test_an_own_host_receives_the_own_credentials(self) -> None:
        route = routed(host="other.example.test", user="me", password="mine")
        self.assertEqual((route.user, route.password), ("me", "mine"))

    def test_an_own_user_at_an_own_host_does_not_bring_the_configured_password(self) -> None:
        route = routed(host="other.example.test", user="me")
        self.assertEqual((route.user, route.password), ("me", ""))

    def test_a_mail_can_not_send_the_configured_credentials_in_the_clear(self) -> None:
        route = routed(encryption=Encryption.NONE)
        self.assertEqual((route.user, route.password), ("", ""))

    def test_a_configured_clear_session_keeps_its_credentials(self) -> None:
        default = attrs.evolve(DEFAULT, encryption=Encryption.NONE)
        request = MailRequest(subject="s", smtp=SmtpOverrides(encryption=Encryption.NONE))
        self.assertEqual(route_for(request, default), default)

    def test_on_the_configured_host_each_field_is_taken_by_itself(self) -> None:
        route = routed(port=465, encryption=Encryption.TLS, user="me", timeout=7)
        self.assertEqual((route.host, route.port), (DEFAULT.host, 465))
        self.assertEqual((route.user, route.password, route.timeout), ("me", "secret", 7))
        self.assertEqual(route.ca_file, "/ca.pem")
