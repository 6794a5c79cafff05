# SPDX-License-Identifier: MIT
"""The sender's part of the composition root: sessions with SMTP servers, TLS, access tokens."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from smtpmailer.core.settings import OPTIONS, Settings
from smtpmailer.core.tallies import SharedRates
from smtpmailer.delivery.connecting import Link
from smtpmailer.delivery.sender import Sender
from smtpmailer.delivery.tls import ClientTls
from smtpmailer.delivery.tokens import Tokens
from smtpmailer.door_parts import pool_limits
from smtpmailer.interfaces import IThreads

if TYPE_CHECKING:
    from smtpmailer.delivery.issuer import Issuer

__all__ = ["build_sender", "command_environment"]


def build_sender(
    settings: Settings,
    reactor: Any,
    threads: IThreads,
    *,
    pace: Callable[[], Deferred[None]],
    rates: SharedRates | None,
) -> Sender:
    """Put it together; connects to nobody. ``rates`` count what accounts are given."""
    tls = ClientTls()
    issuer = cache(lambda: _issuer(reactor, threads, tls))
    tokens = Tokens(lambda grant: issuer().fetch(grant), reactor)
    return Sender(
        reactor,
        settings.smtp_delivery_limit,
        pool_limits(settings),
        connect=lambda route: Link(reactor, route, tls, tokens),
        pace=pace,
        rates=rates,
    )


def _issuer(reactor: Any, threads: IThreads, tls: ClientTls) -> Issuer:
    # Twisted's HTTP takes some MB, and few have accounts that need access tokens.
    from smtpmailer.delivery.issuer import Issuer  # noqa: PLC0415

    return Issuer(reactor, threads=threads, tls=tls, environment=command_environment(os.environ))


def command_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Give the environment of commands: without our settings, which may be secrets."""
    ours = OPTIONS.keys() | {f"{key}_FILE" for key in OPTIONS}
    return {key: text for key, text in environ.items() if key not in ours}
