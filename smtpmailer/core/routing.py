# SPDX-License-Identifier: MIT
"""Which server and account a mail is handed to."""

from __future__ import annotations

import attrs

from smtpmailer.core.model import Encryption, MailRequest, Route

__all__ = ["route_for"]


def route_for(request: MailRequest, default: Route) -> Route:
    """Apply a mail's own ``smtp*`` fields to the configured route.

    A mail that names its own host gets its own user and password or none: the configured ones
    never leave for another server. The same holds for a mail that switches the encryption off.
    Compat: on the configured host each missing field is taken from the settings.
    """
    own = request.smtp
    encryption = own.encryption or default.encryption
    foreign = own.host is not None or (
        encryption is Encryption.NONE and default.encryption is not Encryption.NONE
    )
    return attrs.evolve(
        default,
        host=own.host or default.host,
        port=own.port or default.port,
        encryption=encryption,
        user=_first(own.user, "" if foreign else default.user),
        password=_first(own.password, "" if foreign else default.password),
        timeout=request.timeout or default.timeout,
    )


def _first(own: str | None, other: str) -> str:
    return other if own is None else own
