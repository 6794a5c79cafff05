# SPDX-License-Identifier: MIT
"""Runs a queue: takes it over when it is free, claims what is due, delivers, settles."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from smtpmailer.core.queued import Settlement, StoredMail
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import StoreError
from smtpmailer.interfaces import IQueue
from smtpmailer.services.postman import Postman
from smtpmailer.services.settling import Settler

__all__ = ["QueueRunner", "RunPlan"]

#: Seconds between looks whether the queue is free, or the store works again.
_LOOK = 2.0

#: Seconds between looks whether slow deliveries that fill all slots may be left to themselves.
_CROWDED = 1.0

#: Seconds until the next scan where the plan can't tell.
_PLANLESS = 60.0

#: The wall clock may be set: no timer for a due mail runs longer (seconds).
_LONGEST_TIMER = 5.0

#: So many names of leftovers stand in one log line.
_SHOWN = 20


@attrs.frozen(kw_only=True)
class RunPlan:
    """How a queue is run.

    ``next_scan`` gives the seconds from a Unix time to the next scan. ``batch`` mails at most
    are claimed at a time. ``at_once``: a due mail does not wait for the next scan. So many mails
    ``ahead`` of those being delivered may be claimed already, and as many behind them still be
    settled: while a disk syncs for these, no delivery waits.
    """

    next_scan: Callable[[float], float]
    batch: int
    at_once: bool
    ahead: int = 0


class QueueRunner(Service):
    """Drives one queue.

    A scan goes on until nothing is due. Only one process runs a queue at a time; the others look
    every two seconds whether it is free.
    """

    _log = Logger()

    def __init__(
        self,
        queue: IQueue,
        postman: Postman,
        plan: RunPlan,
        *,
        clock: IReactorTime,
        now: Callable[[], float],
    ) -> None:
        """``clock`` runs timers; ``now`` gives Unix seconds."""
        self.setName("queue runner")
        self._queue = queue
        self._postman = postman
        self._traffic = postman.traffic
        self._settler = Settler(queue, clock=clock, now=now, goes_on=lambda: bool(self.running))
        self._plan = plan
        self._clock = clock
        self._now = now
        self._owner = False
        self._other = ""
        # Claims of a dead process that nobody has judged yet.
        self._inherited: list[StoredMail] = []
        self._scanning = False
        self._next_scan = math.inf
        # What stopService waits for: becoming the owner, looking, claiming, mails in hand.
        self._taking_over = False
        self._looking_around = False
        self._claiming = False
        self._in_flight = 0
        # Of the mails in flight, those being delivered; and those claimed whose turn comes next.
        self._delivering = 0
        self._ready: deque[StoredMail] = deque()
        self._idle: list[Deferred[None]] = []
        self._scan_timer: IDelayedCall | None = None
        self._due_timer: IDelayedCall | None = None
        self._crowd_timer: IDelayedCall | None = None
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock
        if plan.at_once:
            queue.watch(self._arm)

    @property
    def owner(self) -> bool:
        """Whether this process runs the queue."""
        return self._owner

    @property
    def in_flight(self) -> int:
        """How many mails are claimed: their turn comes, they are being delivered, or settled."""
        return self._in_flight + len(self._ready)

    def use(self, postman: Postman) -> None:
        """Deliver through this postman from now on; its traffic has to be the same."""
        self._postman = postman

    def startService(self) -> None:
        """Look whether the queue is free, now and then until it is."""
        super().startService()
        self._looking.start(_LOOK, now=True).addErrback(self._fault, "looking")

    @returns_deferred
    async def stopService(self) -> None:
        """Claim no more; fires when all claims are settled and the queue is free for others."""
        super().stopService()
        if self._looking.running:
            self._looking.stop()
        for timer in (self._scan_timer, self._due_timer, self._crowd_timer):
            if timer is not None and timer.active():
                timer.cancel()
        self._deliver_ready()
        while self._busy():
            waiting: Deferred[None] = Deferred()
            self._idle.append(waiting)
            await waiting
        if self._owner:
            self._owner = False
            await self._queue.release()

    # Becoming the one that runs the queue

    @returns_deferred
    async def _look(self) -> None:
        self._taking_over = True
        try:
            if not self._owner:
                await self._try_to_own()
            if self._owner:
                self._get_going()
        except StoreError as error:
            self._log.error("the queue can't be run: {why}", why=str(error))
        except Exception:  # noqa: BLE001 - a LoopingCall that fails never runs again
            self._log.failure("the queue can't be run")
        finally:
            self._taking_over = False
            self._settled()

    async def _try_to_own(self) -> None:
        if await self._queue.acquire():
            await self._take_over()
        else:
            await self._name_other()
            await self._look_around()

    async def _name_other(self) -> None:
        other = await self._queue.runner()
        if other and other != self._other:
            self._log.info("the queue is run by {other}", other=other, notice=True)
        self._other = other

    async def _take_over(self) -> None:
        try:
            found = await self._queue.recover() if self.running else None
        except Exception:
            await self._queue.release()
            raise
        if found is None:
            await self._queue.release()
            return
        self._owner = True
        self._inherited = list(found.claims)
        self._log.info("this process runs the queue", notice=True)
        if found.leftovers:
            self._log.warn(
                "{n} mails that another program left behind are not sent; "
                "`smtpmailer queue rescue` takes them in: {names}",
                n=len(found.leftovers),
                names=", ".join(found.leftovers[:_SHOWN]),
            )

    def _get_going(self) -> None:
        """Judge what a dead process left, and begin to scan.

        Should that fail the next look goes on with it: none is called for again once it worked.
        """
        while self._inherited:
            self._begin(self._judge, self._inherited.pop(0))
        self._scan()
        if self._looking.running:
            self._looking.stop()

    async def _look_around(self) -> None:
        """Let the store notice what it is not told of."""
        try:
            await self._queue.look_around(self._now())
        except StoreError as error:
            self._log.error("the queue can't be looked through: {why}", why=str(error))

    # When to claim

    def _scan(self) -> None:
        """Deliver until nothing is due, and set the time of the next scan."""
        if not self.running:
            return
        self._next_scan = math.inf
        self._scanning = True
        self._await_scan()
        self._claim()

    def _await_scan(self) -> None:
        """Scan when it is time; look again soon, as the wall clock may be set meanwhile."""
        now = self._now()
        # After the clock went back the plan knows of an earlier time.
        self._next_scan = min(self._next_scan, now + self._until_scan(now))
        wait = min(max(self._next_scan - now, 0.0), _LONGEST_TIMER)
        if self._scan_timer is not None and self._scan_timer.active():
            self._scan_timer.cancel()
        self._scan_timer = self._clock.callLater(wait, self._scan_if_due)

    def _until_scan(self, now: float) -> float:
        try:
            return self._plan.next_scan(now)
        except Exception:  # noqa: BLE001 - whatever it is, it must not end the run
            self._log.failure("the time of the next scan is unknown")
            return _PLANLESS

    def _scan_if_due(self) -> None:
        if not self._looking_around:
            self._looking_around = True
            looked = Deferred.fromCoroutine(self._look_around())
            looked.addErrback(self._fault, "looking around").addBoth(self._looked_around)
        if self._now() >= self._next_scan:
            self._scan()
        elif self.running:
            self._await_scan()

    def _looked_around(self, _result: object) -> None:
        self._looking_around = False
        self._settled()

    def _arm(self) -> None:
        """Claim what is due now, or set a timer for what is due next."""
        if not (self._owner and self.running) or self._claiming:
            return
        due = self._queue.next_due()
        if due is None:
            return
        wait = due - self._now()
        if wait <= 0:
            self._claim()
        else:
            self._arm_timer(min(wait, _LONGEST_TIMER))

    def _arm_timer(self, wait: float) -> None:
        timer = self._due_timer
        if timer is not None and timer.active():
            if timer.getTime() <= self._clock.seconds() + wait:
                return
            timer.cancel()
        self._due_timer = self._clock.callLater(wait, self._arm)

    # Claiming, delivering, settling

    def _claim(self) -> None:
        self._deliver_ready()
        if self._claiming or not (self._owner and self.running):
            return
        if not (self._scanning or self._plan.at_once):
            return
        if self._room() > 0:
            self._claiming = True
            self._claim_due().addErrback(self._fault, "claiming").addBoth(self._claimed)
        else:
            self._await_room()

    def _claimed(self, _result: object) -> None:
        self._claiming = False
        self._settled()
        if self._plan.at_once:
            self._arm()
        elif self._room() <= 0:
            self._claim()

    def _await_room(self) -> None:
        """Look again soon whether there is room; deliveries that end make some anyway."""
        timer = self._crowd_timer
        if timer is not None and timer.active():
            return
        due = self._queue.next_due()
        if self._ready or (due is not None and due <= self._now()):
            self._crowd_timer = self._clock.callLater(_CROWDED, self._claim)

    def _slots(self) -> int:
        """Give how many deliveries may begin; a store that settles slowly holds them up, too."""
        settling = self._in_flight - self._delivering
        return self._traffic.room(self._delivering + max(0, settling - self._plan.ahead))

    def _room(self) -> int:
        """Give how many mails may be claimed: few at a time cost as much as many."""
        ahead, ready = self._plan.ahead, len(self._ready)
        return 0 if ready > ahead // 2 else self._slots() + ahead - ready

    def _deliver_ready(self) -> None:
        """Deliver what is claimed, as far as there are slots; return it when there is no run."""
        while self._ready and (not self.running or self._slots() > 0):
            self._begin(self._handle, self._ready.popleft())

    @returns_deferred
    async def _claim_due(self) -> None:
        """Claim what is due, as far as there is room to deliver it."""
        while self.running and (room := self._room()) > 0:
            due = self._queue.next_due()
            if due is None or due > self._now():
                # Those who wait for their server are part of this scan.
                self._scanning = self._scanning and self._traffic.anybody_waits
                return
            for mail in await self._claim_some(min(room, self._plan.batch)):
                if mail.abandoned:
                    self._begin(self._judge, mail)
                else:
                    self._ready.append(mail)
            self._deliver_ready()

    async def _claim_some(self, limit: int) -> tuple[StoredMail, ...]:
        """Claim; none, and only after a while, when the store can't."""
        try:
            return await self._queue.claim(self._now(), limit)
        except StoreError as error:
            self._log.error("no mail can be claimed: {why}", why=str(error))
        except Exception:  # noqa: BLE001 - whatever it is, it must not end the run
            self._log.failure("no mail can be claimed")
        await deferLater(self._clock, _LOOK)
        return ()

    def _begin(self, work: Callable[[StoredMail], Deferred[None]], mail: StoredMail) -> None:
        self._in_flight += 1
        work(mail).addErrback(self._fault, "settling").addBoth(self._ended)

    def _ended(self, _result: object) -> None:
        self._in_flight -= 1
        self._settled()
        self._claim()

    def _busy(self) -> bool:
        under_way = self._taking_over or self._looking_around or self._claiming
        return under_way or self.in_flight > 0

    def _settled(self) -> None:
        if self._idle and not self._busy():
            idle, self._idle = self._idle, []
            for waiting in idle:
                waiting.callback(None)

    @returns_deferred
    async def _handle(self, mail: StoredMail) -> None:
        settlement = Settlement(at=self._now(), state=mail.state)
        if self.running:
            self._delivering += 1
            try:
                settlement = await self._postman.decide(mail)
            finally:
                self._delivering -= 1
            self._claim()
        await self._settler.settle(mail.name, settlement)

    @returns_deferred
    async def _judge(self, mail: StoredMail) -> None:
        """Settle a claim of a dead process."""
        try:
            settlement = self._postman.decide_crash(mail)
        except Exception:  # noqa: BLE001 - no claim is left behind, whatever happened
            self._log.failure("mail {name} can't be judged", name=mail.name)
            state = attrs.evolve(mail.state, held="what a crash left of it could not be judged")
            settlement = Settlement(at=self._now(), state=state)
        await self._settler.settle(mail.name, settlement)

    def _fault(self, failure: Failure, what: str) -> None:
        self._log.failure("fault while {what}", failure, what=what)
