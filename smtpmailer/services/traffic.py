# SPDX-License-Identifier: MIT
"""Which mail may go to its server now, and when the others come back."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from smtpmailer.core.breaker import Breaker
from smtpmailer.core.slots import Slot, Slots
from smtpmailer.interfaces import IQueueRun

__all__ = ["Traffic", "Wait"]

#: A mail beyond its server's share looks again after this long (seconds) if nobody calls it: the
#: more of them wait the later, so that looking costs little, but within the longest.
_SHORTEST: Final = 60.0
_LONGEST: Final = 300.0
_A_MAIL: Final = 0.01

#: So many mails are remembered; those beyond come back when they are due.
_MOST: Final = 200_000

#: So many mails that can't be called are passed over at a time.
_PASSED_OVER: Final = 50


@attrs.frozen(kw_only=True)
class Wait:
    """A mail has to wait until then (Unix seconds); why, unless it is for other mails to go."""

    until: float
    why: str = ""


class Traffic:
    """Decides for each mail whether its delivery begins.

    Mails to a server that is out of reach wait, and so do those to one that holds more than its
    share of the slots, once there are no others. They wait in the queue, with their names noted
    here: as soon as their server has room for them, they are called.
    """

    _log = Logger()

    def __init__(
        self,
        run: IQueueRun,
        concurrency: int,
        *,
        clock: IReactorTime,
        now: Callable[[], float],
    ) -> None:
        """Let so many deliveries run; ``clock`` never goes back, ``now`` gives Unix seconds."""
        self._run = run
        self._clock = clock
        self._now = now
        self._breaker = Breaker()
        self._slots = Slots(concurrency)
        # By server, the one noted longest ago first: who waits, until when each.
        self._lines: OrderedDict[str, deque[tuple[str, float]]] = OrderedDict()
        self._waiting = 0

    @property
    def anybody_waits(self) -> bool:
        """Whether there are mails to be called."""
        return self._waiting > 0

    def room(self, in_flight: int) -> int:
        """Give how many mails may be claimed while so many are claimed already.

        Where slow deliveries fill all slots, that is as many as there are slots beyond their
        servers' shares: to look for mails to other servers.
        """
        free = self._slots.total - in_flight
        if free <= 0:
            free += self._slots.lent_too_long(self._clock.seconds())
        return max(free, 0)

    def enter(self, server: str, name: str) -> Slot | Wait:
        """Let a mail begin its delivery, to be told with ``leave``; or tell it to wait."""
        now = self._now()
        if not self._slots.free_for(server):
            wait = Wait(until=now + min(_SHORTEST + self._waiting * _A_MAIL, _LONGEST))
        elif (until := self._breaker.wait_until(server, now)) is not None:
            wait = Wait(until=until, why=f"{server} is out of reach")
        else:
            return self._slots.take(server, self._clock.seconds())
        self._note(server, name, wait.until)
        return wait

    def tell(self, server: str, *, reached: bool) -> None:
        """Say whether a delivery reached its server; one that tells nothing may not say."""
        if reached:
            self._breaker.succeeded(server)
        else:
            self._breaker.failed(server, self._now())

    def leave(self, slot: Slot) -> None:
        """End a delivery, and call who waits for its server; never fails: it may have worked."""
        self._slots.give_back(slot)
        # Where the delivery told something about the server this changes nothing.
        self._breaker.untold(slot.server)
        if not self._waiting or self._breaker.is_out_of_reach(slot.server):
            return
        try:
            self._call(slot.server, self._slots.free_for(slot.server))
        except Exception:  # noqa: BLE001 - they come back by themselves
            self._log.failure("mails that wait for {server} were not called", server=slot.server)

    def _call(self, server: str, count: int) -> None:
        """Let so many mails be due, if they are still there, and there already."""
        now = self._now()
        for _ in range(min(count + _PASSED_OVER, len(self._lines.get(server, ())))):
            line = self._lines.get(server)
            if not (count and line):
                return
            name, until = line.popleft()
            self._waiting -= 1
            self._tidy(server, now)
            if self._run.hasten(name, now):
                count -= 1
            else:
                # Its claim has not been settled yet, or it has been removed.
                self._note(server, name, until)

    def _note(self, server: str, name: str, until: float) -> None:
        """Let a mail stand in line, unless it comes back by itself anyway."""
        now = self._now()
        if self._lines:
            # What others left behind, a little at a time.
            self._tidy(next(iter(self._lines)), now)
        if until > now and self._waiting < _MOST:
            self._waiting += 1
            self._lines.setdefault(server, deque()).append((name, until))
        self._tidy(server, now)

    def _tidy(self, server: str, now: float) -> None:
        """Forget who in a line came back by itself, and a line without anybody."""
        line = self._lines.get(server, deque())
        while line and line[0][1] <= now:
            line.popleft()
            self._waiting -= 1
        if line:
            self._lines.move_to_end(server)
        else:
            self._lines.pop(server, None)
