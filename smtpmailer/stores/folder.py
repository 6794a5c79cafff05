# SPDX-License-Identifier: MIT
"""The queue's directories: what each change of a mail does to them, step by step.

Every public generator is an operation for ``stores.commit``. A mail is one file, in exactly one
of the directories, at every moment: names change by rename alone, and a mail's content is
replaced by renaming a finished file over it. (Where the directories are on several file systems
a crash may leave two of a mail, never none; ``recover`` then takes one away.)

    QUEUE_DIR/mail_*.json            waiting
    QUEUE_DIR/.smtpmailer/           ours: locks, journal, files being written, notes on new mails
    QUEUE_PROCESS_DIR/mail_*.json    being delivered

What ``claim``, ``record``, ``requeue`` and ``bury`` do may be asked for again after it
failed, however far it came.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterable, Sequence

import attrs

from smtpmailer.core.queued import StoredMail
from smtpmailer.core.queuestate import FRESH, MailState, updated
from smtpmailer.errors import NoSuchMailError, StoreError
from smtpmailer.stores.atomic import make_directory, move, sync_directory
from smtpmailer.stores.commit import Batch
from smtpmailer.stores.disposal import Disposal
from smtpmailer.stores.graves import Burial, Graves
from smtpmailer.stores.journal import Journal, JournalReader
from smtpmailer.stores.mailfiles import names_in, read_mail, read_whole
from smtpmailer.stores.notes import Notes
from smtpmailer.stores.scratch import Scratch
from smtpmailer.threads import InlineThreads

__all__ = ["Change", "Paths", "QueueFolder", "Taken", "name_taken"]

_Steps = Generator[None, None, None]

#: A claimed mail's name, and its state; None: it was delivered to everybody.
Change = tuple[str, MailState | None]


@attrs.frozen
class Paths:
    """Where a queue's parts lie; both arguments are absolute."""

    waiting: str
    claimed: str

    @property
    def ours(self) -> str:
        """The directory that the predecessor's listing does not show."""
        return os.path.join(self.waiting, ".smtpmailer")

    def own(self, name: str) -> str:
        """Give the path of one of our own files or directories."""
        return os.path.join(self.ours, name)


@attrs.frozen
class Taken:
    """What came of a claim: mails, and why others stay in the queue, by name."""

    mails: tuple[StoredMail, ...]
    kept: dict[str, str]


