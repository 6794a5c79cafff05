# SPDX-License-Identifier: MIT
"""One limit for the whole delivery, however many servers are tried for it."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.accounts import Account, Accounts
from smtpmailer.core.mime import MessageOptions, Stamp
from smtpmailer.core.model import Address, MailRequest
from smtpmailer.delivery.sender import Sender
from smtpmailer.services.courier import Courier, MailDefaults
from tests.delivery.hostile import mail, plain_route
from tests.delivery.network import Network, StrictServer, hold
from tests.services.parts import Files, WatchedThreads

_REQUEST = MailRequest(
    to=(Address(email="to@x.example"),), subject="s", body="b", from_email="from@x.example"
)


def _silent() -> StrictServer:
    """Accept a connection, and never greet."""
    return StrictServer({"banner": hold})


def _waiting_for(turn: Deferred[None]) -> Callable[[], Deferred[None]]:
    """Let results be told when the test says so."""
    return lambda: turn


class FailOverTimeTests(SynchronousTestCase):
    """Servers that withhold their greeting for 250 s, and 600 s for a delivery."""

    def setUp(self) -> None:
        self.network = Network(_silent, limit=600)

    def courier(self, count: int) -> Courier:
        """Give one whose default account fails over to so many."""
        accounts = [
            Account(
                name=f"a{number}",
                route=plain_route(host=f"192.0.2.{number}", timeout=250, account=f"a{number}"),
            )
            for number in range(2, count + 2)
        ]
        known = Accounts(accounts, failover=tuple(account.name for account in accounts))
        defaults = MailDefaults(
            from_email="",
            from_name="",
            options=MessageOptions(html=False),
            route=plain_route(timeout=250),
            accounts=lambda: known,
        )
        return Courier(
            defaults, attachments=Files(), sender=self.network.sender, threads=WatchedThreads()
        )

    def test_all_servers_together_have_one_limit(self) -> None:
        stamp = Stamp(unique="a1", epoch_seconds=1_700_000_000)
        delivering = self.courier(5).deliver(_REQUEST, stamp)
        for _ in range(59):
            self.network.advance(10)
        self.assertNoResult(delivering)
        self.network.advance(10)
        result = self.successResultOf(delivering)
        self.assertIn("took longer than 600 s", result.outcomes[0].reply)
        self.assertEqual((result.seconds, result.server), (600, "192.0.2.3:25"))
        self.assertEqual(len(self.network.servers), 3)

    def test_what_others_have_spent_is_no_part_of_its_own_time(self) -> None:
        self.network.send(attrs.evolve(mail(), spent=590.0))
        self.network.settle()
        self.network.advance(9)
        self.assertEqual(self.network.results, [])
        self.network.advance(1)
        (result,) = self.network.results
        self.assertEqual((result.seconds, result.untaken), (10, False))

    def test_it_does_not_end_those_who_came_before(self) -> None:
        self.network.send()
        self.network.send(attrs.evolve(mail(), spent=599.0), plain_route(host="192.0.2.9"))
        self.network.advance(1)
        self.assertEqual([result.server for result in self.network.results], ["192.0.2.9:25"])

    def test_when_the_limit_has_passed_no_other_server_is_to_be_tried(self) -> None:
        for seconds in (9, 10):
            turn: Deferred[None] = Deferred()
            network = Network(limit=600)
            network.sender = Sender(network.reactor, 600, pace=_waiting_for(turn))
            network.refusing = True
            network.deliver(attrs.evolve(mail(), spent=590.0))
            network.advance(seconds)
            turn.callback(None)
            (result,) = network.results
            self.assertEqual((result.seconds, result.untaken), (seconds, seconds < 10))

    def test_no_timer_is_left_behind(self) -> None:
        self.network.make = StrictServer
        self.network.deliver(attrs.evolve(mail(), spent=1.0))
        self.network.sender.drain()
        self.network.settle()
        self.assertEqual(self.network.reactor.getDelayedCalls(), [])
