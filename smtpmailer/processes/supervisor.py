# SPDX-License-Identifier: MIT
"""Supervises the processes of the service: starts, watches, recycles, replaces, stops them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from smtpmailer.core.board import Board, Field, Row
from smtpmailer.core.respawn import Limits, Usage, why_replace
from smtpmailer.core.tallies import SharedTally
from smtpmailer.coroutines import returns_deferred
from smtpmailer.processes.child import Child
from smtpmailer.processes.posts import Post
from smtpmailer.processes.sharing import Shared

__all__ = ["QUEUE", "Staff", "Supervisor"]

#: What the process that runs the queue is called; the others are worker-1, worker-2 ...
QUEUE: Final = "queue"
#: Seconds between looks at the processes.
_LOOK: Final = 1.0
#: A process that has not turned for so many looks is killed.
_HUNG: Final = 60
#: The wall clock may be set: the next time of a crontab is worked out again so often (seconds).
_LONGEST_TIMER: Final = 10.0
#: Seconds until a process is to be replaced again for which that did not work.
_PAUSE: Final = 60.0
#: Seconds beyond the stop timeout after which a process is killed.
_GRACE: Final = 3.0


@attrs.frozen(kw_only=True)
class Staff:
    """Which processes there are to be, and when they are replaced.

    ``next_restart`` gives the next Unix time, after a given one, at which all are; None for
    never. ``stop_limit`` is in seconds.
    """

    workers: int
    queue: bool
    limits: Limits
    next_restart: Callable[[float], float | None]
    stop_limit: float

    def names(self) -> list[str]:
        """Name the processes, workers first."""
        workers = [f"worker-{number}" for number in range(1, self.workers + 1)]
        return [*workers, QUEUE] if self.queue else workers


@attrs.define
class _Pulse:
    """The last sign of life of a process, and how many looks ago it came."""

    beat: int = 0
    looks: int = 0


class Supervisor(Service):
    """All processes of the service but its own.

    ``start_child`` starts a process by name and seat, and may raise OSError. ``ready`` is called
    once all processes are ready for the first time.
    """

    _log = Logger()

    def __init__(
        self,
        staff: Staff,
        shared: Shared,
        start_child: Callable[[str, int], Child],
        *,
        clock: IReactorTime,
        now: Callable[[], float],
        ready: Callable[[], None],
    ) -> None:
        """Start nothing yet; ``now`` gives Unix seconds."""
        self.setName("supervisor")
        self.staff = staff
        #: Whether processes may take any time to stop.
        self.patient = False
        self._board: Board = shared.board
        self._tally: SharedTally = shared.tally
        self._start_child = start_child
        self._clock = clock
        self._now = now
        self._ready = ready
        self._posts: dict[str, Post] = {}
        self._pulses: dict[Child, _Pulse] = {}
        self._was_ready = False
        self._told_of_memory = False
        # One process is replaced at a time.
        self._lock = DeferredLock()
        self._pause_until = 0.0
        self._cron: IDelayedCall | None = None
        self._restart_at: float | None = None
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock

    @property
    def children(self) -> list[Child]:
        """All processes that live, the oldest first."""
        return list(self._pulses)

    @property
    def deaths(self) -> int:
        """How many processes have died unasked."""
        return sum(post.deaths for post in self._posts.values())

    def startService(self) -> None:
        """Start the first process, and the others once it is ready or has failed."""
        super().startService()
        self._looking.start(_LOOK, now=False)
        self._await_restart()
        self._open_all().addErrback(lambda why: self._log.failure("fault at the start", why))

    @returns_deferred
    async def stopService(self) -> None:
        """Stop all processes; fires when they have ended."""
        super().stopService()
        if self._looking.running:
            self._looking.stop()
        if self._cron is not None and self._cron.active():
            self._cron.cancel()
        children = self.children
        for post in self._posts.values():
            post.close()
        limit = None if self.patient else self.staff.stop_limit
        for child in children:
            child.stop(limit)
        ended = DeferredList([child.has_ended() for child in children])
        if limit is not None:
            timer = self._clock.callLater(limit + _GRACE, self._kill, children)
            ended.addBoth(_cancelling(timer))
        await ended

    def change(self, staff: Staff, names: Collection[str] | None = None) -> Deferred[list[str]]:
        """Replace processes by what ``staff`` says, one after another; all, or those of ``names``.

        New ones begin as ``start_child`` starts them from now on. Fires with the names of those
        that were replaced: it stops at the first that can't be.
        """
        self.staff = staff
        self._told_of_memory = False
        self._await_restart()
        return self._lock.run(self._change, names)

    def tell(self, what: str, values: Mapping[str, Any] | None = None) -> None:
        """Tell all processes something."""
        for child in self.children:
            child.channel.tell(what, values)

    @returns_deferred
    async def _open_all(self) -> None:
        first, *others = self.staff.names()
        await self._open(first)
        if not self.running:
            return
        for name in others:
            self._open(name)

    def _open(self, name: str) -> Deferred[bool]:
        post = self._posts[name] = Post(name, self._begin, self._clock)
        return post.open()

    def _begin(self, name: str) -> Child:
        seat = self._board.give(os.getpid())
        try:
            child = self._start_child(name, seat)
        except OSError:
            self._board.free(seat)
            raise
        self._pulses[child] = _Pulse()
        child.is_ready().addCallback(lambda _: self._look_whether_ready())
        child.has_ended().addCallback(lambda _: self._leave(child))
        return child

    def _look_whether_ready(self) -> None:
        """Say so when everybody is ready for the first time."""
        present = {name for name, post in self._posts.items() if post.child and post.child.ready}
        if not self._was_ready and present.issuperset(self.staff.names()):
            self._was_ready = True
            self._ready()

    def _leave(self, child: Child) -> None:
        del self._pulses[child]
        self._tally.clear(child.seat)
        self._board.free(child.seat)

    @returns_deferred
    async def _change(self, names: Collection[str] | None = None) -> list[str]:
        wanted = self.staff.names()
        done: list[str] = []
        for name in wanted if names is None else names:
            post = self._posts.get(name)
            if not self.running:
                return done
            if not await (post.replace() if post is not None else self._open(name)):
                return done
            done.append(name)
        for name in [name for name in self._posts if name not in wanted]:
            self._close(self._posts.pop(name))
        return done

    def _close(self, post: Post) -> None:
        """Do without a post."""
        post.close()
        for child in post.children:
            child.retire()

    # Looking after them

    def _look(self) -> None:
        """Kill who hangs; replace one process that has used enough."""
        try:
            for child, row in self._seated():
                self._feel_pulse(child, row)
            if not self._lock.locked and self._clock.seconds() >= self._pause_until:
                self._recycle()
        except Exception:  # noqa: BLE001 - the loop has to go on
            self._log.failure("fault while looking after the processes")

    def _seated(self) -> Iterator[tuple[Child, Row]]:
        rows = {row.seat: row for row in self._board.rows()}
        for child in self.children:
            if child.seat in rows:
                yield child, rows[child.seat]

    def _feel_pulse(self, child: Child, row: Row) -> None:
        pulse = self._pulses[child]
        if pulse.beat != row[Field.BEAT]:
            pulse.beat, pulse.looks = row[Field.BEAT], 0
            return
        pulse.looks += 1
        if pulse.looks == _HUNG:
            self._log.error(
                "{name} (process {pid}) hangs and is killed", name=child.name, pid=child.process_id
            )
            child.kill()

    def _recycle(self) -> None:
        for child, row in self._seated():
            post = self._posts.get(child.name)
            if post is None or post.child is not child or not child.ready:
                continue
            if child.first_memory_bytes == 0:
                self._learn_memory(child, row[Field.MEMORY])
            why = why_replace(_usage(child, row), self.staff.limits, post.growth.least_age())
            if why:
                post.growth.replaced(child.age)
                self._log.info("{name} is replaced: {why}", name=child.name, why=why, notice=True)
                self._lock.run(post.replace).addCallback(self._recycled)
                return

    def _recycled(self, worked: bool) -> None:  # noqa: FBT001 - a callback's
        if not worked:
            self._pause_until = self._clock.seconds() + _PAUSE

    def _learn_memory(self, child: Child, memory_bytes: int) -> None:
        limit = self.staff.limits.memory_bytes
        child.first_memory_bytes = memory_bytes
        if memory_bytes >= limit and not self._told_of_memory:
            self._told_of_memory = True
            self._log.warn(
                "MAILER_MAX_MEMORY = {limit} has no effect: a process begins with {n} MB",
                limit=limit // 2**20,
                n=memory_bytes // 2**20,
            )

    def _await_restart(self) -> None:
        """Replace everybody when it is time."""
        if self._cron is not None and self._cron.active():
            self._cron.cancel()
        now = self._now()
        self._restart_at = self.staff.next_restart(now)
        self._tick()

    def _tick(self) -> None:
        """Look whether it is time; again soon, as the wall clock may be set meanwhile."""
        now, due = self._now(), self._restart_at
        if due is None or not self.running:
            return
        if now >= due:
            due = self._restart_at = self.staff.next_restart(now)
            self._restart_all()
        elif (earlier := self.staff.next_restart(now)) is not None:
            due = self._restart_at = min(due, earlier)
        if due is not None:
            self._cron = self._clock.callLater(min(due - now, _LONGEST_TIMER), self._tick)

    def _restart_all(self) -> None:
        if self._lock.locked:
            self._log.warn("processes are being replaced already: MAILER_RESTART_CRON is too dense")
            return
        self._log.info("all processes are replaced (MAILER_RESTART_CRON)", notice=True)
        self._lock.run(self._change)

    def _kill(self, children: list[Child]) -> None:
        for child in children:
            if not child.ended:
                self._log.error("{name} did not end in time and is killed", name=child.name)
                child.kill()


def _usage(child: Child, row: Row) -> Usage:
    return Usage(
        memory_bytes=row[Field.MEMORY],
        first_memory_bytes=child.first_memory_bytes,
        requests=row[Field.REQUESTS],
        age=child.age,
        idle=not (row[Field.IN_FLIGHT] or row[Field.DELIVERIES]),
    )


def _cancelling(timer: IDelayedCall) -> Callable[[Any], Any]:
    def cancel(result: Any) -> Any:
        if timer.active():
            timer.cancel()
        return result

    return cancel
