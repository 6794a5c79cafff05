# SPDX-License-Identifier: MIT
"""Bounds of what goes to SMTP servers at a time."""

from __future__ import annotations

import attrs

__all__ = ["PoolLimits"]


@attrs.frozen(kw_only=True)
class PoolLimits:
    """How sessions are kept and used.

    ``connections`` is the most to one route, ``connections_in_all`` to all together. A session is
    closed after ``mails_per_connection``, and when it has lain idle for ``idle_seconds`` (0: it is
    closed as soon as no mail waits). ``depth`` is the most mails in flight on a session: so many
    are in doubt when it breaks.
    """

    connections: int = 10
    connections_in_all: int = 100
    mails_per_connection: int = 100
    idle_seconds: float = 30.0
    depth: int = 2
