# SPDX-License-Identifier: MIT
"""Carries a whole queue from one store to another: each mail is in one of them at any moment."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Protocol

import attrs
from twisted.internet.defer import Deferred, DeferredList

from smtpmailer.core.queued import MailDocument, Page, Settlement, StoredMail
from smtpmailer.core.retry import Dead, RetryPolicy, after_crash
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import MailExistsError, NoSuchMailError, StoreError
from smtpmailer.interfaces import IQueue
from smtpmailer.stores.content import decode

__all__ = ["Carried", "Carrier", "Graveyard", "Place"]

#: So many mails are carried at a time. When the command is killed, and services on the other store
#: run, so many may be sent twice at most.
_AT_A_TIME: Final = 20

#: So many names are read at a time.
_NAMES: Final = 500


class Graveyard(Protocol):
    """Mails that are not to be sent, as bytes: ``FileGraves`` or ``RedisGraves``."""

    def page(self, limit: int, page: int) -> Deferred[Page]:
        """Fire with a page of names."""

    def read(self, name: str) -> Deferred[tuple[bytes, bytes]]:
        """Fire with a mail and its record."""

    def add(self, name: str, content: bytes, record: bytes) -> Deferred[None]:
        """Add one; the same may be added again."""

    def remove(self, name: str) -> Deferred[None]:
        """Remove one."""


@attrs.frozen(kw_only=True)
class Place:
    """A store, not encrypting, and how it is different.

    ``localize`` makes a name of this store from one that Redis holds, ``globalize`` the other way
    round; ``encode`` gives a document's bytes; ``claimed`` fires with how many mails others have in
    hand.
    """

    queue: IQueue
    dead: Graveyard
    quarantine: Graveyard
    localize: Callable[[str], str]
    globalize: Callable[[str], str]
    encode: Callable[[MailDocument], bytes]
    claimed: Callable[[], Deferred[int]]


@attrs.define(kw_only=True)
class Carried:
    """How many mails were carried; ``left`` says of each other why it stays where it was.

    ``in_hand`` counts those that services have claimed, and that stay there as well.
    """

    mails: int = 0
    dead: int = 0
    quarantined: int = 0
    in_hand: int = 0
    left: dict[str, str] = attrs.field(factory=dict)


class Carrier:
    """Carries all that one place holds to another.

    May be interrupted at any time, and begun again: what is in both places by then is recognized.
    """

    def __init__(
        self, source: Place, target: Place, policy: RetryPolicy, now: Callable[[], float]
    ) -> None:
        """``policy`` judges mails that a dead process had; ``now`` gives Unix seconds."""
        self._source = source
        self._target = target
        self._policy = policy
        self._now = now
        self._carried = Carried()

    @returns_deferred
    async def carry(self) -> Carried:
        """Carry everything; the source's queue has been acquired. Fails with StoreError."""
        await self._end_claims()
        await _each(await _all_names(self._source.queue.page), self._carry_mail)
        source, target = self._source, self._target
        self._carried.dead = await self._carry_graves(source.dead, target.dead)
        self._carried.quarantined = await self._carry_graves(source.quarantine, target.quarantine)
        self._carried.in_hand = await source.claimed()
        return self._carried

    async def _end_claims(self) -> None:
        """Put mails back that a dead process had in hand, or bury them."""
        for mail in (await self._source.queue.recover()).claims:
            await self._source.queue.settle(mail.name, self._judge(mail))

    def _judge(self, mail: StoredMail) -> Settlement:
        now = self._now()
        verdict = after_crash(mail.state, self._policy, failures=0, now=now)
        why = verdict.why if isinstance(verdict, Dead) else ""
        return Settlement(at=now, state=verdict.state, dead=why)

    async def _carry_mail(self, name: str) -> None:
        try:
            mail = await self._source.queue.get(name)
        except NoSuchMailError:
            return
        if mail.fault:
            self._carried.left[name] = mail.fault
            return
        there = self._there(name)
        if not await self._put(there, mail):
            self._carried.left[name] = f"there is another mail {there} already"
            return
        try:
            await self._source.queue.remove(name)
        except NoSuchMailError:
            # A service that still runs has claimed it meanwhile.
            with contextlib.suppress(NoSuchMailError):
                await self._target.queue.remove(there)
            return
        self._carried.mails += 1

    async def _put(self, name: str, mail: StoredMail) -> bool:
        """Put a mail; tells whether it is there, also from an earlier run."""
        try:
            await self._target.queue.put(name, mail.document, mail.state)
        except StoreError:
            try:
                there = await self._target.queue.get(name)
            except NoSuchMailError:
                there = None
            if there is None:
                raise
            return (there.document, there.state) == (mail.document, mail.state)
        return True

    async def _carry_graves(self, source: Graveyard, target: Graveyard) -> int:
        count = 0

        async def carry(name: str) -> None:
            nonlocal count
            try:
                content, record = await source.read(name)
            except NoSuchMailError:
                return
            # What can't be read is carried as it is.
            with contextlib.suppress(ValueError):
                content = self._target.encode(decode(content))
            try:
                await target.add(self._there(name), content, record)
            except MailExistsError as error:
                self._carried.left[name] = str(error)
                return
            await source.remove(name)
            count += 1

        await _each(await _all_names(source.page), carry)
        return count

    def _there(self, name: str) -> str:
        return self._target.localize(self._source.globalize(name))


async def _all_names(page: Callable[[int, int], Deferred[Page]]) -> list[str]:
    """Give all names, before the first mail moves."""
    names: list[str] = []
    for number in itertools.count():
        found = await page(_NAMES, number)
        names += found.names
        if _NAMES * (number + 1) >= found.total:
            break
    return names


async def _each(names: Sequence[str], work: Callable[[str], Coroutine[Any, Any, None]]) -> None:
    """Do the work for each name, some at a time; raises the first failure once they are over."""
    for start in range(0, len(names), _AT_A_TIME):
        some = [Deferred.fromCoroutine(work(name)) for name in names[start : start + _AT_A_TIME]]
        results: list[tuple[bool, Any]] = await DeferredList(some, consumeErrors=True)
        for success, result in results:
            if not success:
                result.raiseException()
