# SPDX-License-Identifier: MIT
"""Access tokens for logins: asked for once for all who need one, and renewed ahead of their end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs
from twisted.internet import defer
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from smtpmailer.core.oauth import OAuth2, Token, TokenGrant
from smtpmailer.errors import TokenError

__all__ = ["FETCH_LIMIT", "Fetch", "Tokens"]

#: Seconds in which a new token has to come.
FETCH_LIMIT: Final = 30.0

#: Seconds before a token's end from which it is not used any more, and from which a new one is
#: asked for meanwhile; of a token with a short life, such parts of it.
_LAST: Final = 30.0
_AHEAD: Final = 300.0
_LAST_PART: Final = 0.1
_AHEAD_PART: Final = 0.25

#: Seconds without another try after one that failed, growing with each; the first and the longest.
_FIRST_PAUSE: Final = 5.0
_LONGEST_PAUSE: Final = 300.0

#: Seconds in which a source is asked for another token only once because servers refuse its own.
_PATIENCE: Final = 60.0

#: So many sources are remembered; changed settings leave old ones behind.
_MOST: Final = 2000

#: Fires with a new token and what the next one is to be asked for with, or fails with TokenError.
Fetch = Callable[[TokenGrant], Deferred[tuple[Token, TokenGrant]]]


@attrs.define(eq=False)
class _Source:
    """A source, the token that it gave last, and who waits for the next one."""

    grant: TokenGrant
    token: str = attrs.field(default="", repr=False)
    good_until: float = 0.0
    renew_at: float = 0.0
    asking: bool = False
    waiting: list[Deferred[str]] = attrs.field(factory=list)
    failures: int = 0
    why: str = ""
    again_at: float = 0.0
    refused_at: float | None = None

    def keep(self, token: Token, now: float) -> None:
        """Take a new token; that of a file is read anew each time."""
        self.token, self.failures, self.why, self.again_at = token.text, 0, "", 0.0
        life = 0.0 if self.grant.source.token_file else token.life
        self.good_until = now + life - min(_LAST, life * _LAST_PART)
        self.renew_at = now + life - min(_AHEAD, life * _AHEAD_PART)

    def fail(self, why: str, now: float) -> None:
        """Note that none came."""
        pause = _FIRST_PAUSE * 2.0 ** min(self.failures, 10)
        self.failures += 1
        self.why, self.again_at = why, now + min(pause, _LONGEST_PAUSE)


class Tokens:
    """Keeps the tokens of all sources; they are in memory only."""

    _log = Logger()

    def __init__(self, fetch: Fetch, clock: IReactorTime) -> None:
        """``fetch`` gets them; ``clock`` does not go back."""
        self._fetch = fetch
        self._clock = clock
        self._sources: dict[OAuth2, _Source] = {}

    def token(self, source: OAuth2) -> Deferred[str]:
        """Fire with a token that is good now.

        Fails with TokenError when none can be had; a source that failed is left alone for a while.
        """
        known, now = self._of(source), self._clock.seconds()
        rests = now < known.again_at
        if known.token and now < known.good_until:
            if now >= known.renew_at and not (known.asking or rests):
                self._ask(known)
            return succeed(known.token)
        if rests and not known.asking:
            return fail(TokenError(f"{known.why} (asked again in {known.again_at - now:.0f} s)"))
        waiter: Deferred[str] = Deferred(known.waiting.remove)
        known.waiting.append(waiter)
        if not known.asking:
            self._ask(known)
        return waiter

    def refused(self, source: OAuth2, token: str) -> bool:
        """Hear that a server refuses a token; say whether to ask for another one and try that.

        It is not, when another one was asked for lately for the same reason: then it is not the
        token's fault.
        """
        known, now = self._of(source), self._clock.seconds()
        if known.token != token:
            return True  # There is a newer one, or it is being asked for.
        if known.refused_at is not None and now < known.refused_at + _PATIENCE:
            return False
        known.refused_at = now
        known.token = ""
        return True

    def _of(self, source: OAuth2) -> _Source:
        known = self._sources.pop(source, None)
        if known is None:
            known = _Source(TokenGrant.of(source))
            if len(self._sources) >= _MOST:
                del self._sources[next(iter(self._sources))]
        self._sources[source] = known
        return known

    def _ask(self, known: _Source) -> None:
        known.asking = True
        asked = self._fetch(known.grant).addTimeout(FETCH_LIMIT, self._clock)
        asked.addCallbacks(self._came, self._failed, (known,), {}, (known,))
        asked.addErrback(lambda failure: self._log.failure("a token was not kept", failure))

    def _came(self, given: tuple[Token, TokenGrant], known: _Source) -> None:
        token, known.grant = given
        known.keep(token, self._clock.seconds())
        source = known.grant.source
        if not source.token_file:
            self._log.info(
                "a new access token from {source}, good for {life:.0f} s",
                source=source.name,
                life=token.life,
            )
        for waiter in self._end(known):
            waiter.callback(known.token)

    def _failed(self, failure: Failure, known: _Source) -> None:
        source = known.grant.source
        error = failure.value
        if failure.check(defer.TimeoutError):
            late = f"gave no token within {FETCH_LIMIT:.0f} s"
            error = TokenError(f"{source.name} {late}", told=f"{source.told} {late}")
        elif not isinstance(error, TokenError):
            self._log.failure("no access token from {source}", failure, source=source.name)
            error = TokenError("no token, because of a fault of our own (see the log)")
        elif not source.token_endpoint:
            # Who sends mails need not know of the paths and programs of this machine.
            error = TokenError(str(error), told=f"{source.told} gives no token (see the log)")
        known.fail(error.told, self._clock.seconds())
        self._log.error("no access token from {source}: {why}", source=source.name, why=str(error))
        for waiter in self._end(known):
            waiter.errback(TokenError(error.told))

    @staticmethod
    def _end(known: _Source) -> list[Deferred[str]]:
        known.asking = False
        waiting, known.waiting = known.waiting, []
        return waiting
