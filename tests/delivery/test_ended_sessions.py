# SPDX-License-Identifier: MIT
"""Sessions that the server ended while they lay idle."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.model import Outcome
from smtpmailer.delivery.limits import PoolLimits
from smtpmailer.delivery.patience import STALE_LIMIT
from tests.delivery.hostile import ScriptedServer, mail, says
from tests.delivery.network import OFFERS, Network, StrictServer, hold, release

DELIVERED, TEMPORARY, UNCERTAIN = Outcome.DELIVERED, Outcome.TEMPORARY, Outcome.UNCERTAIN


def close(server: ScriptedServer) -> None:
    server.transport.loseConnection()


def reset(server: ScriptedServer) -> None:
    server.transport.abortConnection()


def leave(server: ScriptedServer) -> None:
    server.reply("421 4.4.2 idle for too long")
    close(server)


HOW = {"close": close, "reset": reset, "421": leave}


class EndedSessionTests(SynchronousTestCase):
    """A session that the server closed costs the next mail a new connection, nothing else."""

    def idle(self, *offers: str) -> Network:
        network = Network(lambda: StrictServer(extensions=offers), limits=PoolLimits(connections=1))
        network.deliver(mail("first@x.example"))
        return network

    def assert_second_session_took_it(self, network: Network) -> None:
        self.assertEqual(network.outcomes, [DELIVERED, DELIVERED])
        self.assertEqual(
            [m.recipients for m in network.mails], [("first@x.example",), ("to@example.com",)]
        )
        self.assertEqual([len(server.mails) for server in network.servers], [1, 1])

    def test_seen_before_the_mail(self) -> None:
        for offers in OFFERS:
            for how, end in (*HOW.items(), ("421 alone", says("421 4.4.2 idle for too long"))):
                network = self.idle(*offers)
                end(network.servers[0])
                network.settle()
                self.assertEqual(network.open, [], how)
                network.deliver()
                self.assert_second_session_took_it(network)

    def test_seen_when_the_mail_is_on_its_way(self) -> None:
        """The close and the mail's first commands cross each other."""
        for offers in OFFERS:
            for end in HOW.values():
                network = self.idle(*offers)
                network.servers[0].faults["MAIL"] = end
                network.deliver()
                self.assert_second_session_took_it(network)

    def test_one_that_is_dead_without_a_sign_is_given_up_soon(self) -> None:
        for offers in OFFERS:
            network = self.idle(*offers)
            network.servers[0].peer.blocked = True
            network.deliver()
            network.advance(STALE_LIMIT - 0.1)
            self.assertEqual(len(network.servers), 1)
            network.advance(0.1)
            self.assert_second_session_took_it(network)

    def test_a_new_connection_that_fails_is_a_failure(self) -> None:
        network = self.idle()
        network.servers[0].faults["MAIL"] = reset
        network.refusing = True
        network.deliver()
        self.assertEqual(network.outcomes, [DELIVERED, TEMPORARY])
        self.assertEqual(network.results[1].reason, "SMTP Error: Could not connect to SMTP host.")

    def test_the_new_session_has_to_do(self) -> None:
        """A mail is tried on one further session, not on one after another."""
        network = self.idle()
        fault = {"MAIL": reset}
        network.servers[0].faults.update(fault)
        network.make = lambda: StrictServer(fault, extensions=())
        network.deliver()
        self.assertEqual(network.outcomes, [DELIVERED, TEMPORARY])
        self.assertEqual(len(network.servers), 2)

    def test_an_idle_session_makes_room_for_the_new_one(self) -> None:
        network = Network(limits=PoolLimits(connections=2))
        network.deliver(mail(), mail())
        for server in network.servers:
            server.faults["MAIL"] = reset
        network.deliver()
        self.assertEqual(network.outcomes, [DELIVERED] * 3)
        self.assertEqual(network.most, 2)

    def test_the_mail_does_not_go_to_another_used_session(self) -> None:
        network = Network(
            lambda: StrictServer({"dot": hold}, extensions=()), limits=PoolLimits(connections=2)
        )
        network.deliver(mail(), mail())
        first, second = network.servers
        release(second)
        network.settle()
        second.faults["MAIL"] = reset
        network.deaf = True
        network.deliver(mail("b@x.example"))
        release(first)
        network.settle()
        self.assertEqual(len(network.mails), 2)
        network.deaf = False
        network.settle()
        self.assertEqual(network.servers[2].commands[2], "RCPT TO:<b@x.example>")

    def test_after_mail_was_answered_it_is_no_stale_session(self) -> None:
        network = self.idle()
        network.servers[0].faults["RCPT"] = reset
        network.deliver()
        self.assertEqual(network.outcomes, [DELIVERED, TEMPORARY])
        self.assertEqual(len(network.servers), 1)
