# SPDX-License-Identifier: MIT
"""Group commit: many operations share the syncs that make them durable.

An operation is a generator. Before its first ``yield`` it writes data, which is durable when it
goes on; then it changes names, which are durable after its second ``yield``. What it returns is
its result. When a sync fails the error is raised at the ``yield``: the operation takes back what
it did. An operation that needs no second sync returns after the first, or yields never. One that
fails does so alone: nothing of what it asked for is synced for the others.

A batch of them goes through three stages, in each of which there is one at a time: it writes; it
is synced; it changes names, and those are synced. So one batch writes while another is synced.
Only one thread takes steps at a time, though, and no batch overtakes another.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any, Final, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from smtpmailer.errors import StoreError
from smtpmailer.interfaces import IThreads
from smtpmailer.stores.atomic import FileLock, HasFileno, close_all, sync_directory, sync_files

__all__ = ["WORTH_A_BATCH", "Batch", "GroupCommit", "Operation"]

_T = TypeVar("_T")

#: So many operations share a sync at most: each has a file or two open meanwhile.
_MAX_BATCH: Final = 128

#: One for each stage.
_MOST_BATCHES: Final = 3

#: So many operations that may wait begin a batch of their own while another one is under way.
WORTH_A_BATCH: Final = 16


@attrs.define
class Batch:
    """What one operation asks to be made durable at its next ``yield``.

    ``drafts`` are files of its own in the one directory where all operations write theirs; they
    stay open until it puts them into ``over``, which is closed for it.
    """

    files: list[int | HasFileno] = attrs.field(factory=list)
    drafts: list[int] = attrs.field(factory=list)
    directories: set[str] = attrs.field(factory=set)
    over: list[int] = attrs.field(factory=list)


#: What an operation is before it is called with its batch.
Operation = Callable[[Batch], Generator[None, None, _T]]


@attrs.define(eq=False)
class _Job:
    operation: Operation[Any]
    done: Deferred[Any]
    size: Callable[[], int]
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


@attrs.define(eq=False)
class _Flight:
    """A batch under way; ``left`` are those of its jobs that have more steps to take."""

    jobs: list[_Job]
    left: list[_Job]
    files: list[int] = attrs.field(factory=list)
    drafts: list[int] = attrs.field(factory=list)
    directories: set[str] = attrs.field(factory=set)
    error: StoreError | None = None
    untold: bool = False
    ended: bool = False

    def step(self) -> None:
        """Let each job take its next step, with the error of the last sync if any."""
        error, self.error = self.error, None
        stepping, self.left = self.left, [job for job in self.left if job.step(error)]
        # Each call gives the interpreter lock up, and has to wait for it in a busy process.
        close_all(handle for job in stepping for handle in job.batch.over)
        for job in stepping:
            job.batch.over.clear()

    def collect(self, *, durable: bool) -> None:
        """Take over what is to be synced now; where nothing is, have it written at least.

        Files that operations share get a descriptor of our own, as another batch's step may close
        them meanwhile.
        """
        files = {id(file): file for job in self.left for file in job.batch.files}
        directories = {path for job in self.left for path in job.batch.directories}
        drafts = [handle for job in self.left for handle in job.batch.drafts]
        for job in self.left:
            job.batch.files.clear()
            job.batch.drafts.clear()
            job.batch.directories.clear()
        self.directories = directories if durable else set()
        self.drafts = drafts if durable else []
        try:
            for file in files.values():
                # A journal writes what it was told when it is asked.
                handle = file if isinstance(file, int) else file.fileno()
                if durable:
                    self.files.append(os.dup(handle))
        except OSError as error:
            self.error = _not_durable(error)

    def sync(self) -> None:
        """Make it durable: contents first, then names; raises OSError."""
        sync_files(self.files, self.drafts)
        for directory in sorted(self.directories):
            sync_directory(directory)

    def close(self) -> None:
        """Close what ``collect`` opened."""
        self.drafts = []
        while self.files:
            os.close(self.files.pop())

    def give_up(self, fault: Failure) -> None:
        """Let the jobs that are not through take back what they did, after a fault of our own."""
        error = StoreError(f"could not be carried out: {fault.value!r}")
        for job in self.left:
            if job.step(error):
                job.result = fault
                if job.steps is not None:
                    job.steps.close()
            close_all(job.batch.over)
            job.batch.over.clear()

    def tell(self) -> None:
        """Give each job its result."""
        for job in self.jobs:
            job.done.callback(job.result)


class GroupCommit:
    """Runs operations in threads, batch by batch.

    What is submitted while no batch can begin forms the next one. ``gate`` keeps the batches of
    several processes apart; it is held while names change, not while a disk syncs.
    ``durable`` false leaves out every sync (QUEUE_FSYNC). A batch takes no more operations once it
    has ``most``.
    ``told`` is called once the results of batches have been told, with whether other batches are
    under way; it may not fail.
    """

    def __init__(
        self,
        threads: IThreads,
        gate: FileLock,
        *,
        durable: bool,
        most: int = _MAX_BATCH,
        told: Callable[[bool], None] = lambda _more: None,
    ) -> None:
        """Use these threads; at most three at a time."""
        self._threads = threads
        self._results_told = told
        self._gate = gate
        self._durable = durable
        self._most = most
        self._running = 0
        # What waits, and whether a batch is about to take it; see ``_take``.
        self._guard = threading.Lock()
        self._waiting: deque[_Job] = deque()
        self._starting = False
        self._flights: deque[_Flight] = deque()
        self._writing, self._syncing, self._naming = (threading.Lock() for _ in range(3))
        self._stepping = threading.Lock()
        # Syncs that failed, and those of which their batch has been told. The system tells of a
        # failure once: what others wrote before it was told may be lost as well.
        self._failed = 0
        self._told = 0

    def submit(
        self,
        operation: Operation[_T],
        *,
        patient: bool = False,
        size: Callable[[], int] = lambda: 1,
    ) -> Deferred[_T]:
        """Run an operation with the next batch.

        A ``patient`` one waits until a batch that is under way has ended, unless many wait: of the
        small ones thousands come in a second, and a batch costs more than a few of them do.
        One of a certain ``size`` counts for so many, which matters to how much a batch may hold.

        Fires with its result when all it asked for is durable; fails with what it raised, or
        with StoreError when a sync failed. Cancelling it changes nothing but that: the operation
        takes place.
        """
        done: Deferred[_T] = Deferred()
        self._waiting.append(_Job(operation, done, size))
        if not (patient and self._running and len(self._waiting) < WORTH_A_BATCH):
            self._begin()
        return done

    def hurry(self) -> None:
        """Begin a batch with what waits, if it can begin: something in it has grown to be many."""
        self._begin()

    def idle(self) -> Deferred[None]:
        """Fire when everything submitted so far has ended."""

        def nothing(_batch: Batch) -> Generator[None, None, None]:
            return
            yield

        return self.submit(nothing)

    def _begin(self) -> None:
        """Begin a batch with what waits, unless one is about to begin anyway."""
        with self._guard:
            if self._starting or self._running == _MOST_BATCHES or not self._waiting:
                return
            self._starting = True
        self._running += 1
        self._threads.run(self._run).addCallbacks(self._ended, self._refused)

    def _ended(self, _: None) -> None:
        self._running -= 1
        # The next batch writes while the results of this one are dealt with.
        self._begin()
        while self._flights and self._flights[0].ended:
            self._flights.popleft().tell()
        self._results_told(self._running > 0)

    def _refused(self, failure: Failure) -> None:
        self._running -= 1
        self._starting = False
        jobs = list(self._waiting)
        self._waiting.clear()
        for job in jobs:
            job.done.errback(failure)

    # In threads

    def _run(self) -> None:
        """Take a batch through all stages."""
        with contextlib.ExitStack() as writing:
            writing.enter_context(self._writing)
            flight = self._take()
            try:
                self._carry(flight, writing)
            except BaseException:  # noqa: BLE001 - a batch that did not end would hold up all others
                with self._stepping:
                    flight.give_up(Failure())
            finally:
                self._have_told(flight)
                flight.ended = True

    def _take(self) -> _Flight:
        with self._guard:
            self._starting = False
            jobs: list[_Job] = []
            room = self._most
            while self._waiting and room > 0:
                jobs.append(self._waiting.popleft())
                room -= jobs[-1].size()
        flight = _Flight(jobs, list(jobs))
        self._flights.append(flight)
        return flight

    def _carry(self, flight: _Flight, writing: contextlib.ExitStack) -> None:
        """Go from stage to stage; one is left when the next one is entered."""
        told = self._step(flight)
        with contextlib.ExitStack() as syncing:
            syncing.enter_context(self._syncing)
            writing.close()
            self._sync(flight, told)
            with self._naming:
                syncing.close()
                if flight.left:
                    with self._gate_held(flight):
                        told = self._step(flight)
                    self._sync(flight, told)
                with self._stepping:
                    while flight.left:
                        flight.step()

    @contextlib.contextmanager
    def _gate_held(self, flight: _Flight) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._gate.held())
            except OSError as reason:
                why = StoreError(f"{reason.filename}: {reason.strerror}")
                flight.error = flight.error or why
            yield

    def _step(self, flight: _Flight) -> int:
        """Let a batch take its next step; gives of how many failed syncs batches knew before."""
        with self._stepping:
            told = self._told
            flight.step()
            self._have_told(flight)
            flight.collect(durable=self._durable)
            return told

    def _have_told(self, flight: _Flight) -> None:
        """Note that a batch knows of its failed sync."""
        with self._guard:
            self._told += flight.untold
            flight.untold = False

    def _sync(self, flight: _Flight, told: int) -> None:
        """Make durable what a batch asks for, and has written when so many failures were told."""
        if not self._durable:
            return
        try:
            flight.sync()
        except OSError as error:
            flight.error = _not_durable(error)
            flight.untold = True
            with self._guard:
                self._failed += 1
        else:
            if self._failed != told:
                flight.error = StoreError("could not make durable: another sync failed meanwhile")
        finally:
            flight.close()


def _not_durable(error: OSError) -> StoreError:
    return StoreError(f"could not make durable: {os.strerror(error.errno or 0)}")
