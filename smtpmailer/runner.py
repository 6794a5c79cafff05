# SPDX-License-Identifier: MIT
"""Runs a queue: takes it over when it is free, claims what is due, delivers, settles."""

from __future__ import annotations

import itertools
import math
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
from smtpmailer.errors import NoSuchMailError, StoreError
from smtpmailer.interfaces import IQueue
from smtpmailer.services.postman import Postman

__all__ = ["QueueRunner", "RunPlan"]

#: So often a mail is tried to be buried before it goes back into the queue.
_BURIALS = 3

#: Seconds until such a mail's turn comes again.
_BURIAL_PAUSE = 60.0

#: Seconds between looks whether the queue is free, or the store works again.
_LOOK = 2.0

#: The wall clock may be set: no timer for a due mail runs longer (seconds).
_LONGEST_TIMER = 10.0

#: So many names of leftovers stand in one log line.
_SHOWN = 20


@attrs.frozen(kw_only=True)
class RunPlan:
    """How a queue is run.

    ``next_scan`` gives the seconds from a Unix time to the next scan. ``batch`` mails at most
    are claimed at a time, ``concurrency`` delivered. ``at_once``: a due mail does not wait for
    the next scan.
    """

    next_scan: Callable[[float], float]
    batch: int
    concurrency: int
    at_once: bool


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
        self._plan = plan
        self._clock = clock
        self._now = now
        self._owner = False
        self._other = ""
        self._scanning = False
        self._next_scan = math.inf
        # What stopService waits for: becoming the owner, claiming, mails in hand.
        self._taking_over = False
        self._claiming = False
        self._in_flight = 0
        self._idle: list[Deferred[None]] = []
        self._scan_timer: IDelayedCall | None = None
        self._due_timer: IDelayedCall | None = None
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
        """How many mails are being delivered or settled."""
        return self._in_flight

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
        for timer in (self._scan_timer, self._due_timer):
            if timer is not None and timer.active():
                timer.cancel()
        while self._in_flight or self._claiming or self._taking_over:
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
            if await self._queue.acquire():
                await self._take_over()
            else:
                await self._name_other()
        except StoreError as error:
            self._log.error("the queue can't be run: {why}", why=str(error))
        except Exception:  # noqa: BLE001 - a LoopingCall that fails never runs again
            self._log.failure("the queue can't be run")
        finally:
            self._taking_over = False
            self._settled()

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
        self._log.info("this process runs the queue", notice=True)
        self._owner = True
        if self._looking.running:
            self._looking.stop()
        if found.leftovers:
            self._log.warn(
                "{n} mails that another program left behind are not sent; "
                "`smtpmailer queue rescue` takes them in: {names}",
                n=len(found.leftovers),
                names=", ".join(found.leftovers[:_SHOWN]),
            )
        for mail in found.claims:
            self._begin(self._settle(mail.name, self._postman.decide_crash(mail)))
        self._scan()

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
        self._next_scan = min(self._next_scan, now + self._plan.next_scan(now))
        wait = min(max(self._next_scan - now, 0.0), _LONGEST_TIMER)
        self._scan_timer = self._clock.callLater(wait, self._scan_if_due)

    def _scan_if_due(self) -> None:
        if self._now() >= self._next_scan:
            self._scan()
        elif self.running:
            self._await_scan()

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
        wanted = self._scanning or self._plan.at_once
        if self._owner and self.running and wanted and not self._claiming and self._room() > 0:
            self._claiming = True
            self._claim_due().addErrback(self._fault, "claiming").addBoth(self._claimed)

    def _claimed(self, _result: object) -> None:
        self._claiming = False
        self._settled()
        if self._plan.at_once and self._room() > 0:
            self._arm()

    def _room(self) -> int:
        return self._plan.concurrency - self._in_flight

    @returns_deferred
    async def _claim_due(self) -> None:
        """Claim what is due, as far as there is room to deliver it."""
        while self.running and (room := self._room()) > 0:
            due = self._queue.next_due()
            if due is None or due > self._now():
                self._scanning = False
                return
            for mail in await self._claim_some(min(room, self._plan.batch)):
                self._begin(self._handle(mail))

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

    def _begin(self, work: Deferred[None]) -> None:
        self._in_flight += 1
        work.addErrback(self._fault, "settling").addBoth(self._ended)

    def _ended(self, _result: object) -> None:
        self._in_flight -= 1
        self._settled()
        self._claim()

    def _settled(self) -> None:
        if not (self._in_flight or self._claiming or self._taking_over):
            idle, self._idle = self._idle, []
            for waiting in idle:
                waiting.callback(None)

    @returns_deferred
    async def _handle(self, mail: StoredMail) -> None:
        if self.running:
            settlement = await self._postman.decide(mail)
        else:
            settlement = Settlement(at=self._now(), state=mail.state)
        await self._settle(mail.name, settlement)

    @returns_deferred
    async def _settle(self, name: str, settlement: Settlement) -> None:
        """Settle a claim, however often the store has to be asked.

        When the service stops meanwhile the mail stays claimed; the next start finds it, in doubt
        where it may have been delivered. A mail that can't be buried goes back into the queue: a
        directory of dead letters that is full or gone holds up nobody else.
        """
        for tries in itertools.count(1):
            if tries > _BURIALS and (settlement.dead or settlement.corrupt):
                settlement = _postponed(settlement, self._now())
            try:
                await self._queue.settle(name, settlement)
            except NoSuchMailError:
                self._log.warn("mail {name} vanished while it was being sent", name=name)
                return
            except StoreError as error:
                self._log.error("mail {name} can't be settled: {why}", name=name, why=str(error))
                if not self.running:
                    return
                await deferLater(self._clock, _LOOK)
            except Exception:  # noqa: BLE001 - no claim is left behind, whatever happened
                self._log.failure("mail {name} can't be settled", name=name)
                if not self.running or tries > _BURIALS:
                    return
                settlement = _postponed(settlement, self._now())
            else:
                return

    def _fault(self, failure: Failure, what: str) -> None:
        self._log.failure("fault while {what}", failure, what=what)


def _postponed(settlement: Settlement, now: float) -> Settlement:
    """Give the settlement that returns a mail to the queue as it was, for later."""
    state = attrs.evolve(settlement.state, next_at=now + _BURIAL_PAUSE)
    return Settlement(at=now, state=state)
