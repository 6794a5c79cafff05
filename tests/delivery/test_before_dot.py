# SPDX-License-Identifier: MIT
"""What is told before a mail may be delivered: to whom, and that nothing goes out before."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.model import Outcome, OutgoingMail
from smtpmailer.errors import StoreError
from tests.delivery.hostile import WIRE, Rig, mail


class BeforeDotTests(SynchronousTestCase):
    """``before_dot`` stands between the go-ahead and the message."""

    def setUp(self) -> None:
        self.told: list[tuple[str, ...]] = []
        self.noted: Deferred[None] = Deferred()

    def note(self, recipients: tuple[str, ...]) -> Deferred[None]:
        self.told.append(recipients)
        return self.noted

    def mail(self, *recipients: str) -> OutgoingMail:
        return attrs.evolve(mail(*recipients), before_dot=self.note)

    def test_no_byte_of_the_message_goes_out_before_it_is_noted(self) -> None:
        rig = Rig()
        rig.send(self.mail("a@example.com"))
        rig.accept()
        self.assertEqual(self.told, [("a@example.com",)])
        self.assertEqual((rig.server.bodies, rig.results), ([], []))
        self.noted.callback(None)
        rig.flush()
        self.assertEqual(rig.server.bodies, [WIRE])
        self.assertTrue(rig.results[0].delivered)

    def test_only_accepted_recipients_are_named(self) -> None:
        rig = Rig()
        rig.server.rcpt_replies = {"b@example.com": "550 5.1.1 no"}
        rig.send(self.mail("a@example.com", "b@example.com"))
        rig.accept()
        self.assertEqual(self.told, [("a@example.com",)])

    def test_what_can_not_be_noted_is_not_sent(self) -> None:
        self.noted = fail(StoreError("disk full"))
        rig = Rig()
        result = rig.deliver(self.mail("a@example.com"))
        self.assertEqual(rig.server.bodies, [])
        self.assertNotIn("QUIT", rig.server.commands)
        self.assertEqual([o.outcome for o in result.outcomes], [Outcome.TEMPORARY])
        self.assertIn("disk full", result.outcomes[0].reply)
        self.assertTrue(rig.server.lost)
