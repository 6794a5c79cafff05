# SPDX-License-Identifier: MIT
"""Which routes lead nowhere at the moment, so that not every mail has to find that out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from smtpmailer.core.breaker import THRESHOLD, Breaker
from smtpmailer.core.model import Route
from smtpmailer.errors import RemoteError, SmtpLoginError

__all__ = ["FIRST", "LONGEST", "Reach", "Refusal"]

#: Seconds between tries of a route that leads nowhere: the first and the longest. Somebody waits
#: for instant mails, so they are shorter than those of the queue.
FIRST: Final = 2.0
LONGEST: Final = 60.0
#: A connection that a mail gives less time than this (seconds) tells nothing by not coming about.
_FAIR: Final = 10.0
#: So many routes are remembered.
_MOST: Final = 1000


@attrs.frozen(kw_only=True)
class Refusal:
    """Why a mail is not tried, and in how many seconds one is."""

    error: RemoteError
    wait: float
    failures: int

    def __str__(self) -> str:
        """Say it."""
        return (
            f"{self.error} (not tried again: the server was out of reach {self.failures} times in "
            f"a row, the next try is in {self.wait:.0f} s)"
        )


class Reach:
    """The circuit breaker of each route.

    After some failures in a row one mail at a time tries to connect, with growing pauses in
    between. A login that is refused is no failure: there was a server to refuse it. One at which
    the server hangs up, or says nothing, tells nothing: the password may be wrong, and who has the
    right one is not to suffer for it.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        """Think well of all routes."""
        self._clock = clock
        self._breaker = Breaker(FIRST, LONGEST)
        self._last: dict[str, tuple[str, RemoteError]] = {}

    @property
    def calm(self) -> bool:
        """Whether all is well everywhere."""
        return not self._last

    def refusal(self, route: Route) -> Refusal | None:
        """Say why a mail may not be tried now; who may has to tell what came of it."""
        if not self._last:
            return None
        key = _key(route)
        now = self._clock.seconds()
        until = self._breaker.wait_until(key, now)
        if until is None or key not in self._last:
            return None
        error = self._last[key][1]
        return Refusal(error=error, wait=until - now, failures=self._breaker.failures(key))

    def failed(self, route: Route, error: BaseException | None, seconds: float) -> None:
        """Hear that no session came about, after so many seconds, and none stands."""
        if isinstance(error, SmtpLoginError) and error.code:
            self.succeeded(route)
        # A login that nobody answered (there was no token for it) tells nothing.
        elif (
            isinstance(error, SmtpLoginError)
            or not isinstance(error, RemoteError)
            or error.at_login
            or route.timeout <= seconds < _FAIR
        ):
            self.untold(route)
        else:
            self._note(route, error)

    def succeeded(self, route: Route) -> None:
        """Hear that a server is there."""
        if not self._last:
            return
        key = _key(route)
        if self._breaker.is_out_of_reach(key):
            server = _server(route)
            self._log.info("{server} can be reached again", server=server, notice=True)
        self._breaker.succeeded(key)
        self._last.pop(key, None)

    def untold(self, route: Route) -> None:
        """Hear that a try has ended and told nothing."""
        if self._last:
            self._breaker.untold(_key(route))

    def shut(self) -> Iterable[str]:
        """Give the servers of all routes that lead nowhere."""
        return [
            server for key, (server, _) in self._last.items() if self._breaker.is_out_of_reach(key)
        ]

    def _note(self, route: Route, error: RemoteError) -> None:
        key, server = _key(route), _server(route)
        shut = self._breaker.is_out_of_reach(key)
        self._last.pop(key, None)
        if len(self._last) >= _MOST:
            del self._last[next(iter(self._last))]
        self._last[key] = server, error
        self._breaker.failed(key, self._clock.seconds())
        if not shut and self._breaker.is_out_of_reach(key):
            self._log.warn(
                "{server} is out of reach: {n} tries in a row failed; from now on one mail at a "
                "time tries it, the others are refused at once: {why}",
                server=server,
                n=THRESHOLD,
                why=str(error),
            )


def _key(route: Route) -> str:
    """Tell apart what may decide whether a connection comes about."""
    parts = (route.host, route.port, route.encryption.value, route.user, route.account)
    return repr((*parts, route.verify, route.ca_file, route.ehlo_name))


def _server(route: Route) -> str:
    return f"{route.host}:{route.port}"
