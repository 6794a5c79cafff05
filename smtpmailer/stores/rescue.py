# SPDX-License-Identifier: MIT
"""Takes stranded and quarantined mails into the queue, beside a service that may be running.

For programs without a reactor: everything blocks. Names change under the queue's gate, one mail
after another, so that it may be killed at any moment and run again.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs
import orjson
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from smtpmailer.core.queued import MailDocument
from smtpmailer.core.queuestate import FRESH, MailState, state_from_json, updated
from smtpmailer.errors import NoSuchMailError, SmtpMailerError, StoreError
from smtpmailer.stores.atomic import FileLock, read_regular
from smtpmailer.stores.commit import GroupCommit, Operation
from smtpmailer.stores.content import decode
from smtpmailer.stores.disposal import Disposal
from smtpmailer.stores.filequeue import QueueDirectories
from smtpmailer.stores.folder import Paths, QueueFolder
from smtpmailer.stores.graves import Graves
from smtpmailer.stores.journal import Journal
from smtpmailer.stores.leftovers import Leftover, find_leftovers
from smtpmailer.stores.leftovers import rescue as rescue_leftover
from smtpmailer.threads import InlineThreads

__all__ = ["Found", "Rescuer"]

_T = TypeVar("_T")


@attrs.frozen(kw_only=True)
class Found:
    """A mail that is out of the queue.

    ``path`` is where it lies, ``why`` why it is not in the queue, ``name`` the name it would wait
    under, ``written_at`` when it was written (Unix seconds). ``mail`` is its mail object;
    ``fault`` says why that can't be had, or why it is none that could be sent.
    """

    path: str
    why: str
    name: str
    written_at: float
    mail: Mapping[str, Any] | None = attrs.field(default=None, repr=False)
    fault: str = ""
    quarantined: bool = False


class Rescuer:
    """Finds such mails, and takes them into the queue when told to."""

    def __init__(
        self,
        directories: QueueDirectories,
        open_document: Callable[[MailDocument], Mapping[str, Any]],
        judge: Callable[[Mapping[str, Any]], object],
        *,
        durable: bool,
    ) -> None:
        """Touch nothing yet.

        ``open_document`` decrypts, ``judge`` raises for what is no mail; both may raise
        SmtpMailerError or ValueError. ``durable`` is QUEUE_FSYNC.
        """
        paths = Paths(os.path.abspath(directories.waiting), os.path.abspath(directories.claimed))
        failed = os.path.abspath(directories.failed)
        threads = InlineThreads()
        self._folder = QueueFolder(paths, Journal(paths.own("journal")), Disposal(threads))
        self._quarantine = Graves(os.path.join(failed, "quarantine"))
        self._quarantine_path = os.path.join(failed, "quarantine")
        gate = FileLock(paths.own("gate"))
        self._commit = GroupCommit(threads, gate, durable=durable)
        self._open_document = open_document
        self._judge = judge
        self._prepared = False

    def find(self) -> list[Found]:
        """Give what the predecessor stranded, in order of the names; raises OSError."""
        found = (self._look_at(leftover) for leftover in find_leftovers(self._folder))
        return [each for each in found if each is not None]

    def find_quarantined(self) -> list[Found]:
        """Give what lies in quarantine, in order of the names; raises OSError."""
        try:
            names = self._quarantine.names()
        except FileNotFoundError:
            return []
        found = (self._look_at_grave(name) for name in names)
        return [each for each in found if each is not None]

    def take(self, found: Found) -> None:
        """Take a mail into the queue; durable when this returns.

        A quarantined one keeps its history: who has the mail gets no second copy. Raises
        NoSuchMailError when it is gone, or in hand by now, StoreError when it can't be moved.
        """
        try:
            if not self._prepared:
                self._folder.prepare()
                self._prepared = True
            if found.quarantined:
                self._unbury(found.name)
            else:
                leftover = Leftover(path=found.path, why=found.why, name=found.name)
                self._run(lambda batch: rescue_leftover(self._folder, batch, leftover))
        except OSError as error:
            raise StoreError(f"{error.filename or found.path}: {error.strerror}") from error

    def close(self) -> None:
        """Clear up."""
        self._folder.close()

    def _unbury(self, name: str) -> None:
        content, record = self._quarantine.read(name)
        state = _state_in(record)
        self._run(lambda batch: self._folder.unbury(batch, name, content, self._quarantine, state))

    def _run(self, operation: Operation[_T]) -> _T:
        return _result(self._commit.submit(operation))

    def _look_at(self, leftover: Leftover) -> Found | None:
        return self._read(
            Found(path=leftover.path, why=leftover.why, name=leftover.name, written_at=0.0)
        )

    def _look_at_grave(self, name: str) -> Found | None:
        try:
            why = _why_in(self._quarantine.read(name)[1])
        except (NoSuchMailError, OSError, StoreError):
            why = ""
        path = os.path.join(self._quarantine_path, name)
        why = f"in quarantine: {why or 'nobody knows why'}"
        return self._read(Found(path=path, why=why, name=name, written_at=0.0, quarantined=True))

    def _read(self, found: Found) -> Found | None:
        """Read a mail as far as that works; None when it is gone."""
        mail, fault, written_at = None, "", 0.0
        try:
            status = os.lstat(found.path)
            written_at = status.st_mtime
            if not stat.S_ISREG(status.st_mode):
                fault = "not a regular file"
            else:
                mail = self._open_document(decode(read_regular(found.path)))
                self._judge(mail)
        except FileNotFoundError:
            return None
        except (OSError, SmtpMailerError, ValueError) as error:
            fault = str(error)
        return attrs.evolve(found, written_at=written_at, mail=mail, fault=fault)


def _state_in(record: bytes) -> MailState:
    """Give the state that a record holds; FRESH when it holds none."""
    try:
        state = state_from_json(orjson.loads(record)["state"])
    except (KeyError, TypeError, ValueError):
        return FRESH
    return attrs.evolve(updated(state), crashes=0)


def _why_in(record: bytes) -> str:
    try:
        return str(orjson.loads(record)["why"])
    except (KeyError, TypeError, ValueError):
        return ""


def _result(done: Deferred[_T]) -> _T:
    """Give what a Deferred that has fired holds; raises what it failed with."""
    results: list[Any] = []
    done.addBoth(results.append)
    (result,) = results
    if isinstance(result, Failure):
        result.raiseException()
    value: _T = result
    return value
