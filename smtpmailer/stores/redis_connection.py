# SPDX-License-Identifier: MIT
"""One connection to a Redis server.

txredisapi puts commands on the wire and takes replies off it, with hiredis (its own reader needs
a turn of the reactor for every text). Its factories and handlers are not used: a command to a
Redis that is away would wait for ever, after a refused login they stop connecting for good, and
they know no WAIT.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Any, Final

import attrs
import txredisapi
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from smtpmailer.core.redisvalues import Word
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import RedisAwayError, RedisRefusedError, RedisUnreplicatedError
from smtpmailer.stores.redis_tls import describe_tls

__all__ = ["Limits", "Login", "RedisConnection", "check", "describe", "greet", "is_append_only"]

#: Errors after which another connection, perhaps to another server, may do better. Before Redis 7
#: a script's error stood in the middle of another one.
_USELESS: Final = re.compile(r"(?:\A|-)(?:LOADING|MASTERDOWN|NOAUTH|READONLY|UNBLOCKED) ")
#: The part of an answer's limit that replicas have; a command may stand behind one such wait.
_REPLICAS_SHARE: Final = 0.25


@attrs.frozen(kw_only=True)
class Limits:
    """How long to wait for an answer (seconds), and for how many replicas; 0 for none."""

    answer: float
    replicas: int = 0


@attrs.frozen(kw_only=True)
class Login:
    """Who we are to Redis; empty texts for nobody. ``database`` is the one to select."""

    user: str = attrs.field(default="", repr=False)
    password: str = attrs.field(default="", repr=False)
    database: int = 0


class RedisConnection(txredisapi.HiredisProtocol):  # type: ignore[misc] # the library is untyped
    """A connection that bounds each wait for an answer, and ends when one was in vain.

    Answers come in the order of the commands, so that one that does not come holds up all others.
    """

    def __init__(self, clock: IReactorTime, limits: Limits, where: str) -> None:
        """Measure the limits by this clock; ``where`` is the server's address for people."""
        super().__init__(charset=None, convertNumbers=False)
        self.where = where
        self._ended = False
        self._waiting_for_end: list[Deferred[None]] = []
        self._clock = clock
        self._limits = limits
        self._due: deque[float] = deque()
        self._timer: IDelayedCall | None = None
        self._reason = ""
        self._answered = False
        self._replication = _Replication(self, clock, limits)

    @property
    def outstanding(self) -> int:
        """How many commands wait for their answers."""
        return len(self._due)

    @property
    def reason(self) -> str:
        """Why the connection ends or has ended; empty while it can be used."""
        return f"{self.where}: {self._reason}" if self._reason else ""

    def ended(self) -> Deferred[None]:
        """Fire when the connection has ended."""
        if self._ended:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting_for_end.append(waiting)
        return waiting

    def connectionMade(self) -> None:
        """Begin; the greeting is the owner's business."""
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)

    def command(self, *words: Word) -> Deferred[Any]:
        """Carry out one command; fires with its reply, or fails as ``IRedis.call`` does."""
        if self._reason or not self.connected:
            return fail(RedisAwayError(f"Redis is away: {self.reason}", sent=False))
        encoded = [_encode(word) for word in words]
        self._due.append(self._clock.seconds() + self._limits.answer)
        self._arm()
        answer: Deferred[Any] = self.execute_command(*encoded)
        return answer.addErrback(self._failed)

    def confirm(self) -> Deferred[None]:
        """Fire when enough replicas have what was sent so far (WAIT).

        Fails with RedisUnreplicatedError.
        """
        return self._replication.confirm()

    def drop(self, reason: str) -> None:
        """End the connection at once, for this reason; commands under way fail."""
        if not self._reason:
            self._reason = reason
            self.transport.abortConnection()

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:  # noqa: FBT001, FBT002
        """Take replies off the wire."""
        try:
            super().dataReceived(data, unpause)
        except txredisapi.InvalidData:
            self.drop("what answers there does not speak Redis's protocol")

    def replyReceived(self, reply: Any) -> None:
        """Hand a reply to the command that waits for it."""
        if not self._due:
            self.drop("Redis sent an answer that nobody had asked for")
            return
        self._due.popleft()
        self._answered = True
        super().replyReceived(reply)

    def connectionLost(self, why: Failure) -> None:
        """Fail all that waits."""
        self._reason = self._reason or describe(why)
        super().connectionLost(why)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._ended = True
        waiting, self._waiting_for_end = self._waiting_for_end, []
        for deferred in waiting:
            deferred.callback(None)

    def _failed(self, failure: Failure) -> Any:
        if failure.check(txredisapi.ResponseError):
            # Redis quotes the arguments of a command that it doesn't know: maybe secrets.
            words = str(failure.value).partition(", with args")[0]
            refused = RedisRefusedError(words)
            if _USELESS.search(words):
                self.drop(str(refused))
            raise refused
        if failure.check(CancelledError):
            return failure
        raise RedisAwayError(f"Redis is away: {self.reason}", sent=True)

    def _arm(self) -> None:
        if self._timer is None and self._due:
            delay = max(0, self._due[0] - self._clock.seconds())
            self._timer = self._clock.callLater(delay, self._expire)

    def _expire(self) -> None:
        self._timer = None
        if self._due and self._due[0] <= self._clock.seconds():
            hint = "REDIS_READ_TIMEOUT" if self._answered else "REDIS_PROTO, REDIS_READ_TIMEOUT"
            self.drop(f"no answer within {self._limits.answer:g} s ({hint})")
        else:
            self._arm()


