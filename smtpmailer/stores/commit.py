# SPDX-License-Identifier: MIT
"""Group commit: many operations share the syncs that make them durable.

An operation is a generator. Before its first ``yield`` it writes data, which is durable when it
goes on; then it changes names, which are durable after its second ``yield``. What it returns is
its result. When a sync fails the error is raised at the ``yield``: the operation takes back what
it did. An operation that needs no second sync returns after the first, or yields never. One that
fails does so alone: nothing of what it asked for is synced for the others.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterable
from typing import Any, Final, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from smtpmailer.errors import StoreError
from smtpmailer.interfaces import IThreads
from smtpmailer.stores.atomic import FileLock, HasFileno, sync_directory, sync_files

__all__ = ["Batch", "GroupCommit", "Operation"]

_T = TypeVar("_T")

#: So many operations share a sync at most: each has a file or two open meanwhile.
_MAX_BATCH: Final = 128


@attrs.define
class Batch:
    """What one operation asks to be made durable at its next ``yield``."""

    files: list[int | HasFileno] = attrs.field(factory=list)
    directories: set[str] = attrs.field(factory=set)


#: What an operation is before it is called with its batch.
Operation = Callable[[Batch], Generator[None, None, _T]]


@attrs.define(eq=False)
class _Job:
    operation: Operation[Any]
    done: Deferred[Any]
    batch: Batch = attrs.field(factory=Batch)
    steps: Generator[None, None, Any] | None = None
    result: Any = None

    def step(self, error: StoreError | None) -> bool:
        """Go to the next yield; tells whether there was one."""
        try:
            if self.steps is None:
                self.steps = self.operation(self.batch)
            if error is None:
                next(self.steps)
            else:
                self.steps.throw(error)
        except StopIteration as end:
            self.result = end.value
        except Exception:  # noqa: BLE001 - whatever it is, it is this operation's own result
            self.result = Failure()
        else:
            return True
        return False


class GroupCommit:
    """Runs operations in a thread, one batch after another.

    What is submitted while a batch runs forms the next one. ``gate`` keeps the batches of
    several processes apart; it is held while names change, not while a disk syncs.
    ``durable`` false leaves out every sync (QUEUE_FSYNC).
    """

    def __init__(self, threads: IThreads, gate: FileLock, *, durable: bool) -> None:
        """Use these threads; at most one at a time."""
        self._threads = threads
        self._gate = gate
        self._durable = durable
        self._waiting: list[_Job] = []
        self._running = False

    def submit(self, operation: Operation[_T]) -> Deferred[_T]:
        """Run an operation with the next batch.

        Fires with its result when all it asked for is durable; fails with what it raised, or
        with StoreError when a sync failed. Cancelling it changes nothing but that: the operation
        takes place.
        """
        done: Deferred[_T] = Deferred()
        self._waiting.append(_Job(operation, done))
        if not self._running:
            self._next()
        return done

    def idle(self) -> Deferred[None]:
        """Fire when everything submitted so far has ended."""

        def nothing(_batch: Batch) -> Generator[None, None, None]:
            return
            yield

        return self.submit(nothing)

    def _next(self) -> None:
        jobs, self._waiting = self._waiting[:_MAX_BATCH], self._waiting[_MAX_BATCH:]
        self._running = bool(jobs)
        if jobs:
            running = self._threads.run(lambda: self._run(jobs))
            running.addCallbacks(self._finished, self._broken, (jobs,), errbackArgs=(jobs,))

    def _finished(self, _: None, jobs: list[_Job]) -> None:
        # The next batch syncs while the results of this one are dealt with.
        self._next()
        for job in jobs:
            job.done.callback(job.result)

    def _broken(self, failure: Failure, jobs: list[_Job]) -> None:
        self._next()
        for job in jobs:
            job.done.errback(failure)

    def _run(self, jobs: list[_Job]) -> None:
        """Run a batch; in a thread."""
        jobs = [job for job in jobs if job.step(None)]
        error = self._sync(jobs)
        if jobs:
            with contextlib.ExitStack() as stack:
                try:
                    stack.enter_context(self._gate.held())
                except OSError as reason:
                    error = error or StoreError(f"{reason.filename}: {reason.strerror}")
                jobs = [job for job in jobs if job.step(error)]
            error = self._sync(jobs)
        while jobs:
            jobs = [job for job in jobs if job.step(error)]

    def _sync(self, jobs: list[_Job]) -> StoreError | None:
        """Make durable what these ask for: contents first, then names; gives what went wrong."""
        files = {id(file): file for job in jobs for file in job.batch.files}
        directories = {path for job in jobs for path in job.batch.directories}
        for job in jobs:
            job.batch.files.clear()
            job.batch.directories.clear()
        if not self._durable:
            return None
        try:
            _sync(files.values(), directories)
        except OSError as error:
            return StoreError(f"could not make durable: {os.strerror(error.errno or 0)}")
        return None


def _sync(files: Iterable[int | HasFileno], directories: Iterable[str]) -> None:
    sync_files(files)
    for directory in sorted(directories):
        sync_directory(directory)
