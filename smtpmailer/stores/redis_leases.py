# SPDX-License-Identifier: MIT
"""The claims that a node has in hand, and the leases that keep other nodes away from them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Final

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from smtpmailer.core.redisvalues import Word
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import NoSuchMailError, RedisAwayError, RedisError
from smtpmailer.interfaces import IRedis
from smtpmailer.stores.redis_claim_scripts import RENEW, UNCLAIM
from smtpmailer.stores.redis_keys import Node, QueueKeys

__all__ = ["LeasePlan", "Leases"]

#: A lease is renewed so often while it lasts.
_RENEWALS: Final = 3

#: So many leases are renewed in one step.
_CHUNK: Final = 500


@attrs.frozen(kw_only=True)
class LeasePlan:
    """How long a lease lasts (QUEUE_LEASE, seconds).

    For ``patience`` seconds after Redis has come back no lease that has ended is taken over: the
    other nodes come back to it, too.
    """

    seconds: float
    patience: float = 10.0


class Leases:
    """Claims by name, each with the token that shows whose it is.

    A lease that has ended is still the node's own, until another takes the mail over. So a node
    that was stopped for long goes on with what nobody wanted meanwhile, and is told of the rest at
    its next step on it.
    """

    _log = Logger()

    def __init__(
        self,
        redis: IRedis,
        keys: QueueKeys,
        node: Node,
        plan: LeasePlan,
        *,
        clock: IReactorTime,
        now: Callable[[], float],
    ) -> None:
        """``now`` gives Unix seconds by the node's clock, ``clock`` never goes back."""
        self.seconds = plan.seconds
        self._patience = plan.patience
        self._now = now
        self._redis = redis
        self._keys = keys
        self._node = node
        self._clock = clock
        self._serials = itertools.count()
        self._tokens: dict[str, str] = {}
        # Claims that may have been settled: the answer was lost.
        self._unsure: set[str] = set()
        # Tokens of claims that may have been made: the answer was lost.
        self._unanswered: set[str] = set()
        self._renewed_at = clock.seconds()
        self._loop = LoopingCall(self._renew_in_time)
        self._loop.clock = clock

    def start(self) -> None:
        """Renew leases from now on."""
        if not self._loop.running:
            done = self._loop.start(self.seconds / _RENEWALS, now=False)
            done.addErrback(self._fault)

    @returns_deferred
    async def stop(self) -> None:
        """Give all leases up: other nodes may take over what was not settled."""
        if self._loop.running:
            self._loop.stop()
        try:
            await self.undo_unanswered()
            await self._renew(-math.inf)
        except RedisError as error:
            self._log.warn("leases can't be given up, and end by themselves: {e}", e=str(error))
        self._tokens.clear()
        self._unsure.clear()

    def patience(self) -> str:
        """Give what scripts are told: whether leases that have ended are left alone for now.

        When Redis was away long, all leases ended, and no other node could do anything about it.
        """
        state = self._redis.state()
        return "1" if state.up and 0 <= self._now() - state.since < self._patience else "0"

    def fresh_token(self) -> str:
        """Make the token of one more claim."""
        return f"{self._node}:{next(self._serials)}"

    def begin(self, name: str, token: str) -> bool:
        """Take a mail in hand; tells whether that was possible.

        Not when this node still delivers it, though its lease went to others meanwhile: settling
        the one claim would settle the other.
        """
        if name in self._tokens:
            self._log.warn("mail {name} is claimed twice, and waits for its lease", name=name)
            return False
        self._tokens[name] = token
        return True

    def token(self, name: str) -> str:
        """Give the token of a claim; raises NoSuchMailError."""
        try:
            return self._tokens[name]
        except KeyError:
            raise NoSuchMailError(name) from None

    def end(self, name: str) -> bool:
        """Let go of a mail; tells whether an attempt to settle it had been left unanswered."""
        self._tokens.pop(name, None)
        unsure = name in self._unsure
        self._unsure.discard(name)
        return unsure

    def doubt(self, name: str) -> None:
        """Note that a claim may have been settled."""
        self._unsure.add(name)

    def unanswered(self, token: str) -> None:
        """Note that mails may have been claimed with a token."""
        self._unanswered.add(token)

    @returns_deferred
    async def ready(self) -> None:
        """Make sure that none of the claims in hand can be taken for one of a dead node.

        Before more is claimed. Fails with RedisError.
        """
        await self.undo_unanswered()
        if self._clock.seconds() - self._renewed_at > self.seconds / 2:
            await self._renew(self.seconds)

    @returns_deferred
    async def undo_unanswered(self) -> None:
        """Put back what was claimed without our knowing; fails with RedisError."""
        for token in tuple(self._unanswered):
            keys = self._keys
            words = (keys.index, keys.due, keys.leases, keys.owners)
            count = await self._redis.run(
                UNCLAIM, (*words, keys.queue(""), keys.claimed("")), (token,)
            )
            self._unanswered.discard(token)
            if count:
                self._log.info("{count} claims without an answer are put back", count=count)

    @returns_deferred
    async def _renew_in_time(self) -> None:
        try:
            await self._renew(self.seconds)
        except RedisAwayError:
            # Said by the link. There is time for two more tries.
            pass
        except Exception:  # noqa: BLE001 - a LoopingCall that fails never runs again
            self._log.failure("leases can't be renewed")

    @returns_deferred
    async def _renew(self, seconds: float) -> None:
        began = self._clock.seconds()
        claims = list(self._tokens.items())
        for start in range(0, len(claims), _CHUNK):
            words: list[Word] = [seconds]
            for claim in claims[start : start + _CHUNK]:
                words += claim
            await self._redis.run(RENEW, (self._keys.leases, self._keys.owners), words)
        self._renewed_at = began

    def _fault(self, failure: Failure) -> None:
        self._log.failure("leases are renewed no more", failure)
