# SPDX-License-Identifier: MIT
"""Mails wait for their turn where an account may only get so many in a time."""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import succeed
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.model import Outcome, OutgoingMail, RouteLimits
from smtpmailer.core.rates import Rate
from smtpmailer.core.tallies import own_rates
from smtpmailer.delivery.limits import PoolLimits
from smtpmailer.delivery.pool import HURRY
from smtpmailer.delivery.sender import Sender
from tests.delivery.hostile import mail, plain_route, says
from tests.delivery.network import OFFERS, Network, StrictServer, hold

DELIVERED, TEMPORARY = Outcome.DELIVERED, Outcome.TEMPORARY


def queued(*recipients: str) -> OutgoingMail:
    """Make a mail of the queue."""
    return attrs.evolve(mail(*recipients), before_dot=lambda _: succeed(None))


class RateCase(SynchronousTestCase):
    """A network with a rate."""

    def network(self, rate: str, **more: Any) -> Network:
        limits = PoolLimits(rate=Rate.parse(rate), **more.pop("pool", {}))
        return Network(limits=limits, **more)

    def arrivals(self, network: Network, seconds: int) -> list[int]:
        """Let time pass; give how many mails have arrived at the end of each second."""
        counts = []
        network.settle()
        for _ in range(seconds):
            counts.append(len(network.mails))
            network.advance(1)
        return counts


class TurnTests(RateCase):
    """So many and no more."""

    def test_mails_go_out_at_the_rate_and_all_arrive(self) -> None:
        for offers in OFFERS:
            network = self.network("60/m", make=partial(StrictServer, extensions=offers))
            for number in range(60):
                network.send(mail(f"{number}@x.example"))
            counts = self.arrivals(network, 75)
            self.assertEqual(counts[0], 6, "a tenth at once")
            self.assertEqual((counts[20], counts[40]), (24, 42))
            self.assertEqual(network.outcomes, [DELIVERED] * 60)
            self.assertEqual(len({m.recipients for m in network.mails}), 60)

    def test_no_minute_gets_more_than_the_rate(self) -> None:
        network = self.network("30/m")
        for _ in range(200):
            network.send()
        counts = self.arrivals(network, 300)
        for begin in range(240):
            self.assertLessEqual(counts[begin + 60] - counts[begin], 30)
        self.assertGreater(counts[-1], 135)

    def test_they_go_in_the_order_in_which_they_came(self) -> None:
        network = self.network("1/s")
        for number in range(5):
            network.send(mail(f"{number}@x.example"))
        self.arrivals(network, 6)
        self.assertEqual(
            [m.recipients for m in network.mails], [(f"{n}@x.example",) for n in range(5)]
        )

    def test_instant_mails_go_before_those_of_the_queue(self) -> None:
        network = self.network("1/s")
        for number in range(3):
            network.send(queued(f"queue{number}@x.example"))
        network.settle()
        network.send(mail("instant@x.example"))
        self.arrivals(network, 5)
        names = [m.recipients[0].partition("@")[0] for m in network.mails]
        self.assertEqual(names, ["queue0", "instant", "queue1", "queue2"])

    def test_one_session_does_for_them_while_it_is_quick(self) -> None:
        network = self.network("1/s")
        for _ in range(10):
            network.send()
        self.arrivals(network, 11)
        self.assertEqual((len(network.mails), len(network.servers)), (10, 1))

    def test_a_session_that_idles_out_between_turns_costs_nothing(self) -> None:
        network = self.network("2/m", pool={"idle_seconds": 5.0})
        for _ in range(3):
            network.send()
        self.arrivals(network, 61)
        self.assertEqual((network.outcomes, len(network.servers)), ([DELIVERED] * 3, 3))

    def test_nothing_is_left_behind(self) -> None:
        network = self.network("1/m", pool={"idle_seconds": 0.0})
        sendings = [network.send() for _ in range(3)]
        network.settle()
        self.assertEqual((len(network.results), len(network.reactor.getDelayedCalls())), (1, 2))
        for sending in sendings:
            sending.cancel()
        self.assertEqual((network.open, network.reactor.getDelayedCalls()), ([], []))

    def test_accounts_do_not_wait_for_each_other(self) -> None:
        network = self.network("1/m")
        routes = [plain_route(), plain_route(host="192.0.2.9"), plain_route(account="bulk")]
        for route in routes * 2:
            network.send(route=route)
        network.settle()
        self.assertEqual(len(network.mails), 3)

    def test_lanes_of_one_account_share_its_rate(self) -> None:
        network = self.network("1/m")
        for route in (plain_route(), plain_route(ehlo_name="b.example")):
            network.send(route=route)
        network.settle()
        self.assertEqual(len(network.mails), 1)
        network.advance(60)
        self.assertEqual(len(network.mails), 2)

    def test_an_account_has_its_own_rate_and_number_of_connections(self) -> None:
        network = self.network("1/m", pool={"connections": 8})
        own = RouteLimits(connections=2, rate=Rate.parse("100/m"))
        for _ in range(10):
            network.send(route=plain_route(account="bulk", limits=own))
        network.settle()
        self.assertEqual((len(network.mails), network.most), (10, 2))

    def test_another_rate_counts_at_once(self) -> None:
        network = self.network("1/m")
        own = RouteLimits(rate=Rate.parse("1/m"))
        for _ in range(3):
            network.send()
            network.send(route=plain_route(account="bulk", limits=own))
        network.settle()
        self.assertEqual(len(network.mails), 2)
        network.sender.use_rate(None)
        network.settle()
        self.assertEqual(len(network.mails), 4, "the other has its own")

    def test_who_waits_hears_of_a_higher_rate(self) -> None:
        network = self.network("1/m")
        for _ in range(2):
            network.send()
        network.settle()
        network.sender.use_rate(Rate.parse("1/s"))
        network.advance(1)
        self.assertEqual(len(network.mails), 2)

    def test_processes_share_a_rate(self) -> None:
        rates, first, second = own_rates(), self.network("1/s"), self.network("1/s")
        second.reactor = first.reactor
        limits = PoolLimits(rate=Rate.parse("1/s"))
        for network in (first, second):
            network.sender = Sender(network.reactor, 600, limits, rates=rates)
            for _ in range(10):
                network.send()
        for second_ in range(12):
            first.settle()
            second.settle()
            self.assertLessEqual(len(first.mails) + len(second.mails), second_ + 1)
            first.reactor.advance(1)
        self.assertGreater(len(first.mails) + len(second.mails), 10)


