# SPDX-License-Identifier: MIT
"""Which server and account a mail is handed to, and which others when that one does not take it."""

from __future__ import annotations

import attrs

from smtpmailer.core.accounts import NO_ACCOUNTS, Accounts
from smtpmailer.core.model import Encryption, MailRequest, Route

__all__ = ["route_for", "routes_for"]


def routes_for(
    request: MailRequest, sender: str, default: Route, accounts: Accounts = NO_ACCOUNTS
) -> tuple[Route, ...]:
    """Give the routes to try for a mail from ``sender``, in order; there is at least one.

    A mail with ``smtp*`` fields of its own has one route, and no account but the default one that
    they change. Raises UnknownAccountError when the mail names an account that is not there.
    """
    if request.has_own_server:
        return (route_for(request, default),)
    name = accounts.of_sender(sender) if request.account is None else request.account
    routes = accounts.routes(name, default)
    if request.timeout is None:
        return routes
    return tuple(attrs.evolve(route, timeout=request.timeout) for route in routes)


def route_for(request: MailRequest, default: Route) -> Route:
    """Apply a mail's own ``smtp*`` fields to the configured route.

    A mail that names its own host gets its own user and password or none: the configured ones
    never leave for another server. The same holds for a mail that switches the encryption off.
    A mail that names its own user or password does not log in with the configured token.
    Compat: on the configured host each missing field is taken from the settings.
    """
    own = request.smtp
    encryption = own.encryption or default.encryption
    foreign = own.host is not None or (
        encryption is Encryption.NONE and default.encryption is not Encryption.NONE
    )
    own_login = own.user is not None or own.password is not None
    timeout = request.timeout or default.timeout
    route = attrs.evolve(
        default,
        host=own.host or default.host,
        port=own.port or default.port,
        encryption=encryption,
        user=_first(own.user, "" if foreign else default.user),
        password=_first(own.password, "" if foreign else default.password),
        oauth2=None if foreign or own_login else default.oauth2,
        timeout=timeout,
    )
    # A mail may name what is configured: then it is that.
    return attrs.evolve(route, foreign=route != attrs.evolve(default, timeout=timeout))


def _first(own: str | None, other: str) -> str:
    return other if own is None else own
