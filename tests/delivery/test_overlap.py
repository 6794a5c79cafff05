# SPDX-License-Identifier: MIT
"""Several mails in flight on a session, and what of them is in doubt when it breaks."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.model import Outcome, OutgoingMail
from smtpmailer.delivery.body import CHUNK
from smtpmailer.delivery.limits import PoolLimits
from tests.delivery.dialogue import Dialogue
from tests.delivery.hostile import WIRE, mail
from tests.delivery.test_pipelining import DOT, OK, opening, outcomes

A, B, C, D = (f"{letter}@x.example" for letter in "abcd")
DELIVERED, TEMPORARY = Outcome.DELIVERED, Outcome.TEMPORARY
PERMANENT, UNCERTAIN = Outcome.PERMANENT, Outcome.UNCERTAIN
KEPT = "250 2.0.0 kept"
#: WIRE as BDAT takes it: without the dot of stuffing.
PLAIN = WIRE.replace(b"\r\n..", b"\r\n.")


def envelope(*recipients: str) -> bytes:
    """Give MAIL and RCPT, without DATA."""
    return opening(*recipients).removesuffix(b"DATA\r\n")


def chunk(body: bytes = PLAIN) -> bytes:
    return b"BDAT %d LAST\r\n%b" % (len(body), body)


def whole(*recipients: str) -> bytes:
    """Give a mail behind another one, all in one."""
    return b"RSET\r\n" + envelope(*recipients) + chunk()


def begin(
    extensions: Sequence[str], *mails: OutgoingMail, depth: int = 2, most: int = 100
) -> Dialogue:
    limits = PoolLimits(connections=1, depth=depth, mails_per_connection=most)
    dialogue = Dialogue(*extensions, limits=limits)
    dialogue.send(*mails)
    dialogue.connect()
    return dialogue


class DataTests(SynchronousTestCase):
    """With PIPELINING the next mail's commands go out behind the message in front of it."""

    def begin(self, *mails: OutgoingMail, depth: int = 2, most: int = 100) -> Dialogue:
        return begin(("PIPELINING",), *mails, depth=depth, most=most)

    def test_the_next_commands_ride_in_the_same_write(self) -> None:
        dialogue = self.begin(mail(A), mail(B), mail(C))
        dialogue.said()
        dialogue.hear(OK, OK, "354 go")
        self.assertEqual(dialogue.tape.writes, [DOT + opening(B)])
        dialogue.said()
        dialogue.hear(KEPT, OK, OK, "354 go")
        self.assertEqual(outcomes(dialogue), [[DELIVERED]])
        self.assertEqual(dialogue.tape.writes, [DOT + opening(C)])

    def test_the_depth_bounds_the_mails_in_flight(self) -> None:
        dialogue = self.begin(mail(A), mail(B), depth=1)
        dialogue.said()
        dialogue.hear(OK, OK, "354 go")
        self.assertEqual(dialogue.said(), DOT)
        dialogue.hear(KEPT)
        self.assertEqual(dialogue.said(), opening(B))

    def test_the_most_mails_of_a_session_bound_them_too(self) -> None:
        dialogue = self.begin(mail(A), mail(B), mail(C), most=2)
        dialogue.said()
        dialogue.hear(OK, OK, "354 go")
        dialogue.hear(KEPT, OK, OK, "354 go")
        self.assertEqual(dialogue.said(), DOT + opening(B) + DOT)
        dialogue.hear(KEPT)
        self.assertEqual(dialogue.said(), b"QUIT\r\n")
        dialogue.hear("221 bye")
        dialogue.hang_up()
        dialogue.connect()
        self.assertEqual(dialogue.said(), opening(C))

    def test_a_mail_that_comes_later_rides_as_well_when_no_session_is_free(self) -> None:
        dialogue = self.begin(mail(A))
        dialogue.hear(OK, OK, "354 go")
        dialogue.said()
        dialogue.send(mail(B))
        self.assertEqual(dialogue.said(), opening(B))

    def test_a_mail_that_a_connection_is_on_its_way_for_does_not_ride(self) -> None:
        dialogue = Dialogue("PIPELINING", limits=PoolLimits(connections=2, depth=2))
        dialogue.send(mail(A))
        dialogue.connect()
        dialogue.hear(OK, OK, "354 go")
        dialogue.said()
        dialogue.send(mail(B))
        self.assertEqual((dialogue.said(), len(dialogue.reactor.tcpClients)), (b"", 1))
        dialogue.send(mail(C))
        self.assertEqual(dialogue.said(), opening(B))
        dialogue.hear(KEPT, OK, OK, "354 go")
        self.assertEqual(dialogue.said(), DOT)

    def test_a_large_message_has_others_behind_its_end_only(self) -> None:
        wire = b"x" * (2 * CHUNK) + b"\r\n"
        dialogue = self.begin(mail(A, wire=wire), mail(B))
        dialogue.said()
        dialogue.hear(OK, OK, "354 go")
        self.assertEqual(b"".join(dialogue.tape.writes), wire + b".\r\n" + opening(B))
        self.assertIsNone(dialogue.tape.producer)

    def test_nothing_is_written_in_the_middle_of_a_message(self) -> None:
        wire = b"x" * (2 * CHUNK) + b"\r\n"
        dialogue = self.begin(mail(A, wire=wire))
        dialogue.hear(OK, OK)
        dialogue.said()
        dialogue.tape.full = True
        dialogue.hear("354 go")
        dialogue.send(mail(B))
        self.assertEqual(dialogue.said(), wire[:CHUNK])
        dialogue.tape.go_on()
        self.assertEqual(dialogue.said(), wire[CHUNK:] + b".\r\n" + opening(B))

    def test_when_the_session_breaks_only_the_mail_behind_its_dot_is_in_doubt(self) -> None:
        for reset in (False, True):
            dialogue = self.begin(mail(A), mail(B), mail(C))
            dialogue.hear(OK, OK, "354 go")
            dialogue.hang_up(reset=reset)
            self.assertEqual(outcomes(dialogue), [[UNCERTAIN]])
            dialogue.connect()
            self.assertEqual(dialogue.said(), opening(B), "it goes out once, on a new session")
            dialogue.hear(OK, OK, "354 go")
            dialogue.hear(KEPT, OK, OK, "354 go")
            dialogue.hear(KEPT)
            self.assertEqual(outcomes(dialogue), [[UNCERTAIN], [DELIVERED], [DELIVERED]])

    def test_421_to_the_dot_sends_the_mail_behind_it_to_another_session(self) -> None:
        dialogue = self.begin(mail(A), mail(B))
        dialogue.hear(OK, OK, "354 go")
        dialogue.said()
        dialogue.hear("421 4.3.2 closing")
        self.assertEqual(outcomes(dialogue), [[TEMPORARY]])
        dialogue.hang_up()
        dialogue.connect()
        self.assertEqual(dialogue.said(), opening(B))

    def test_421_to_the_riding_mail_is_about_the_session_not_the_mail(self) -> None:
        dialogue = self.begin(mail(A), mail(B))
        dialogue.hear(OK, OK, "354 go")
        dialogue.hear(KEPT, "421 4.7.0 enough mails over this session")
        self.assertEqual(outcomes(dialogue), [[DELIVERED]])
        dialogue.hang_up()
        dialogue.connect()
        self.assertEqual(dialogue.said(), opening(B))

    def test_a_mail_is_tried_on_one_further_session_only(self) -> None:
        dialogue = self.begin(mail(A), mail(B))
        dialogue.hear(OK, OK, "354 go")
        dialogue.hear(KEPT, "421 4.7.0 enough")
        dialogue.hang_up()
        dialogue.connect()
        dialogue.hear("421 4.7.0 enough")
        self.assertEqual(outcomes(dialogue), [[DELIVERED], [TEMPORARY]])
        self.assertEqual(dialogue.reactor.tcpClients, [])

    def test_giving_up_one_of_two_leaves_the_other_alone(self) -> None:
        dialogue = Dialogue("PIPELINING")
        _, second = dialogue.send(mail(A), mail(B))
        dialogue.connect()
        dialogue.hear(OK, OK, "354 go")
        second.cancel()
        self.assertEqual(outcomes(dialogue), [[TEMPORARY]])
        dialogue.hear(KEPT)
        self.assertEqual(outcomes(dialogue), [[TEMPORARY], [DELIVERED]])
        dialogue.said()
        dialogue.hear(OK, OK, "354 go")
        self.assertEqual((dialogue.said(), dialogue.tape.aborted), (b"", True))

    def test_giving_up_the_first_of_two_leaves_the_other_alone(self) -> None:
        dialogue = Dialogue("PIPELINING")
        first, _ = dialogue.send(mail(A), mail(B))
        dialogue.connect()
        dialogue.hear(OK, OK, "354 go")
        dialogue.said()
        first.cancel()
        self.assertEqual(outcomes(dialogue), [[UNCERTAIN]])
        dialogue.hear(KEPT, OK, OK, "354 go")
        self.assertEqual(dialogue.said(), DOT)
        dialogue.hear(KEPT)
        self.assertEqual(outcomes(dialogue), [[UNCERTAIN], [DELIVERED]])