class _Replication:
    """Asks how many replicas have what a connection wrote, once for all who want to know.

    One WAIT at a time: it holds up the commands behind it.
    """

    def __init__(self, connection: RedisConnection, clock: IReactorTime, limits: Limits) -> None:
        self._connection = connection
        self._clock = clock
        self._limits = limits
        self._waiting: list[Deferred[None]] = []
        self._asking = False

    def confirm(self) -> Deferred[None]:
        """Fire when enough replicas have what was sent so far."""
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        if not self._asking:
            self._asking = True
            # Whatever else is sent in this turn of the reactor is asked for as well.
            self._clock.callLater(0, self._ask)
        return waiting

    def _ask(self) -> None:
        waiting, self._waiting = self._waiting, []
        limit_ms = max(1, int(self._limits.answer * _REPLICAS_SHARE * 1000))
        asked = self._connection.command("WAIT", self._limits.replicas, limit_ms)
        asked.addBoth(self._answered, waiting)

    def _answered(self, result: Any, waiting: list[Deferred[None]]) -> None:
        self._asking = bool(self._waiting)
        if self._asking:
            self._ask()
        for deferred in waiting:
            if isinstance(result, Failure):
                deferred.errback(RedisUnreplicatedError(f"no answer to WAIT: {result.value}"))
            elif result < self._limits.replicas:
                text = f"{result} of {self._limits.replicas} replicas have the change"
                deferred.errback(RedisUnreplicatedError(text))
            else:
                deferred.callback(None)


@returns_deferred
async def greet(connection: RedisConnection, login: Login, *, master: bool) -> None:
    """Log in, select the database, and see whether the server takes commands.

    With ``master`` it has to be no replica. Fails as a command does.
    """
    if login.user:
        await connection.command("AUTH", login.user, login.password)
    elif login.password:
        await connection.command("AUTH", login.password)
    if login.database:
        await connection.command("SELECT", login.database)
    await check(connection, master=master)


@returns_deferred
async def check(connection: RedisConnection, *, master: bool) -> None:
    """See whether the server (still) takes commands, and with ``master`` that it is no replica."""
    if not master:
        await connection.command("PING")
        return
    role = await connection.command("ROLE")
    if role[0] != b"master":
        reason = f"the server is no master, but a {role[0].decode('ascii', 'replace')}"
        connection.drop(reason)
        raise RedisAwayError(f"Redis is away: {connection.reason}", sent=False)


@returns_deferred
async def is_append_only(connection: RedisConnection) -> bool | None:
    """Fire with whether the server writes an append-only file; None when it won't say."""
    try:
        info = await connection.command("INFO", "persistence")
    except RedisRefusedError:
        return None
    found = re.search(rb"^aof_enabled:([01])", info or b"", re.MULTILINE)
    return found[1] == b"1" if found else None


def describe(why: Failure) -> str:
    """Say why a connection ended, or did not come about."""
    if why.check(ConnectionDone):
        return "the server closed the connection"
    tls = describe_tls(why.value)
    return tls or str(why.value).rstrip(".") or type(why.value).__name__


def _encode(word: Word) -> bytes:
    if isinstance(word, bytes):
        return word
    return (word if isinstance(word, str) else repr(word)).encode("utf-8")
