# SPDX-License-Identifier: MIT
"""Bounds of what goes to SMTP servers at a time."""

from __future__ import annotations

import math
from typing import Final

import attrs

from smtpmailer.core.rates import Rate

__all__ = ["PoolLimits"]

_SPREAD: Final = 3
_GOLDEN: Final = (math.sqrt(5) - 1) / 2


@attrs.frozen(kw_only=True)
class PoolLimits:
    """How sessions are kept and used.

    ``connections`` is the most to one route, ``connections_in_all`` to all together. A session is
    closed after ``mails_per_connection``, and when it has lain idle for ``idle_seconds`` (0: it is
    closed as soon as no mail waits). ``depth`` is the most mails in flight on a session: so many
    are in doubt when it breaks. ``rate`` is the most mails that an account gets in a time (None: no
    limit); a mail that somebody waits for is refused when its turn would come in more than
    ``patience`` seconds. An account may have its own ``connections`` and ``rate``, see RouteLimits.
    """

    connections: int = 10
    connections_in_all: int = 100
    mails_per_connection: int = 100
    idle_seconds: float = 30.0
    depth: int = 2
    rate: Rate | None = None
    patience: float = math.inf

    def of_session(self, number: int) -> PoolLimits:
        """Give the limits of a route's session ``number``: it carries up to a third fewer mails.

        Sessions that began together would end together otherwise, and all mails would wait for the
        new ones. (Multiples of the golden ratio are spread evenly, however many there are.)
        """
        most = self.mails_per_connection
        fewer = int(most / _SPREAD * (number * _GOLDEN % 1))
        return attrs.evolve(self, mails_per_connection=most - fewer)
