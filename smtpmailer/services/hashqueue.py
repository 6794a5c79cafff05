# SPDX-License-Identifier: MIT
"""Whose password is hashed next: slow work in a short queue that nobody can fill alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from smtpmailer.core.passwords import verify
from smtpmailer.errors import BusyError
from smtpmailer.interfaces import IThreads

__all__ = ["HashQueue"]

#: Hashes that are computed at the same time; each takes a core.
_WIDTH: Final = 2
#: Passwords that wait, of one address and of all.
_PER_ADDRESS: Final = 8
_IN_ALL: Final = 256


@attrs.define(eq=False)
class _Job:
    """Passwords to be compared with hashes, one pair after another."""

    number: int
    pairs: deque[tuple[int, str, str]]
    done: Deferred[int | None]


class HashQueue:
    """Compares passwords with hashes, away from the reactor thread.

    The next hash is always one for the address with the lowest rank, and of those one for which
    least is being done. An address that guesses has a high rank: it waits for all the others.
    """

    def __init__(self, threads: IThreads, rank: Callable[[str], int]) -> None:
        """``rank`` gives an address's rank at the moment."""
        self._threads = threads
        self._rank = rank
        self._waiting: dict[str, deque[_Job]] = {}
        self._length = 0
        self._running: dict[str, int] = {}
        self._numbers = count()

    def find(self, address: str, pairs: Sequence[tuple[str, str]]) -> Deferred[int | None]:
        """Fire with the index of the first pair (password, hash) that belong together, or None.

        Fails with BusyError when too many passwords wait, of this address or in all; or later,
        when its place is needed for an address of a lower rank.
        """
        if len(self._waiting.get(address, ())) >= _PER_ADDRESS or not self._make_room(address):
            return fail(BusyError("too many passwords wait to be checked"))
        job = _Job(
            next(self._numbers),
            deque((index, *pair) for index, pair in enumerate(pairs)),
            Deferred(),
        )
        self._queue(address, job)
        self._go_on()
        return job.done

    def _make_room(self, address: str) -> bool:
        """Take a place from who has a higher rank, or more of them; False when nobody has."""
        if self._length < _IN_ALL:
            return True
        worst = max(self._waiting, key=self._claim)
        if self._claim(worst) <= self._claim(address):
            return False
        self._take(worst, newest=True).done.errback(BusyError("the place was needed"))
        return True

    def _claim(self, address: str) -> tuple[int, int]:
        return self._rank(address), len(self._waiting.get(address, ()))

    def _queue(self, address: str, job: _Job) -> None:
        self._waiting.setdefault(address, deque()).append(job)
        self._length += 1

    def _take(self, address: str, *, newest: bool = False) -> _Job:
        jobs = self._waiting[address]
        job = jobs.pop() if newest else jobs.popleft()
        if not jobs:
            del self._waiting[address]
        self._length -= 1
        return job

    def _go_on(self) -> None:
        while self._waiting and sum(self._running.values()) < _WIDTH:
            address = min(self._waiting, key=self._order)
            self._start(address, self._take(address))

    def _order(self, address: str) -> tuple[int, int, int]:
        return self._rank(address), self._running.get(address, 0), self._waiting[address][0].number

    def _start(self, address: str, job: _Job) -> None:
        index, password, password_hash = job.pairs.popleft()
        self._running[address] = self._running.get(address, 0) + 1
        compared = self._threads.run(lambda: verify(password, password_hash))
        compared.addBoth(self._compared, address, job, index)

    def _compared(self, matches: object, address: str, job: _Job, index: int) -> None:
        left = self._running.pop(address) - 1
        if left:
            self._running[address] = left
        result: Any = index if matches is True else None
        if isinstance(matches, Failure):
            result = matches
        elif result is None and job.pairs:
            # Behind the others: who has many hashes to try does not hold up who has one.
            job.number = next(self._numbers)
            self._queue(address, job)
            self._go_on()
            return
        job.done.callback(result)
        self._go_on()
