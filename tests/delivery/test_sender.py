# SPDX-License-Identifier: MIT
"""One mail to one polite server: the dialogue, the extensions, the results, the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import succeed
from twisted.mail import smtp
from twisted.test.iosim import connectedServerAndClient
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from smtpmailer.core.model import Capabilities, DeliveryResult, Outcome
from smtpmailer.delivery.sender import Sender
from smtpmailer.errors import MessageError
from smtpmailer.interfaces import ISender
from tests.delivery.hostile import WIRE, Reactor, Rig, ScriptedServer, mail, plain_route, says

ALL = ("8BITMIME", "SMTPUTF8", "SIZE 1000", "ENHANCEDSTATUSCODES", "HELP")


def outcomes(result: DeliveryResult) -> list[Outcome]:
    return [outcome.outcome for outcome in result.outcomes]


class DialogueTests(SynchronousTestCase):
    """What is said, in which order."""

    def test_it_provides_isender(self) -> None:
        self.assertTrue(verifyObject(ISender, Sender(Reactor(), 1)))

    def test_a_mail_without_extensions_is_sent_in_lock_step(self) -> None:
        rig = Rig()
        result = rig.deliver(mail("a@example.com", "b@example.com"))
        self.assertEqual(
            rig.server.commands,
            [
                "EHLO client.example",
                "MAIL FROM:<from@example.com>",
                "RCPT TO:<a@example.com>",
                "RCPT TO:<b@example.com>",
                "DATA",
                "QUIT",
            ],
        )
        self.assertEqual(rig.server.bodies, [WIRE])
        self.assertTrue(result.delivered)
        self.assertEqual((result.reason, result.server), ("", "192.0.2.1:25"))
        (first, _) = result.outcomes
        self.assertEqual(
            (first.recipient, first.code, first.enhanced, first.reply),
            ("a@example.com", 250, "2.0.0", "2.0.0 queued"),
        )

    def test_an_empty_sender_is_sent_as_such(self) -> None:
        rig = Rig()
        rig.deliver(mail(sender=""))
        self.assertIn("MAIL FROM:<>", rig.server.commands)

    def test_seconds_are_the_time_the_delivery_took(self) -> None:
        rig = Rig()
        rig.send()
        rig.reactor.advance(3)
        rig.accept()
        self.assertEqual(rig.results[0].seconds, 3)

    def test_the_result_is_there_before_quit_is_answered(self) -> None:
        rig = Rig(ScriptedServer({"QUIT": lambda _: None}))
        self.assertTrue(rig.deliver().delivered)
        self.assertNoResult(rig.sender.drain())
        rig.advance(5)
        self.assertTrue(rig.server.lost)
        self.successResultOf(rig.sender.drain())
        self.assertEqual(rig.reactor.getDelayedCalls(), [])

    def test_data_is_not_sent_when_all_recipients_are_refused(self) -> None:
        rig = Rig()
        rig.server.rcpt_replies = {"a@x.example": "550 5.1.1 no", "b@x.example": "450 4.2.1 full"}
        result = rig.deliver(mail("a@x.example", "b@x.example"))
        self.assertNotIn("DATA", rig.server.commands)
        self.assertEqual(outcomes(result), [Outcome.PERMANENT, Outcome.TEMPORARY])
        self.assertEqual(
            result.reason,
            "SMTP Error: The following recipients failed: "
            "a@x.example: 550 5.1.1 no, b@x.example: 450 4.2.1 full",
        )

    def test_refused_recipients_keep_their_outcome_when_data_fails(self) -> None:
        rig = Rig(ScriptedServer({"dot": says("451 4.3.0 later")}))
        rig.server.rcpt_replies = {"a@x.example": "550 5.1.1 no"}
        result = rig.deliver(mail("a@x.example", "b@x.example"))
        self.assertEqual(outcomes(result), [Outcome.PERMANENT, Outcome.TEMPORARY])
        self.assertEqual(
            result.reason,
            "SMTP Error: data not accepted: 451 4.3.0 later; "
            "The following recipients failed: a@x.example: 550 5.1.1 no",
        )

    def test_refused_recipients_keep_their_outcome_when_the_reply_to_the_dot_is_lost(self) -> None:
        rig = Rig(ScriptedServer({"dot": lambda server: server.transport.abortConnection()}))
        rig.server.rcpt_replies = {"a@x.example": "550 5.1.1 no"}
        result = rig.deliver(mail("a@x.example", "b@x.example"))
        self.assertEqual(outcomes(result), [Outcome.PERMANENT, Outcome.UNCERTAIN])

    def test_421_at_a_recipient_ends_the_session_for_all_that_are_open(self) -> None:
        rig = Rig()
        rig.server.rcpt_replies = {
            "a@x.example": "550 5.1.1 no",
            "b@x.example": "421 4.3.2 closing",
        }
        result = rig.deliver(mail("a@x.example", "b@x.example", "c@x.example"))
        self.assertEqual(
            outcomes(result), [Outcome.PERMANENT, Outcome.TEMPORARY, Outcome.TEMPORARY]
        )
        self.assertNotIn("RCPT TO:<c@x.example>", rig.server.commands)
        self.assertEqual(result.outcomes[2].code, 421)

    def test_421_is_temporary_at_every_stage(self) -> None:
        for stage in ("banner", "EHLO", "MAIL", "RCPT", "DATA", "dot"):
            rig = Rig(ScriptedServer({stage: says("421 4.3.2 closing")}))
            result = rig.deliver()
            self.assertEqual(outcomes(result), [Outcome.TEMPORARY], stage)
            self.assertEqual(result.outcomes[0].code, 421)

    def test_530_to_mail_is_the_operators_and_temporary(self) -> None:
        rig = Rig(ScriptedServer({"MAIL": says("530 5.7.0 log in first")}))
        result = rig.deliver()
        self.assertEqual(outcomes(result), [Outcome.TEMPORARY])
        self.assertEqual(
            result.reason, "SMTP Error: MAIL FROM not accepted: 530 5.7.0 log in first"
        )

    def test_unexpected_success_is_a_protocol_error(self) -> None:
        for stage, reply in (
            ("banner", "250 hi"),
            ("EHLO", "354 hm"),
            ("MAIL", "354 go"),
            ("RCPT", "354 go"),
            ("DATA", "250 ok"),
        ):
            rig = Rig(ScriptedServer({stage: says(reply)}))
            result = rig.deliver()
            self.assertEqual(outcomes(result), [Outcome.TEMPORARY], stage)
            self.assertIn("unexpected", result.outcomes[0].reply)
            self.assertEqual(rig.server.bodies, [])

    def test_any_2xx_to_the_dot_is_a_yes_and_3xx_leaves_doubt(self) -> None:
        for code, expected in ((250, Outcome.DELIVERED), (251, Outcome.DELIVERED)):
            rig = Rig(ScriptedServer({"dot": says(f"{code} ok")}))
            self.assertEqual(outcomes(rig.deliver()), [expected])
        rig = Rig(ScriptedServer({"dot": says("354 go on")}))
        self.assertEqual(outcomes(rig.deliver()), [Outcome.UNCERTAIN])

    def test_replies_ahead_of_the_question_are_not_believed(self) -> None:
        for stage, replies in (
            ("RCPT", ("250 ok", "354 go")),
            ("DATA", ("354 go", "250 2.0.0 queued")),
        ):
            rig = Rig(ScriptedServer({stage: says(*replies)}))
            result = rig.deliver()
            self.assertEqual(outcomes(result), [Outcome.TEMPORARY])
            self.assertIn("out of turn", result.reason)
            self.assertEqual(rig.server.bodies, [])

    def test_a_yes_in_the_middle_of_the_body_is_not_believed(self) -> None:
        rig = Rig(ScriptedServer({"body": says("250 2.0.0 queued")}))
        result = rig.deliver(mail(wire=b"A: b\r\n\r\n" + b"\r\n" * 500_000))
        self.assertEqual(outcomes(result), [Outcome.TEMPORARY])
        self.assertIsNone(rig.client.producer)

    def test_a_line_break_in_an_address_never_reaches_the_server(self) -> None:
        for bad in ("a@x.example>\r\nDATA", "a\n@x.example", "a\0@x.example"):
            rig = Rig()
            result = rig.deliver(mail(bad))
            self.assertEqual(outcomes(result), [Outcome.TEMPORARY])
            self.assertEqual(rig.server.commands[2:], [])

    def test_a_mail_that_cannot_be_written_is_a_permanent_result(self) -> None:
        def broken(_: Capabilities) -> bytes:
            raise MessageError("no such charset")

        rig = Rig()
        result = rig.deliver(mail(wire=broken))
        self.assertEqual(outcomes(result), [Outcome.PERMANENT])
        self.assertEqual(result.reason, "SMTP Error: no such charset")
        self.assertIn("QUIT", rig.server.commands)

    def test_a_fault_of_our_own_fails_and_closes_the_connection(self) -> None:
        def broken(_: Capabilities) -> bytes:
            raise ZeroDivisionError

        rig = Rig()
        sending = rig.send(mail(wire=broken))
        rig.accept()
        self.failureResultOf(sending, ZeroDivisionError)
        self.assertTrue(rig.server.lost)
        self.assertEqual(rig.reactor.getDelayedCalls(), [])


class ExtensionTests(SynchronousTestCase):
    """Extensions are used where they are offered and needed, never else."""

    def mail_line(self, *extensions: str, wire: bytes = WIRE, to: str = "a@x.example") -> str:
        rig = Rig(ScriptedServer(extensions=extensions))
        self.assertTrue(rig.deliver(mail(to, wire=wire)).delivered)
        return rig.server.commands[1].removeprefix("MAIL FROM:<from@example.com>")

    def test_8bitmime_is_declared_only_when_offered_and_used(self) -> None:
        eight_bit = WIRE + "größer\r\n".encode()
        self.assertEqual(self.mail_line("8BITMIME", wire=eight_bit), " BODY=8BITMIME")
        self.assertEqual(self.mail_line("8BITMIME"), "")
        self.assertEqual(self.mail_line(), "")

    def test_extensions_are_read_without_regard_to_case(self) -> None:
        self.assertEqual(self.mail_line("size 100000"), f" SIZE={len(WIRE) - 1}")

    def test_size_counts_the_message_without_stuffed_dots(self) -> None:
        self.assertEqual(self.mail_line("SIZE", wire=b"..\r\n...\r\n\r\n..\r\n"), " SIZE=12")

    def test_a_mail_over_the_servers_limit_is_refused_before_it_is_sent(self) -> None:
        rig = Rig(ScriptedServer(extensions=("SIZE 20",)))
        result = rig.deliver()
        self.assertEqual(outcomes(result), [Outcome.PERMANENT])
        self.assertIn(f"{len(WIRE) - 1} bytes, the server takes at most 20", result.reason)
        self.assertEqual(rig.server.commands, ["EHLO client.example", "QUIT"])

    def test_size_zero_or_nonsense_is_no_limit(self) -> None:
        for size in ("SIZE 0", "SIZE many", "SIZE -1", f"SIZE {len(WIRE) - 1}"):
            self.assertIn("SIZE=", self.mail_line(size))

    def test_smtputf8_is_declared_only_when_needed(self) -> None:
        self.assertEqual(self.mail_line("SMTPUTF8", to="jürgen@x.example"), " SMTPUTF8")
        self.assertEqual(self.mail_line("SMTPUTF8"), "")
        header = "Reply-To: jürgen@x.example\r\n\r\n".encode()
        self.assertEqual(self.mail_line("SMTPUTF8", wire=header), " SMTPUTF8")

    def test_without_smtputf8_an_international_address_is_a_permanent_error(self) -> None:
        rig = Rig()
        result = rig.deliver(mail("jürgen@x.example"))
        self.assertEqual(outcomes(result), [Outcome.PERMANENT])
        self.assertIn("SMTPUTF8", result.reason)
        self.assertEqual(rig.server.commands, ["EHLO client.example", "QUIT"])

    def test_the_wire_bytes_are_asked_for_with_what_the_server_offers(self) -> None:
        asked: list[Capabilities] = []

        def wire(capabilities: Capabilities) -> bytes:
            asked.append(capabilities)
            return WIRE

        Rig(ScriptedServer(extensions=ALL)).deliver(mail(wire=wire))
        Rig().deliver(mail(wire=wire))
        self.assertEqual(asked, [Capabilities(eight_bit=True, smtputf8=True), Capabilities()])


class BodyTests(SynchronousTestCase):
    """Large messages go out as fast as they are taken."""

    def test_memory_is_bounded_by_the_transports_buffer(self) -> None:
        wire = b"A: b\r\n\r\n" + b"0123456789abcde\r\n" * 200_000
        rig = Rig()
        self.assertTrue(rig.deliver(mail(wire=wire)).delivered)
        self.assertEqual(rig.server.bodies, [wire])
        self.assertLessEqual(rig.client.most_buffered, 3 * 64 * 1024)

    def test_every_size_around_a_chunk_arrives_whole(self) -> None:
        for size in (0, 2, 65534, 65535, 65536, 65537, 65538, 131072, 131073):
            wire = b"x" * max(size - 2, 0) + b"\r\n" * (size > 0)
            rig = Rig()
            self.assertTrue(rig.deliver(mail(wire=wire)).delivered)
            self.assertEqual(rig.server.bodies, [wire])


class ConnectTests(SynchronousTestCase):
    """Where the connection goes."""

    def connects_to(self, host: str, names: Mapping[str, tuple[str, ...]]) -> list[str]:
        rig = Rig()
        rig.reactor.names.update(names)
        rig.send(route=plain_route(host=host, port=2525))
        self.assertEqual({client[1] for client in rig.reactor.tcpClients}, {2525})
        return [client[0] for client in rig.reactor.tcpClients]

    def test_ipv4_ipv6_and_names(self) -> None:
        self.assertEqual(self.connects_to("192.0.2.7", {}), ["192.0.2.7"])
        self.assertEqual(self.connects_to("2001:db8::7", {}), ["2001:db8::7"])
        self.assertEqual(
            self.connects_to("mx.example", {"mx.example": ("2001:db8::9",)}), ["2001:db8::9"]
        )

    def test_an_idn_host_is_looked_up_as_a_labels(self) -> None:
        names = {"xn--bcher-kva.example": ("192.0.2.8",), "bücher.example": ("192.0.2.8",)}
        self.assertEqual(self.connects_to("Bücher.example", names), ["192.0.2.8"])

    def test_container_names_with_underscores_work(self) -> None:
        self.assertEqual(self.connects_to("mail_server", {}), ["mail_server"])


@implementer(smtp.IMessageDelivery)
class _Inbox:
    """The stock server's delivery: keeps lines."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def receivedHeader(self, *_: object) -> bytes:
        return b""

    def validateFrom(self, _: object, origin: object) -> object:
        return origin

    def validateTo(self, _: object) -> object:
        return lambda: self

    def lineReceived(self, line: bytes) -> None:
        self.lines.append(line)

    def eomReceived(self) -> object:
        return succeed(None)

    def connectionLost(self) -> None:
        """Nothing to do."""


class StockServerTests(SynchronousTestCase):
    """A server that we did not write gets exactly the message."""

    def test_twisteds_esmtp_server_receives_the_mail_unstuffed(self) -> None:
        inbox = _Inbox()

        def build() -> Any:
            server: Any = smtp.ESMTP()
            server.delivery = inbox
            server.callLater = reactor.callLater
            return server

        reactor = Reactor()
        sender = Sender(reactor, 600)
        sending = sender.send(mail(), plain_route())
        factory: Any = reactor.tcpClients.pop(0)[2]
        address = IPv4Address("TCP", "192.0.2.1", 25)
        _, server, pump = connectedServerAndClient(
            build, lambda: factory.buildProtocol(address), clock=reactor, greet=False
        )
        server.transport.peerAddress = server.transport.hostAddress = address
        pump.flush()
        self.assertTrue(self.successResultOf(sending).delivered)
        self.assertEqual([line for line in inbox.lines if line][-2:], [b"first", b".second"])
