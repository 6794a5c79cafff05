# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.core.accounts and the routes that they give."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.accounts import DEFAULT_ACCOUNT, NO_ACCOUNTS, Account, Accounts
from smtpmailer.core.grants import EVERYTHING, Grant
from smtpmailer.core.model import Encryption, MailRequest, Route, SmtpOverrides
from smtpmailer.core.oauth import OAuth2
from smtpmailer.core.routing import route_for, routes_for
from smtpmailer.errors import UnknownAccountError

_TOKENS = OAuth2(token_file="/token")
_DEFAULT = Route(
    host="main.test",
    port=587,
    encryption=Encryption.STARTTLS,
    user="me",
    oauth2=_TOKENS,
    ehlo_name="client.test",
)


def _account(name: str, *senders: str, failover: tuple[str, ...] = ()) -> Account:
    route = attrs.evolve(_DEFAULT, host=f"{name}.test", account=name, oauth2=None)
    return Account(name=name, route=route, senders=frozenset(senders), failover=failover)


_ACCOUNTS = Accounts(
    [
        _account("shop", "shop@a.test", "b.test", failover=("spare", DEFAULT_ACCOUNT)),
        _account("boss", "a.test"),
        _account("spare", failover=("boss",)),
    ],
    failover=("spare",),
)


class ChoiceTests(SynchronousTestCase):
    """The account that a mail names, else that of its sender, else the default one."""

    def hosts(self, sender: str = "x@z.test", **fields: Any) -> list[str]:
        request = MailRequest(subject="s", body="b", **fields)
        return [route.host for route in routes_for(request, sender, _DEFAULT, _ACCOUNTS)]

    def test_an_address_counts_before_its_domain(self) -> None:
        for sender, name in (
            ("shop@a.test", "shop"),
            ("shop@A.TEST", "shop"),
            ("SHOP@a.test", "boss"),
            ("other@a.test", "boss"),
            ("any@b.test", "shop"),
            ("any@sub.b.test", "default"),
            ("any@c.test", "default"),
            ("no address", "default"),
            ("", "default"),
        ):
            self.assertEqual(_ACCOUNTS.of_sender(sender), name, sender)

    def test_without_accounts_all_go_through_the_default_one(self) -> None:
        request = MailRequest(subject="s")
        self.assertEqual(routes_for(request, "x@a.test", _DEFAULT, NO_ACCOUNTS), (_DEFAULT,))

    def test_what_a_mail_names_counts_before_its_sender(self) -> None:
        self.assertEqual(self.hosts("shop@a.test", account="boss"), ["boss.test"])
        self.assertEqual(self.hosts("shop@a.test", account="default")[0], "main.test")
        with self.assertRaisesRegex(UnknownAccountError, "'gone' in SMTP_ACCOUNTS_FILE"):
            self.hosts(account="gone")

    def test_fail_over_is_in_order_and_not_that_of_the_others(self) -> None:
        self.assertEqual(self.hosts("shop@a.test"), ["shop.test", "spare.test", "main.test"])
        self.assertEqual(self.hosts(), ["main.test", "spare.test"])

    def test_a_mails_own_timeout_counts_for_each(self) -> None:
        request = MailRequest(subject="s", timeout=7)
        routes = routes_for(request, "shop@a.test", _DEFAULT, _ACCOUNTS)
        self.assertEqual([route.timeout for route in routes], [7, 7, 7])

    def test_a_mail_with_a_server_of_its_own_uses_no_account(self) -> None:
        for own in (
            SmtpOverrides(host="own.test"),
            SmtpOverrides(port=25),
            SmtpOverrides(user="x", password="y"),
            SmtpOverrides(encryption=Encryption.TLS),
        ):
            request = MailRequest(subject="s", smtp=own, account="boss")
            routes = routes_for(request, "shop@a.test", _DEFAULT, _ACCOUNTS)
            self.assertEqual(routes, (route_for(request, _DEFAULT),))

    def test_the_configured_token_does_not_leave_for_other_servers_or_users(self) -> None:
        for own in (
            SmtpOverrides(host="own.test"),
            SmtpOverrides(encryption=Encryption.NONE),
            SmtpOverrides(user="x"),
            SmtpOverrides(password="y"),
        ):
            route = route_for(MailRequest(subject="s", smtp=own), _DEFAULT)
            self.assertIsNone(route.oauth2, own)
        own = SmtpOverrides(port=465)
        self.assertIs(route_for(MailRequest(subject="s", smtp=own), _DEFAULT).oauth2, _TOKENS)


class GrantTests(SynchronousTestCase):
    """A key can't use an account to pass for somebody else."""

    def allows(self, grant: Grant, named: str | None, sender: str = "shop@a.test") -> bool:
        return _ACCOUNTS.allows(grant, named, sender)

    def test_without_limits_any_account_may_be_named(self) -> None:
        for named in (None, "boss", "default", "gone"):
            self.assertTrue(self.allows(EVERYTHING, named))

    def test_a_key_for_some_senders_can_name_only_an_account_that_serves_them(self) -> None:
        grant = Grant(senders=frozenset({"shop@a.test"}))
        for named, allowed in (
            (None, True),
            ("shop", True),
            ("boss", True),  # It serves the whole domain.
            ("spare", False),
            ("default", False),
            ("gone", False),
        ):
            self.assertEqual(self.allows(grant, named), allowed, named)
        self.assertTrue(self.allows(grant, "default", "x@c.test"))
        self.assertFalse(self.allows(grant, "shop", "x@c.test"))
        self.assertFalse(self.allows(grant, "shop", "no address"))

    def test_a_key_for_some_accounts_uses_no_other_named_or_not(self) -> None:
        grant = Grant(senders=frozenset({"shop@a.test"}), accounts=frozenset({"spare", "boss"}))
        for named, allowed in (("spare", True), ("boss", True), ("shop", False), (None, False)):
            self.assertEqual(self.allows(grant, named), allowed, named)
        self.assertTrue(self.allows(grant, None, "x@a.test"))
