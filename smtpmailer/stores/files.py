# SPDX-License-Identifier: MIT
"""The file queue: an index in memory over directories that other programs may change as well."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

import orjson
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from smtpmailer.core.names import is_file_name, make_file_name
from smtpmailer.core.queued import MailDocument, Page, Recovered, Settlement, StoredMail
from smtpmailer.core.queuestate import MailState, state_to_json
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import NoSuchMailError, StoreError
from smtpmailer.interfaces import IQueue, IThreads
from smtpmailer.stores.atomic import FileLock
from smtpmailer.stores.bundles import Bundles, as_store_error, store_error
from smtpmailer.stores.commit import GroupCommit, Operation
from smtpmailer.stores.content import encode
from smtpmailer.stores.folder import QueueFolder
from smtpmailer.stores.graves import Burial, Graves
from smtpmailer.stores.leftovers import find_leftovers
from smtpmailer.stores.putting import NewMail, put
from smtpmailer.stores.recovery import recover
from smtpmailer.stores.waiting import WaitingNames, due_of_state
from smtpmailer.stores.watch import MakeWatch

__all__ = ["FileQueueStore"]

_T = TypeVar("_T")

#: How long (seconds) a mail that can't be taken out of the queue is left alone, and for how long
#: one that is unreadable may still be in writing.
_PAUSE: Final = 10.0

#: How often (seconds) a directory that can't be watched is looked through at most, and through how
#: many names a second on average.
_UNWATCHED: Final = 4.0
_LOOKED_THROUGH: Final = 10_000

#: So many names are dealt with at a time, so that a million of them hold nobody up.
_CHUNK: Final = 1000

#: How often a change is tried against mails that change meanwhile.
_TRIES: Final = 10


@implementer(IQueue)
class FileQueueStore:
    """A queue on directories.

    All changes go through one GroupCommit, so that steps of one process never run beside each
    other. The index lives on the reactor's thread and follows each change; a watch tells what
    others do.
    """

    _log = Logger()

    def __init__(
        self,
        folder: QueueFolder,
        commit: GroupCommit,
        threads: IThreads,
        *,
        dead: Graves,
        quarantine: Graves,
        make_watch: MakeWatch,
    ) -> None:
        """Use these parts; nothing is touched before ``start``."""
        self._folder = folder
        self._commit = commit
        self._puts = Bundles(commit, partial(put, folder), opens_files=True)
        self._changes = Bundles(commit, folder.record)
        self._threads = threads
        self._dead = dead
        self._quarantine = quarantine
        self._names = WaitingNames(folder)
        self._claimed: set[str] = set()
        self._lock = FileLock(folder.paths.own("lock"))
        self._watch = make_watch(self._names.tell, self._names_lost)
        self._looked_at = -math.inf
        self._rewriting = False

    @returns_deferred
    async def start(self) -> None:
        """Make the directories, read the names, and begin to watch."""
        await self._blocking(self._prepare)
        self._names.begin()
        if not self._watch.start(self._folder.paths.waiting):
            self._log.warn("{path} can't be watched", path=self._folder.paths.waiting)
        self._names.load(await self._blocking(self._names.read))

    def _prepare(self) -> None:
        self._folder.prepare()
        self._dead.prepare()
        self._quarantine.prepare()

    @returns_deferred
    async def stop(self) -> None:
        """Stop watching, wait for what is being written, and release the lock.

        Not while a claim is open: a delivery that was not waited for may still end well. Then
        nobody is to send that mail before this process has ended, which releases the lock.
        """
        self._watch.stop()
        if self._claimed:
            text = "{n} mails may still be on their way: the queue stays locked until the end"
            self._log.warn(text, n=len(self._claimed))
        else:
            await self.release()
        await self._commit.idle()
        self._folder.close()

    def make_name(self, due: float, unique: str) -> str:
        """Make a file's name."""
        return make_file_name(due, unique)

    def is_name(self, text: str) -> bool:
        """Whether a text has the form of a queue file's name."""
        return is_file_name(text)

    def put(self, name: str, document: MailDocument, state: MailState) -> Deferred[None]:
        """Add a mail as a file of its own."""
        # Without a coroutine, as of these come thousands in a second.
        try:
            mail = NewMail(name, encode(document), state)
            self._take_name(name)
        except Exception:  # noqa: BLE001 - the caller learns of it as of any other fault
            return fail()
        return self._puts.add(mail).addBoth(self._was_put, mail)

    def _was_put(self, result: Failure | None, mail: NewMail) -> Failure | None:
        self._names.show(mail.name, due_of_state(mail.state), present=result is None)
        return result

    def page(self, limit: int, page: int) -> Deferred[Page]:
        """Fire with a page of the index."""
        names = tuple(self._names.index.page(limit, page))
        return succeed(Page(names=names, total=len(self._names.index)))

    @returns_deferred
    async def get(self, name: str) -> StoredMail:
        """Read a waiting mail from its file."""
        _check(name)
        return await self._blocking(lambda: self._folder.read(name))

    @returns_deferred
    async def replace(self, name: str, new_name: str, document: MailDocument) -> None:
        """Write the new content over the old file, then rename it."""
        _check(name)
        content = encode(document)
        operation = partial(self._folder.replace, name=name, new_name=new_name, content=content)
        self._take_name(new_name)
        present = False
        try:
            for _ in range(_TRIES):
                if present := await self._submit(operation):
                    break
            else:
                raise StoreError(f"{name} changes all the time")
        finally:
            self._names.show(new_name, None, present=present)
            self._names.look(name)

    @returns_deferred
    async def remove(self, name: str) -> None:
        """Remove a waiting mail's file."""
        _check(name)
        removed = await self._submit(lambda batch: self._folder.remove(batch, [name]))
        self._names.look(name)
        if not removed:
            raise NoSuchMailError(name)

    @returns_deferred
    async def clear(self) -> int:
        """Remove the file of each mail that waits now."""
        names = list(self._names.index)
        count = 0
        for start in range(0, len(names), _CHUNK):
            chunk = names[start : start + _CHUNK]
            removed = await self._submit(partial(self._folder.remove, names=chunk))
            count += len(removed)
            for name in removed:
                self._names.look(name)
        return count

    def watch(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever a mail has appeared."""
        self._names.listen(changed)

    @returns_deferred
    async def acquire(self) -> bool:
        """Take the queue's lock."""
        note = f"process {os.getpid()} on {socket.gethostname()}"
        return await self._blocking(lambda: self._lock.try_acquire(note))

    @returns_deferred
    async def release(self) -> None:
        """Give the queue's lock up, its journal in order."""
        try:
            await self._submit(self._folder.end_run)
        except StoreError as error:
            self._log.warn("the queue's journal was left as it is: {error}", error=error)
        finally:
            self._lock.release()
        for name in list(self._claimed):
            self._end_claim(name)

    def runner(self) -> Deferred[str]:
        """Fire with the note of the lock's holder."""
        return self._blocking(self._lock.holder)

    @returns_deferred
    async def recover(self) -> Recovered:
        """Read the journal, and find the claims of a dead process."""
        if not self._lock.is_held:
            raise StoreError("another process runs this queue")
        found = await self._submit(partial(recover, self._folder))
        for fault in found.faults:
            self._log.error("the queue is not in order: {fault}", fault=fault)
        self._claimed = {mail.name for mail in found.claims}
        self._names.hide(self._claimed)
        for name in found.returned:
            self._names.look(name)
        for name, state in found.states.items():
            if name in self._names.index:
                self._names.add(name, due_of_state(state))
        leftovers = await self._blocking(partial(find_leftovers, self._folder))
        paths = tuple(leftover.path for leftover in leftovers)
        return Recovered(claims=tuple(found.claims), leftovers=paths)

    @returns_deferred
    async def claim(self, now: float, limit: int) -> tuple[StoredMail, ...]:
        """Move due mails to the directory of claimed ones."""
        if not self._folder.journal.is_open:
            raise StoreError("this process does not run the queue")
        if not self._watch.watching:
            await self.look_around(now)
        due = {name: self._names.index.due_at(name) for name in self._names.index.due(now, limit)}
        if not due:
            return ()
        self._names.hide(due)
        operation = partial(self._folder.claim, names=list(due), written_before=now - _PAUSE)
        try:
            taken = await self._submit(operation, patient=True)
        except Exception:
            for name, at in due.items():
                self._names.show(name, at, present=True)
            raise
        names = {mail.name for mail in taken.mails}
        self._claimed |= names
        for name in due.keys() - names:
            self._names.show(name, now + _PAUSE, present=name in taken.kept)
        for name, why in taken.kept.items():
            self._log.error("{mail_id} stays in the queue: {why}", mail_id=name, why=why)
        return taken.mails

    def next_due(self) -> float | None:
        """Give the first due time of the index."""
        return self._names.index.next_due()

    def hasten(self, name: str, due: float) -> bool:
        """Move a name forward in the index."""
        return self._names.hasten(name, due)

    @returns_deferred
    async def look_around(self, now: float) -> None:
        """Look through a directory that can't be watched; a large one less often."""
        pause = max(_UNWATCHED, len(self._names.index) / _LOOKED_THROUGH)
        if not self._watch.watching and abs(now - self._looked_at) >= pause:
            self._looked_at = now
            self._watch.start(self._folder.paths.waiting)
            await self.rescan()

    def mark(self, name: str, state: MailState) -> Deferred[None]:
        """Write a state into the journal."""
        if name not in self._claimed:
            return fail(NoSuchMailError(name))
        return self._changes.add((name, state))

    def settle(self, name: str, settlement: Settlement) -> Deferred[None]:
        """Remove, return or bury a claimed mail."""
        if name not in self._claimed:
            return fail(NoSuchMailError(name))
        if not settlement.done:
            return self._put_away(name, settlement)
        # What becomes of most mails; so without a coroutine.
        return self._changes.add((name, None)).addCallback(self._removed, name)

    def _removed(self, _: None, name: str) -> None:
        self._end_claim(name)
        self._rewrite_journal()

    @returns_deferred
    async def _put_away(self, name: str, settlement: Settlement) -> None:
        """Return a mail to the queue or bury it."""
        content = None if settlement.document is None else encode(settlement.document)
        returned = False
        try:
            if settlement.dead or settlement.corrupt:
                await self._bury(name, content, settlement)
            else:
                await self._requeue(name, content, settlement.state)
                returned = True
        except NoSuchMailError:
            self._end_claim(name)
            raise
        self._end_claim(name, due_of_state(settlement.state), present=returned)
        self._rewrite_journal()

    async def _bury(self, name: str, content: bytes | None, settlement: Settlement) -> None:
        graves = self._dead if settlement.dead else self._quarantine
        burial = Burial(name, content, settlement.state, graves, _record(settlement))
        await self._submit(lambda batch: self._folder.bury(batch, burial))

    async def _requeue(self, name: str, content: bytes | None, state: MailState) -> None:
        try:
            await self._submit(lambda batch: self._folder.requeue(batch, name, content, state))
        except StoreError:
            if content is None:
                raise
            # A full disk: the old content will do, the state counts the attempts as well.
            await self._submit(lambda batch: self._folder.requeue(batch, name, None, state))

    def look(self, name: str) -> None:
        """Look whether a mail is in the queue's directory, and know it from now on."""
        self._names.look(name)

    @returns_deferred
    async def rescan(self) -> None:
        """Compare the index with the directory, for what the watch may have missed."""
        names = set(await self._blocking(self._folder.names))
        changed = list(names.symmetric_difference(self._names.index))
        for start in range(0, len(changed), _CHUNK):
            for name in changed[start : start + _CHUNK]:
                self.look(name)
            await self._commit.idle()

    def _names_lost(self) -> None:
        self.rescan().addErrback(lambda failure: self._log.failure("rescan failed", failure))

    def _rewrite_journal(self) -> None:
        """Rewrite the journal when that is due; what waits for a mail does not wait for that."""
        if self._rewriting or not self._folder.journal.wants_rewrite():
            return
        self._rewriting = True
        done = self._submit(self._folder.rewrite_journal)
        done.addErrback(lambda failure: self._log.warn("no new journal: {e}", e=failure.value))
        done.addBoth(self._rewritten)

    def _rewritten(self, _: object) -> None:
        self._rewriting = False

    def _submit(self, operation: Operation[_T], *, patient: bool = False) -> Deferred[_T]:
        """Run an operation with the next batch; fails with StoreError where it met an OSError."""
        return self._commit.submit(operation, patient=patient).addErrback(as_store_error)

    @returns_deferred
    async def _blocking(self, work: Callable[[], _T]) -> _T:
        try:
            return await self._threads.run(work)
        except OSError as error:
            raise store_error(error) from error

    def _end_claim(self, name: str, due: float | None = None, *, present: bool = False) -> None:
        self._claimed.discard(name)
        self._names.show(name, due, present=present)

    def _take_name(self, name: str) -> None:
        if name in self._names:
            raise StoreError(f"there is a mail {name} already")
        self._names.hide([name])


def _check(name: str) -> None:
    if not is_file_name(name):
        raise NoSuchMailError(name)


def _record(settlement: Settlement) -> bytes:
    record: dict[str, Any] = {
        "why": settlement.dead or settlement.corrupt,
        "at": settlement.at,
        "state": state_to_json(settlement.state),
    }
    return orjson.dumps(record)
