# SPDX-License-Identifier: MIT
"""What a session writes over TCP: at once where the kernel takes it, and always in order."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import ISystemHandle, ITCPTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides

from smtpmailer.core.model import Outcome
from smtpmailer.delivery.body import CHUNK
from smtpmailer.delivery.limits import PoolLimits
from tests.delivery import dialogue as dialogues
from tests.delivery.dialogue import Dialogue, Tape
from tests.delivery.hostile import mail

OK = "250 2.0.0 ok"
OPENING = b"MAIL FROM:<from@example.com>\r\nRCPT TO:<user@example.org>\r\nDATA\r\n"


class KernelTape(Tape):
    """A tape as TCP's transport over a kernel that takes ``room`` bytes of each write."""

    room = 1 << 20

    def __init__(self) -> None:
        """Note apart what was given to the kernel, and what waits for the reactor."""
        super().__init__()
        directlyProvides(self, ISystemHandle, ITCPTransport)
        self.waited: list[bytes] = []

    def getHandle(self) -> KernelTape:
        """Be one's own socket."""
        return self

    def send(self, data: bytes) -> int:
        """Take what there is room for."""
        taken = data[: self.room]
        self.writes.append(taken)
        return len(taken)

    def write(self, data: bytes) -> None:
        """Take the rest."""
        self.waited.append(data)
        super().write(data)


class WritingTests(SynchronousTestCase):
    """One session."""

    def setUp(self) -> None:
        """Connect over such a tape."""
        self.patch(dialogues, "Tape", KernelTape)
        self.dialogue = Dialogue("PIPELINING", limits=PoolLimits(connections=1, depth=1))
        self.dialogue.send()
        self.dialogue.connect()

    @property
    def tape(self) -> Any:
        return self.dialogue.tape

    def finish(self) -> None:
        self.dialogue.hear(OK, OK, "354 go on")
        self.dialogue.hear(OK)
        (result,) = self.dialogue.results
        self.assertEqual([one.outcome for one in result.outcomes], [Outcome.DELIVERED])

    def test_commands_and_message_do_not_wait_for_the_reactor(self) -> None:
        self.tape.waited.clear()
        self.finish()
        self.assertEqual(self.tape.waited, [])
        self.assertTrue(self.dialogue.said().endswith(b".\r\n"))

    def test_what_the_kernel_does_not_take_goes_out_behind_what_it_took(self) -> None:
        self.finish()
        self.dialogue.said()
        self.tape.room = 10
        self.dialogue.results.clear()
        self.dialogue.send(mail("user@example.org"))
        self.assertEqual(self.dialogue.said(), OPENING)
        self.tape.room = 1 << 20
        self.finish()
        self.assertTrue(self.dialogue.said().endswith(b".\r\n"))
        self.assertTrue(self.tape.waited[-1].endswith(b".\r\n"))

    def test_behind_a_large_message_nothing_goes_past_the_transport(self) -> None:
        self.finish()
        self.dialogue.said()
        self.dialogue.results.clear()
        large = b"x: y\r\n\r\n" + b"a line\r\n" * CHUNK
        self.dialogue.send(mail("user@example.org", wire=large), mail("user@example.org"))
        self.tape.waited.clear()
        self.dialogue.hear(OK, OK, "354 go on")
        self.dialogue.hear(OK)
        self.assertEqual(self.dialogue.said(), OPENING + large + b".\r\n" + OPENING)
        self.assertEqual(self.tape.waited[-1], OPENING)


class LateTape(KernelTape):
    """A tape on which what waits goes out in the reactor's next turn."""

    def __init__(self) -> None:
        """Have written nothing."""
        super().__init__()
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> int:
        """Send it."""
        self.sent.append(data)
        return super().send(data)

    def turn(self) -> None:
        """Send what waits."""
        self.sent += self.waited
        self.waited.clear()


class EarlyServerTests(SynchronousTestCase):
    """A server that answers before the command could leave."""

    def test_the_mail_does_not_overtake_the_greeting_or_the_login(self) -> None:
        self.patch(dialogues, "Tape", LateTape)
        dialogue = Dialogue("PIPELINING", limits=PoolLimits(connections=1, depth=1))
        dialogue.send()
        dialogue.connect()
        tape: Any = dialogue.tape
        tape.turn()
        self.assertEqual([line[:4] for line in tape.sent], [b"EHLO", b"MAIL"])
