# SPDX-License-Identifier: MIT
"""Mails that can't have a session, or not in time; and the end of all sessions."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.model import Outcome
from smtpmailer.delivery.lane import HOLD
from smtpmailer.delivery.limits import PoolLimits
from smtpmailer.delivery.session import CLOSE_LIMIT
from tests.delivery.hostile import mail, plain_route, says
from tests.delivery.network import Network, StrictServer, hold, release

DELIVERED, TEMPORARY, UNCERTAIN = Outcome.DELIVERED, Outcome.TEMPORARY, Outcome.UNCERTAIN


class NoConnectionTests(SynchronousTestCase):
    """When no session can be had."""

    def test_all_that_waited_fail_together(self) -> None:
        network = Network(limits=PoolLimits(connections=3))
        network.deaf = True
        network.deliver(*[mail() for _ in range(20)])
        network.refusing, network.deaf = True, False
        network.settle()
        self.assertEqual(network.outcomes, [TEMPORARY] * 20)
        self.assertEqual(network.reactor.tcpClients, [])

    def test_as_long_as_another_try_is_under_way_they_wait(self) -> None:
        network = Network(limits=PoolLimits(connections=2))
        network.deaf = True
        network.deliver(*[mail() for _ in range(5)])
        network.refuse_one()
        self.assertEqual(network.outcomes, [])
        network.deaf = False
        network.settle()
        self.assertEqual(network.outcomes, [DELIVERED] * 5)
        self.assertEqual(len(network.servers), 1)

    def test_as_long_as_a_session_stands_they_wait_for_that(self) -> None:
        network = Network(lambda: StrictServer({"dot": hold}, extensions=()))
        network.deliver()
        network.refusing = True
        network.deliver(mail())
        self.assertEqual((network.outcomes, network.refused), ([], 1))
        network.servers[0].faults = {}
        release(network.servers[0])
        network.settle()
        self.assertEqual(network.outcomes, [DELIVERED] * 2)

    def test_a_mail_that_came_later_has_a_try_of_its_own(self) -> None:
        network = Network(limits=PoolLimits(connections=1))
        network.deaf = True
        network.deliver(mail())
        network.advance(10)
        network.deliver(mail())
        network.advance(20)
        self.assertEqual(network.outcomes, [TEMPORARY])
        network.deaf = False
        network.settle()
        self.assertEqual(network.outcomes, [TEMPORARY, DELIVERED])

    def test_a_server_that_allows_fewer_sessions_is_used_with_those(self) -> None:
        network = Network()
        network.make = lambda: (
            StrictServer()
            if len(network.open) < 2
            else StrictServer({"banner": says("421 4.7.0 too many connections")})
        )
        network.deliver(*[mail(f"{n}@x.example") for n in range(30)])
        self.assertEqual(network.outcomes, [DELIVERED] * 30)

    def test_mails_without_a_session_do_not_hammer_a_server_that_is_gone(self) -> None:
        network = Network(limits=PoolLimits(connections=6))
        network.deliver(*[mail() for _ in range(4)])
        for server in network.servers:
            server.faults["MAIL"] = lambda server: server.transport.abortConnection()
        network.refusing = True
        for _ in range(8):
            network.send()
        network.settle()
        self.assertEqual(network.outcomes, [DELIVERED] * 4 + [TEMPORARY] * 8)
        self.assertLess(network.refused, 12)

    def refused_beside_a_session(self, line: str) -> Network:
        network = Network(lambda: StrictServer({"dot": hold}))
        network.deliver()
        network.make = lambda: StrictServer({"banner": says(line)})
        network.deliver(mail(), mail())
        self.assertEqual(len(network.servers), 3)
        network.deliver(mail())
        self.assertEqual(len(network.servers), 3)
        return network

    def test_after_such_a_refusal_no_more_are_tried_for_a_while(self) -> None:
        network = self.refused_beside_a_session("554 5.3.2 not now")
        network.advance(HOLD)
        network.deliver(mail())
        self.assertGreater(len(network.servers), 3)

    def test_a_server_that_says_there_are_too_many_is_asked_for_one_more_later(self) -> None:
        network = self.refused_beside_a_session("421 4.7.0 too many")
        network.advance(HOLD)
        network.deliver(mail())
        self.assertEqual(len(network.servers), 3)
        network.advance(30 - HOLD)
        network.deliver(mail())
        self.assertEqual(len(network.servers), 4)

    def test_a_session_whose_server_says_more_than_it_was_asked_is_none(self) -> None:
        for more in ("250 2.1.0 sender ok", "2"):
            network = Network(
                lambda more=more: StrictServer(  # type: ignore[misc]
                    {"EHLO": lambda server: server.reply("250 mx.example", more)}
                )
            )
            network.deliver()
            self.assertEqual(network.outcomes, [TEMPORARY])
            self.assertIn("out of turn", network.results[0].reason)
            self.assertEqual(len(network.servers[0].commands), 1)

    def test_a_login_that_is_refused_is_not_tried_for_each_mail(self) -> None:
        network = Network(
            lambda: StrictServer({"AUTH": says("535 5.7.8 no")}, extensions=("AUTH PLAIN",)),
            limits=PoolLimits(connections=2),
        )
        route = plain_route(user="user", password="wrong")
        for _ in range(30):
            network.send(route=route)
        network.settle()
        self.assertEqual(network.outcomes, [TEMPORARY] * 30)
        self.assertEqual(len(network.servers), 2)


class GivingUpTests(SynchronousTestCase):
    """A mail that waits can be given up."""

    def test_a_mail_in_the_line_is_given_up_when_its_time_is_over(self) -> None:
        network = Network(
            lambda: StrictServer({"dot": hold}, extensions=()),
            limits=PoolLimits(connections=1),
            limit=50,
        )
        network.deliver(mail(), mail())
        network.advance(49)
        self.assertEqual(network.outcomes, [])
        network.advance(1)
        self.assertEqual(network.outcomes, [Outcome.UNCERTAIN, TEMPORARY])
        for result in network.results:
            self.assertIn("longer than 50 s", result.outcomes[0].reply)

    def test_cancelling_in_the_line_disturbs_nobody(self) -> None:
        network = Network(
            lambda: StrictServer({"dot": hold}, extensions=()), limits=PoolLimits(connections=1)
        )
        network.deliver(mail("a@x.example"))
        sending = network.send(mail("b@x.example"))
        network.settle()
        sending.cancel()
        self.assertEqual(network.outcomes, [TEMPORARY])
        (server,) = network.servers
        server.reply("250 2.0.0 kept")
        network.settle()
        self.assertEqual(network.outcomes, [TEMPORARY, DELIVERED])


class DrainTests(SynchronousTestCase):
    """Stopping: idle sessions are closed, running ones end first."""

    def test_idle_sessions_get_quit_and_running_ones_finish(self) -> None:
        network = Network(lambda: StrictServer({"dot": hold}, extensions=()))
        network.deliver(mail(), mail())
        idle, busy = network.servers
        idle.reply("250 2.0.0 kept")
        network.settle()
        self.assertEqual((len(network.results), idle.commands[-1]), (1, "DATA"))
        drained = network.sender.drain()
        network.settle()
        self.assertEqual((idle.commands[-1], idle.lost), ("QUIT", True))
        self.assertNoResult(drained)
        busy.reply("250 2.0.0 kept")
        network.settle()
        self.successResultOf(drained)
        self.assertEqual(network.outcomes, [DELIVERED] * 2)
        self.assertEqual(busy.commands[-1], "QUIT")
        self.assertEqual(network.reactor.getDelayedCalls(), [])

    def test_mails_that_wait_are_delivered_first(self) -> None:
        network = Network(limits=PoolLimits(connections=1))
        for _ in range(10):
            network.send()
        drained = network.sender.drain()
        network.settle()
        self.successResultOf(drained)
        self.assertEqual(network.outcomes, [DELIVERED] * 10)

    def test_a_server_that_does_not_answer_quit_is_left(self) -> None:
        network = Network(lambda: StrictServer({"QUIT": hold}))
        network.deliver()
        drained = network.sender.drain()
        network.advance(CLOSE_LIMIT - 0.1)
        self.assertNoResult(drained)
        network.advance(0.1)
        self.successResultOf(drained)

    def test_nothing_open_is_drained_at_once_and_mails_can_follow(self) -> None:
        network = Network()
        self.successResultOf(network.sender.drain())
        network.deliver()
        self.assertEqual(len(network.open), 1)
        drained = network.sender.drain()
        network.settle()
        self.successResultOf(drained)
        network.deliver()
        self.assertEqual((network.outcomes, len(network.open)), ([DELIVERED] * 2, 1))
