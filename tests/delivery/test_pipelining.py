# SPDX-License-Identifier: MIT
"""Commands in groups (RFC 2920): what goes out together, and whose each answer is."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.model import Outcome, OutgoingMail
from smtpmailer.delivery.limits import PoolLimits
from tests.delivery.dialogue import Dialogue
from tests.delivery.hostile import WIRE, mail

HELLO = b"EHLO client.example\r\n"
A, B, C = "a@x.example", "b@x.example", "c@x.example"
D = "d@x.example"
OK = "250 2.0.0 ok"
#: With this, WIRE fills a line of its own after DATA.
DOT = WIRE + b".\r\n"


def opening(*recipients: str) -> bytes:
    """Give the group of commands for a mail."""
    lines = ["MAIL FROM:<from@example.com>", *(f"RCPT TO:<{r}>" for r in recipients), "DATA"]
    return "".join(f"{line}\r\n" for line in lines).encode()


def outcomes(dialogue: Dialogue) -> list[list[Outcome]]:
    return [[one.outcome for one in result.outcomes] for result in dialogue.results]


DELIVERED, TEMPORARY = Outcome.DELIVERED, Outcome.TEMPORARY
PERMANENT, UNCERTAIN = Outcome.PERMANENT, Outcome.UNCERTAIN


class GroupTests(SynchronousTestCase):
    """One mail at a time."""

    def begin(self, *mails: OutgoingMail, depth: int = 1) -> Dialogue:
        dialogue = Dialogue("PIPELINING", limits=PoolLimits(connections=1, depth=depth))
        dialogue.send(*mails)
        dialogue.connect()
        return dialogue

    def test_mail_recipients_and_data_are_one_write(self) -> None:
        dialogue = self.begin(mail(A, B))
        self.assertEqual(dialogue.tape.writes, [opening(A, B)])
        dialogue.said()
        dialogue.hear(OK, OK, OK, "354 go on")
        self.assertEqual(dialogue.tape.writes, [DOT])
        dialogue.hear("250 2.0.0 kept")
        self.assertEqual(outcomes(dialogue), [[DELIVERED, DELIVERED]])
        self.assertEqual(dialogue.results[0].outcomes[1].reply, "2.0.0 kept")

    def test_a_refused_recipient_is_the_one_whose_answer_it_was(self) -> None:
        dialogue = self.begin(mail(A, B, C))
        dialogue.hear(OK, OK, "550 5.1.1 no such user", OK, "354 go on")
        dialogue.hear("250 2.0.0 kept")
        self.assertEqual(outcomes(dialogue), [[DELIVERED, PERMANENT, DELIVERED]])
        self.assertEqual(
            dialogue.results[0].reason,
            f"SMTP Error: The following recipients failed: {B}: 550 5.1.1 no such user",
        )

    def test_all_refused_and_data_refused_needs_no_message(self) -> None:
        dialogue = self.begin(mail(A, B), mail(C))
        dialogue.said()
        dialogue.hear(OK, "550 5.1.1 no", "450 4.2.1 full", "554 5.5.1 nobody to send to")
        self.assertEqual(outcomes(dialogue), [[PERMANENT, TEMPORARY]])
        self.assertEqual(
            dialogue.results[0].reason,
            f"SMTP Error: The following recipients failed: {A}: 550 5.1.1 no, {B}: 450 4.2.1 full",
        )
        self.assertEqual(dialogue.said(), b"RSET\r\n" + opening(C))

    def test_a_go_ahead_after_all_were_refused_gets_a_lone_dot(self) -> None:
        """RFC 2920 section 3.1."""
        for reply in (OK, "554 5.5.1 no recipients"):
            dialogue = self.begin(mail(A, B), mail(C))
            dialogue.said()
            dialogue.hear(OK, "550 5.1.1 no", "550 5.1.1 no", "354 go on")
            self.assertEqual(dialogue.said(), b".\r\n")
            dialogue.hear(reply)
            self.assertEqual(outcomes(dialogue), [[PERMANENT, PERMANENT]])
            self.assertEqual(dialogue.said(), opening(C), "the dot ended the transaction")

    def test_a_lone_dot_needs_no_mark_and_leaves_no_doubt(self) -> None:
        marked: list[object] = []

        def mark(recipients: Sequence[str]) -> Deferred[None]:
            marked.append(recipients)
            return Deferred()

        dialogue = self.begin(attrs.evolve(mail(A), before_dot=mark))
        dialogue.said()
        dialogue.hear(OK, "550 5.1.1 no", "354 go on")
        self.assertEqual(dialogue.said(), b".\r\n")
        dialogue.hang_up()
        self.assertEqual((outcomes(dialogue), marked), ([[PERMANENT]], []))

    def test_a_refused_sender_decides_whatever_follows(self) -> None:
        dialogue = self.begin(mail(A, B), mail(C))
        dialogue.said()
        dialogue.hear("550 5.7.1 not you", OK, "250 ok", "554 5.5.1 no")
        self.assertEqual(outcomes(dialogue), [[PERMANENT, PERMANENT]])
        self.assertEqual(
            dialogue.results[0].reason, "SMTP Error: MAIL FROM not accepted: 550 5.7.1 not you"
        )
        self.assertEqual(dialogue.said(), opening(C))

    def test_a_go_ahead_after_a_refused_sender_ends_the_session(self) -> None:
        dialogue = self.begin(mail(A))
        dialogue.said()
        dialogue.hear("550 5.7.1 not you", OK, "354 go on")
        self.assertEqual(outcomes(dialogue), [[PERMANENT]])
        self.assertEqual((dialogue.said(), dialogue.tape.aborted), (b"", True))

    def test_refused_data_is_a_refused_mail(self) -> None:
        dialogue = self.begin(mail(A))
        dialogue.hear(OK, OK, "451 4.3.0 later")
        self.assertEqual(outcomes(dialogue), [[TEMPORARY]])
        self.assertEqual(
            dialogue.results[0].reason, "SMTP Error: data not accepted: 451 4.3.0 later"
        )

    def test_421_in_the_middle_ends_it_there(self) -> None:
        bye = "421 4.3.2 closing"
        cases: tuple[tuple[tuple[str, ...], list[Outcome]], ...] = (
            ((bye,), [TEMPORARY] * 3),
            ((OK, bye), [TEMPORARY] * 3),
            ((OK, "550 5.1.1 no", bye), [PERMANENT, TEMPORARY, TEMPORARY]),
            ((OK, OK, OK, OK, bye), [TEMPORARY] * 3),
        )
        for answers, expected in cases:
            for cut in (False, True):
                dialogue = self.begin(mail(A, B, C))
                dialogue.said()
                if cut:
                    for line in answers:
                        dialogue.hear(line)
                else:
                    dialogue.hear(*answers)
                dialogue.hang_up()
                self.assertEqual(outcomes(dialogue), [expected], answers)
                self.assertEqual(dialogue.results[0].outcomes[2].code, 421)
                self.assertEqual(dialogue.said(), b"QUIT\r\n")
                self.assertEqual(dialogue.reactor.tcpClients, [], "it is an answer, no accident")

    def test_an_answer_may_have_several_lines_among_others_of_one(self) -> None:
        dialogue = self.begin(mail(A, B))
        dialogue.said()
        dialogue.hear("250-2.1.0 a sender", "250 2.1.0 it is", OK, OK, "354 go on")
        self.assertEqual(dialogue.said(), DOT)
        dialogue.hear("250 2.0.0 kept")
        self.assertEqual(outcomes(dialogue), [[DELIVERED, DELIVERED]])

    def test_an_answer_too_many_is_not_believed(self) -> None:
        dialogue = self.begin(mail(A))
        dialogue.said()
        dialogue.hear(OK, OK, "354 go on", "250 2.0.0 kept")
        self.assertEqual((dialogue.said(), dialogue.tape.aborted), (b"", True))
        self.assertNotIn([DELIVERED], outcomes(dialogue))

    def test_an_answer_without_end_is_cut_off(self) -> None:
        dialogue = self.begin(mail(A))
        dialogue.hear(OK)
        for _ in range(66):
            dialogue.hear_bytes(b"2" * 1000)
        self.assertTrue(dialogue.tape.aborted)

    def test_a_part_of_an_answer_too_many_is_noticed_as_well(self) -> None:
        dialogue = self.begin(mail(A))
        dialogue.said()
        dialogue.hear_bytes(b"250 ok\r\n250 ok\r\n354 go on\r\n2")
        self.assertEqual((dialogue.said(), dialogue.tape.aborted), (b"", True))


class SplitTests(SynchronousTestCase):
    """Answers mean the same however they are cut into pieces, and however they are joined."""

    #: What the server says, and what the client says to it, in turns.
    TURNS = (
        (b"250-2.1.0 a sender\r\n250 2.1.0 it is\r\n250 ok\r\n550 5.1.1 no\r\n250 ok\r\n354 go\r\n",
         DOT + opening(D)),
        (b"250 2.0.0 kept\r\n250 ok\r\n250-2.1.5 who\r\n250 2.1.5 that\r\n354 go\r\n", DOT),
        (b"451-4.3.0 not\r\n451 4.3.0 now\r\n", b""),
    )  # fmt: skip

    def play(self, cut_turn: int, pieces: Sequence[bytes]) -> None:
        dialogue = Dialogue("PIPELINING")
        dialogue.send(mail(A, B, C), mail(D))
        dialogue.connect()
        self.assertEqual(dialogue.said(), opening(A, B, C))
        for turn, (answer, expected) in enumerate(self.TURNS):
            for piece in pieces if turn == cut_turn else (answer,):
                self.assertEqual(dialogue.said(), b"", "nothing before the last byte")
                dialogue.hear_bytes(piece)
            self.assertEqual(dialogue.said(), expected, (turn, pieces))
        self.assertEqual(outcomes(dialogue), [[DELIVERED, PERMANENT, DELIVERED], [TEMPORARY]])
        self.assertEqual(dialogue.results[1].outcomes[0].reply, "4.3.0 not now")

    def test_at_every_byte(self) -> None:
        for turn, (answer, _) in enumerate(self.TURNS):
            for cut in range(1, len(answer)):
                self.play(turn, (answer[:cut], answer[cut:]))

    def test_byte_by_byte(self) -> None:
        for turn, (answer, _) in enumerate(self.TURNS):
            self.play(turn, [answer[i : i + 1] for i in range(len(answer))])
