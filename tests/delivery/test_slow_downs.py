# SPDX-License-Identifier: MIT
"""An account whose server asks for less mail gets less, and its full limits back with time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.adaptive import Lowered
from smtpmailer.core.model import Outcome
from smtpmailer.core.rates import Rate
from smtpmailer.delivery.limits import PoolLimits
from smtpmailer.delivery.paces import OTHER, RECHECK, AccountPace, account_name
from tests.delivery.hostile import mail, plain_route, says
from tests.delivery.network import Network, StrictServer, hold, release

DELIVERED, TEMPORARY = Outcome.DELIVERED, Outcome.TEMPORARY
SLOWER = "451 4.7.0 too much mail, slow down"


class SlowDownCase(SynchronousTestCase):
    """A network whose account can be looked at."""

    def build(self, make: Callable[[], Any] = StrictServer, **limits: Any) -> Network:
        self.network = Network(make, limits=PoolLimits(**limits))
        return self.network

    @property
    def pace(self) -> AccountPace:
        return self.network.sender.paces.of(plain_route())


class AnswerTests(SlowDownCase):
    """Where such an answer may come."""

    def lowered_by(self, make: Callable[[], Any], *mails: Any) -> bool:
        network = self.build(make)
        network.deliver(*mails)
        return self.pace.lowered

    def test_at_every_stage_of_a_mail(self) -> None:
        for stage in ("MAIL", "RCPT", "DATA", "dot"):
            make = partial(StrictServer, {stage: says(SLOWER)}, extensions=())
            self.assertTrue(self.lowered_by(make), stage)
            self.assertEqual(self.network.outcomes, [TEMPORARY])

    def test_at_the_greeting_and_the_login(self) -> None:
        self.assertTrue(self.lowered_by(lambda: StrictServer({"banner": says("421 4.7.0 no")})))
        make = partial(StrictServer, {"AUTH": says("454 4.7.0 later")}, extensions=("AUTH PLAIN",))
        network = self.build(make)
        route = plain_route(user="user", password="secret")
        network.send(route=route)
        network.settle()
        self.assertTrue(network.sender.paces.of(route).lowered)

    def test_a_single_recipient_that_has_no_room_changes_nothing(self) -> None:
        def make() -> StrictServer:
            server = StrictServer()
            server.rcpt_replies = {
                "full@x.example": "452 4.2.2 mailbox full",
                "grey@x.example": "450 4.7.1 greylisted, come back later",
                "gone@x.example": "550 5.1.1 no such user",
            }
            return server

        names = ("full@x.example", "grey@x.example", "gone@x.example", "a@x.example")
        self.assertFalse(self.lowered_by(make, mail(*names)))
        self.assertIn(DELIVERED, self.network.outcomes)

    def test_recipients_that_the_server_refuses_change_nothing(self) -> None:
        def make() -> StrictServer:
            server = StrictServer()
            server.rcpt_replies = {
                "a@x.example": "454 4.7.1 <a@x.example>: Relay access denied",
                "b@x.example": "450 4.7.1 <b@x.example>: Recipient address rejected",
            }
            return server

        self.assertFalse(self.lowered_by(make, mail("a@x.example"), mail("b@x.example")))
        self.assertFalse(self.lowered_by(make, mail("a@x.example", "b@x.example", "c@x.example")))
        self.assertEqual(self.network.outcomes, [TEMPORARY, TEMPORARY, DELIVERED])

    def test_a_recipient_of_whom_there_are_too_many_does(self) -> None:
        def make() -> StrictServer:
            server = StrictServer()
            server.rcpt_replies = {"b@x.example": "450 4.7.1 too much mail from you"}
            return server

        self.assertTrue(self.lowered_by(make, mail("a@x.example", "b@x.example")))

    def test_a_kept_session_that_ended_does_not(self) -> None:
        network = self.build()
        network.deliver()
        network.servers[0].faults["MAIL"] = lambda server: (
            server.reply("421 4.4.2 idle"),
            server.transport.loseConnection(),
        )
        network.deliver()
        self.assertEqual(network.outcomes, [DELIVERED] * 2)
        self.assertFalse(self.pace.lowered)

    def test_another_account_keeps_its_limits(self) -> None:
        network = self.build(lambda: StrictServer({"MAIL": says(SLOWER)}))
        network.deliver()
        self.assertFalse(network.sender.paces.of(plain_route(user="other")).lowered)


class LimitTests(SlowDownCase):
    """What it leads to."""

    def test_the_rate_is_halved_and_comes_back(self) -> None:
        network = self.build(rate=Rate(60, 60))
        full = self.pace.rate or 0
        network.make = lambda: StrictServer({"MAIL": says(SLOWER)})
        network.deliver()
        self.assertAlmostEqual(self.pace.rate or 0, full / 2)
        network.advance(30)
        self.assertAlmostEqual(self.pace.rate or 0, full * 0.6)
        network.advance(400)
        self.assertAlmostEqual(self.pace.rate or 0, full)
        self.assertFalse(self.pace.lowered)

    def test_without_a_configured_rate_mails_are_paced_all_the_same(self) -> None:
        network = self.build()
        network.deliver()
        network.servers[0].faults["MAIL"] = says(SLOWER)
        network.deliver()
        network.servers[0].faults.clear()
        for _ in range(10):
            network.send()
        network.settle()
        before = len(network.mails)
        self.assertLess(before, 5)
        for _ in range(40):
            network.advance(1)
        self.assertEqual(network.outcomes.count(DELIVERED), 11)
        network.advance(400)
        self.assertTrue(self.pace.take())
        self.assertTrue(self.pace.free)

    def test_sessions_beyond_the_lowered_number_end(self) -> None:
        network = self.build(lambda: StrictServer({"dot": hold}, extensions=()))
        network.deliver(*[mail() for _ in range(8)])
        self.assertEqual(len(network.open), 8)
        network.servers[0].reply(SLOWER)
        network.settle()
        self.assertEqual(self.pace.connections, 4)
        for server in network.servers[1:]:
            server.faults.clear()
            release(server)
        network.settle()
        self.assertEqual((len(network.open), len(network.mails)), (4, 7))

    def test_they_end_though_mails_wait(self) -> None:
        network = self.build(lambda: StrictServer({"dot": hold}, extensions=()), connections=8)
        network.deliver(*[mail() for _ in range(30)])
        for _ in range(1000):
            self.pace.delivered()
        self.pace.slow_down(8, SLOWER)
        self.assertGreater(self.pace.ready(), 8)
        for server in network.servers[:4]:
            server.faults.clear()
            release(server)
        network.settle()
        self.assertEqual((len(network.open), len(network.mails)), (4, 4))

    def test_idle_sessions_beyond_it_end_at_once(self) -> None:
        network = self.build()
        network.deliver(*[mail() for _ in range(8)])
        self.assertEqual(len(network.open), 8)
        for server in network.servers:
            server.faults["MAIL"] = says(SLOWER)
        network.deliver()
        self.assertEqual(len(network.open), 4)

    def test_no_more_are_opened_until_the_number_has_grown(self) -> None:
        network = self.build(lambda: StrictServer({"dot": hold}, extensions=()), rate=Rate(999, 1))
        network.deliver(*[mail() for _ in range(4)])
        network.servers[0].reply(SLOWER)
        network.settle()
        self.assertEqual(self.pace.connections, 2)
        for _ in range(6):
            network.send()
        network.advance(1)
        self.assertEqual(len(network.servers), 4)
        for server in network.servers[:3]:
            server.transport.loseConnection()
        network.advance(1)
        self.assertEqual(len(network.open), 2)
        network.advance(31)
        network.advance(5)
        self.assertEqual(len(network.open), 3)

    def test_a_connection_refused_beside_others_lowers_their_number_only(self) -> None:
        network = self.build()
        network.make = lambda: (
            StrictServer()
            if len(network.open) < 3
            else StrictServer({"banner": says("421 4.7.0 too many connections")})
        )
        network.deliver(*[mail() for _ in range(30)])
        self.assertEqual(network.outcomes, [DELIVERED] * 30)
        self.assertEqual((self.pace.connections, self.pace.rate), (3, None))

    def test_nothing_is_concluded_until_it_is_known_what_others_got(self) -> None:
        network = self.build()
        network.make = lambda: (
            StrictServer()
            if len(network.servers) > 2
            else StrictServer({"banner": says("421 4.7.0 too many connections")})
        )
        network.deliver(*[mail() for _ in range(10)])
        self.assertEqual(network.outcomes, [DELIVERED] * 10)
        self.assertEqual((self.pace.connections, self.pace.rate), (7, None))

    def test_who_waits_for_limits_to_grow_looks_seldom(self) -> None:
        network = self.build(lambda: StrictServer({"dot": hold}, extensions=()))
        self.pace.crowd(1, "421 4.7.0 too many")
        network.deliver(mail(), mail(), mail())
        network.advance(1)
        now = network.reactor.seconds()
        soonest = min(call.getTime() for call in network.reactor.getDelayedCalls())
        self.assertLessEqual(1, soonest - now)
        for _ in range(7):
            network.advance(RECHECK)
        self.assertEqual(len(network.servers), 2)

    def test_one_connection_there_always_is(self) -> None:
        network = self.build(lambda: StrictServer({"banner": says("421 4.7.0 no")}))
        for _ in range(8):
            network.deliver()
            network.advance(61)
        network.make = StrictServer
        network.deliver()
        for _ in range(5):
            network.advance(61)
        self.assertEqual(network.outcomes[-1], DELIVERED)


class ReportTests(SlowDownCase):
    """What is said and remembered."""

    def test_lowering_and_its_end_are_one_line_each(self) -> None:
        with capturedLogs() as events:
            make = partial(StrictServer, {"MAIL": says(SLOWER)})
            network = self.build(make, rate=Rate(60, 60))
            network.deliver(*[mail() for _ in range(5)])
            network.advance(400)
            self.assertFalse(self.pace.lowered)
        about = [event for event in events if "account" in event]
        lowered, lifted = (str(event["log_format"]).format(**event) for event in about)
        self.assertIn("192.0.2.1:25 is to get less mail: at most", lowered)
        self.assertIn(SLOWER, lowered)
        self.assertEqual(lifted, "192.0.2.1:25 has its full limits again")

    def test_answers_are_counted_by_account_and_those_of_many_together(self) -> None:
        network = self.build(lambda: StrictServer({"MAIL": says(SLOWER)}))
        for number in range(30):
            for _ in range(2):
                network.send(route=plain_route(host=f"192.0.2.{number}"))
                network.settle()
        counts = network.sender.paces.slow_downs
        self.assertEqual((len(counts), counts["192.0.2.0:25"], counts[OTHER]), (21, 2, 20))

    def test_changes_are_told_and_full_limits_need_no_note(self) -> None:
        network = self.build(lambda: StrictServer({"MAIL": says(SLOWER)}))
        told: list[int] = []
        paces = network.sender.paces
        paces.changed = lambda: told.append(1)
        network.deliver()
        self.assertEqual(list(paces.remember()), ["192.0.2.1:25"])
        self.assertEqual(len(told), 1)
        network.advance(400)
        self.assertEqual(paces.remember(), {})

    def test_what_was_remembered_counts_and_has_grown_meanwhile(self) -> None:
        network = self.build(rate=Rate(60, 60))
        notes = {"192.0.2.1:25": Lowered(connections=0.2, rate=0.2, age=30)}
        network.sender.paces.recall(notes)
        network.advance(30)
        self.assertEqual(list(network.sender.paces.remember()), ["192.0.2.1:25"])
        self.assertEqual(self.pace.connections, 4)
        network.advance(30)
        self.assertEqual(self.pace.connections, 5)

    def test_accounts_are_named_without_their_users(self) -> None:
        route = plain_route(user="secret-user")
        self.assertNotIn("secret", account_name(route))
        self.assertTrue(account_name(route).startswith("192.0.2.1:25/"))
        self.assertNotEqual(account_name(route), account_name(plain_route(user="b")))
        self.assertEqual(account_name(plain_route(account="bulk", user="x")), "bulk")

    def test_accounts_that_clients_make_up_do_not_fill_the_memory(self) -> None:
        network = self.build()
        kept = network.sender.paces.of(plain_route())
        kept.slow_down(1, "451 4.7.0 slow down")
        lowered = network.sender.paces.of(plain_route(user="lowered", foreign=True))
        lowered.slow_down(1, "451 4.7.0 slow down")
        self.make_up(1100)
        paces = list(network.sender.paces)
        self.assertEqual(len(paces), 1001)
        self.assertIn(lowered, paces)
        self.assertIs(self.pace, kept)

    def make_up(self, number: int) -> None:
        """Name so many accounts in mails."""
        for each in range(number):
            self.network.sender.paces.of(plain_route(user=str(each), foreign=True))

    def test_they_push_out_none_that_is_configured(self) -> None:
        network = self.build(rate=Rate.parse("100/h"))
        kept = self.pace
        self.make_up(1100)
        network.sender.use_rate(Rate.parse("10/h"))
        self.assertAlmostEqual((kept.rate or 0) * 3600, 10)
        kept.slow_down(1, SLOWER)
        self.assertIn(kept.name, network.sender.paces.remember())
        self.assertIs(self.pace, kept)

    def test_they_push_out_none_that_has_mails_or_sessions(self) -> None:
        network = self.build(rate=Rate.parse("1/h"), idle_seconds=30.0)
        route = plain_route(user="", host="192.0.2.9", foreign=True)
        network.send(route=route)
        network.settle()
        (busy,) = network.sender.paces
        self.make_up(1100)
        self.assertIn(busy, list(network.sender.paces))
        network.advance(31)
        self.assertEqual(busy.lanes, 0)
        self.make_up(1100)
        self.assertNotIn(busy, list(network.sender.paces))

    def test_their_mails_do_not_make_those_of_others_be_forgotten(self) -> None:
        network = self.build(rate=Rate.parse("100/h"))
        while self.pace.take():
            pass
        for number in range(6000):
            network.reactor.advance(1e-6)
            network.sender.paces.of(plain_route(user=str(number), foreign=True)).take()
        self.assertFalse(self.pace.take())

    def test_an_account_is_one_though_a_mail_names_it(self) -> None:
        network = self.build(rate=Rate.parse("1/h"))
        paces = network.sender.paces
        named = paces.of(plain_route(foreign=True))
        self.assertTrue(named.take())
        named.slow_down(1, SLOWER)
        self.assertIs(self.pace, named)
        self.assertIs(paces.of(plain_route(foreign=True)), named)
        self.assertEqual(len(list(paces)), 1)
