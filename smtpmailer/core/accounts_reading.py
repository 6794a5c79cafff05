# SPDX-License-Identifier: MIT
"""The accounts of SMTP_ACCOUNTS_FILE: from its JSON to routes, with every fault and its place."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from smtpmailer.core import oauth
from smtpmailer.core.accounts import DEFAULT_ACCOUNT, Account, Accounts
from smtpmailer.core.grants import sender_rule
from smtpmailer.core.model import Encryption, Route, RouteLimits
from smtpmailer.core.options import Host, Kind, Path, Text
from smtpmailer.core.rates import Rate
from smtpmailer.core.schemas import Schema
from smtpmailer.errors import AddressError, SettingsError

__all__ = ["AccountsPlace", "failover_fault", "failover_names", "read_accounts"]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PORTS: Final = {Encryption.STARTTLS: 587, Encryption.TLS: 465, Encryption.NONE: 25}
_TEXT: Final = Text()
_OAUTH2_FIELDS: Final = {
    "token_endpoint": "tokenEndpoint",
    "client_id": "clientId",
    "client_secret": "clientSecret",
    "scope": "scope",
    "refresh_token": "refreshToken",
    "token_file": "tokenFile",
    "token_command": "tokenCommand",
}


@attrs.frozen(kw_only=True)
class AccountsPlace:
    """What an accounts file is read against.

    ``default`` is the route of the ``SMTP_*`` settings, ``failover`` its SMTP_FAILOVER.
    ``base_path`` is the absolute directory of relative paths. ``read`` gives the text of a file
    that an account names, line ends at its end cut; raises ValueError, whose text goes on after
    its path.
    """

    default: Route
    failover: tuple[str, ...]
    base_path: str
    read: Callable[[str], str]


@attrs.define
class _Reading:
    """One account on its way; ``faults`` are (path, text)."""

    entry: Mapping[str, Any]
    place: AccountsPlace
    faults: list[tuple[str, str]] = attrs.field(factory=list)

    def text(self, field: str, kind: Kind = _TEXT, *, default: str = "") -> str:
        """Read a field by its kind; the default also for one that is faulty."""
        return self._text(self.entry, field, field, kind, default)

    def file(self, field: str, entry: Mapping[str, Any], path: str = "") -> str:
        """Read a secret that stands in a field, or in the file which ``<field>File`` names."""
        named = f"{field}File"
        if named not in entry:
            return self._text(entry, field, f"{path}{field}", _TEXT, "")
        if field in entry:
            self.fault(f"{path}{named}", f"can't be set beside {field}")
            return ""
        name = self._text(entry, named, f"{path}{named}", Path(), "")
        try:
            content = self.place.read(name) if name else ""
            if name and not content:
                self.fault(f"{path}{named}", f"{name} is empty")
            return str(_TEXT.read(content, ""))
        except ValueError as error:
            self.fault(f"{path}{named}", f"{name} {error}")
            return ""

    def fault(self, path: str, text: str) -> None:
        """Note a fault."""
        self.faults.append((path, text))

    def oauth2(self, ca_file: str) -> oauth.OAuth2 | None:
        """Read the source of tokens, if there is one."""
        entry = self.entry.get("oauth2")
        if entry is None:
            return None
        at = "oauth2->"

        def text(field: str, kind: Kind = _TEXT) -> str:
            return self._text(entry, field, f"{at}{field}", kind, "")

        before = len(self.faults)
        source = oauth.OAuth2(
            token_endpoint=text("tokenEndpoint"),
            client_id=text("clientId"),
            client_secret=self.file("clientSecret", entry, at),
            scope=text("scope"),
            refresh_token=self.file("refreshToken", entry, at),
            token_file=text("tokenFile", Path()),
            token_command=tuple(entry.get("tokenCommand", ())),
            ca_file=ca_file,
        )
        if len(self.faults) == before:
            for field, what in oauth.faults(source, _OAUTH2_FIELDS.__getitem__):
                self.fault(f"{at}{_OAUTH2_FIELDS[field]}", what)
        return source

    def _text(
        self, entry: Mapping[str, Any], field: str, path: str, kind: Kind, default: str
    ) -> str:
        try:
            return str(kind.read(entry[field], self.place.base_path)) if field in entry else default
        except ValueError as error:
            self.fault(path, str(error))
            return default


def read_accounts(document: Any, schema: Schema, place: AccountsPlace) -> Accounts:
    """Make accounts of the file's JSON value.

    Raises SettingsError with all faults, each with its path (``0->port: ...``), never with a
    secret.
    """
    faults = [f"{at}: {text}" for at, texts in schema.faults(document).items() for text in texts]
    if faults:
        raise SettingsError(faults)
    accounts = []
    for index, entry in enumerate(document):
        reading = _Reading(entry, place)
        accounts.append(_account(reading))
        faults += [f"{index}->{path}: {text}" for path, text in reading.faults]
    faults += _common_faults(document)
    if faults:
        raise SettingsError(faults)
    return Accounts(accounts, place.failover)


def failover_names(text: str) -> tuple[str, ...]:
    """Read SMTP_FAILOVER: names with commas or blanks between."""
    return tuple(text.replace(",", " ").split())


def failover_fault(own: str, names: Sequence[str], known: Collection[str]) -> tuple[int, str]:
    """Give the place and text of the first fault in an account's fail-over; no text without one."""
    for index, name in enumerate(names):
        if name not in known and name != DEFAULT_ACCOUNT:
            near = difflib.get_close_matches(name, [*known, DEFAULT_ACCOUNT], n=1)
            hint = f"; the nearest is {near[0]}" if near else ""
            return index, f"{name!r} is no account{hint}"
        if name == own:
            return index, f"{name!r} is the account itself"
        if name in names[:index]:
            return index, f"{name!r} is there already"
    return 0, ""


