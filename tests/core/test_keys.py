# SPDX-License-Identifier: MIT
"""Tests of core.keys: the content of MAILER_KEYS_FILE."""

from __future__ import annotations

import ipaddress
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.grants import Grant
from smtpmailer.core.keys import read_keys
from smtpmailer.core.schemas import Schema
from smtpmailer.errors import SettingsError
from smtpmailer.schemafiles import load_schema

_HASH = "$2y$10$VV6J0ctCv.OVnU2YYv.uNe5WsmwX7KHRqO2nhjY5CKJjzDZwRuuiu"
_REQUESTS = {"ping", "sendMail"}
_SCHEMA = Schema(load_schema("keys"))


def _entry(**more: Any) -> dict[str, Any]:
    return {"name": "shop", "hash": _HASH, **more}


class KeysTests(SynchronousTestCase):
    """Each entry is a hash with what it allows, or a fault with its path."""

    def faults(self, document: Any) -> list[str]:
        return list(
            self.assertRaises(SettingsError, read_keys, document, _SCHEMA, _REQUESTS).faults
        )

    def test_a_key_may_have_no_limit(self) -> None:
        (key,) = read_keys([_entry()], _SCHEMA, _REQUESTS)
        self.assertEqual((key.hash, key.grant), (_HASH, Grant(name="shop")))
        self.assertNotIn(_HASH, repr(key))

    def test_a_key_may_have_every_limit(self) -> None:
        limits = {
            "requests": ["ping"],
            "from": ["a@example.org", "EXAMPLE.com"],
            "accounts": ["shop", "default"],
            "networks": ["192.0.2.0/24", "::1"],
            "mailsPerMinute": 60,
        }
        (key,) = read_keys([_entry(**limits)], _SCHEMA, _REQUESTS)
        expected = Grant(
            name="shop",
            requests=frozenset({"ping"}),
            senders=frozenset({"a@example.org", "example.com"}),
            accounts=frozenset({"shop", "default"}),
            networks=(ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("::1")),
            mails_per_minute=60,
        )
        self.assertEqual(key.grant, expected)

    def test_what_is_not_in_the_form_of_the_schema_is_a_fault_with_its_path(self) -> None:
        for document, words in (
            ({}, "payload: The data (object) must match the type: array"),
            ([], "payload: Array should have at least 1 items"),
            ([{}], "0: The required properties (name, hash) are missing"),
            (
                [_entry(request=["ping"])],
                "0: Additional object properties are not allowed: request",
            ),
            ([_entry(requests=[])], "0->requests: "),
            ([_entry(networks=["::1", 5])], "0->networks->1: "),
            ([_entry(mailsPerMinute=0)], "0->mailsPerMinute: "),
            ([_entry(mailsPerMinute=1.5)], "0->mailsPerMinute: "),
            ([_entry(**{"from": "a@example.org"})], "0->from: "),
        ):
            (fault,) = self.faults(document)
            self.assertTrue(fault.startswith(words), fault)

    def test_values_that_mean_nothing_are_faults_all_at_once(self) -> None:
        wrong = {
            "name": "sh:op",
            "hash": "no-hash",
            "requests": ["ping", "sendmail"],
            "from": ["exa mple"],
            "networks": ["192.0.2.7/24"],
        }
        faults = self.faults([_entry(), _entry(), wrong])
        for words in (
            "1->name: 'shop' is there already",
            "2->name: has to be 1 to 64 letters",
            "2->hash: is no bcrypt, argon2i or argon2id hash",
            "2->requests->1: 'sendmail' is no request; the nearest is sendMail",
            "2->from->0: 'exa mple' is neither",
            "2->networks->0: no network such as 192.0.2.0/24",
        ):
            self.assertTrue(any(fault.startswith(words) for fault in faults), words)
        self.assertNotIn("no-hash", " ".join(faults))
        self.assertEqual(len(faults), 6)

    def test_a_request_that_resembles_none_has_no_hint(self) -> None:
        self.assertEqual(
            self.faults([_entry(requests=["x"])]), ["0->requests->0: 'x' is no request"]
        )
