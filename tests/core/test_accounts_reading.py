# SPDX-License-Identifier: MIT
"""Tests of core.accounts_reading: the content of SMTP_ACCOUNTS_FILE."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.accounts import Accounts
from smtpmailer.core.accounts_reading import AccountsPlace, failover_names, read_accounts
from smtpmailer.core.model import Encryption, Route, RouteLimits
from smtpmailer.core.oauth import OAuth2
from smtpmailer.core.rates import Rate
from smtpmailer.core.schemas import Schema
from smtpmailer.errors import SettingsError
from smtpmailer.schemafiles import load_schema

_SCHEMA = Schema(load_schema("accounts"))
_DEFAULT = Route(
    host="main.test",
    port=25,
    encryption=Encryption.NONE,
    user="me",
    password="main secret",
    ehlo_name="client.test",
    verify=False,
    ca_file="/ca.pem",
    timeout=7,
)
_FILES = {"/base/secret": "from a file", "/empty": "", "/lines": "a\nb"}


def _read_file(path: str) -> str:
    try:
        return _FILES[path]
    except KeyError:
        raise ValueError("cannot be read: No such file") from None


_PLACE = AccountsPlace(default=_DEFAULT, failover=("spare",), base_path="/base", read=_read_file)


def _read(*entries: Any) -> Accounts:
    return read_accounts(list(entries), _SCHEMA, _PLACE)


def _entry(**more: Any) -> dict[str, Any]:
    return {"name": "shop", "host": "smtp.test", **more}


class AccountTests(SynchronousTestCase):
    """An entry that is right is a route, with what it serves."""

    def route(self, **more: Any) -> Route:
        (account,) = _read(_entry(**more))
        self.assertEqual(account.route.account, account.name)
        return account.route

    def test_little_is_needed(self) -> None:
        expected = Route(
            host="smtp.test",
            port=587,
            encryption=Encryption.STARTTLS,
            ehlo_name="client.test",
            verify=True,
            ca_file="/ca.pem",
            timeout=7,
            account="shop",
        )
        self.assertEqual(self.route(), expected)

    def test_the_default_accounts_credentials_are_not_inherited(self) -> None:
        route = self.route(host=_DEFAULT.host)
        self.assertEqual((route.user, route.password), ("", ""))

    def test_a_port_goes_with_its_encryption(self) -> None:
        for encryption, port in (("tls", 587), ("ssl", 465), ("none", 25)):
            self.assertEqual(self.route(encryption=encryption).port, port)
        self.assertEqual(self.route(encryption="ssl", port=10465).port, 10465)

    def test_everything_may_be_said(self) -> None:
        route = self.route(
            port=2525,
            encryption="ssl",
            user="u",
            password="p",
            maxConnections=3,
            rate="300/m",
            tlsVerify=False,
            caFile="own.pem",
            ehloName="me.test",
        )
        expected = attrs.evolve(
            _DEFAULT,
            host="smtp.test",
            port=2525,
            encryption=Encryption.TLS,
            user="u",
            password="p",
            verify=False,
            ca_file="/base/own.pem",
            ehlo_name="me.test",
            account="shop",
            limits=RouteLimits(connections=3, rate=Rate.parse("300/m")),
        )
        self.assertEqual(route, expected)

    def test_a_password_may_stand_in_a_file(self) -> None:
        self.assertEqual(self.route(user="u", passwordFile="secret").password, "from a file")

    def test_tokens_may_take_the_passwords_place(self) -> None:
        source = {
            "tokenEndpoint": "https://login.test/token",
            "clientId": "id",
            "clientSecretFile": "secret",
            "scope": "mail",
            "refreshToken": "again",
        }
        expected = OAuth2(
            token_endpoint="https://login.test/token",
            client_id="id",
            client_secret="from a file",
            scope="mail",
            refresh_token="again",
            ca_file="/ca.pem",
        )
        self.assertEqual(self.route(user="u", oauth2=source).oauth2, expected)
        others: tuple[tuple[dict[str, Any], OAuth2], ...] = (
            ({"tokenFile": "t"}, OAuth2(token_file="/base/t", ca_file="/ca.pem")),
            ({"tokenCommand": ["a", "b"]}, OAuth2(token_command=("a", "b"), ca_file="/ca.pem")),
        )
        for other, made in others:
            self.assertEqual(self.route(user="u", oauth2=other).oauth2, made)

    def test_senders_and_fail_over_are_kept(self) -> None:
        accounts = _read(
            _entry(**{"from": ["A@Shop.test", "bücher.test"]}, failover=["spare", "default"]),
            _entry(name="spare"),
        )
        shop, _ = accounts
        self.assertEqual(shop.senders, {"A@shop.test", "xn--bcher-kva.test"})
        self.assertEqual(shop.failover, ("spare", "default"))
        self.assertEqual(accounts.names, ("shop", "spare"))
        hosts = [route.host for route in accounts.routes("default", _DEFAULT)]
        self.assertEqual(hosts, ["main.test", "smtp.test"])

    def test_secrets_are_not_shown(self) -> None:
        shown = repr(self.route(user="u", password="tell-nobody"))
        self.assertNotIn("tell-nobody", shown)

    def test_a_fail_over_is_written_with_commas_or_blanks(self) -> None:
        self.assertEqual(failover_names(" a, b c,"), ("a", "b", "c"))


class FaultTests(SynchronousTestCase):
    """Each fault says where, what is wrong, and what would be right."""

    def faults(self, *entries: Any) -> list[str]:
        error = self.assertRaises(SettingsError, _read, *entries)
        self.assertNotIn("tell-nobody", str(error))
        return list(error.faults)

    def fault(self, **more: Any) -> str:
        (fault,) = self.faults(_entry(**more))
        return fault

    def test_what_is_not_in_the_form_of_the_schema(self) -> None:
        self.assertEqual(
            self.faults({"name": "a", "port": 0}, 5),
            [
                "0: The required properties (host) are missing",
                "1: The data (integer) must match the type: object",
            ],
        )
        self.assertIn("0->port: Number must be lower", self.fault(port=65536))
        self.assertIn("0: Additional object properties are not allowed: pot", self.fault(pot=1))
        self.assertIn("0->oauth2: Additional", self.fault(oauth2={"token": "tell-nobody"}))

    def test_each_field_is_checked(self) -> None:
        for field, value, words in (
            ("name", "a b", "0->name: has to be 1 to 64 letters"),
            ("name", "default", "0->name: 'default' is the account of SMTP_HOST; choose another"),
            ("host", "a b", "0->host: has to be a host name or an IP address"),
            ("ehloName", "a b", "0->ehloName: has to be a host name"),
            ("rate", "10", "0->rate: has to be mails in a time, such as 10/s"),
            ("caFile", "a\0", "0->caFile: has to be one line"),
            ("user", "u", "0->user: is set without password, passwordFile or oauth2"),
            ("password", "tell-nobody", "0->password: needs a user"),
            ("from", ["a@"], "0->from->0: 'a@' is neither a mail address nor a domain"),
            ("failover", ["shop"], "0->failover->0: 'shop' is the account itself"),
            ("failover", ["shp"], "0->failover->0: 'shp' is no account; the nearest is shop"),
            ("failover", ["default"] * 2, "0->failover->1: 'default' is there already"),
        ):
            self.assertIn(words, self.fault(**{field: value}))

    def test_the_files_of_secrets_are_read(self) -> None:
        for path, words in (
            ("gone", "0->passwordFile: /base/gone cannot be read: No such file"),
            ("/empty", "0->passwordFile: /empty is empty"),
            ("/lines", "0->passwordFile: /lines has to be one line"),
        ):
            self.assertIn(words, self.fault(user="u", passwordFile=path))
        both = self.fault(user="u", password="tell-nobody", passwordFile="secret")
        self.assertEqual(both, "0->passwordFile: can't be set beside password")

    def test_a_token_needs_a_user_and_protection(self) -> None:
        source = {"tokenFile": "t"}
        self.assertIn("0->oauth2: needs a user", self.fault(oauth2=source))
        none = self.fault(user="u", encryption="none", oauth2=source)
        self.assertIn("0->oauth2: needs encryption tls or ssl", none)
        beside = self.fault(user="u", password="tell-nobody", oauth2=source)
        self.assertIn("0->oauth2: can't be set beside a password", beside)

    def test_a_source_of_tokens_is_checked_in_the_words_of_the_file(self) -> None:
        fault = self.fault(user="u", oauth2={"clientId": "c"})
        self.assertIn("0->oauth2->tokenEndpoint: has to be set: tokens come from", fault)
        self.assertIn("tokenFile or tokenCommand", fault)

    def test_a_source_whose_fields_are_faulty_is_not_judged_as_a_whole(self) -> None:
        fault = self.fault(user="u", oauth2={"tokenFile": "a\0"})
        self.assertIn("0->oauth2->tokenFile: has to be one line", fault)

    def test_accounts_are_told_apart_by_name_and_sender(self) -> None:
        both = [
            _entry(**{"from": ["a.test"]}),
            _entry(name="b", **{"from": ["x@y.test", "A.test"]}),
        ]
        self.assertEqual(self.faults(*both), ["1->from->1: 'A.test' goes through 'shop' already"])
        faults = self.faults(_entry(), _entry())
        self.assertEqual(faults, ["1->name: 'shop' is there already; each account has its own"])

    def test_all_faults_are_told_at_once(self) -> None:
        faults = self.faults(_entry(rate="x", host="a b"), _entry(name="b", failover=["c"]))
        self.assertEqual(len(faults), 3, faults)