def _account(reading: _Reading) -> Account:
    entry = reading.entry
    name, default = entry["name"], reading.place.default
    if not _NAME.fullmatch(name):
        reading.fault("name", "has to be 1 to 64 letters, digits, dots, hyphens or underscores")
    elif name == DEFAULT_ACCOUNT:
        reading.fault("name", f"{name!r} is the account of SMTP_HOST; choose another name")
    encryption = Encryption(entry.get("encryption", "tls"))
    ca_file = reading.text("caFile", Path(), default=default.ca_file)
    route = Route(
        host=reading.text("host", Host(optional=False)),
        port=int(entry.get("port", _PORTS[encryption])),
        encryption=encryption,
        user=reading.text("user"),
        password=reading.file("password", entry),
        oauth2=reading.oauth2(ca_file),
        ehlo_name=reading.text("ehloName", Host(literals=True), default=default.ehlo_name),
        verify=entry.get("tlsVerify", True),
        ca_file=ca_file,
        timeout=default.timeout,
        account=name,
        limits=_limits(reading),
    )
    _check_login(reading, route)
    return Account(
        name=name,
        route=route,
        senders=frozenset(_senders(reading)),
        failover=tuple(entry.get("failover", ())),
    )


def _limits(reading: _Reading) -> RouteLimits:
    rate = None
    try:
        if "rate" in reading.entry:
            rate = Rate.parse(reading.entry["rate"])
    except ValueError as error:
        reading.fault("rate", str(error))
    return RouteLimits(connections=int(reading.entry.get("maxConnections", 0)), rate=rate)


def _check_login(reading: _Reading, route: Route) -> None:
    entry = reading.entry
    has_password = "password" in entry or "passwordFile" in entry
    if route.oauth2 is not None:
        if has_password:
            reading.fault("oauth2", "can't be set beside a password: it takes its place")
        if not route.user:
            reading.fault("oauth2", "needs a user, the mailbox that the tokens are for")
        if route.encryption is Encryption.NONE:
            reading.fault("oauth2", "needs encryption tls or ssl: who sees a token can use it")
    elif route.user and not has_password:
        reading.fault("user", "is set without password, passwordFile or oauth2")
    elif has_password and "user" not in entry:
        reading.fault("password" if "password" in entry else "passwordFile", "needs a user")


def _senders(reading: _Reading) -> Iterator[str]:
    for index, text in enumerate(reading.entry.get("from", ())):
        try:
            yield sender_rule(text)
        except AddressError:
            reading.fault(f"from->{index}", f"{text!r} is neither a mail address nor a domain")


def _common_faults(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Give the faults of accounts with each other."""
    names: dict[str, None] = {}
    for index, entry in enumerate(entries):
        if entry["name"] in names:
            yield f"{index}->name: {entry['name']!r} is there already; each account has its own"
        names[entry["name"]] = None
    owners: dict[str, str] = {}
    for index, entry in enumerate(entries):
        at, text = failover_fault(entry["name"], entry.get("failover", ()), names)
        if text:
            yield f"{index}->failover->{at}: {text}"
        for place, sender in enumerate(entry.get("from", ())):
            try:
                rule = sender_rule(sender)
            except AddressError:
                continue
            if owners.setdefault(rule, entry["name"]) != entry["name"]:
                yield f"{index}->from->{place}: {sender!r} goes through {owners[rule]!r} already"
