# SPDX-License-Identifier: MIT
"""Once a mail's result is told nothing holds its message, though its session is kept."""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.model import Outcome
from smtpmailer.delivery.body import CHUNK
from smtpmailer.delivery.limits import PoolLimits
from tests.delivery.dialogue import Dialogue
from tests.delivery.hostile import mail

OK = "250 2.0.0 ok"
#: What is answered before the message, by what is offered.
BEFORE: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "": ((OK,), (OK,), ("354 go on",)),
    "PIPELINING": ((OK, OK, "354 go on"),),
    "PIPELINING CHUNKING": ((OK, OK),),
}


class ForgottenTests(SynchronousTestCase):
    """A message that goes out in many pieces; the garbage collector is of no help."""

    def setUp(self) -> None:
        """Collect no garbage."""
        gc.disable()
        self.addCleanup(gc.enable)
        self.message = b"x: y\r\n\r\n" + b"a line\r\n" * CHUNK
        self.held = sys.getrefcount(self.message)

    def begin(self, offer: str = "PIPELINING", *, mails: int = 1) -> Dialogue:
        """Hand such mails over, up to where the message is waited for."""
        limits = PoolLimits(connections=1, depth=4)
        dialogue = Dialogue(*offer.split(), limits=limits)
        for _ in range(mails):
            dialogue.send(mail("user@example.org", wire=self.message))
        dialogue.connect()
        for answers in BEFORE[offer]:
            self.assertGreater(sys.getrefcount(self.message), self.held)
            dialogue.hear(*answers)
        return dialogue

    def stop_in_the_middle(self) -> tuple[Dialogue, Deferred[Any]]:
        """Hand one over to a server that takes a piece of the message and no more."""
        dialogue = Dialogue()
        (sending,) = dialogue.send(mail("user@example.org", wire=self.message))
        dialogue.connect()
        dialogue.tape.full = True
        for answers in BEFORE[""]:
            dialogue.hear(*answers)
        self.assertLess(len(dialogue.said()), 2 * CHUNK)
        return dialogue, sending

    def assert_forgotten(self, dialogue: Dialogue, outcome: Outcome, *, results: int = 1) -> None:
        outcomes = [one.outcome for result in dialogue.results for one in result.outcomes]
        self.assertEqual(outcomes, [outcome] * results)
        self.assertEqual(sys.getrefcount(self.message), self.held)

    def test_of_a_mail_that_was_taken(self) -> None:
        for offer in BEFORE:
            dialogue = self.begin(offer)
            dialogue.hear(OK)
            self.assert_forgotten(dialogue, Outcome.DELIVERED)
            self.assertFalse(dialogue.tape.disconnecting)

    def test_of_the_last_of_several(self) -> None:
        dialogue = self.begin(mails=2)
        dialogue.hear(OK)
        dialogue.hear(OK, OK, "354 go on")
        dialogue.hear(OK)
        self.assert_forgotten(dialogue, Outcome.DELIVERED, results=2)

    def test_of_a_mail_that_was_refused(self) -> None:
        for offer in BEFORE:
            dialogue = self.begin(offer)
            dialogue.hear("554 5.7.1 no")
            self.assert_forgotten(dialogue, Outcome.PERMANENT)
            self.assertFalse(dialogue.tape.disconnecting)

    def test_of_a_mail_whose_session_ends_in_its_middle(self) -> None:
        dialogue, _ = self.stop_in_the_middle()
        dialogue.hang_up(reset=True)
        self.assert_forgotten(dialogue, Outcome.TEMPORARY)

    def test_of_a_mail_that_is_given_up_in_its_middle(self) -> None:
        dialogue, sending = self.stop_in_the_middle()
        sending.cancel()
        dialogue.hang_up()
        self.assert_forgotten(dialogue, Outcome.TEMPORARY)