class ChunkTests(SynchronousTestCase):
    """With CHUNKING (RFC 3030) whole mails ride."""

    def begin(self, *mails: OutgoingMail, depth: int = 2, pipelining: bool = True) -> Dialogue:
        offers = ("PIPELINING", "CHUNKING") if pipelining else ("CHUNKING",)
        return begin(offers, *mails, depth=depth)

    def test_the_first_message_waits_for_its_recipients(self) -> None:
        dialogue = self.begin(mail(A))
        self.assertEqual(dialogue.said(), envelope(A))
        dialogue.hear(OK, OK)
        self.assertEqual(dialogue.said(), chunk())
        dialogue.hear(KEPT)
        self.assertEqual(outcomes(dialogue), [[DELIVERED]])

    def test_others_ride_whole_up_to_the_depth(self) -> None:
        dialogue = self.begin(*map(mail, (A, B, C, D)), depth=3)
        dialogue.said()
        dialogue.hear(OK, OK)
        self.assertEqual(dialogue.tape.writes, [chunk() + whole(B) + whole(C)])
        dialogue.said()
        dialogue.hear(KEPT, OK, OK)
        self.assertEqual(dialogue.said(), whole(D))
        dialogue.hear(OK, KEPT, *(OK, OK, OK, KEPT) * 2)
        self.assertEqual(outcomes(dialogue), [[DELIVERED]] * 4)

    def test_after_all_answers_at_once_the_next_goes_out_whole_without_reset(self) -> None:
        dialogue = self.begin(*map(mail, (A, B, C)), depth=2)
        dialogue.hear(OK, OK)
        dialogue.said()
        dialogue.hear(KEPT, OK, OK, OK, KEPT)
        self.assertEqual(dialogue.said(), envelope(C) + chunk())

    def test_after_a_rest_the_message_waits_again(self) -> None:
        dialogue = self.begin(mail(A))
        dialogue.hear(OK, OK)
        dialogue.hear(KEPT)
        dialogue.said()
        dialogue.send(mail(B))
        self.assertEqual(dialogue.said(), envelope(B))

    def test_dots_are_sent_as_they_are(self) -> None:
        dialogue = self.begin(mail(A, wire=b"..\r\n...\r\nx.\r\n\r\n..\r\n"))
        dialogue.said()
        dialogue.hear(OK, OK)
        self.assertEqual(dialogue.said(), chunk(b".\r\n..\r\nx.\r\n\r\n.\r\n"))

    def test_no_recipient_no_message(self) -> None:
        dialogue = self.begin(mail(A))
        dialogue.said()
        dialogue.hear(OK, "550 5.1.1 no")
        self.assertEqual((dialogue.said(), outcomes(dialogue)), (b"", [[PERMANENT]]))

    def test_a_refused_mail_in_the_middle_leaves_the_others_alone(self) -> None:
        dialogue = self.begin(*map(mail, (A, B, C)), depth=3)
        dialogue.hear(OK, OK)
        dialogue.hear("554 5.6.0 spam")
        dialogue.hear(OK, OK, "550 5.1.1 no", "503 5.5.1 nobody to send to")
        dialogue.hear(OK, OK, OK, KEPT)
        self.assertEqual(outcomes(dialogue), [[PERMANENT], [PERMANENT], [DELIVERED]])

    def test_behind_a_refused_message_the_next_mail_begins_with_rset(self) -> None:
        for depth in (1, 2):
            dialogue = self.begin(mail(A), depth=depth)
            dialogue.hear(OK, OK)
            dialogue.hear("452 4.3.1 full")
            dialogue.said()
            dialogue.send(mail(B))
            self.assertEqual(dialogue.said(), b"RSET\r\n" + envelope(B))

    def test_all_in_flight_are_in_doubt_when_the_session_breaks(self) -> None:
        dialogue = self.begin(*map(mail, (A, B, C, D)), depth=3)
        dialogue.hear(OK, OK)
        dialogue.said()
        dialogue.hang_up()
        self.assertEqual(outcomes(dialogue), [[UNCERTAIN]] * 3, "and not the fourth")
        dialogue.connect()
        self.assertEqual(dialogue.said(), envelope(D))

    def test_what_was_answered_is_not_in_doubt(self) -> None:
        dialogue = self.begin(*map(mail, (A, B, C)), depth=3)
        dialogue.hear(OK, OK)
        dialogue.hear(KEPT, OK, OK, "550 5.1.1 no")
        dialogue.hang_up()
        self.assertEqual(outcomes(dialogue), [[DELIVERED], [PERMANENT], [UNCERTAIN]])

    def test_after_421_the_rest_was_not_looked_at(self) -> None:
        dialogue = self.begin(*map(mail, (A, B, C)), depth=3)
        dialogue.hear(OK, OK)
        dialogue.hear(KEPT, "421 4.7.0 enough")
        self.assertEqual(outcomes(dialogue), [[DELIVERED]])
        dialogue.hang_up()
        dialogue.connect()
        dialogue.said()
        dialogue.hear(OK, OK)
        dialogue.hear(KEPT)
        self.assertEqual(dialogue.said()[-6:], b"QUIT\r\n", "to make room for the third")
        dialogue.hang_up()
        dialogue.connect()
        dialogue.hear(OK, OK)
        dialogue.hear(KEPT)
        self.assertEqual(outcomes(dialogue), [[DELIVERED]] * 3)

    def test_mails_that_need_a_new_session_do_not_wait_for_a_long_line(self) -> None:
        dialogue = self.begin(*map(mail, (A, B, C)), depth=3)
        dialogue.send(*(mail(f"{number}@line.example") for number in range(50)))
        dialogue.hear(OK, OK)
        dialogue.hear(KEPT, "421 4.7.0 enough")
        dialogue.hang_up()
        for recipient in (B, C):
            dialogue.connect()
            self.assertEqual(dialogue.said(), envelope(recipient))
            dialogue.hear(OK, OK)
            dialogue.hear(KEPT, *[OK, OK, OK, KEPT] * dialogue.said().count(b"RSET"))
            dialogue.hang_up()

    def test_without_pipelining_each_command_waits(self) -> None:
        dialogue = self.begin(mail(A, B), mail(C), pipelining=False)
        for expected, answer in (
            (b"MAIL FROM:<from@example.com>\r\n", OK),
            (b"RCPT TO:<a@x.example>\r\n", OK),
            (b"RCPT TO:<b@x.example>\r\n", OK),
            (chunk(), KEPT),
            (b"MAIL FROM:<from@example.com>\r\n", OK),
        ):
            self.assertEqual(dialogue.said(), expected)
            dialogue.hear(answer)
        self.assertEqual(outcomes(dialogue), [[DELIVERED, DELIVERED]])

    def test_a_large_message_is_streamed_behind_its_command(self) -> None:
        wire = b"x" * (2 * CHUNK) + b"\r\n"
        dialogue = self.begin(mail(A), mail(B, wire=wire), mail(C), depth=3)
        dialogue.said()
        dialogue.hear(OK, OK)
        # Too large to be in flight unasked: its recipients are waited for.
        self.assertEqual(dialogue.said(), chunk() + b"RSET\r\n" + envelope(B))
        dialogue.hear(KEPT, OK, OK, OK)
        self.assertEqual(dialogue.said(), chunk(wire) + whole(C))
