# SPDX-License-Identifier: MIT
"""What a server certainly has nothing of may be taken to another one, and nothing else may."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.model import DeliveryResult, OutgoingMail
from tests.delivery.dialogue import ONE_SESSION
from tests.delivery.hostile import PASSWORD, Action, ScriptedServer, mail, plain_route, says
from tests.delivery.network import OFFERS, Network, StrictServer, hold

_BOTH = ("a@x.example", "b@x.example")


def _hang_up(server: ScriptedServer) -> None:
    server.transport.abortConnection()


class UntakenTests(SynchronousTestCase):
    """``DeliveryResult.untaken`` at each stage, with and without PIPELINING and CHUNKING."""

    def network(self, faults: Mapping[str, Action], offer: tuple[str, ...] = ()) -> Network:
        return Network(lambda: StrictServer(dict(faults), extensions=offer))

    def result(
        self, faults: Mapping[str, Action], offer: tuple[str, ...], message: OutgoingMail
    ) -> DeliveryResult:
        (result,) = self.network(faults, offer).deliver(message)
        return result

    def assert_untaken(self, faults: Mapping[str, Action], *, untaken: bool) -> None:
        for offer in OFFERS:
            result = self.result(faults, offer, mail(*_BOTH))
            self.assertEqual(result.untaken, untaken, (offer, result))

    def test_a_refusal_before_the_message_leaves_it_untaken(self) -> None:
        for stage in ("MAIL", "RCPT"):
            self.assert_untaken({stage: says("451 4.3.0 later")}, untaken=True)
        result = self.result({"DATA": says("451 later")}, (), mail())
        self.assertTrue(result.untaken)

    def test_a_refusal_of_the_server_leaves_it_untaken(self) -> None:
        for stage, code in (("banner", 554), ("banner", 421), ("EHLO", 421)):
            result = self.result({stage: says(f"{code} no")}, (), mail())
            self.assertTrue(result.untaken, (stage, code))

    def test_a_refused_login_leaves_it_untaken(self) -> None:
        network = self.network({"AUTH": says("535 no")}, ("AUTH PLAIN",))
        network.send(route=plain_route(user="u", password=PASSWORD))
        network.settle()
        self.assertTrue(network.results[0].untaken)

    def test_without_a_connection_it_is_untaken(self) -> None:
        network = self.network({})
        network.refusing = True
        (result,) = network.deliver()
        self.assertTrue(result.untaken)

    def test_a_connection_that_ends_before_the_message_leaves_it_untaken(self) -> None:
        result = self.result({"RCPT": _hang_up}, (), mail())
        self.assertTrue(result.untaken)

    def test_once_its_end_was_written_nothing_is_untaken(self) -> None:
        for answer in (says("451 4.3.0 later"), says("552 5.3.4 no"), says("250 fine"), _hang_up):
            self.assert_untaken({"dot": answer}, untaken=False)

    def test_a_message_that_rode_along_with_refused_recipients_is_untaken(self) -> None:
        def picky() -> StrictServer:
            server = StrictServer(extensions=("PIPELINING", "CHUNKING"))
            server.rcpt_replies = {_BOTH[1]: "451 4.3.0 later"}
            return server

        network = Network(picky, limits=ONE_SESSION)
        network.deliver(mail(_BOTH[0]), mail(_BOTH[1]))
        (server,) = network.servers
        # The message of the second was written before its recipient was refused.
        self.assertEqual(sum(line.startswith("BDAT") for line in server.commands), 2)
        self.assertEqual([result.untaken for result in network.results], [False, True])

    def test_what_is_refused_for_good_is_not_untaken(self) -> None:
        for stage in ("MAIL", "RCPT"):
            self.assert_untaken({stage: says("550 5.1.0 never")}, untaken=False)

    def test_what_somebody_was_refused_for_good_is_not_untaken(self) -> None:
        def mixed() -> StrictServer:
            server = StrictServer(extensions=())
            server.rcpt_replies = {_BOTH[0]: "450 later", _BOTH[1]: "550 never"}
            return server

        (result,) = Network(mixed).deliver(mail(*_BOTH))
        self.assertTrue(result.temporary)
        self.assertFalse(result.untaken)

    def test_what_took_too_long_is_not_tried_elsewhere(self) -> None:
        network = Network(lambda: StrictServer({"MAIL": hold}), limit=30)
        network.deliver()
        network.advance(30)
        self.assertFalse(network.results[0].untaken)
        network = Network(limit=30)
        network.deaf = True
        network.deliver()
        network.advance(30)
        self.assertFalse(network.results[0].untaken)

    def test_what_is_cancelled_is_not_tried_elsewhere(self) -> None:
        network = self.network({"MAIL": hold})
        sending = network.send()
        network.settle()
        sending.cancel()
        self.assertFalse(network.results[0].untaken)
