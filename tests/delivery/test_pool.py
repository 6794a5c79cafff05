# SPDX-License-Identifier: MIT
"""Sessions are kept and used again, and the bounds hold."""

from __future__ import annotations

from functools import partial

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.model import Outcome
from smtpmailer.delivery.limits import PoolLimits
from tests.delivery.hostile import ScriptedServer, mail, plain_route
from tests.delivery.network import EVERYTHING, OFFERS, Network, StrictServer, hold

DELIVERED, TEMPORARY, UNCERTAIN = Outcome.DELIVERED, Outcome.TEMPORARY, Outcome.UNCERTAIN


def leave(server: ScriptedServer) -> None:
    server.reply("421 4.3.2 closing")
    server.transport.loseConnection()


class ReuseTests(SynchronousTestCase):
    """One session carries mail after mail."""

    def test_mails_one_after_another_need_one_connection_and_login(self) -> None:
        for offers in OFFERS:
            network = Network(partial(StrictServer, extensions=offers))
            for number in range(5):
                network.deliver(mail(f"{number}@x.example"))
            self.assertEqual(network.outcomes, [DELIVERED] * 5)
            (server,) = network.servers
            self.assertEqual(
                [m.recipients for m in server.mails], [(f"{n}@x.example",) for n in range(5)]
            )
            self.assertEqual(sum("EHLO" in c for c in server.commands), 1)
            self.assertNotIn("RSET", server.commands)

    def test_rset_stands_between_mails_only_where_one_was_left_open(self) -> None:
        network = Network(lambda: StrictServer(extensions=()))
        for recipient, answer in (
            ("a@x.example", "550 5.1.1 no"),
            ("b@x.example", "250 ok"),
            ("c@x.example", "250 ok"),
        ):
            if network.servers:
                network.servers[0].rcpt_replies[recipient] = answer
            else:
                network.make = lambda: _refusing("a@x.example")
            network.deliver(mail(recipient))
        (server,) = network.servers
        self.assertEqual(
            [command.split(":")[0] for command in server.commands],
            ["EHLO client.example", "MAIL FROM", "RCPT TO", "RSET"]
            + ["MAIL FROM", "RCPT TO", "DATA"] * 2,
        )

    def test_routes_share_no_session(self) -> None:
        network = Network()
        route = plain_route(user="user", password="secret")
        network.make = lambda: StrictServer(extensions=(*EVERYTHING, "AUTH PLAIN"))
        others = (
            {"host": "192.0.2.9"},
            {"port": 26},
            {"user": "other"},
            {"password": "other"},
            {"ehlo_name": "other.example"},
            {"verify": False},
            {"ca_file": "/ca.pem"},
        )
        for changes in ({}, *others):
            network.send(route=attrs.evolve(route, **changes))
            network.settle()
        self.assertEqual(len(network.open), len(others) + 1)

    def test_mails_with_different_timeouts_share_one(self) -> None:
        network = Network()
        for seconds in (10, 20, 30):
            network.send(route=plain_route(timeout=seconds))
            network.settle()
        self.assertEqual(len(network.servers), 1)

    def test_clients_that_choose_timeouts_do_not_fill_the_memory(self) -> None:
        network = Network(limits=PoolLimits(mails_per_connection=10_000))
        for seconds in range(1, 1200):
            network.send(route=plain_route(timeout=seconds))
            network.settle()
        self.assertEqual(len(network.servers), 1)
        self.assertLessEqual(len(network.sender._pool._known), 1000)

    def test_each_mail_is_waited_for_as_long_as_it_asks(self) -> None:
        network = Network(limits=PoolLimits(connections=1))
        for seconds in (60, 7, 11):
            network.deliver()
            network.servers[-1].faults = {"dot": hold}
            network.send(route=plain_route(timeout=seconds))
            network.settle()
            network.results.clear()
            network.advance(seconds - 0.1)
            self.assertEqual(network.results, [])
            network.advance(0.1)
            self.assertIn(
                f"no answer within {seconds} s (the end of data)", network.results[0].reason
            )


def _refusing(*recipients: str) -> StrictServer:
    server = StrictServer(extensions=())
    server.rcpt_replies = dict.fromkeys(recipients, "550 5.1.1 no")
    return server


