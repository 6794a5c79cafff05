# SPDX-License-Identifier: MIT
"""The keys of MAILER_KEYS_FILE: from its JSON to hashes and what each allows."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from smtpmailer.core.grants import Grant, sender_rule
from smtpmailer.core.passwords import hash_method
from smtpmailer.core.schemas import Schema
from smtpmailer.errors import AddressError, SettingsError

__all__ = ["Key", "read_keys"]

#: It stands before a colon and in the log.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@attrs.frozen(kw_only=True)
class Key:
    """A password's hash, and what the password allows."""

    hash: str = attrs.field(repr=False)
    grant: Grant


def read_keys(document: Any, schema: Schema, requests: Collection[str]) -> tuple[Key, ...]:
    """Make keys of the file's JSON value; ``requests`` are the names of all requests.

    Raises SettingsError with all faults, each with its path (``0->hash: ...``), never with a hash.
    """
    faults = [
        f"{path}: {text}" for path, texts in schema.faults(document).items() for text in texts
    ]
    if faults:
        raise SettingsError(faults)
    faults = list(_faults(document, requests))
    if faults:
        raise SettingsError(faults)
    return tuple(_key(entry) for entry in document)


def _faults(entries: Sequence[Mapping[str, Any]], requests: Collection[str]) -> Iterator[str]:
    names: set[str] = set()
    for index, entry in enumerate(entries):
        for path, text in _entry_faults(entry, requests):
            yield f"{index}->{path}: {text}"
        if entry["name"] in names:
            yield f"{index}->name: {entry['name']!r} is there already; each key has its own name"
        names.add(entry["name"])


def _entry_faults(entry: Mapping[str, Any], requests: Collection[str]) -> Iterator[tuple[str, str]]:
    if not _NAME.fullmatch(entry["name"]):
        yield "name", "has to be 1 to 64 letters, digits, dots, hyphens or underscores"
    if hash_method(entry["hash"]) is None:
        yield (
            "hash",
            "is no bcrypt, argon2i or argon2id hash; make one with smtpmailer hash-password",
        )
    for index, name in enumerate(entry.get("requests", ())):
        if name not in requests:
            near = difflib.get_close_matches(name, requests, n=1)
            hint = f"; the nearest is {near[0]}" if near else ""
            yield f"requests->{index}", f"{name!r} is no request{hint}"
    for index, text in enumerate(entry.get("from", ())):
        try:
            sender_rule(text)
        except AddressError:
            yield f"from->{index}", f"{text!r} is neither a mail address nor a domain"
    for index, text in enumerate(entry.get("networks", ())):
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            yield f"networks->{index}", f"no network such as 192.0.2.0/24: {error}"


def _key(entry: Mapping[str, Any]) -> Key:
    def chosen(name: str) -> list[str] | None:
        return entry.get(name)

    senders, networks, requests = chosen("from"), chosen("networks"), chosen("requests")
    accounts = chosen("accounts")
    rate = entry.get("mailsPerMinute")
    return Key(
        hash=entry["hash"],
        grant=Grant(
            name=entry["name"],
            requests=None if requests is None else frozenset(requests),
            senders=None if senders is None else frozenset(map(sender_rule, senders)),
            accounts=None if accounts is None else frozenset(accounts),
            networks=None if networks is None else tuple(map(ipaddress.ip_network, networks)),
            mails_per_minute=None if rate is None else int(rate),
        ),
    )
