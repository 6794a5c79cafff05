# SPDX-License-Identifier: MIT
"""Whose turn it is: among mails, and among routes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs
from twisted.internet.defer import succeed
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.model import Outcome, OutgoingMail
from smtpmailer.delivery.limits import PoolLimits
from smtpmailer.delivery.line import PATIENCE
from tests.delivery.hostile import mail, plain_route
from tests.delivery.network import Network, StrictServer, hold, release

DELIVERED, TEMPORARY, UNCERTAIN = Outcome.DELIVERED, Outcome.TEMPORARY, Outcome.UNCERTAIN


def queued(*recipients: str) -> OutgoingMail:
    """Give a mail as the queue sends it."""
    return attrs.evolve(mail(*recipients), before_dot=lambda _: succeed(None))


class OrderTests(SynchronousTestCase):
    """Whose turn it is."""

    def one_at_a_time(self) -> Network:
        return Network(lambda: StrictServer(extensions=()), limits=PoolLimits(connections=1))

    def arrived(self, network: Network) -> list[str]:
        return [m.recipients[0] for m in network.mails]

    def test_instant_mail_goes_before_queued_mail(self) -> None:
        network = self.one_at_a_time()
        network.deaf = True
        network.deliver(queued("a@queue.example"), queued("b@queue.example"))
        network.deliver(mail("a@now.example"), mail("b@now.example"))
        network.deaf = False
        network.settle()
        self.assertEqual(
            self.arrived(network),
            ["a@now.example", "b@now.example", "a@queue.example", "b@queue.example"],
        )

    def test_queued_mail_does_not_wait_for_ever(self) -> None:
        network = Network(
            lambda: StrictServer({"banner": hold}, extensions=()), limits=PoolLimits(connections=1)
        )
        network.deliver(queued("a@queue.example"))
        network.advance(PATIENCE + 1)
        network.deliver(mail("a@now.example"))
        network.servers[0].reply("220 mx.example")
        network.settle()
        self.assertEqual(self.arrived(network), ["a@queue.example", "a@now.example"])


class RidingTests(SynchronousTestCase):
    """Who goes behind a mail that is not answered yet, and who gets a connection of its own."""

    def test_while_a_connection_is_on_its_way_nobody_rides(self) -> None:
        network = Network(lambda: StrictServer({"dot": hold}, extensions=("PIPELINING",)))
        network.deliver()
        network.deaf = True
        network.deliver(mail("b@x.example"))
        (server,) = network.servers
        self.assertNotIn("RCPT TO:<b@x.example>", server.commands)
        network.deaf = False
        network.settle()
        self.assertIn("RCPT TO:<b@x.example>", network.servers[1].commands)

    def test_when_no_connection_may_be_added_the_mail_rides(self) -> None:
        network = Network(
            lambda: StrictServer({"dot": hold}, extensions=("PIPELINING",)),
            limits=PoolLimits(connections=1),
        )
        network.deliver()
        network.deliver(mail("b@x.example"))
        self.assertIn("RCPT TO:<b@x.example>", network.servers[0].commands)


class SharingTests(SynchronousTestCase):
    """Routes get their share of connections, whatever the others do."""

    def routes(self, count: int) -> list[Any]:
        return [plain_route(host=f"192.0.2.{n + 1}") for n in range(count)]

    def test_a_route_without_mail_makes_room_for_one_with(self) -> None:
        first, second = self.routes(2)
        network = Network(limits=PoolLimits(connections=2, connections_in_all=2))
        for _ in range(2):
            network.send(route=first)
        network.settle()
        network.send(route=second)
        network.settle()
        self.assertEqual(network.outcomes, [DELIVERED] * 3)
        self.assertEqual((network.most, len(network.open)), (2, 2))

    def test_a_free_place_goes_to_the_route_with_the_fewest(self) -> None:
        first, second = self.routes(2)
        network = Network(
            lambda: StrictServer({"dot": hold}, extensions=()),
            limits=PoolLimits(connections=4, connections_in_all=3),
        )
        for _ in range(9):
            network.send(route=first)
        network.settle()
        network.send(route=second)
        network.settle()
        network.servers[0].transport.abortConnection()
        network.settle()
        self.assertEqual([server.host for server in network.servers[3:]], [second.host])

    def test_a_busy_route_gives_up_what_is_above_its_share(self) -> None:
        first, second = self.routes(2)
        network = Network(
            lambda: StrictServer({"dot": hold}, extensions=()),
            limits=PoolLimits(connections=4, connections_in_all=4),
        )
        for _ in range(40):
            network.send(route=first)
        for _ in range(40):
            network.send(route=second)
        network.settle()
        for _ in range(10):
            for server in network.open:
                release(server)
            network.settle()
        hosts = Counter(server.host for server in network.open)
        self.assertEqual(hosts, {first.host: 2, second.host: 2})

    def tarpit(self, network: Network, routes: int = 30) -> None:
        """Send to servers that clients named, and that answer nothing."""
        network.make = lambda: StrictServer({"MAIL": hold})
        for number in range(routes):
            network.send(route=plain_route(host=f"198.51.100.{number}", foreign=True))
        network.settle()
        network.make = StrictServer

    def test_routes_that_clients_name_have_half_of_all_connections_at_most(self) -> None:
        network = Network(limits=PoolLimits(connections_in_all=20))
        self.tarpit(network)
        self.assertEqual(len(network.open), 10)
        for route in self.routes(12):
            network.send(route=route)
        network.settle()
        self.assertEqual(network.outcomes, [DELIVERED] * 12)
        self.assertEqual((len(network.open), network.most), (20, 20))

    def test_they_take_turns_with_each_other(self) -> None:
        network = Network(limits=PoolLimits(connections_in_all=4))
        self.tarpit(network, 5)
        for _ in range(2):
            network.open[0].transport.abortConnection()
            network.settle()
        self.assertEqual(network.outcomes.count(DELIVERED), 3)
        for number in range(5, 9):
            network.send(route=plain_route(host=f"198.51.100.{number}", foreign=True))
        for server in tuple(network.open):
            server.transport.abortConnection()
        network.settle()
        self.assertEqual(network.outcomes.count(DELIVERED), 7)
        self.assertEqual(network.most, 2)

    def test_sessions_whose_place_they_could_not_have_are_left_alone(self) -> None:
        network = Network(limits=PoolLimits(connections_in_all=4))
        network.deliver()
        self.tarpit(network, 3)
        self.assertEqual(len(network.open), 3)
        network.deliver()
        self.assertEqual((network.outcomes, len(network.servers)), ([DELIVERED] * 2, 3))

    def test_one_connection_they_always_have(self) -> None:
        network = Network(limits=PoolLimits(connections_in_all=1))
        network.send(route=plain_route(foreign=True))
        network.settle()
        self.assertEqual(network.outcomes, [DELIVERED])

    def test_more_routes_than_connections_take_turns(self) -> None:
        routes = self.routes(5)
        network = Network(
            lambda: StrictServer(extensions=()),
            limits=PoolLimits(connections=1, connections_in_all=2),
        )
        finished: list[str] = []
        for _ in range(30):
            for route in routes:
                network.send(route=route).addCallback(lambda result: finished.append(result.server))
        network.settle()
        self.assertEqual(Counter(finished), {f"{r.host}:25": 30 for r in routes})
        self.assertEqual(network.most, 2)
        # Nobody is through before everybody has begun.
        self.assertEqual(len(set(finished[:60])), 5)
