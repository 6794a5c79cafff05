# SPDX-License-Identifier: MIT
"""A thousand mails on five routes: the bounds hold, and nobody is kept waiting for the others."""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.model import DeliveryResult, Outcome
from smtpmailer.delivery.limits import PoolLimits
from tests.delivery.hostile import mail, plain_route
from tests.delivery.network import OFFERS, Network, StrictServer

MAILS = 1000
ROUTES = tuple(plain_route(host=f"192.0.2.{n}") for n in range(1, 6))
LIMITS = PoolLimits(
    connections=4, connections_in_all=12, mails_per_connection=15, idle_seconds=5, depth=3
)


class SlowServer(StrictServer):
    """Takes a second for each message, one after the other."""

    def __init__(self, network: Network, **more: Any) -> None:
        super().__init__(**more)
        self._network = network
        self._free_at = 0.0
        self.waiting = 0
        self.most_waiting = 0

    def on_dot(self) -> None:
        """Take the message now, and say so later."""
        self.take()
        clock = self._network.reactor
        self._free_at = max(self._free_at, clock.seconds()) + 1
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        clock.callLater(self._free_at - clock.seconds(), self._say)
        self.pauseProducing()

    def _say(self) -> None:
        self.waiting -= 1
        self.reply("250 2.0.0 queued")
        self.resumeProducing()


class CrowdTests(SynchronousTestCase):
    """All mails are there at once; the routes are of very different length."""

    def crowd(self, offers: tuple[str, ...]) -> Network:
        """Hand over the mails: half of them on the first route, a few on the last."""
        network = Network(limits=LIMITS, limit=3600)
        network.make = lambda: SlowServer(network, extensions=offers)
        self.done: list[tuple[str, int]] = []
        shares = (500, 250, 150, 80, 20)
        for route, share in zip(ROUTES, shares, strict=True):
            for number in range(share):
                sending = network.send(mail(f"{number}@x.example"), route)
                sending.addCallback(self.note, number)
        return network

    def note(self, result: DeliveryResult, number: int) -> DeliveryResult:
        self.assertIs(result.outcomes[0].outcome, Outcome.DELIVERED)
        self.done.append((result.server, number))
        return result

    def play(self, network: Network) -> list[Counter[str]]:
        """Let time pass until all are done; check the bounds each second."""
        history: list[Counter[str]] = []
        network.settle()
        while len(self.done) < MAILS:
            self.assertLess(len(history), 500, "it goes on")
            network.advance(1)
            by_host = Counter(server.host for server in network.open)
            self.assertLessEqual(max(by_host.values(), default=0), LIMITS.connections)
            self.assertLessEqual(len(network.open), LIMITS.connections_in_all)
            history.append(Counter(server for server, _ in self.done))
        self.assertLessEqual(network.most, LIMITS.connections_in_all)
        return history

    def test_bounds_and_fairness(self) -> None:
        for offers in OFFERS:
            network = self.crowd(offers)
            history = self.play(network)
            self.assertEqual(len(network.mails), MAILS, "each has arrived once")
            for server in network.servers:
                self.assertLessEqual(len(server.mails), LIMITS.mails_per_connection)
                self.assertLessEqual(server.most_waiting, 1, "it reads one after the other")
            # 12 connections for 5 routes are two or three each: the shortest line is through
            # after 20 / 2 seconds, and a little for connections that come and go.
            last = f"{ROUTES[-1].host}:25"
            through = next(n for n, done in enumerate(history, 1) if done[last] == 20)
            self.assertLessEqual(through, 16, offers)
            # As long as all have mails waiting none gets more than twice as much as another.
            early = history[6]
            self.assertLessEqual(max(early.values()), 2 * min(early.values()) + 2, early)
            self.check_order(offers)
            # Nothing is left unused: 12 mails a second, less what changing sessions costs.
            self.assertGreater(sum(history[19].values()), 0.8 * 12 * 20, offers)

    def check_order(self, offers: tuple[str, ...]) -> None:
        """On each route mails end in the order in which they came, up to those in flight."""
        slack = LIMITS.connections * LIMITS.depth
        for route in ROUTES:
            numbers = [n for server, n in self.done if server == f"{route.host}:25"]
            for place, number in enumerate(numbers):
                self.assertLessEqual(abs(place - number), slack, (offers, route.host))
