# SPDX-License-Identifier: MIT
"""Changes of many mails as one operation, where little is to be done for each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from typing import Final, Generic, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from smtpmailer.errors import StoreError
from smtpmailer.stores.commit import WORTH_A_BATCH, Batch, GroupCommit

__all__ = ["BundleOperation", "Bundles", "as_store_error", "store_error"]

_T = TypeVar("_T")

#: So many go into one operation at most.
_MOST: Final = 128

#: Makes changes; returns why some could not be made, by their place: they keep none of the others.
BundleOperation = Callable[[Batch, Sequence[_T]], Generator[None, None, dict[int, Exception]]]


@attrs.define(eq=False)
class _Bundle(Generic[_T]):
    """Changes that are made together, and who waits for each."""

    changes: list[_T] = attrs.field(factory=list)
    waiting: list[Deferred[None]] = attrs.field(factory=list)


class Bundles(Generic[_T]):
    """Makes changes durable, bundled: all that come until a batch begins are one operation.

    To make an operation of each would cost more than what it does.
    """

    def __init__(
        self, commit: GroupCommit, operation: BundleOperation[_T], *, opens_files: bool = False
    ) -> None:
        """Carry them out with this operation.

        Of one that ``opens_files`` each change counts for what a batch may hold.
        """
        self._commit = commit
        self._opens_files = opens_files
        self._operation = operation
        # The bundle that takes more: until a thread takes it, which the guard keeps apart.
        self._guard = threading.Lock()
        self._open: _Bundle[_T] | None = None

    def add(self, change: _T) -> Deferred[None]:
        """Make a change; fires when it is durable, fails with StoreError.

        Not while an operation of another kind is under way for its mail, nor before the end of
        one that it builds upon: what is added may be carried out before those.
        """
        done: Deferred[None] = Deferred()
        begun: _Bundle[_T] | None = None
        with self._guard:
            bundle = self._open
            if bundle is None:
                self._open = bundle = begun = _Bundle()
            bundle.changes.append(change)
            bundle.waiting.append(done)
            count = len(bundle.changes)
            if count == _MOST:
                self._open = None
        if begun is not None:
            self._submit(begun)
        elif count == WORTH_A_BATCH:
            self._commit.hurry()
        return done

    def _submit(self, bundle: _Bundle[_T]) -> None:
        def take() -> list[_T]:
            with self._guard:
                if self._open is bundle:
                    self._open = None
            return bundle.changes

        made = self._commit.submit(
            lambda batch: self._operation(batch, take()),
            patient=True,
            size=lambda: len(bundle.changes) if self._opens_files else 1,
        )
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


def _tell(faults: dict[int, Exception], bundle: _Bundle[_T]) -> None:
    """Tell each what became of its change."""
    for number, waiting in enumerate(bundle.waiting):
        if number in faults:
            waiting.errback(as_store_error(Failure(faults[number])))
        else:
            waiting.callback(None)


def _fail(failure: Failure, bundle: _Bundle[_T], take: Callable[[], object]) -> None:
    """Tell all that nothing came of the operation, which may not even have begun."""
    take()
    for waiting in bundle.waiting:
        waiting.errback(as_store_error(failure))