class LimitTests(SynchronousTestCase):
    """The bounds hold."""

    def test_no_more_connections_than_allowed_and_all_mails_arrive(self) -> None:
        for offers in OFFERS:
            network = Network(
                partial(StrictServer, extensions=offers),
                limits=PoolLimits(connections=3),
            )
            network.deliver(*[mail(f"{n}@x.example") for n in range(50)])
            self.assertEqual(network.most, 3)
            self.assertEqual(network.outcomes, [DELIVERED] * 50)
            self.assertEqual(len({m.recipients for m in network.mails}), 50)

    def test_connections_are_opened_only_for_mails_that_wait(self) -> None:
        network = Network()
        network.deliver(mail(), mail())
        self.assertEqual(len(network.servers), 2)

    def test_a_session_ends_after_so_many_mails(self) -> None:
        for offers in OFFERS:
            network = Network(
                partial(StrictServer, extensions=offers),
                limits=PoolLimits(connections=1, mails_per_connection=3),
            )
            network.deliver(*[mail() for _ in range(7)])
            self.assertEqual([len(server.mails) for server in network.servers], [3, 3, 1])
            self.assertEqual(network.most, 1)
            self.assertEqual([server.commands[-1] for server in network.servers[:2]], ["QUIT"] * 2)

    def test_an_idle_session_is_closed_in_peace(self) -> None:
        network = Network(limits=PoolLimits(idle_seconds=30))
        network.deliver()
        network.advance(29.9)
        self.assertEqual(len(network.open), 1)
        network.advance(0.1)
        self.assertEqual(network.open, [])
        self.assertEqual(network.servers[0].commands[-1], "QUIT")
        self.assertEqual(network.reactor.getDelayedCalls(), [])

    def test_a_mail_makes_the_idle_time_begin_anew(self) -> None:
        network = Network(limits=PoolLimits(idle_seconds=30))
        network.deliver()
        network.advance(20)
        network.deliver()
        network.advance(20)
        self.assertEqual(len(network.open), 1)
        network.advance(10)
        self.assertEqual(network.open, [])

    def test_what_is_needed_least_idles_out(self) -> None:
        """Of many sessions the last one used is used again."""
        network = Network(limits=PoolLimits(idle_seconds=30))
        network.deliver(*[mail() for _ in range(5)])
        self.assertEqual(len(network.open), 5)
        for _ in range(4):
            network.advance(10)
            network.deliver()
        self.assertEqual(len(network.open), 1)


class HookTests(SynchronousTestCase):
    """What a result leads to may reach the pool again."""

    def test_a_mail_sent_from_a_result_is_delivered(self) -> None:
        for offers in OFFERS:
            network = Network(
                partial(StrictServer, extensions=offers),
                limits=PoolLimits(connections=1),
            )
            left = [50]

            def again(_: object, network: Network = network, left: list[int] = left) -> None:
                if left[0]:
                    left[0] -= 1
                    network.send().addCallback(again)

            network.send().addCallback(again)
            network.settle()
            self.assertEqual((len(network.mails), network.most), (51, 1))

    def test_a_result_that_waits_for_its_turn_is_told_to_who_cancels(self) -> None:
        network = Network()
        turn: Deferred[None] = Deferred()
        network.sender._pace = lambda: turn
        sending = network.send()
        network.settle()
        sending.cancel()
        self.assertEqual(network.outcomes, [DELIVERED])
        turn.callback(None)
        self.assertEqual(network.outcomes, [DELIVERED])

    def test_who_gives_up_does_not_wait_for_a_turn(self) -> None:
        network = Network(lambda: StrictServer({"MAIL": hold}, extensions=()))
        network.sender._pace = Deferred
        sending = network.send()
        network.settle()
        sending.cancel()
        self.assertEqual(network.outcomes, [TEMPORARY])

    def test_a_result_may_cancel_another_that_is_about_to_be_told(self) -> None:
        network = Network(
            lambda: StrictServer(extensions=EVERYTHING), limits=PoolLimits(connections=1)
        )
        network.deaf = True
        sendings = [network.send(mail(f"{n}@x.example")) for n in range(3)]

        def cancel_all(_: object) -> None:
            for sending in sendings:
                sending.cancel()

        for sending in sendings:
            sending.addCallback(cancel_all)
        network.deaf = False
        network.settle()
        arrived = {arrived.recipients[0] for arrived in network.mails}
        for result in network.results:
            (outcome,) = result.outcomes
            self.assertEqual(outcome.outcome is DELIVERED, outcome.recipient in arrived)
        self.assertEqual(len(network.results), 3)

    def test_a_result_may_cancel_another_that_is_about_to_be_tried_again(self) -> None:
        network = Network(limits=PoolLimits(connections=1, depth=3))
        network.make = lambda: StrictServer({"dot": leave}, extensions=("PIPELINING",))
        first, second = network.send(mail("a@x.example")), network.send(mail("b@x.example"))
        first.addCallback(lambda _: second.cancel())
        network.settle()
        self.assertEqual(network.outcomes, [TEMPORARY] * 2)
        self.assertEqual([len(server.mails) for server in network.servers], [0])

    def test_the_pace_holds_results_back_not_mails(self) -> None:
        network = Network()
        turns: list[Deferred[None]] = []

        def pace() -> Deferred[None]:
            turns.append(Deferred())
            return turns[-1]

        network.sender._pace = pace
        network.deliver(mail(), mail())
        self.assertEqual((len(network.mails), network.results, len(turns)), (2, [], 2))
        for turn in turns:
            turn.callback(None)
        self.assertEqual(network.outcomes, [DELIVERED] * 2)
