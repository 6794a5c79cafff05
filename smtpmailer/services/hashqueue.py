# SPDX-License-Identifier: MIT
"""Whose password is hashed next: slow work in a short queue that nobody can fill alone."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Final

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from smtpmailer.core.passwords import verify
from smtpmailer.core.standing import Standing
from smtpmailer.errors import BusyError
from smtpmailer.interfaces import IThreads

__all__ = ["Asker", "HashQueue"]

#: Hashes that are computed at the same time; each takes a core.
_WIDTH: Final = 2
#: As many of those may be for addresses from which wrong passwords came.
_SUSPECTS: Final = 1
#: Passwords that wait: of one connection, of those of one address that have left, and in all.
_PER_CONNECTION: Final = 8
_OF_LEFT: Final = 8
_IN_ALL: Final = 256
#: Nothing waits longer (seconds).
_LONGEST: Final = 60.0
#: From here on all addresses rank alike. Else those who guess from many would leave nothing to
#: the innocent ones behind an address that guesses more. Behind them come connections to any bad
#: address that have left.
_WORST_RANK: Final = 32
_LEFT_RANK: Final = 33


@attrs.frozen
class Asker:
    """Who wants a password to be looked at."""

    address: str
    standing: Standing


@attrs.define(eq=False)
class _Job:
    """A password to be compared with hashes, one after another, for all who ask for it."""

    came_at: float
    what: Hashable
    #: Of those who ask the one that ranks first: the job has its place.
    first: Asker
    pairs: deque[tuple[int, str, str]]
    asked: list[tuple[Asker, Deferred[int | None]]] = attrs.field(factory=list)

    def ask(self, asker: Asker) -> Deferred[int | None]:
        """Give a Deferred that fires with the result."""
        answer: Deferred[int | None] = Deferred()
        self.asked.append((asker, answer))
        return answer

    def end(self, result: int | Failure | None) -> None:
        """Tell all who asked."""
        asked, self.asked = self.asked, []
        for asker, answer in asked:
            if isinstance(result, int):
                asker.standing.spent = 0
            answer.callback(result)


class HashQueue:
    """Compares passwords with hashes, away from the reactor thread.

    The next hash is one for the address with the lowest rank, and of those one for which least is
    being done; behind that address it is one for the connection with the fewest wrong passwords,
    those first that gave a right one, and of those for the one for which fewest hashes were
    computed so far without finding a right one. A connection that gave right passwords only does
    not answer for its address, and one that has left does so more than others.
    """

    def __init__(
        self, threads: IThreads, rank: Callable[[str], int], now: Callable[[], float]
    ) -> None:
        """``rank`` gives an address's rank at the moment, ``now`` the time in seconds."""
        self._threads = threads
        self._address_rank = lambda address: min(rank(address), _WORST_RANK)
        self._now = now
        # In the order in which they came, or came again for their next hash: of equal ones the
        # first is next.
        self._waiting: dict[_Job, None] = {}
        self._running: list[_Job] = []
        self._shared: dict[Hashable, _Job] = {}

    @property
    def waiting(self) -> int:
        """How many passwords wait."""
        return len(self._waiting)

    def find(
        self, asker: Asker, what: Hashable, pairs: Sequence[tuple[str, str]]
    ) -> Deferred[int | None]:
        """Fire with the index of the first pair (password, hash) that belong together, or None.

        ``what`` stands for the pairs: who asks for the same while it waits or runs shares it.

        Fails with BusyError when too many passwords wait, of this connection or in all; or later,
        when its place is needed for one that ranks lower, or after a minute.
        """
        job = self._shared.get(what)
        if job is not None:
            if self._claim(asker) < self._claim(job.first):
                job.first = asker
            answer = job.ask(asker)
        else:
            texts = deque((index, *pair) for index, pair in enumerate(pairs))
            job = _Job(self._now(), what, asker, texts)
            if not self._has_room(job):
                return fail(BusyError("too many passwords wait to be checked"))
            answer = job.ask(asker)
            self._shared[what] = job
            self._waiting[job] = None
        # All others had to wait before.
        if job in self._waiting and self._may_start(job):
            self._start(job)
        return answer

    def forget(self) -> None:
        """Share nothing that began before with who asks from now on."""
        self._shared = {}

    def leave(self, standing: Standing) -> None:
        """Move behind others what only those wait for who have left; too much of it is dropped."""
        too_many = []
        for job in self._waiting:
            if job.first.standing is standing:
                job.first = min((asker for asker, _ in job.asked), key=self._claim)
                if job.first.standing.left and self._of_left(job.first.address) > _OF_LEFT:
                    too_many.append(job)
        self._drop(too_many, "its client has left")

    def _of_left(self, address: str) -> int:
        firsts = (job.first for job in self._waiting)
        return sum(first.standing.left and first.address == address for first in firsts)

    def _rank(self, asker: Asker) -> int:
        return _rank(asker.standing, self._address_rank(asker.address))

    def _claim(self, asker: Asker) -> tuple[int, int, bool]:
        """Who has the lower one is first."""
        return self._rank(asker), asker.standing.wrong, not asker.standing.right

    def _has_room(self, job: _Job) -> bool:
        """Take a place, from who has more of them if need be; False when nobody has."""
        own = sum(other.first.standing is job.first.standing for other in self._waiting)
        if own >= _PER_CONNECTION:
            return False
        if len(self._waiting) < _IN_ALL:
            return True
        everyone = (*self._waiting, job)
        addresses = Counter(other.first.address for other in everyone)
        connections = Counter(other.first.standing for other in everyone)
        ranks = {address: self._address_rank(address) for address in addresses}

        def greed(other: _Job) -> tuple[int, int, int, int]:
            address, standing = other.first.address, other.first.standing
            rank = _rank(standing, ranks[address])
            return rank, standing.wrong, connections[standing], addresses[address]

        greediest = max(reversed(self._waiting), key=greed)
        if greed(greediest) <= greed(job):
            return False
        self._drop([greediest], "the place was needed")
        return True

    def _drop(self, jobs: Iterable[_Job], why: str) -> None:
        for job in jobs:
            # Telling one that it is dropped may lead to the end of others.
            if job in self._waiting:
                del self._waiting[job]
                self._end(job, Failure(BusyError(why)))

    def _end(self, job: _Job, result: int | Failure | None) -> None:
        if self._shared.get(job.what) is job:
            del self._shared[job.what]
        job.end(result)

    def _go_on(self) -> None:
        while self._waiting:
            job = min(self._waiting, key=self._order)
            if not self._may_start(job):
                return
            self._start(job)

    def _may_start(self, job: _Job) -> bool:
        if len(self._running) >= _WIDTH:
            return False
        suspects = sum(self._rank(running.first) > 0 for running in self._running)
        return suspects < _SUSPECTS or self._rank(job.first) == 0

    def _order(self, job: _Job) -> tuple[int, int, int, bool, int]:
        asker = job.first
        rank, wrong, unproven = self._claim(asker)
        of_address = sum(running.first.address == asker.address for running in self._running)
        return rank, of_address, wrong, unproven, asker.standing.spent

    def _start(self, job: _Job) -> None:
        del self._waiting[job]
        index, password, password_hash = job.pairs.popleft()
        self._running.append(job)
        job.first.standing.spent += 1
        compared = self._threads.run(lambda: verify(password, password_hash))
        compared.addBoth(self._compared, job, index)

    def _compared(self, matches: object, job: _Job, index: int) -> None:
        self._running.remove(job)
        if matches is False and job.pairs:
            # Behind the others: who has many hashes to try does not hold up who has one.
            self._waiting[job] = None
        elif isinstance(matches, Failure):
            self._end(job, matches)
        else:
            self._end(job, index if matches is True else None)
        # Here, as one is always running while others wait.
        late = self._now() - _LONGEST
        self._drop([old for old in self._waiting if old.came_at < late], "it waited too long")
        self._go_on()


def _rank(standing: Standing, address_rank: int) -> int:
    """Give a connection's rank, with that of its address."""
    if standing.trusted:
        return 0
    return _LEFT_RANK if standing.left and address_rank else address_rank
