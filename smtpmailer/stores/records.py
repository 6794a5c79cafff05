# SPDX-License-Identifier: MIT
"""What is recorded of claimed mails: of many at once, as of each little is to be done."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from smtpmailer.core.queuestate import MailState
from smtpmailer.errors import StoreError
from smtpmailer.stores.commit import WORTH_A_BATCH, GroupCommit
from smtpmailer.stores.folder import Change, QueueFolder

__all__ = ["Records", "as_store_error", "store_error"]

#: So many go into one operation at most.
_MOST: Final = 128


@attrs.define(eq=False)
class _Bundle:
    """Changes that are made together, and who waits for each."""

    changes: list[Change] = attrs.field(factory=list)
    waiting: list[Deferred[None]] = attrs.field(factory=list)


class Records:
    """Makes changes durable, bundled: all that come until a batch begins are one operation.

    To make an operation of each would cost more than what it does.
    """

    def __init__(self, folder: QueueFolder, commit: GroupCommit) -> None:
        """Carry them out in this folder."""
        self._folder = folder
        self._commit = commit
        # The bundle that takes more: until a thread takes it, which the guard keeps apart.
        self._guard = threading.Lock()
        self._open: _Bundle | None = None

    def add(self, name: str, state: MailState | None) -> Deferred[None]:
        """Record a claimed mail's state; None: it was delivered to everybody, and is removed.

        Fires when that is done, and the state durable; fails with StoreError. Not while something
        else (requeue, bury) is under way for the mail: what is added may be carried out before it.
        """
        done: Deferred[None] = Deferred()
        begun = None
        with self._guard:
            bundle = self._open
            if bundle is None:
                self._open = bundle = begun = _Bundle()
            bundle.changes.append((name, state))
            bundle.waiting.append(done)
            count = len(bundle.changes)
            if count == _MOST:
                self._open = None
        if begun is not None:
            self._submit(begun)
        elif count == WORTH_A_BATCH:
            self._commit.hurry()
        return done

    def _submit(self, bundle: _Bundle) -> None:
        def take() -> list[Change]:
            with self._guard:
                if self._open is bundle:
                    self._open = None
            return bundle.changes

        made = self._commit.submit(lambda batch: self._folder.record(batch, take()), patient=True)
        made.addCallbacks(_tell, _fail, (bundle,), errbackArgs=(bundle, take))


def store_error(error: OSError) -> StoreError:
    """Say what the disk refused."""
    return StoreError(f"{error.filename or 'the queue'}: {error.strerror}")


def as_store_error(failure: Failure) -> Failure:
    """Give a failure as the queue tells it: one of the disk is the store's."""
    if not isinstance(failure.value, OSError):
        return failure
    told = store_error(failure.value)
    told.__cause__ = failure.value
    return Failure(told)


def _tell(faults: dict[int, Exception], bundle: _Bundle) -> None:
    """Tell each what became of its change."""
    for number, waiting in enumerate(bundle.waiting):
        if number in faults:
            waiting.errback(as_store_error(Failure(faults[number])))
        else:
            waiting.callback(None)


def _fail(failure: Failure, bundle: _Bundle, take: Callable[[], object]) -> None:
    """Tell all that nothing came of the operation, which may not even have begun."""
    take()
    for waiting in bundle.waiting:
        waiting.errback(as_store_error(failure))
