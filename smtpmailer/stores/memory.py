# SPDX-License-Identifier: MIT
"""Stores in memory: for one process, or for tests that need a real store without a disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from zope.interface import implementer

from smtpmailer.core.dueindex import DueIndex
from smtpmailer.core.lookup import Wanted
from smtpmailer.core.names import file_name, is_file_name, make_file_name, unique_of
from smtpmailer.core.queued import (
    Buried,
    FoundMail,
    MailDocument,
    MailPlace,
    Page,
    Recovered,
    Settlement,
    StoredMail,
)
from smtpmailer.core.queuestate import FRESH, MailState, revived, state_to_json, updated
from smtpmailer.errors import NoSuchMailError, StoreError
from smtpmailer.interfaces import ICounters, IDeadLetters, IMailSearch, IQueue
from smtpmailer.stores.content import decode, encode
from smtpmailer.stores.waiting import due_of_state

__all__ = ["MemoryCounters", "MemoryQueueStore"]


@implementer(ICounters)
class MemoryCounters:
    """Counters that begin at zero with the process. Compat: as the predecessor without Redis."""

    def __init__(self) -> None:
        """Begin at zero."""
        self._sent = 0
        self._failed = 0

    def add_sent(self) -> Deferred[None]:
        """Count one mail as sent."""
        self._sent += 1
        return succeed(None)

    def add_failed(self) -> Deferred[None]:
        """Count one mail as failed."""
        self._failed += 1
        return succeed(None)

    def read(self) -> Deferred[tuple[int, int]]:
        """Fire with (sent, failed)."""
        return succeed((self._sent, self._failed))


@attrs.frozen
class _Mail:
    content: bytes = attrs.field(repr=False)
    state: MailState = FRESH
    record: Mapping[str, Any] = attrs.field(factory=dict)

    def stored(self, name: str) -> StoredMail:
        try:
            return StoredMail(name=name, document=decode(self.content), state=self.state)
        except ValueError as error:
            return StoredMail(name=name, document="", state=self.state, fault=str(error))


@implementer(IQueue, IDeadLetters, IMailSearch)
class MemoryQueueStore:
    """A queue that lasts as long as its process; names are those of the file queue."""

    def __init__(self) -> None:
        """Begin empty."""
        self._waiting: dict[str, _Mail] = {}
        self._claimed: dict[str, _Mail] = {}
        self._dead: dict[str, _Mail] = {}
        self._quarantine: dict[str, _Mail] = {}
        self._index = DueIndex()
        self._listeners: list[Callable[[], None]] = []
        self._acquired = self._running = False

    def start(self) -> Deferred[None]:
        """Do nothing."""
        return succeed(None)

    def stop(self) -> Deferred[None]:
        """Let go of the run."""
        return self.release()

    def make_name(self, due: float, unique: str) -> str:
        """Make a name like the file queue's."""
        return make_file_name(due, unique)

    def is_name(self, text: str) -> bool:
        """Whether a text has the form of a queue file's name."""
        return is_file_name(text)

    def put(self, name: str, document: MailDocument, state: MailState) -> Deferred[None]:
        """Add a mail."""
        return maybeDeferred(self._put, name, _Mail(encode(document), state))

    def _put(self, name: str, mail: _Mail) -> None:
        if name in self._waiting or name in self._claimed:
            raise StoreError(f"there is a mail {name} already")
        self._waiting[name] = mail
        self._index.add(name, due_of_state(mail.state))
        for changed in self._listeners:
            changed()

    def page(self, limit: int, page: int) -> Deferred[Page]:
        """Fire with a page of the names."""
        return succeed(Page(names=tuple(self._index.page(limit, page)), total=len(self._index)))

    def get(self, name: str) -> Deferred[StoredMail]:
        """Fire with a waiting mail."""
        return maybeDeferred(lambda: _find(self._waiting, name).stored(name))

    def replace(self, name: str, new_name: str, document: MailDocument) -> Deferred[None]:
        """Replace a waiting mail."""
        return maybeDeferred(self._replace, name, new_name, encode(document))

    def _replace(self, name: str, new_name: str, content: bytes) -> None:
        old = _find(self._waiting, name)
        self._put(new_name, _Mail(content, updated(old.state)))
        self._take(name)

    def remove(self, name: str) -> Deferred[None]:
        """Remove a waiting mail."""
        return maybeDeferred(self._remove, name)

    def _remove(self, name: str) -> None:
        self._take(name)

    def clear(self) -> Deferred[int]:
        """Remove all waiting mails."""
        names = list(self._waiting)
        for name in names:
            self._take(name)
        return succeed(len(names))

    def watch(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever a mail has appeared."""
        self._listeners.append(changed)

    def acquire(self) -> Deferred[bool]:
        """Succeed: there is no other process."""
        self._acquired = True
        return succeed(True)

    def release(self) -> Deferred[None]:
        """Run no longer."""
        self._acquired = self._running = False
        return succeed(None)

    def runner(self) -> Deferred[str]:
        """Fire with the one there can be."""
        return succeed("this process" if self._acquired else "")

    def recover(self) -> Deferred[Recovered]:
        """Find the claims that were never settled."""
        return maybeDeferred(self._recover)

    def _recover(self) -> Recovered:
        if not self._acquired:
            raise StoreError("another process runs this queue")
        self._running = True
        claims = tuple(mail.stored(name) for name, mail in sorted(self._claimed.items()))
        return Recovered(claims=claims)

    def claim(self, now: float, limit: int) -> Deferred[tuple[StoredMail, ...]]:
        """Take due mails."""
        return maybeDeferred(self._claim, now, limit)

    def _claim(self, now: float, limit: int) -> tuple[StoredMail, ...]:
        self._check_running()
        names = self._index.due(now, limit)
        for name in names:
            self._claimed[name] = self._take(name)
        return tuple(self._claimed[name].stored(name) for name in names)

    def next_due(self) -> float | None:
        """Give the first due time of the index."""
        return self._index.next_due()

    def hasten(self, name: str, due: float) -> bool:
        """Move a name forward in the index."""
        if not self._index.hasten(name, due):
            return False
        for changed in self._listeners:
            changed()
        return True

    def look_around(self, now: float) -> Deferred[None]:
        """Do nothing: no other program reaches this queue."""
        del now
        return succeed(None)

    def mark(self, name: str, state: MailState) -> Deferred[None]:
        """Keep a claimed mail's state."""
        return maybeDeferred(self._mark, name, state)

    def _mark(self, name: str, state: MailState) -> None:
        self._check_running()
        self._claimed[name] = attrs.evolve(_find(self._claimed, name), state=state)

    def settle(self, name: str, settlement: Settlement) -> Deferred[None]:
        """End a claim."""
        return maybeDeferred(self._settle, name, settlement)

    def _settle(self, name: str, settlement: Settlement) -> None:
        self._check_running()
        mail = attrs.evolve(_find(self._claimed, name), state=settlement.state)
        if settlement.document is not None:
            mail = attrs.evolve(mail, content=encode(settlement.document))
        del self._claimed[name]
        why = settlement.dead or settlement.corrupt
        if why:
            state = state_to_json(settlement.state)
            record = {"why": why, "at": settlement.at, "state": state}
            graves = self._dead if settlement.dead else self._quarantine
            graves[name] = attrs.evolve(mail, record=record)
        elif not settlement.done:
            self._put(name, mail)

    def page_failed(self, limit: int, page: int) -> Deferred[Page]:
        """Fire with a page of the dead letters' names."""
        names = sorted(self._dead)
        return succeed(
            Page(names=tuple(names[limit * page : limit * (page + 1)]), total=len(names))
        )

    def get_failed(self, name: str) -> Deferred[Buried]:
        """Fire with a dead letter."""
        return maybeDeferred(self._get_failed, name)

    def _get_failed(self, name: str) -> Buried:
        mail = _find(self._dead, name)
        return Buried(mail=mail.stored(name), record=mail.record)

    def retry_failed(self, name: str, document: MailDocument) -> Deferred[None]:
        """Put a dead letter back into the queue."""
        return maybeDeferred(self._retry_failed, name, encode(document))

    def _retry_failed(self, name: str, content: bytes) -> None:
        state = revived(_find(self._dead, name).state)
        self._put(name, _Mail(content, state))
        del self._dead[name]

    def remove_failed(self, name: str) -> Deferred[None]:
        """Remove a dead letter."""
        return maybeDeferred(self._remove_failed, name)

    def _remove_failed(self, name: str) -> None:
        _find(self._dead, name)
        del self._dead[name]

    def clear_failed(self) -> Deferred[int]:
        """Remove all dead letters."""
        count = len(self._dead)
        self._dead.clear()
        return succeed(count)

    def find(self, wanted: Wanted) -> Deferred[FoundMail]:
        """Find a mail wherever it is."""
        return maybeDeferred(self._find, wanted)

    def _find(self, wanted: Wanted) -> FoundMail:
        places = (self._waiting, self._claimed, self._dead, self._quarantine)
        for place, mails in zip(MailPlace, places, strict=True):
            for name, mail in mails.items():
                if name == file_name(wanted.name) or (
                    not wanted.name and unique_of(name) == wanted.unique
                ):
                    return FoundMail(place=place, mail=mail.stored(name), record=mail.record)
        raise NoSuchMailError(wanted.name or wanted.unique)

    def _take(self, name: str) -> _Mail:
        mail = _find(self._waiting, name)
        del self._waiting[name]
        self._index.discard(name)
        return mail

    def _check_running(self) -> None:
        if not self._running:
            raise StoreError("this process does not run the queue")


def _find(mails: Mapping[str, _Mail], name: str) -> _Mail:
    try:
        return mails[name]
    except KeyError:
        raise NoSuchMailError(name) from None
