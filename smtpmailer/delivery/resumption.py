# SPDX-License-Identifier: MIT
"""TLS sessions kept for the next connection of a route, which then needs no full handshake."""

from __future__ import annotations

from collections import deque
from typing import Final

import attrs
from OpenSSL import SSL

from smtpmailer.core.model import Route

__all__ = ["LIFE", "TlsSessions"]

#: Seconds after which a server is verified anew.
LIFE: Final = 3600.0

#: So many sessions are kept of a route, and of so many routes.
_OF_A_ROUTE: Final = 10
_ROUTES: Final = 100


@attrs.frozen(kw_only=True)
class _Kept:
    """A TLS session; ``since`` is when the certificate behind it was verified."""

    context: SSL.Context
    session: SSL.Session
    since: float


class TlsSessions:
    """Keeps TLS sessions by route, credentials and trust included.

    OpenSSL checks no certificate when a session is resumed. So one is given out only for the route
    whose connection it comes from, with the context that verified it then, and for an hour after.
    Each is given out once (RFC 8446 appendix C.4).
    """

    def __init__(self) -> None:
        """Begin without any."""
        self._kept: dict[Route, deque[_Kept]] = {}

    def take(self, route: Route, context: SSL.Context, now: float) -> tuple[SSL.Session, float]:
        """Give a session for a new connection and when it was verified; KeyError without one."""
        kept = self._kept[_key(route)]
        while kept:
            newest = kept.pop()
            if newest.context is context and now - newest.since < LIFE:
                return newest.session, newest.since
        raise KeyError(route.host)

    def keep(
        self, route: Route, context: SSL.Context, connection: SSL.Connection, since: float
    ) -> None:
        """Keep the session of a connection that is set up; ``since``: verified when."""
        session = connection.get_session()
        if session is None:
            return
        key = _key(route)
        if key not in self._kept and len(self._kept) >= _ROUTES:
            del self._kept[next(iter(self._kept))]
        kept = self._kept.setdefault(key, deque(maxlen=_OF_A_ROUTE))
        kept.append(_Kept(context=context, session=session, since=since))


def _key(route: Route) -> Route:
    return attrs.evolve(route, timeout=0)