class DeadlineTests(RateCase):
    """What can't have its turn in time."""

    def test_an_instant_mail_that_would_wait_too_long_is_told_so_at_once(self) -> None:
        network = self.network("1/m", limit=150)
        for _ in range(4):
            network.send()
        network.settle()
        self.assertEqual(network.outcomes, [TEMPORARY, DELIVERED])
        (outcome,) = network.results[0].outcomes
        self.assertIn("its turn would come in 180 s only (SMTP_RATE_LIMIT", outcome.reply)
        self.assertTrue(network.results[0].reached)
        network.advance(60)
        network.advance(60)
        self.assertEqual(network.outcomes.count(DELIVERED), 3)

    def test_an_instant_mail_whose_time_is_over_fails_with_the_reason(self) -> None:
        network = self.network("1/m", limit=65)
        for _ in range(2):
            network.send()
        network.settle()
        network.sender.paces.of(plain_route()).slow_down(1, "451 4.7.0 slower")
        network.advance(64)
        self.assertEqual(network.outcomes, [DELIVERED])
        network.advance(1)
        late = network.results[-1].outcomes[0]
        self.assertEqual(late.outcome, TEMPORARY)
        self.assertIn("it was not its turn yet (SMTP_RATE_LIMIT", late.reply)
        self.assertIsNone(network.results[-1].again_in)

    def test_a_mail_of_the_queue_comes_back_untried(self) -> None:
        network = self.network("1/m", limit=50)
        for _ in range(2):
            network.send(queued())
        network.settle()
        network.advance(50)
        self.assertEqual(network.outcomes, [DELIVERED, TEMPORARY])
        last = network.results[-1]
        self.assertEqual((last.again_in, last.reached, last.untaken), (0, True, False))
        self.assertEqual(len(network.mails), 1)

    def test_one_that_comes_from_a_session_was_tried(self) -> None:
        """It had its turn, and may have been marked."""
        network = self.network("20/m", pool={"connections": 1})
        network.send()
        network.settle()
        network.servers[0].faults |= {"MAIL": says("421 4.3.2 bye"), "QUIT": hold}
        sending = network.send(queued())
        network.settle()
        sending.cancel()
        last = self.successResultOf(sending)
        self.assertEqual((len(network.servers), network.outcomes), (1, [DELIVERED, TEMPORARY]))
        self.assertEqual((last.again_in, last.untaken), (None, False))

    def test_who_is_in_a_hurry_gets_mails_back_whose_turn_is_not_near(self) -> None:
        network = self.network("20/m")
        for make in (mail, mail, queued, queued, mail, mail, mail):
            network.send(make())
        network.settle()
        self.assertEqual(len(network.mails), 2)
        network.sender.hurry()
        network.send(queued())
        network.send()
        told = [(result.again_in, result.untaken) for result in network.results[2:]]
        self.assertEqual(told, [(0, False)] * 2 + [(None, True)] * 2 + [(0, False), (None, True)])
        drained = network.sender.drain()
        network.advance(HURRY)
        self.successResultOf(drained)
        self.assertEqual((len(network.mails), len(network.results)), (3, 9))

    def test_without_a_rate_a_hurry_changes_nothing(self) -> None:
        network = Network(limits=PoolLimits(connections=1))
        for _ in range(5):
            network.send(queued())
        network.sender.hurry()
        network.settle()
        self.assertEqual(network.outcomes, [DELIVERED] * 5)


class ReentryTests(RateCase):
    """Results lead to new mails."""

    def test_who_sends_from_a_result_waits_too(self) -> None:
        network = self.network("1/s")

        def again(_: object) -> None:
            network.send().addCallback(again)

        network.send().addCallback(again)
        network.settle()
        for second in range(5):
            self.assertEqual(len(network.mails), second + 1)
            network.advance(1)
