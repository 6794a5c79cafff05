# SPDX-License-Identifier: MIT
"""When the next mail of a queue in Redis is due, whoever put it there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import RedisAwayError
from smtpmailer.interfaces import IRedis
from smtpmailer.stores.redis_keys import QueueKeys
from smtpmailer.stores.redis_mails import number
from smtpmailer.stores.redis_scripts import LOOK

__all__ = ["Lookout"]

#: Seconds between two looks.
_PAUSE: Final = 0.5

#: So many names are looked at in each part of the index at a time: about a millisecond of Redis.
_COUNT: Final = 1000

#: Where the index begins.
_BEGIN: Final = "-"


class Lookout:
    """Looks twice a second, and hears at once of what this node does.

    Each look goes through the newest names and one more piece of all others, so that what another
    program puts is noticed: within a second when it is due at once, at the latest when the whole
    index has been gone through.
    """

    _log = Logger()

    def __init__(
        self,
        redis: IRedis,
        keys: QueueKeys,
        *,
        clock: IReactorTime,
        now: Callable[[], float],
        patience: Callable[[], str],
    ) -> None:
        """``now`` gives Unix seconds by the node's clock; ``patience`` is that of ``Leases``."""
        self._redis = redis
        self._patience = patience
        self._keys = keys
        self._now = now
        self._listeners: list[Callable[[], None]] = []
        self._present = _BEGIN
        self._others = _BEGIN
        self._been_through = False
        self._next_due: float | None = None
        # Counts what was heard of, so that no answer to an older question hides it.
        self.heard = 0
        self._loop = LoopingCall(self._look_on)
        self._loop.clock = clock

    @property
    def next_due(self) -> float | None:
        """When the first mail is due, by the node's clock; None when none is known to be."""
        return self._next_due

    def listen(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever a mail may have become the next one due."""
        self._listeners.append(changed)

    def start(self) -> None:
        """Look from now on."""
        if not self._loop.running:
            self._loop.start(_PAUSE, now=False).addErrback(self._fault)

    def stop(self) -> None:
        """Look no more."""
        if self._loop.running:
            self._loop.stop()

    def expect(self, due: float | None) -> None:
        """Hear of a mail that waits until ``due``; None for one that is held."""
        self.heard += 1
        if due is not None and (self._next_due is None or due < self._next_due):
            self._next_due = due
        self._tell()

    def learn(self, answer: bytes, heard: int) -> None:
        """Take what a script said about the next mail, ``heard`` as it was when it was asked."""
        due = float(answer) if answer else None
        if self.heard != heard and self._next_due is not None:
            due = self._next_due if due is None else min(due, self._next_due)
        self._next_due = due

    def lose_sight(self) -> None:
        """Know of no mail any more, until the next look."""
        self._next_due = None

    @returns_deferred
    async def look(self) -> None:
        """Look once; fails with RedisError."""
        heard = self.heard
        keys = (self._keys.index, self._keys.due, self._keys.leases)
        words = (number(self._now()), self._patience(), _COUNT, self._present, self._others)
        due, present, others = await self._redis.run(LOOK, keys, words)
        self._present, self._others = present.decode(), others.decode() or _BEGIN
        self.learn(due, heard)

    @returns_deferred
    async def look_through(self) -> None:
        """Look through the whole index once; fails with RedisError."""
        self._others = _BEGIN
        await self.look()
        while self._others != _BEGIN:
            await self.look()
        self._been_through = True

    @returns_deferred
    async def _look_on(self) -> None:
        try:
            await (self.look() if self._been_through else self.look_through())
        except RedisAwayError:
            # Said by the link.
            self.lose_sight()
        except Exception:  # noqa: BLE001 - a LoopingCall that fails never runs again
            self.lose_sight()
            self._log.failure("nobody can look whether mails are due")
        else:
            if self._next_due is not None:
                self._tell()

    def _tell(self) -> None:
        for changed in self._listeners:
            changed()

    def _fault(self, failure: Failure) -> None:
        self._log.failure("nobody looks whether mails are due", failure)
