# SPDX-License-Identifier: MIT
"""Keeps connections to Redis open, and hands commands to them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs
from twisted.internet.defer import CancelledError, Deferred, DeferredList, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from smtpmailer.core.redisvalues import RedisScript, RedisState, Word
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import RedisAwayError, RedisError, RedisRefusedError
from smtpmailer.interfaces import IRedis
from smtpmailer.stores.redis_connection import (
    Limits,
    Login,
    RedisConnection,
    check,
    greet,
    is_append_only,
)
from smtpmailer.stores.redis_servers import Network, Place

__all__ = ["LinkPlan", "RedisLink"]

#: Seconds of the longest pause between two attempts to connect.
_LONGEST_PAUSE: Final = 5.0
#: Seconds of the shortest one, whatever the settings say.
_SHORTEST_PAUSE: Final = 0.01
#: By how much a pause may be longer or shorter, lest many services come at once.
_JITTER: Final = 0.2


@attrs.frozen(kw_only=True)
class LinkPlan:
    """How the link works.

    ``pause`` is the first one before connecting again; every ``heartbeat`` an idle connection is
    asked whether it still works; both are in seconds. ``jitter`` gives a number from 0 to 1,
    ``now`` is in Unix seconds.
    """

    login: Login
    limits: Limits
    pause: float
    now: Callable[[], float]
    jitter: Callable[[], float]
    connections: int = 3
    heartbeat: float = 5.0


@implementer(IRedis)
class RedisLink:
    """Some connections to the server; while there is none each command fails at once."""

    _log = Logger()

    def __init__(self, place: Place, network: Network, plan: LinkPlan) -> None:
        """Hold what is needed; opens nothing yet."""
        self._plan = plan
        self._slots = [_Slot(self, place, network, plan) for _ in range(plan.connections)]
        self._open: list[RedisConnection] = []
        self._state = RedisState(up=False, since=plan.now(), reason="not connected yet")
        self._logged: set[str] = set()
        self._was_tried = False
        self._was_up = False
        self._trying: list[Deferred[None]] = []
        self._listeners: list[Callable[[], None]] = []

    def start(self) -> None:
        """Begin to connect."""
        for slot in self._slots:
            slot.start()

    def stop(self) -> Deferred[None]:
        """Close all connections; fires when they are closed."""
        stopped = DeferredList([slot.stop() for slot in self._slots])
        return stopped.addCallback(self._stopped)

    @returns_deferred
    async def call(self, *words: Word) -> Any:
        """Carry out one command; see IRedis."""
        return await self._pick().command(*words)

    @returns_deferred
    async def run(
        self,
        script: RedisScript,
        keys: Sequence[Word],
        words: Sequence[Word] = (),
        *,
        replicated: bool = False,
    ) -> Any:
        """Carry out a script; see IRedis."""
        connection = self._pick()
        replicated = replicated and self._plan.limits.replicas > 0
        rest = (len(keys), *keys, *words)
        try:
            return await _write(connection, ("EVALSHA", script.sha1, *rest), replicated=replicated)
        except RedisRefusedError as error:
            if error.code != "NOSCRIPT":
                raise
        return await _write(connection, ("EVAL", script.text, *rest), replicated=replicated)

    def state(self) -> RedisState:
        """Say whether Redis can be used; see IRedis."""
        return self._state

    def tried(self) -> Deferred[None]:
        """Fire when the first attempt has ended; see IRedis."""
        if self._was_tried:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._trying.append(waiting)
        return waiting

    def watch(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` when Redis comes or goes; see IRedis."""
        self._listeners.append(changed)

    def opened(self, connection: RedisConnection, *, append_only: bool | None) -> None:
        """Use a connection that has been greeted; see RedisState for ``append_only``."""
        self._open.append(connection)
        if not self._state.up:
            self._log_return(connection.where)
            now = self._plan.now()
            self._set(RedisState(up=True, since=now, append_only=append_only))
        self._first_is_over()

    def closed(self, connection: RedisConnection) -> None:
        """Use a connection no more."""
        if connection in self._open:
            self._open.remove(connection)

    def failed(self, reason: str) -> None:
        """Take note of why there is a connection less, or not one more."""
        if self._open:
            return
        since = self._state.since
        if self._state.up:
            since = self._plan.now()
            self._logged.clear()
        if reason not in self._logged:
            self._logged.add(reason)
            self._log.warn("Redis is away: {reason}", reason=reason)
        self._set(RedisState(up=False, since=since, reason=reason))
        self._first_is_over()

    def _stopped(self, _results: object) -> None:
        self._state = RedisState(up=False, since=self._plan.now(), reason="the service stops")

    def _log_return(self, where: str) -> None:
        if not self._was_up:
            self._was_up = True
            self._log.info("Redis is there: {where}", where=where, notice=True)
            return
        away = self._plan.now() - self._state.since
        self._log.info(
            "Redis is back after {away:.1f} s: {where}", away=away, where=where, notice=True
        )

    def _set(self, state: RedisState) -> None:
        turned = state.up != self._state.up
        self._state = state
        if turned:
            for changed in self._listeners:
                try:
                    changed()
                except Exception:  # noqa: BLE001 - no fault of theirs costs a connection
                    self._log.failure("what watches Redis failed")

    def _first_is_over(self) -> None:
        self._was_tried = True
        trying, self._trying = self._trying, []
        for waiting in trying:
            waiting.callback(None)

    def _pick(self) -> RedisConnection:
        """Give the connection with the least to do."""
        usable = [connection for connection in self._open if not connection.reason]
        if not usable:
            reason = self._open[0].reason if self._open else self._state.reason
            raise RedisAwayError(f"Redis is away: {reason}", sent=False)
        return min(usable, key=lambda connection: connection.outstanding)


