# SPDX-License-Identifier: MIT
"""Blocking work in threads of our own, and the same without threads for tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred, execute, fail, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from smtpmailer.errors import ThreadsStoppedError
from smtpmailer.interfaces import IThreads

__all__ = ["InlineThreads", "Threads"]

_T = TypeVar("_T")


@implementer(IThreads)
class Threads:
    """Runs work in at most ``size`` threads, in the order in which it came.

    A pool of our own: the reactor's is small and shared with name resolution, so slow files
    would hold up connections.
    """

    def __init__(self, reactor: IReactorFromThreads, *, name: str, size: int) -> None:
        """Make it stopped; ``name`` is what its threads are called."""
        self._reactor = reactor
        self._name = name
        self._size = size
        self._pool: ThreadPool | None = None
        self._open = 0
        self._stopping: list[Deferred[None]] = []

    def start(self) -> None:
        """Begin to take work; threads are made as they are needed. Again after ``stop`` is fine."""
        self._pool = ThreadPool(minthreads=0, maxthreads=self._size, name=self._name)
        self._pool.start()

    def run(self, work: Callable[[], _T]) -> Deferred[_T]:
        """Call ``work`` in a thread; fire in the reactor's with its result or its exception.

        Fails with ThreadsStoppedError before ``start`` and after ``stop``.
        """
        if self._pool is None or self._stopping:
            return fail(ThreadsStoppedError())
        self._open += 1
        return deferToThreadPool(self._reactor, self._pool, work).addBoth(self._done)

    def stop(self) -> Deferred[None]:
        """Take no more work; fires when all that was taken is done and its threads have ended.

        May be called again; each call's Deferred fires.
        """
        stopped: Deferred[None] = Deferred()
        self._stopping.append(stopped)
        if not self._open:
            self._end()
        return stopped

    def _done(self, result: _T) -> _T:
        """Count one piece of work as done; the last one after ``stop`` ends the threads."""
        self._open -= 1
        if self._stopping and not self._open:
            # In the reactor's next turn, so that who asked for the work has its result first.
            self._reactor.callFromThread(self._end)
        return result

    def _end(self) -> None:
        """End the idle threads and fire what waits for that."""
        if self._pool is not None:
            self._pool.stop()
            self._pool = None
        waiting, self._stopping = self._stopping, []
        for stopped in waiting:
            stopped.callback(None)


@implementer(IThreads)
class InlineThreads:
    """Runs work at once, where it is called; for tests and for programs without a reactor."""

    def __init__(self) -> None:
        """Make it ready to work."""
        self._running = True

    def start(self) -> None:
        """Take work again after ``stop``."""
        self._running = True

    def run(self, work: Callable[[], _T]) -> Deferred[_T]:
        """Call ``work`` and give a Deferred that has fired; fails as that of ``Threads`` does."""
        return execute(work) if self._running else fail(ThreadsStoppedError())

    def stop(self) -> Deferred[None]:
        """Take no more work; has fired."""
        self._running = False
        return succeed(None)
