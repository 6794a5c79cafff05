# SPDX-License-Identifier: MIT
"""A mail as commands: sizes, parameters, and a message that is the same with DATA and BDAT."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.model import Capabilities, Outcome
from smtpmailer.core.wire import normalise_newlines, to_wire
from smtpmailer.delivery.commands import Commands, write_commands
from smtpmailer.delivery.offer import Offer
from smtpmailer.delivery.outcome import Verdict
from smtpmailer.errors import SmtpProtocolError
from tests.delivery.hostile import mail

QUICK = settings(deadline=None, max_examples=100, derandomize=True)
#: Texts in which dots stand where they matter.
TEXTS = st.lists(st.sampled_from((b".", b"..", b"\r\n", b"\n", b"x", b"\r\n.", b" ")), max_size=30)
ALL = Capabilities(eight_bit=True, smtputf8=True)


def write(wire: bytes, offer: Offer, *recipients: str) -> Commands:
    commands = write_commands(mail(*recipients, wire=wire), offer)
    assert isinstance(commands, Commands), commands
    return commands


class MessageTests(SynchronousTestCase):
    """Dots are stuffed for DATA, and are not for BDAT."""

    @QUICK
    @given(TEXTS)
    def test_bdat_carries_the_message_itself_and_its_size(self, pieces: list[bytes]) -> None:
        wire = to_wire(b"".join(pieces)).data
        message = normalise_newlines(b"".join(pieces))
        message += b"" if message.endswith(b"\r\n") else b"\r\n"
        data = write(wire, Offer(size=True))
        self.assertEqual((data.head, data.message, data.tail), (b"", wire, b".\r\n"))
        self.assertIn(b" SIZE=%d\r\n" % len(message), data.mail)
        bdat = write(wire, Offer(chunking=True))
        self.assertEqual((bdat.message, bdat.tail), (message, b""))
        self.assertEqual(bdat.head, b"BDAT %d LAST\r\n" % len(message))


class CommandTests(SynchronousTestCase):
    """What is declared, and what is refused before anything is written."""

    def test_each_recipient_is_a_command(self) -> None:
        commands = write(b"A: b\r\n", Offer(), "a@x.example", "jürgen@x.example".encode().hex())
        self.assertEqual(commands.mail, b"MAIL FROM:<from@example.com>\r\n")
        self.assertEqual(commands.recipients[0], b"RCPT TO:<a@x.example>\r\n")
        self.assertEqual(len(commands.recipients), 2)

    def test_parameters_stand_in_one_order(self) -> None:
        commands = write(
            "A: ü\r\n\r\n".encode(), Offer(size=True, capabilities=ALL), "jürgen@x.example"
        )
        self.assertEqual(
            commands.mail, b"MAIL FROM:<from@example.com> SIZE=9 BODY=8BITMIME SMTPUTF8\r\n"
        )

    def test_eight_bit_text_below_the_header_is_no_reason_for_smtputf8(self) -> None:
        commands = write("A: b\r\n\r\nü\r\n".encode(), Offer(capabilities=ALL))
        self.assertEqual(commands.mail, b"MAIL FROM:<from@example.com> BODY=8BITMIME\r\n")

    def test_what_the_server_can_not_take_is_a_verdict(self) -> None:
        for recipient, offer, said in (
            ("jürgen@x.example", Offer(), "SMTPUTF8"),
            ("a@x.example", Offer(size=True, limit=5), "6 bytes, the server takes at most 5"),
        ):
            verdict = write_commands(mail(recipient, wire=b"A: b\r\n"), offer)
            assert isinstance(verdict, Verdict)
            self.assertIs(verdict.outcome, Outcome.PERMANENT)
            self.assertIn(said, verdict.headline)

    def test_no_address_breaks_its_line(self) -> None:
        for bad in ("a@x.example\r\nDATA", "a\n@x.example", "\0@x.example", "a@x.example\r"):
            for message in (mail("b@x.example", bad), mail(sender=bad)):
                with self.assertRaises(SmtpProtocolError):
                    write_commands(message, Offer())


class OfferTests(SynchronousTestCase):
    """What of EHLO counts."""

    def test_the_extensions_are_read(self) -> None:
        offer = Offer.read(
            {"PIPELINING": "", "CHUNKING": "", "SIZE": "1000", "8BITMIME": "", "SMTPUTF8": ""}
        )
        self.assertEqual(
            offer,
            Offer(pipelining=True, chunking=True, size=True, limit=1000, capabilities=ALL),
        )

    def test_a_limit_that_is_no_number_is_none(self) -> None:
        for text in ("", "many", "-1", "1.5", "1 000"):
            self.assertEqual(Offer.read({"SIZE": text}), Offer(size=True))

    def test_lock_step_leaves_the_rest(self) -> None:
        offer = Offer(pipelining=True, chunking=True, size=True, limit=7, capabilities=ALL)
        self.assertEqual(offer.in_lock_step(), Offer(size=True, limit=7, capabilities=ALL))