class _Slot:
    """Keeps one connection open: connects again whenever it is lost."""

    _log = Logger()

    def __init__(self, link: RedisLink, place: Place, network: Network, plan: LinkPlan) -> None:
        self._link = link
        self._place = place
        self._network = network
        self._plan = plan
        self._clock: IReactorTime = network.reactor
        self._running: Deferred[None] = succeed(None)
        self._stopping = False

    def start(self) -> None:
        """Begin to connect."""
        self._running = self._run()
        self._running.addErrback(self._over)

    def stop(self) -> Deferred[None]:
        """Close the connection; fires when it is closed."""
        self._stopping = True
        self._running.cancel()
        over: Deferred[None] = Deferred()
        self._running.addBoth(over.callback)
        return over

    @returns_deferred
    async def _run(self) -> None:
        failures = 0
        while not self._stopping:
            began = self._clock.seconds()
            reason = await self._connect_and_wait()
            if self._stopping:
                return  # an endpoint may take being cancelled for a failure
            self._link.failed(reason)
            lasted = self._clock.seconds() - began
            failures = 0 if lasted > _LONGEST_PAUSE else failures + 1
            await deferLater(self._clock, self._pause(failures), lambda: None)

    async def _connect_and_wait(self) -> str:
        """Open a connection; say why it was lost, or why none came about."""
        try:
            return await self._hold_connection()
        except CancelledError:
            raise
        except RedisError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - the next attempt comes all the same
            self._log.failure("connecting to Redis failed")
            return repr(error)

    async def _hold_connection(self) -> str:
        """Open a connection, and say why it was lost; raise RedisError when none comes about."""
        address = await self._place.locate()
        connection = await self._network.connect(address, self._plan.limits)
        beat = LoopingCall(self._beat, connection)
        beat.clock = self._clock
        try:
            append_only = await self._greet(connection)
            self._link.opened(connection, append_only=append_only)
            # Who waited for it may be done already, and have stopped us: too early to be cancelled.
            if not self._stopping:
                beat.start(self._plan.heartbeat, now=False)
                await connection.ended()
        finally:
            if beat.running:
                beat.stop()
            connection.drop("the service stops")
            self._link.closed(connection)
            await connection.ended()
        return connection.reason

    async def _greet(self, connection: RedisConnection) -> bool | None:
        """Make a connection usable, and give whether the server writes an append-only file."""
        try:
            await greet(connection, self._plan.login, master=self._place.needs_master)
            return await is_append_only(connection)
        except RedisRefusedError as error:
            raise RedisAwayError(f"{connection.where}: {error}", sent=False) from error
        except RedisAwayError as error:
            raise RedisAwayError(connection.reason, sent=False) from error

    @returns_deferred
    async def _beat(self, connection: RedisConnection) -> None:
        """See whether an idle connection still works; it ends itself when it does not."""
        if not connection.outstanding:
            with contextlib.suppress(RedisError):
                await check(connection, master=self._place.needs_master)

    def _pause(self, failures: int) -> float:
        """Give the seconds until the next attempt: twice as long each time, a bit more or less."""
        first = max(self._plan.pause, _SHORTEST_PAUSE)
        longest = max(first, _LONGEST_PAUSE)
        # Beyond some doublings the result is the longest pause anyway, and a float no more.
        pause = min(first * 2.0 ** min(max(failures - 1, 0), 30), longest)
        return pause * (1 + _JITTER * (2 * self._plan.jitter() - 1))

    def _over(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("the connection to Redis broke down", failure)


async def _write(connection: RedisConnection, words: Sequence[Word], *, replicated: bool) -> Any:
    """Carry out a command, and with ``replicated`` wait until enough replicas have its effect."""
    answer = connection.command(*words)
    if not replicated:
        return await answer
    # Asked at once: the two then go out together.
    confirmed = connection.confirm()
    try:
        reply = await answer
    except (RedisError, CancelledError):
        confirmed.addErrback(_known)
        raise
    await confirmed
    return reply


def _known(failure: Failure) -> None:
    """Do nothing: the command itself has failed."""
    failure.trap(RedisError)