class QueueFolder:
    """The steps on disk; no step runs beside another of the same process.

    Between the steps of one operation those of others come, also of later batches.
    """

    def __init__(self, paths: Paths, journal: Journal, disposal: Disposal | None = None) -> None:
        """Use these directories; ``prepare`` makes them."""
        self.paths = paths
        self._waiting, self._claimed = (os.path.join(p, "") for p in (paths.waiting, paths.claimed))
        self.disposal = disposal or Disposal(InlineThreads())
        self.journal = journal
        self.scratch = Scratch(paths.own("tmp"))
        self.notes = Notes(paths.own("new"), self.scratch)
        self._reader = JournalReader(journal.path)
        # Mails that were to go back into the queue at once, and could not.
        self._stuck: set[str] = set()
        # Mails whose note the journal has taken in, and that is to be removed.
        self._noted: set[str] = set()

    def prepare(self) -> None:
        """Make the directories that are missing; raises OSError."""
        make_directory(self.paths.waiting)
        make_directory(self.paths.claimed)
        self.notes.prepare()
        self.scratch.prepare()

    def close(self) -> None:
        """Close what is open."""
        self._reader.close()
        self.disposal.end()
        self.scratch.close()

    def names(self) -> list[str]:
        """Give the names of waiting mails, in no order; raises OSError."""
        return names_in(self.paths.waiting)

    def waits(self, name: str) -> bool:
        """Whether a mail of this name lies in the queue."""
        return os.path.lexists(self.waiting(name))

    def is_claimed(self, name: str) -> bool:
        """Whether a mail of this name lies among those being delivered."""
        return os.path.lexists(self.claimed(name))

    def read(self, name: str) -> StoredMail:
        """Read a waiting mail; raises NoSuchMailError, or OSError when it can't be read now."""
        try:
            return read_mail(self.waiting(name), self.state(name))
        except FileNotFoundError:
            raise NoSuchMailError(name) from None

    def state(self, name: str) -> MailState:
        """Give a mail's state: its note's, unless the journal took that in or never saw one."""
        if self.journal.is_open:
            state, absorbed = self.journal.state(name), self.journal.note_of(name)
        else:
            state, absorbed = self._reader.read_state(name)
        note = self.notes.read(name)
        return note.state if note is not None and note.id != absorbed else state

    def quick_state(self, name: str) -> MailState:
        """Give what can be known of a mail's state without reading another's journal."""
        if self.journal.is_open:
            return self.state(name)
        note = self.notes.read(name)
        return FRESH if note is None else note.state

    def journalled(self) -> set[str]:
        """Give the names that the journal knows, whoever writes it; raises OSError."""
        if self.journal.is_open:
            return {*self.journal, *self.journal.done_names()}
        return self._reader.names()

    def replace(
        self, batch: Batch, name: str, new_name: str, content: bytes
    ) -> Generator[None, None, bool]:
        """Give a waiting mail new content and a new name; its history goes with it.

        Returns False, nothing changed, when its state changed meanwhile: to be tried again.
        """
        with contextlib.ExitStack() as stack:
            state = updated(self.state(name))
            temporary = self.scratch.write(batch, stack, content)
            note = self.notes.write(batch, stack, state)
            yield
            if not self.waits(name):
                raise NoSuchMailError(name)
            if updated(self.state(name)) != state:
                return False
            self.refuse_taken(new_name)
            self.notes.publish(batch, note, new_name)
            os.rename(temporary, self.waiting(name))
            os.rename(self.waiting(name), self.waiting(new_name))
            batch.directories.add(self.paths.waiting)
            yield
            self._forget(name)
            return True

    def remove(self, batch: Batch, names: Iterable[str]) -> Generator[None, None, list[str]]:
        """Remove waiting mails; returns those that were there.

        One that can't be removed keeps none of the others; it is raised when it is the only one.
        """
        yield
        removed: list[str] = []
        trouble: OSError | None = None
        for name in names:
            try:
                if self.disposal.unlink(self.waiting(name)):
                    removed.append(name)
            except OSError as error:
                trouble = error
        if trouble is not None and not removed:
            raise trouble
        if removed:
            batch.directories.add(self.paths.waiting)
        yield
        for name in removed:
            self._forget(name)
        return removed

    def claim(
        self, batch: Batch, names: Iterable[str], written_before: float
    ) -> Generator[None, None, Taken]:
        """Take waiting mails out; those that are gone meanwhile are left out of the result.

        The journal names them, durably, before they move: what a crash leaves among the claimed
        mails is known to be ours. An unreadable one that was written after ``written_before``
        (Unix seconds) stays: another program may be writing it still.
        """
        noted = self.notes.any()
        states = {name: self._absorb(name, noted=noted) for name in names}
        yield from self._synced(batch)
        taken: list[StoredMail] = []
        kept: dict[str, str] = {}
        for name, state in states.items():
            try:
                mail = self._take(name, state, written_before)
            except (OSError, StoreError) as error:
                kept[name] = str(error)
            else:
                taken += [] if mail is None else [mail]
        return Taken(tuple(taken), kept)

    def _absorb(self, name: str, *, noted: bool) -> MailState:
        """Give a mail's state and record it as claimed, with what its note says.

        ``noted`` false: nobody has a note, which was looked at after this mail was in the queue.
        """
        note = self.notes.read(name) if noted else None
        if note is None:
            state = self.journal.state(name)
            self.journal.record(name, state, claimed=True)
            return state
        state = self.state(name)
        self.journal.record(name, state, claimed=True, note=note.id)
        self._noted.add(name)
        return state

    def _take(self, name: str, state: MailState, written_before: float) -> StoredMail | None:
        source, target = self.waiting(name), self.claimed(name)
        try:
            if name not in self._stuck:
                move(source, target)
        except FileNotFoundError:
            if self.waits(name):
                # Not the mail is gone, but the directory that it was to go to.
                raise
            self._forget(name)
            return None
        if name in self._noted:
            self._noted.discard(name)
            self.notes.remove(name)
        self._stuck.add(name)
        try:
            mail: StoredMail | None = read_whole(target, state, written_before, self.disposal.keep)
        except FileNotFoundError:
            self.disposal.let_go(target)
            self._forget(name)
            mail = None
        except (OSError, StoreError):
            self.disposal.let_go(target)
            move(target, source)
            self._stuck.discard(name)
            raise
        self._stuck.discard(name)
        return mail

    def record(
        self, batch: Batch, changes: Sequence[Change]
    ) -> Generator[None, None, dict[int, Exception]]:
        """Make states of claimed mails durable, and remove the mails that were delivered.

        The journal says so, durably, first. Returns why some could not be recorded or removed, by
        their place in ``changes``: they keep none of the others.
        """
        faults: dict[int, Exception] = {}
        for number, (name, state) in enumerate(changes):
            try:
                if state is None:
                    self.journal.record_done(name)
                else:
                    self.journal.record(name, state, claimed=True)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is this one's own
                faults[number] = error
        if len(faults) < len(changes):
            yield from self._synced(batch)
        for number, (name, state) in enumerate(changes):
            if state is None and number not in faults:
                try:
                    self.disposal.unlink(self.claimed(name))
                except Exception as error:  # noqa: BLE001 - as above
                    faults[number] = error
        return faults

    def requeue(self, batch: Batch, name: str, content: bytes | None, state: MailState) -> _Steps:
        """Put a claimed mail back, with new content if any; its name stays.

        The journal says so first: should the move be lost, ``recover`` makes it again.
        """
        with contextlib.ExitStack() as stack:
            temporary = None if content is None else self.scratch.write(batch, stack, content)
            self.journal.record(name, state, claimed=False)
            yield from self._synced(batch)
            self.disposal.let_go(self.claimed(name))
            if not self.is_claimed(name):
                if self.waits(name):
                    return
                self._forget(name)
                raise NoSuchMailError(name)
            if temporary is not None:
                move(temporary, self.claimed(name))
            move(self.claimed(name), self.waiting(name))

    def bury(self, batch: Batch, burial: Burial) -> _Steps:
        """Move a claimed mail to the dead letters or the quarantine, its record beside it.

        Its state is journalled first: a crash must not bring back recipients who have the mail.
        """
        name, content = burial.name, burial.content
        with contextlib.ExitStack() as stack:
            temporary = None if content is None else self.scratch.write(batch, stack, content)
            record = self.scratch.write(batch, stack, burial.record)
            self.journal.record(name, burial.state, claimed=True)
            yield from self._synced(batch)
            self.disposal.let_go(self.claimed(name))
            if self.is_claimed(name):
                if temporary is not None:
                    move(temporary, self.claimed(name))
                burial.graves.take(batch, name, self.claimed(name), record)
            elif not burial.graves.has(name):
                self._forget(name)
                raise NoSuchMailError(name)
            batch.directories.add(self.paths.claimed)
            yield
            # Not before: a claimed mail that the journal does not know is taken for a leftover.
            self._forget(name)

    def unbury(
        self, batch: Batch, name: str, content: bytes, graves: Graves, state: MailState
    ) -> _Steps:
        """Put a dead letter back into the queue, with this content."""
        with contextlib.ExitStack() as stack:
            temporary = self.scratch.write(batch, stack, content)
            note = self.notes.write(batch, stack, state)
            yield
            if not graves.has(name):
                raise NoSuchMailError(name)
            self.refuse_taken(name)
            self.notes.publish(batch, note, name)
            graves.replace(name, temporary)
            graves.give(batch, name, self.waiting(name))
            batch.directories.add(self.paths.waiting)
            yield

    def rewrite_journal(self, _batch: Batch) -> _Steps:
        """Begin a fresh journal, without what no longer counts; raises OSError."""
        # Names that other batches have changed are durable then, or not changed yet.
        yield
        yield
        # The run may have ended meanwhile, and the journal be another process's.
        if self.journal.is_open:
            self.prune()
            self.journal.rewrite()

    def end_run(self, _batch: Batch) -> _Steps:
        """Close the journal; a later start then finds nothing in it that could mislead it."""
        try:
            yield
            if self.journal.is_open:
                self.prune()
                self.journal.rewrite()
        finally:
            # Whatever happens: soon the journal is another process's.
            self.journal.close()

    def prune(self) -> None:
        """Let the journal's next file leave out the mails that are durably gone; raises OSError."""
        names = (*self.journal, *self.journal.done_names())
        gone = [name for name in names if not (self.waits(name) or self.is_claimed(name))]
        sync_directory(self.paths.claimed)
        sync_directory(self.paths.waiting)
        for name in gone:
            self.journal.drop(name)

    def _synced(self, batch: Batch) -> _Steps:
        """Wait until what the journal was told is durable."""
        batch.files.append(self.journal)
        try:
            yield
        except StoreError:
            self.journal.distrust()
            raise

    def _forget(self, name: str) -> None:
        """Let the journal and the notes know nothing of a mail that has left the queue.

        Should that fail: what is known about a mail that is nowhere does no harm.
        """
        self._noted.discard(name)
        self.notes.remove(name)
        if self.journal.is_open:
            with contextlib.suppress(OSError, StoreError):
                self.journal.forget(name)

    def refuse_taken(self, name: str) -> None:
        """Raise StoreError when a mail of this name waits."""
        if self.waits(name):
            raise name_taken(name)

    def waiting(self, name: str) -> str:
        """Give a waiting mail's path."""
        return self._waiting + name

    def claimed(self, name: str) -> str:
        """Give a claimed mail's path."""
        return self._claimed + name


def name_taken(name: str) -> StoreError:
    """Say that a mail of this name waits."""
    return StoreError(f"there is a mail {name} already")
