# SPDX-License-Identifier: MIT
"""The queue in Redis, which any number of nodes put into and deliver from."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from smtpmailer.core.queued import Recovered, Settlement, StoredMail
from smtpmailer.core.queuestate import MailState
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import (
    NoSuchMailError,
    RedisAwayError,
    RedisError,
    RedisRefusedError,
    StoreError,
)
from smtpmailer.interfaces import IQueue, IRedis
from smtpmailer.stores.redis_claim_scripts import (
    ABANDONED,
    BURY,
    CLAIM,
    DONE,
    MARK,
    REQUEUE,
)
from smtpmailer.stores.redis_keys import Node, QueueKeys, member
from smtpmailer.stores.redis_leases import LeasePlan, Leases
from smtpmailer.stores.redis_lookout import Lookout
from smtpmailer.stores.redis_mails import (
    Due,
    due_when,
    encoded,
    number,
    record_text,
    state_text,
    stored_mail,
)
from smtpmailer.stores.redis_waiting import RedisWaitingMails

__all__ = ["RedisQueueStore"]

#: So many leases that have ended are taken over in one step.
_TAKEN_OVER: Final = 100

#: Before any mail is due.
_NEVER: Final = -1.0

#: So many mails that this node has put off are remembered.
_PUT_OFF: Final = 200_000

#: What scripts give for a step that was made.
_OK: Final = b"ok"


@implementer(IQueue)
class RedisQueueStore(RedisWaitingMails):
    """A queue in Redis; each node has a store of its own, and all of them deliver.

    A claim is a lease, which is renewed as long as the mail is in hand. While Redis is away,
    everything fails at once and nothing is due.
    """

    _log = Logger()

    def __init__(
        self,
        redis: IRedis,
        keys: QueueKeys,
        node: Node,
        *,
        plan: LeasePlan,
        clock: IReactorTime,
        now: Callable[[], float],
    ) -> None:
        """``now`` gives Unix seconds by the node's clock, ``clock`` never goes back."""
        leases = Leases(redis, keys, node, plan, clock=clock, now=now)
        lookout = Lookout(redis, keys, clock=clock, now=now, patience=leases.patience)
        super().__init__(redis, keys, lookout, now)
        self._node = node
        self._clock = clock
        self._acquired = self._running = False
        self._leases = leases
        self._owned = (keys.leases, keys.owners, keys.states)
        # Mails that this node has put back for later, and that may be called earlier.
        self._put_off: OrderedDict[str, None] = OrderedDict()
        self._hastened: dict[str, float] = {}

    def start(self) -> Deferred[None]:
        """Do nothing: Redis may come later."""
        return succeed(None)

    def stop(self) -> Deferred[None]:
        """Let go of the run."""
        return self.release()

    def acquire(self) -> Deferred[bool]:
        """Succeed: all nodes run the queue."""
        self._acquired = True
        return succeed(True)

    @returns_deferred
    async def release(self) -> None:
        """Claim no more, and leave to the other nodes what was not settled."""
        if self._acquired:
            self._acquired = self._running = False
            self._lookout.stop()
            await self._leases.stop()

    def runner(self) -> Deferred[str]:
        """Fire with this node, if it does."""
        words = f"process {self._node.process} on {self._node.host}, and any others that use Redis"
        return succeed(words if self._acquired else "")

    @returns_deferred
    async def recover(self) -> Recovered:
        """Take over mails whose leases have ended; those that end later come with ``claim``.

        While Redis is away there are none. The predecessor's leftovers are for ``queue rescue``:
        to find them every key of Redis is looked at.
        """
        if not self._acquired:
            raise StoreError("this node does not run the queue")
        self._running = True
        self._lookout.start()
        self._leases.start()
        found: list[StoredMail] = []
        try:
            await self._lookout.look_through()
            while mails := await self.claim(_NEVER, _TAKEN_OVER):
                found += mails
        except RedisAwayError:
            # Said by the link; the next look finds what there is.
            pass
        return Recovered(claims=tuple(found))

    @returns_deferred
    async def claim(self, now: float, limit: int) -> tuple[StoredMail, ...]:
        """Take mails whose leases have ended, then such as are due.

        When they are due is decided by Redis's clock, from which the node's may differ.
        """
        if not self._running:
            raise StoreError("this node does not run the queue")
        await self._leases.ready()
        token = self._leases.fresh_token()
        heard = self._lookout.heard
        hastened = dict(self._hastened)
        try:
            due, *fields = await self._claim(now, limit, token, hastened)
        except RedisError as error:
            if not isinstance(error, RedisAwayError) or error.sent:
                self._leases.unanswered(token)
            self._lookout.lose_sight()
            raise
        for name in hastened:
            self._hastened.pop(name, None)
        self._lookout.learn(due, heard)
        return tuple(self._taken(fields))

    async def _claim(
        self, now: float, limit: int, token: str, hastened: Mapping[str, float]
    ) -> list[bytes]:
        keys = self._keys
        names = (keys.index, keys.due, keys.missing, keys.leases, keys.owners, keys.states)
        lease = (self._leases.patience(), number(self._leases.seconds))
        earlier = (word for name, due in hastened.items() for word in (name, number(due)))
        reply: list[bytes] = await self._redis.run(
            CLAIM,
            (*names, keys.queue(""), keys.claimed("")),
            (number(now), number(self._now()), *lease, limit, token, *earlier),
        )
        return reply

    def _taken(self, fields: Sequence[bytes]) -> Iterator[StoredMail]:
        """Read the mails of a claim, and take them in hand."""
        for name, content, state, token in zip(*[iter(fields)] * 4, strict=True):
            text = token.decode()
            mail = stored_mail(name.decode(), content, state, abandoned=text.endswith(ABANDONED))
            self._put_off.pop(mail.name, None)
            if self._leases.begin(mail.name, text):
                yield mail

    def claimed(self) -> Deferred[int]:
        """Fire with how many mails are claimed, by whichever node."""
        return self._redis.call("HLEN", self._keys.owners)

    def next_due(self) -> float | None:
        """Give when the first mail is due, as far as this node knows."""
        return self._lookout.next_due

    def hasten(self, name: str, due: float) -> bool:
        """Let a mail that this node has put off be due earlier; of others it knows too little.

        Redis is told with the next claim.
        """
        if name not in self._put_off:
            return False
        self._hastened[name] = due
        self._lookout.expect(due)
        return True

    def look_around(self, now: float) -> Deferred[None]:
        """Do nothing: the store looks by itself, twice a second."""
        del now
        return succeed(None)

    @returns_deferred
    async def mark(self, name: str, state: MailState) -> None:
        """Keep a claimed mail's state; fails when it can't be sent by this node any more."""
        began = self._clock.seconds()
        lease = self._leases.seconds
        words = (name, self._leases.token(name), state_text(state), number(lease))
        # Replicas are not waited for: that concerns the accepting of mails, not their delivery.
        if await self._redis.run(MARK, self._owned, words) != _OK:
            raise NoSuchMailError(name)
        if self._clock.seconds() - began > lease / 2:
            # This process was stopped meanwhile, and others may think that it died.
            raise StoreError("Redis's answer came too late")

    @returns_deferred
    async def settle(self, name: str, settlement: Settlement) -> None:
        """End a claim; may be repeated when the answer was lost."""
        token = self._leases.token(name)
        due = due_when(name, settlement.state)
        returned = False
        try:
            if settlement.done:
                answer = await self._done(name, token)
            elif settlement.dead or settlement.corrupt:
                answer = await self._bury(name, token, settlement)
            else:
                answer = await self._requeue(name, token, settlement, due)
                returned = answer == _OK
        except RedisAwayError as error:
            if error.sent:
                self._leases.doubt(name)
            raise
        if not self._leases.end(name) and answer != _OK:
            raise NoSuchMailError(name)
        if returned:
            self.waits(name, due)

    def waits(self, name: str, due: Due) -> None:
        """Hear of a mail that waits now, from this node."""
        if due.moved and due.ever is not None:
            self._put_off[name] = None
            if len(self._put_off) > _PUT_OFF:
                self._put_off.popitem(last=False)
        self._lookout.expect(due.ever)

    async def _done(self, name: str, token: str) -> bytes:
        keys = (self._keys.claimed(name), *self._owned)
        answer: bytes = await self._redis.run(DONE, keys, (name, token))
        return answer

    async def _bury(self, name: str, token: str, settlement: Settlement) -> bytes:
        keys = self._keys
        graves = keys.dead if settlement.dead else keys.quarantine
        content = b"" if settlement.document is None else encoded(settlement.document)
        answer: bytes = await self._redis.run(
            BURY,
            (keys.claimed(name), graves.mails, graves.index, *self._owned),
            (name, token, content, record_text(settlement)),
        )
        return answer

    async def _requeue(self, name: str, token: str, settlement: Settlement, due: Due) -> bytes:
        keys = self._keys
        names = (keys.claimed(name), keys.queue(name), keys.index, keys.due, *self._owned)
        rest = (state_text(settlement.state), *due.words(self._now()))

        def requeue(content: bytes) -> Deferred[bytes]:
            words = (name, token, member(name), content, *rest)
            return self._redis.run(REQUEUE, names, words)

        if settlement.document is not None:
            try:
                return await requeue(encoded(settlement.document))
            except RedisRefusedError as error:
                if error.code != "OOM":
                    raise
        # Redis has no memory: the old content will do, the state counts the attempts as well.
        return await requeue(b"")
