# SPDX-License-Identifier: MIT
"""The figures of what may go to SMTP servers: limits, and servers that are out of reach."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from smtpmailer.delivery.paces import AccountPace, Paces
from smtpmailer.delivery.reach import Reach
from smtpmailer.metrics import Figure

__all__ = ["MOST", "sending_figures"]

#: So many accounts and servers have figures of their own: clients may name any.
MOST: Final = 20


def sending_figures(paces: Paces, reach: Reach) -> Iterable[Figure]:
    """Give the figures; those of the accounts used last, and whose limits are lowered first."""
    newest = tuple(paces)[::-1]
    shown = sorted(newest, key=lambda pace: not pace.lowered)[:MOST]
    yield Figure(
        "smtpmailer_smtp_connection_limit",
        "Connections that an account may have now",
        lambda: [(pace.name, pace.connections) for pace in shown],
        "account",
    )
    yield Figure(
        "smtpmailer_smtp_rate_limit",
        "Mails a second that an account may get now; missing where there is no limit",
        lambda: list(_rates(shown)),
        "account",
    )
    yield Figure(
        "smtpmailer_smtp_limits_lowered",
        "1 while an account has less than its configured limits, as its server asked for that",
        lambda: [(pace.name, float(pace.lowered)) for pace in shown],
        "account",
    )
    yield Figure(
        "smtpmailer_smtp_slow_downs",
        "Answers that asked for less mail, by account",
        lambda: list(paces.slow_downs.items()),
        "account",
        counts=True,
    )
    yield Figure(
        "smtpmailer_smtp_out_of_reach",
        "1 while a server is out of reach, and tried by one mail at a time",
        lambda: list(_reaches(shown, reach).items()),
        "server",
    )


def _rates(shown: Iterable[AccountPace]) -> Iterable[tuple[str, float]]:
    for pace in shown:
        rate = pace.rate
        if rate is not None:
            yield pace.name, rate


def _reaches(shown: Iterable[AccountPace], reach: Reach) -> dict[str, float]:
    out_of_reach = list(dict.fromkeys(reach.shut()))[:MOST]
    return {**{pace.server: 0.0 for pace in shown}, **dict.fromkeys(out_of_reach, 1.0)}
