# SPDX-License-Identifier: MIT
"""All sessions with SMTP servers: kept, bounded, and shared out fairly over the routes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from smtpmailer.core.model import Route
from smtpmailer.core.rates import Rate
from smtpmailer.delivery.carrier import Carrier
from smtpmailer.delivery.connecting import Link
from smtpmailer.delivery.departures import Departures
from smtpmailer.delivery.dispatching import Listener
from smtpmailer.delivery.errand import Errand
from smtpmailer.delivery.lane import Lane
from smtpmailer.delivery.limits import PoolLimits
from smtpmailer.delivery.paces import Paces
from smtpmailer.delivery.reach import Reach
from smtpmailer.errors import RemoteError

__all__ = ["HURRY", "MEMORY", "Pool"]

#: Seconds for which a server's trouble with PIPELINING or CHUNKING is remembered.
MEMORY: Final = 3600.0

#: Seconds that a mail may wait for its turn while the service stops.
HURRY: Final = 5.0

#: So many servers are remembered.
_MOST: Final = 1000

#: So many mails a session carries before it makes room for a route that has none.
_ROUND: Final = 10


class Pool:
    """Hands mails to sessions.

    ``connect`` gives the connections of routes. Each mail that is submitted
    is told of once. Where connections are short, the route with the fewest gets the next one, then
    the one whose mail is oldest. ``paces`` holds each account's limits, which lanes share. Routes
    that clients named in mails have half of all connections at most: they can't starve the others.
    """

    _log = Logger()

    def __init__(
        self,
        connect: Callable[[Route], Link],
        clock: IReactorTime,
        limits: PoolLimits,
        listener: Listener,
        paces: Paces | None = None,
    ) -> None:
        """Begin without sessions."""
        self.connect = connect
        self.clock = clock
        self.limits = limits
        self.paces = Paces(clock, limits) if paces is None else paces
        self.reach = Reach(clock)
        self.departures = Departures(clock)
        self.draining = self.hurried = False
        self.patience = limits.patience
        self.ended = listener.ended
        self.broke = listener.broke
        self._open = 0
        # Those among them to routes that clients named, and how many these may be.
        self._foreign = 0
        self._most_foreign = max(1, limits.connections_in_all // 2)
        # By route without timeout; and each route that was asked for, as a short cut to that.
        self._lanes: dict[Route, Lane] = {}
        self._known: dict[Route, Lane] = {}
        # Lanes that need a connection; those of routes that clients named may be very many.
        self._hungry: dict[Lane, None] = {}
        self._foreign_hungry: dict[Lane, None] = {}
        self._plain: dict[tuple[str, int], float] = {}
        self._drained: list[Deferred[None]] = []

    @property
    def connections(self) -> int:
        """How many connections are open, being opened or being closed."""
        return self._open

    def submit(self, errand: Errand) -> None:
        """Deliver a mail when its turn comes."""
        lane = self._known.get(errand.route)
        if lane is None:
            lane = self._lane(errand.route)
        lane.add(errand)

    def give_up(self, errand: Errand, error: RemoteError) -> None:
        """End a mail's delivery now; it is told of before this returns."""
        assert errand.holder is not None
        errand.holder.give_up(errand, error)

    def use_rate(self, rate: Rate | None) -> None:
        """Let accounts without a rate of their own get so many mails from now on."""
        self.paces.use_rate(rate)
        for lane in tuple(self._lanes.values()):
            lane.serve()

    def hurry(self) -> None:
        """Let mails wait for their turn no more: the service is to stop.

        Those of the queue come back untried; those that somebody waits for fail if their turn would
        not come very soon.
        """
        self.hurried = True
        self.patience = min(self.patience, HURRY)
        for lane in tuple(self._lanes.values()):
            lane.hurry()

    def drain(self) -> Deferred[None]:
        """Close sessions as they run out of mails; fires when there are neither left."""
        if not self._lanes:
            return succeed(None)
        self.draining = True
        waiting: Deferred[None] = Deferred()
        self._drained.append(waiting)
        for lane in tuple(self._lanes.values()):
            lane.drain()
        return waiting

    # Owner: what lanes use.

    def allows(self, lane: Lane) -> bool:
        """Count a connection more, if there may be one; see Owner."""
        hungry = self._foreign_hungry if lane.route.foreign else self._hungry
        if self._open < self.limits.connections_in_all and not self._is_bounded(lane):
            hungry.pop(lane, None)
            self._open += 1
            self._foreign += lane.route.foreign
            return True
        if lane not in hungry:
            hungry[lane] = None
            for other in self._lanes.values():
                if other is not lane and self._helps(other, lane) and other.spare_one():
                    break
        return False

    def freed(self, lane: Lane) -> None:
        """Give the place of a closed connection to a lane in need; see Owner."""
        self._open -= 1
        self._foreign -= lane.route.foreign
        while self._open < self.limits.connections_in_all:
            needy = self._needy(foreign=self._foreign < self._most_foreign)
            if not needy:
                break
            lane = min(needy, key=_need)
            self._hungry.pop(lane, None)
            self._foreign_hungry.pop(lane, None)
            lane.serve()

    def claims(self, lane: Lane, carrier: Carrier) -> bool:
        """Whether other lanes need this session's place more; see Owner."""
        if not (self._hungry or self._foreign_hungry):
            return False
        needy = self._needy(foreign=lane.route.foreign or self._foreign < self._most_foreign)
        fewest = min((other.size for other in needy if other is not lane), default=None)
        if fewest is None:
            return False
        if not lane.waiting or (fewest == 0 and carrier.carried >= _ROUND):
            return True
        return fewest + 1 < lane.size

    def failed_in_groups(self, route: Route) -> None:
        """Remember that a server takes mails in lock-step only; see Owner."""
        server = (route.host, route.port)
        until = self.clock.seconds() + MEMORY
        self._plain.pop(server, None)
        if len(self._plain) >= _MOST:
            del self._plain[next(iter(self._plain))]
        self._plain[server] = until
        for lane in self._lanes.values():
            if (lane.route.host, lane.route.port) == server:
                lane.plain_until = until
        self._log.warn(
            "{host}:{port} offers PIPELINING or CHUNKING and fails at it: used without for "
            "{seconds:.0f} s",
            host=route.host,
            port=route.port,
            seconds=MEMORY,
        )

    def emptied(self, lane: Lane) -> None:
        """Forget a lane; see Owner."""
        if self._lanes.get(lane.route) is not lane:
            return  # It heard that before: who is told of a refused mail may send another one.
        del self._lanes[lane.route]
        self._hungry.pop(lane, None)
        self._foreign_hungry.pop(lane, None)
        self.paces.leave(lane.route)
        for route in [route for route, known in self._known.items() if known is lane]:
            del self._known[route]
        if not self._lanes:
            self.draining = False
            drained, self._drained = self._drained, []
            for waiting in drained:
                waiting.callback(None)

    def _needy(self, *, foreign: bool) -> list[Lane]:
        """Give the lanes that need a connection, those of routes that clients named on demand."""
        return [*self._hungry, *self._foreign_hungry] if foreign else [*self._hungry]

    def _is_bounded(self, lane: Lane) -> bool:
        """Whether a lane may have no connection more, though there were places left."""
        return lane.route.foreign and self._foreign >= self._most_foreign

    def _helps(self, other: Lane, lane: Lane) -> bool:
        """Whether a lane could have the place of the other's connection."""
        return other.route.foreign or not self._is_bounded(lane)

    def _lane(self, route: Route) -> Lane:
        key = attrs.evolve(route, timeout=0)
        lane = self._lanes.get(key)
        if lane is None:
            plain_until = self._plain.get((route.host, route.port), 0.0)
            lane = self._lanes[key] = Lane(key, self, self.paces.enter(key), plain_until)
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[route] = lane
        return lane


def _need(lane: Lane) -> tuple[int, float]:
    return lane.size, lane.oldest if lane.waiting else 0.0
