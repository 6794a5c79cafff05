# SPDX-License-Identifier: MIT
"""A route that leads nowhere is tried by one mail at a time; the others hear why at once."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import succeed
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.breaker import THRESHOLD
from smtpmailer.core.model import Encryption, Outcome, OutgoingMail
from smtpmailer.core.rates import Rate
from smtpmailer.delivery.limits import PoolLimits
from smtpmailer.delivery.reach import FIRST, LONGEST
from tests.delivery.hostile import mail, plain_route, says
from tests.delivery.network import Network, StrictServer, hold

DELIVERED, TEMPORARY = Outcome.DELIVERED, Outcome.TEMPORARY


def queued() -> OutgoingMail:
    """Make a mail of the queue."""
    return attrs.evolve(mail(), before_dot=lambda _: succeed(None))


def hang_up(server: Any) -> None:
    """Close without a word."""
    server.transport.loseConnection()


def nonsense(server: Any) -> None:
    """Say what is no reply."""
    server.reply("what?")


class ReachCase(SynchronousTestCase):
    """A network that refuses connections."""

    def setUp(self) -> None:
        self.network = Network()
        self.network.refusing = True
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self._events = stack.enter_context(capturedLogs())

    def lines(self) -> list[str]:
        """Give the lines about servers out of reach."""
        about = [event for event in self._events if event["log_namespace"].endswith("Reach")]
        return [str(event["log_format"]).format(**event) for event in about]

    def lose(self, times: int = THRESHOLD, **route: Any) -> None:
        """Fail to connect so often."""
        for _ in range(times):
            self.network.send(route=plain_route(**route))
            self.network.settle()

    def last_reply(self) -> str:
        return self.network.results[-1].outcomes[0].reply


class BreakerTests(ReachCase):
    """Open, half open, closed."""

    def test_after_some_failures_instant_mails_fail_at_once_with_the_last_reason(self) -> None:
        self.lose()
        real = self.network.results[-1]
        self.network.deliver()
        self.assertEqual(self.network.refused, THRESHOLD)
        last = self.network.results[-1]
        self.assertEqual((last.reason, last.reached, last.untaken), (real.reason, False, True))
        self.assertIsNone(last.again_in)
        self.assertIn(real.outcomes[0].reply, self.last_reply())
        self.assertIn("out of reach 3 times in a row, the next try is in 2 s", self.last_reply())

    def test_before_that_each_mail_tries(self) -> None:
        self.lose(THRESHOLD - 1)
        self.network.refusing = False
        self.network.deliver()
        self.assertEqual(self.network.outcomes[-1], DELIVERED)
        self.network.refusing = True
        self.assertEqual(self.lines(), [])

    def test_failures_at_the_same_time_are_one(self) -> None:
        self.network.deliver(*[mail() for _ in range(30)])
        self.network.refusing = False
        self.network.deliver()
        self.assertEqual(self.network.outcomes[-1], DELIVERED)

    def test_after_a_pause_one_mail_tries_and_the_others_do_not_wait_for_it(self) -> None:
        self.lose()
        self.network.advance(FIRST)
        self.network.deaf = True
        self.network.deliver(mail(), mail(), mail())
        self.assertEqual(len(self.network.reactor.tcpClients), 1)
        self.assertEqual(len(self.network.results), THRESHOLD + 2)
        self.network.refusing = self.network.deaf = False
        self.network.settle()
        self.assertEqual(self.network.outcomes[-1], DELIVERED)
        self.network.deliver(*[mail() for _ in range(5)])
        self.assertEqual(self.network.outcomes[-5:], [DELIVERED] * 5)

    def test_pauses_grow_up_to_a_minute(self) -> None:
        self.lose()
        tries = []
        for second in range(300):
            before = self.network.refused
            self.network.deliver()
            if self.network.refused > before:
                tries.append(second)
            self.network.advance(1)
        pauses = [b - a for a, b in zip([0, *tries], tries, strict=False)]
        self.assertEqual(pauses, [2, 4, 8, 16, 32, 60, 60, 60])
        self.assertEqual(LONGEST, 60)

    def test_mails_of_the_queue_come_back_untried(self) -> None:
        self.lose()
        self.network.deliver(queued(), queued())
        waits = [result.again_in for result in self.network.results[-2:]]
        self.assertEqual(waits[0], FIRST)
        self.assertLess(FIRST, waits[1] or 0)
        self.assertEqual(self.network.refused, THRESHOLD)

    def test_a_mail_of_the_queue_may_be_the_one_that_tries(self) -> None:
        self.lose()
        self.network.advance(FIRST)
        self.network.refusing = False
        self.network.deliver(queued())
        self.assertEqual(self.network.outcomes[-1], DELIVERED)

    def test_a_try_that_was_given_up_leaves_the_next_to_another(self) -> None:
        self.lose()
        self.network.advance(FIRST)
        self.network.deaf = True
        sending = self.network.send()
        self.network.settle()
        sending.cancel()
        self.network.refusing = self.network.deaf = False
        self.network.settle()
        self.network.deliver()
        self.assertEqual(self.network.outcomes[-1], DELIVERED)

    def test_sessions_that_stand_go_on(self) -> None:
        """Refused are the connections beside them."""
        self.network.refusing = False
        self.network.deliver()
        self.network.refusing = True
        for _ in range(2 * THRESHOLD):
            self.network.deliver(mail(), mail(), mail())
            self.network.advance(11)
        self.assertEqual(set(self.network.outcomes), {DELIVERED})

    def test_sessions_that_stand_go_on_though_others_can_not_be_had(self) -> None:
        self.network.refusing = False
        self.network.deliver()
        self.network.refusing = True
        self.lose(password="other")
        self.lose(1, password="other")
        self.assertEqual(self.network.refused, THRESHOLD)
        self.network.deliver()
        self.assertEqual(self.network.outcomes[-1], DELIVERED)

    def test_while_one_tries_a_mail_with_another_password_does_not(self) -> None:
        self.lose()
        self.network.advance(FIRST)
        self.network.deaf = True
        self.network.deliver()
        for number in range(3):
            self.network.send(route=plain_route(password=str(number)))
            self.network.settle()
        self.assertEqual(len(self.network.reactor.tcpClients), 1)
        self.assertEqual(len(self.network.results), THRESHOLD + 3)

    def test_a_mail_whose_turn_would_come_too_late_is_not_the_one_that_tries(self) -> None:
        limits = PoolLimits(rate=Rate.parse("1/h"))
        self.network = Network(limits=limits, limit=100)
        self.network.refusing = True
        self.lose()
        paces = self.network.sender.paces
        self.assertTrue(paces.of(plain_route()).take())
        self.network.advance(FIRST)
        self.network.deliver()
        self.assertIn("its turn would come in", self.last_reply())
        self.network.refusing = False
        self.network.advance(4000)
        self.network.deliver()
        self.assertEqual(self.network.outcomes[-1], DELIVERED)


class LeftoverTests(SynchronousTestCase):
    """A mail that is refused on arrival leaves nothing behind."""

    def network(self, *, refusing: bool = False) -> Network:
        network = Network(limits=PoolLimits(rate=Rate.parse("1/h"), idle_seconds=0.0), limit=100)
        network.refusing = refusing
        return network

    def assert_nothing_left(self, network: Network) -> None:
        self.assertEqual(network.sender._pool._lanes, {})
        self.assertEqual(network.sender._pool._known, {})
        self.successResultOf(network.sender.drain())

    def test_when_its_server_is_out_of_reach(self) -> None:
        network = self.network(refusing=True)
        for _ in range(THRESHOLD):
            network.deliver()
        for number in range(20):
            network.send(route=plain_route(password=str(number)))
        network.settle()
        self.assertEqual(network.refused, THRESHOLD)
        self.assert_nothing_left(network)

    def test_when_its_turn_would_come_too_late(self) -> None:
        network = self.network()
        network.deliver()
        network.deliver()
        self.assertIn("its turn would come in", network.results[-1].outcomes[0].reply)
        self.assert_nothing_left(network)

    def test_when_it_is_one_of_the_queue_and_the_service_stops(self) -> None:
        network = self.network()
        network.sender.paces.of(plain_route()).take()
        network.sender.hurry()
        network.deliver(queued())
        self.assertEqual(network.results[-1].again_in, 0)
        self.assert_nothing_left(network)

    def test_what_is_sent_from_a_result_is_not_lost(self) -> None:
        network = self.network()
        network.deliver()
        waiting = network.send(queued())

        def again(_: object) -> None:
            network.send()
            network.send(queued())

        waiting.addCallback(again)
        waiting.cancel()
        self.assertEqual(len(network.sender._pool._lanes), 1)
        drained = network.sender.drain()
        self.assertNoResult(drained)
        network.advance(101)
        self.successResultOf(drained)
        self.assert_nothing_left(network)


class KindTests(ReachCase):
    """What is a failure, and whose."""

    def is_shut(self, **route: Any) -> bool:
        before = self.network.refused + len(self.network.servers)
        self.network.send(route=plain_route(**route))
        self.network.settle()
        return self.network.refused + len(self.network.servers) == before

    def test_a_greeting_that_says_no_is_one(self) -> None:
        self.network.refusing = False
        for line in ("554 5.3.2 no service", "450 4.1.8 not now"):
            self.network.make = lambda line=line: StrictServer(  # type: ignore[misc]
                {"banner": says(line)}
            )
            self.lose(user=line[:3])
            self.assertTrue(self.is_shut(user=line[:3]), line)
            self.assertIn(line[4:], self.network.results[-1].reason)

    def test_a_connection_that_does_not_come_about_is_one(self) -> None:
        self.network.refusing, self.network.deaf = False, True
        for _ in range(THRESHOLD):
            self.network.send()
            self.network.advance(30)
        self.assertTrue(self.is_shut())
        self.assertIn("no connection within 30 s", self.last_reply())

    def test_a_server_without_tls_is_one(self) -> None:
        self.network.refusing = False
        self.lose(encryption=Encryption.STARTTLS)
        self.assertTrue(self.is_shut(encryption=Encryption.STARTTLS))
        self.assertFalse(self.is_shut())

    def test_a_refused_login_is_none(self) -> None:
        self.network.refusing = False
        self.network.make = lambda: StrictServer(
            {"AUTH": says("535 5.7.8 no")}, extensions=("AUTH PLAIN",)
        )
        login = {"user": "user", "password": "wrong"}
        self.lose(3 * THRESHOLD, **login)
        self.assertFalse(self.is_shut(**login))

    def test_a_login_that_is_not_offered_is_none(self) -> None:
        self.network.refusing = False
        self.lose(3 * THRESHOLD, user="user", password="x")
        self.assertFalse(self.is_shut(user="user", password="x"))

    def test_a_login_at_which_the_server_hangs_up_or_says_nothing_is_none(self) -> None:
        """Else one client's wrong password would shut out all who have the right one."""
        self.network.refusing = False
        offers = ("AUTH PLAIN",)
        for what, fault in {
            "hangs up": hang_up,
            "says nothing": hold,
            "nonsense": nonsense,
        }.items():
            self.network.make = partial(StrictServer, {"AUTH": fault}, extensions=offers)
            login = {"user": f"user {what}", "password": "wrong"}
            for _ in range(THRESHOLD):
                self.lose(1, **login)
                if what == "says nothing":
                    self.network.advance(60)
            self.network.make = partial(StrictServer, extensions=offers)
            self.network.send(route=plain_route(**(login | {"password": "right"})))
            self.network.settle()
            self.assertEqual(self.network.outcomes[-1], DELIVERED, what)

    def test_a_server_that_hangs_up_before_the_login_is_one(self) -> None:
        self.network.refusing = False
        self.network.make = partial(StrictServer, {"EHLO": hang_up})
        self.lose(user="user", password="x")
        self.assertTrue(self.is_shut(user="user", password="x"))

    def test_a_mail_that_is_in_a_great_hurry_proves_nothing(self) -> None:
        self.network.refusing, self.network.deaf = False, True
        for _ in range(2 * THRESHOLD):
            self.network.send(route=plain_route(timeout=1))
            self.network.advance(1)
        self.network.deaf = False
        self.assertFalse(self.is_shut())

    def test_other_routes_are_not_touched(self) -> None:
        self.lose()
        for other in ({"port": 26}, {"host": "192.0.2.9"}, {"user": "x"}, {"verify": False}):
            self.assertFalse(self.is_shut(**other), other)
        self.assertTrue(self.is_shut())
        self.assertTrue(self.is_shut(timeout=7))
        self.assertTrue(self.is_shut(password="other"))


class ReportTests(ReachCase):
    """What is said."""

    def test_opening_and_closing_are_one_line_each(self) -> None:
        self.lose(5)
        self.network.advance(FIRST)
        self.network.deliver()
        self.assertEqual(len(self.lines()), 1)
        self.assertIn("192.0.2.1:25 is out of reach: 3 tries in a row failed", self.lines()[0])
        self.assertEqual(list(self.network.sender.reach.shut()), ["192.0.2.1:25"])
        self.network.refusing = False
        self.network.advance(60)
        self.network.deliver(mail(), mail())
        self.assertEqual(self.lines()[1:], ["192.0.2.1:25 can be reached again"])
        self.assertEqual(list(self.network.sender.reach.shut()), [])

    def test_servers_that_clients_make_up_do_not_fill_the_memory(self) -> None:
        for number in range(1100):
            self.lose(1, ehlo_name=f"h{number}.example")
        self.assertEqual(len(self.network.sender.reach._last), 1000)
