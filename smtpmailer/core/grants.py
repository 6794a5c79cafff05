# SPDX-License-Identifier: MIT
"""What a password's owner may do."""

from __future__ import annotations

import ipaddress
from typing import Final, TypeAlias

import attrs

from smtpmailer.core.addresses import dedupe_key, domain_of
from smtpmailer.errors import AddressError

__all__ = ["EVERYTHING", "Grant", "Network", "host_of", "sender_rule"]

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


@attrs.frozen(kw_only=True)
class Grant:
    """The limits of one key; None where there is none.

    ``name`` is for the log, and empty where there is only one password, or none. ``senders`` are
    addresses and domains as ``sender_rule`` gives them, ``accounts`` the names of accounts.
    """

    name: str = ""
    requests: frozenset[str] | None = None
    senders: frozenset[str] | None = None
    accounts: frozenset[str] | None = None
    networks: tuple[Network, ...] | None = None
    mails_per_minute: int | None = None

    def allows_request(self, name: str) -> bool:
        """Whether a request of this name may be made."""
        return self.requests is None or name in self.requests

    def allows_sender(self, address: str) -> bool:
        """Whether a mail may be from ``address``; what is no address is nobody's."""
        if self.senders is None:
            return True
        try:
            return dedupe_key(address) in self.senders or domain_of(address) in self.senders
        except AddressError:
            return False

    def allows_peer(self, peer: str) -> bool:
        """Whether a client at ``peer`` (an IP address) may use the key."""
        if self.networks is None:
            return True
        host = host_of(peer)
        return host is not None and any(host in network for network in self.networks)


#: What is allowed where nothing is limited.
EVERYTHING: Final = Grant()


def host_of(peer: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Read an IP address; an IPv4 one that came in IPv6's clothes is IPv4 (RFC 4291 2.5.5.2)."""
    try:
        host = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return None
    mapped = host.ipv4_mapped if isinstance(host, ipaddress.IPv6Address) else None
    return mapped or host


def sender_rule(text: str) -> str:
    """Give an address, or a domain without ``@``, in the form that ``Grant.senders`` holds.

    Raises AddressError.
    """
    return dedupe_key(text) if "@" in text else domain_of(f"x@{text}")
