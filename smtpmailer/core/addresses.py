# SPDX-License-Identifier: MIT
"""The syntax of mail addresses and their form in envelopes and headers."""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple

import idna

from smtpmailer.errors import AddressError

__all__ = ["dedupe_key", "domain_of", "is_address", "to_wire"]

#: RFC 5321 section 4.5.3.1; a path is limited to 256 octets with its angle brackets.
_MAX_LOCAL: Final = 64
_MAX_DOMAIN: Final = 255
_MAX_ADDRESS: Final = 254
_MAX_LABEL: Final = 63

# What never may stand in an address: controls, separators that break lines, the marks that
# reorder text on a screen, and surrogates, which no UTF-8 can carry.
_FORBIDDEN: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_ATOM: Final = r"(?:[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]|[^\x00-\x7f\s])+"
_DOT_STRING: Final = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\[\x20-\x7e])*"')
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
# What nearly all addresses are: in wire form already, and too short to be too long anywhere.
_PLAIN: Final = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*"
)
# A zone (%eth0) is no part of RFC 5321's grammar.
_LITERAL: Final = re.compile(r"\[(IPv6:)?([0-9A-Fa-f.:]+)\]", re.IGNORECASE | re.ASCII)


class _Parts(NamedTuple):
    """An address in wire form, cut at its @."""

    local: str
    domain: str


def is_address(text: str) -> bool:
    """Whether ``text`` is a mail address that ``to_wire`` accepts."""
    try:
        _split(text)
    except AddressError:
        return False
    return True


def to_wire(text: str) -> str:
    """Give the address as it goes into an envelope or a header, without angle brackets.

    The domain is in lower case, an internationalised one in A-labels (RFC 5891, UTS 46). The
    local part is as the client wrote it and may hold non-ASCII characters (RFC 6531). Dotless
    domains (``root@localhost``) and address literals are accepted.

    Raises AddressError, which says what is wrong (RFC 5321 sections 4.1.2, 4.1.3, 4.5.3.1).
    """
    if _is_plain(text):
        return text
    parts = _split(text)
    return f"{parts.local}@{parts.domain}"


def dedupe_key(text: str) -> str:
    """Give a text that is equal for two addresses when both name the same mailbox for sure.

    Domains are compared without case and by A-labels, local parts exactly. Raises AddressError.
    """
    return to_wire(text)


def domain_of(text: str) -> str:
    """Give the domain of an address as ``to_wire`` writes it. Raises AddressError."""
    return _split(text).domain


def _is_plain(text: str) -> bool:
    return len(text) <= _MAX_LABEL and _PLAIN.fullmatch(text) is not None


def _split(text: str) -> _Parts:
    """Check a whole address."""
    if _is_plain(text):
        local, _, domain = text.rpartition("@")
        return _Parts(local, domain)
    bad = _FORBIDDEN.search(text)
    if bad is not None:
        raise _wrong(text, f"must not hold the control character U+{ord(bad.group()):04X}")
    local, at, domain = text.rpartition("@")
    if not at:
        raise _wrong(text, "has no @ (expected local-part@domain)")
    _check_local(text, local)
    parts = _Parts(local, _wire_domain(text, domain))
    if len(parts.local.encode()) + 1 + len(parts.domain) > _MAX_ADDRESS:
        raise _wrong(text, f"is longer than {_MAX_ADDRESS} octets")
    return parts


def _check_local(text: str, local: str) -> None:
    """Accept a dot-string or a quoted string of at most 64 octets."""
    if not local:
        raise _wrong(text, "has nothing before the @")
    if len(local.encode()) > _MAX_LOCAL:
        raise _wrong(text, f"has more than {_MAX_LOCAL} octets before the @")
    if _DOT_STRING.fullmatch(local) is None and _QUOTED.fullmatch(local) is None:
        raise _wrong(
            text, "has a part before the @ that needs quotes or has a dot in the wrong place"
        )


def _wire_domain(text: str, domain: str) -> str:
    """Give a domain or an address literal in wire form."""
    if not domain:
        raise _wrong(text, "has nothing after the @")
    # Checked before idna sees it: its work grows faster than its input.
    if len(domain) > _MAX_DOMAIN:
        raise _wrong(text, f"has more than {_MAX_DOMAIN} octets after the @")
    if domain.startswith("["):
        return _wire_literal(text, domain)
    host = (domain if domain.isascii() else _a_labels(text, domain)).lower()
    if _HOST.fullmatch(host) is None:
        raise _wrong(text, "has a domain that is no host name (letters, digits, hyphens, dots)")
    if max(map(len, host.split("."))) > _MAX_LABEL:
        raise _wrong(text, f"has a domain label of more than {_MAX_LABEL} octets")
    return host


def _a_labels(text: str, domain: str) -> str:
    """Map an internationalised domain by UTS 46 and give its A-labels."""
    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError) as error:
        raise _wrong(text, f"has a domain that is no valid IDN ({error})") from error


def _wire_literal(text: str, domain: str) -> str:
    """Give an address literal: ``[192.0.2.1]`` or ``[IPv6:2001:db8::1]``."""
    match = _LITERAL.fullmatch(domain)
    tag, inside = match.groups() if match is not None else (None, "")
    try:
        return (
            f"[IPv6:{ipaddress.IPv6Address(inside)}]"
            if tag
            else f"[{ipaddress.IPv4Address(inside)}]"
        )
    except ValueError:
        raise _wrong(
            text, "has a bad address literal (expected [192.0.2.1] or [IPv6:2001:db8::1])"
        ) from None


def _wrong(text: str, why: str) -> AddressError:
    """Make the error; the address is shown escaped and cut."""
    shown = text if len(text) <= _MAX_ADDRESS else f"{text[:_MAX_ADDRESS]}..."
    return AddressError(f"the address {shown!r} {why}")
