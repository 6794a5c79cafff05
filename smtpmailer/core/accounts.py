# SPDX-License-Identifier: MIT
"""The accounts through which mails may go, and which of them a mail belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import attrs

from smtpmailer.core.addresses import dedupe_key, domain_of
from smtpmailer.core.grants import Grant
from smtpmailer.core.model import Route
from smtpmailer.errors import AddressError, UnknownAccountError

__all__ = ["DEFAULT_ACCOUNT", "NO_ACCOUNTS", "Account", "Accounts"]

#: What the account of the ``SMTP_*`` settings is called.
DEFAULT_ACCOUNT: Final = "default"


@attrs.frozen(kw_only=True)
class Account:
    """One account.

    ``senders`` are addresses and domains as ``core.grants.sender_rule`` gives them. ``failover``
    names the accounts to try, in order, when this one certainly did not take a mail.
    """

    name: str
    route: Route
    senders: frozenset[str] = frozenset()
    failover: tuple[str, ...] = ()


class Accounts:
    """All accounts but the default one, of which it knows the ``failover`` only."""

    def __init__(self, accounts: Iterable[Account] = (), failover: tuple[str, ...] = ()) -> None:
        """Take accounts that go together; see ``core.accounts_reading``."""
        self._by_name = {account.name: account for account in accounts}
        self._failover = failover
        self._by_sender: Mapping[str, str] = {
            sender: account.name for account in self._by_name.values() for sender in account.senders
        }

    def __iter__(self) -> Iterator[Account]:
        """Give them, in the order of the file."""
        return iter(self._by_name.values())

    @property
    def names(self) -> tuple[str, ...]:
        """What they are called."""
        return tuple(self._by_name)

    def __contains__(self, name: str) -> bool:
        """Whether there is an account of that name."""
        return name == DEFAULT_ACCOUNT or name in self._by_name

    def of_sender(self, address: str) -> str:
        """Give the name of the account that serves an address, else its domain, else the default.

        What is no address is nobody's.
        """
        if not self._by_sender:
            return DEFAULT_ACCOUNT
        try:
            by_address = self._by_sender.get(dedupe_key(address))
            return by_address or self._by_sender.get(domain_of(address), DEFAULT_ACCOUNT)
        except AddressError:
            return DEFAULT_ACCOUNT

    def allows(self, grant: Grant, named: str | None, sender: str) -> bool:
        """Whether a key lets a mail from ``sender`` go through the account that it names.

        Servers may show whose account it is instead of who the mail is from. So a key that is for
        some senders only, and not for certain accounts, can't name one that is not theirs.
        """
        if grant.accounts is not None:
            return (self.of_sender(sender) if named is None else named) in grant.accounts
        return grant.senders is None or named is None or named == self._serving(named, sender)

    def routes(self, name: str, default: Route) -> tuple[Route, ...]:
        """Give the routes to try, in order; raises UnknownAccountError."""
        if name == DEFAULT_ACCOUNT:
            first, failover = default, self._failover
        elif name in self._by_name:
            account = self._by_name[name]
            first, failover = account.route, account.failover
        else:
            raise UnknownAccountError(name)
        return first, *(
            default if other == DEFAULT_ACCOUNT else self._by_name[other].route
            for other in failover
        )

    def _serving(self, named: str, sender: str) -> str:
        """Give ``named`` if it serves a sender, be it through the domain, else who does."""
        account = self._by_name.get(named)
        try:
            if account and not {dedupe_key(sender), domain_of(sender)}.isdisjoint(account.senders):
                return named
        except AddressError:
            pass
        return self.of_sender(sender)


#: Where there is only the default one.
NO_ACCOUNTS: Final = Accounts()
