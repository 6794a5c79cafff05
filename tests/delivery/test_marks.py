# SPDX-License-Identifier: MIT
"""``before_dot`` is noted before a message's end is written, however much is in flight."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.model import Outcome, OutgoingMail
from smtpmailer.errors import NoSuchMailError, StoreError
from tests.delivery.dialogue import Dialogue
from tests.delivery.hostile import mail
from tests.delivery.test_overlap import KEPT, begin, chunk, envelope
from tests.delivery.test_pipelining import DOT, OK, opening, outcomes

A, B, C = (f"{letter}@x.example" for letter in "abc")
DELIVERED, TEMPORARY, UNCERTAIN = Outcome.DELIVERED, Outcome.TEMPORARY, Outcome.UNCERTAIN


class Marks:
    """Notes mails as they are about to be sent; the test says when each is noted."""

    def __init__(self, *, early: bool = False) -> None:
        self.early = early
        self.asked: list[tuple[str, ...]] = []
        self.noted: list[Deferred[None]] = []

    def mail(self, *recipients: str) -> OutgoingMail:
        def mark(accepted: tuple[str, ...]) -> Deferred[None]:
            self.asked.append(accepted)
            self.noted.append(Deferred())
            return self.noted[-1]

        return mail(*recipients).marked_by(mark, early=self.early)


class EarlyTests(SynchronousTestCase):
    """Marks that are made while the server answers."""

    def setUp(self) -> None:
        self.marks = Marks(early=True)

    def test_they_begin_once_the_opening_is_written_and_name_everybody(self) -> None:
        for extensions in (("PIPELINING",), ("PIPELINING", "CHUNKING")):
            marks = Marks(early=True)
            dialogue = begin(extensions, marks.mail(A, B))
            opened = dialogue.said()
            self.assertIn(b"RCPT TO:<b@x.example>", opened)
            self.assertEqual(marks.asked, [(A, B)])

    def test_the_message_waits_for_mark_and_go_ahead_whichever_is_last(self) -> None:
        for first in ("mark", "go-ahead"):
            marks = Marks(early=True)
            dialogue = begin(("PIPELINING",), marks.mail(A))
            dialogue.said()
            steps = [
                lambda marks=marks: marks.noted[0].callback(None),
                lambda dialogue=dialogue: dialogue.hear(OK, OK, "354 go"),
            ]
            for step in steps if first == "mark" else reversed(steps):
                self.assertEqual(dialogue.said(), b"")
                step()
            self.assertEqual(dialogue.said(), DOT, first)
            dialogue.hear(KEPT)
            self.assertEqual((outcomes(dialogue), marks.asked), ([[DELIVERED]], [(A,)]))

    def test_with_chunks_a_mail_rides_and_is_marked_while_the_one_before_it_is_kept(self) -> None:
        dialogue = begin(("PIPELINING", "CHUNKING"), self.marks.mail(A), self.marks.mail(B))
        dialogue.said()
        self.marks.noted[0].callback(None)
        dialogue.hear(OK, OK)
        self.assertEqual(dialogue.said(), chunk() + b"RSET\r\n" + envelope(B))
        self.assertEqual(self.marks.asked, [(A,), (B,)])
        self.marks.noted[1].callback(None)
        dialogue.hear(KEPT, OK, OK, OK)
        self.assertEqual(dialogue.said(), chunk())

    def test_a_mail_that_is_refused_meanwhile_is_over_whatever_its_mark_says(self) -> None:
        for answers in (("450 4.1.0 not now", OK, "503 no"), (OK, "450 4.1.1 not now", "554 no")):
            for noted in (None, StoreError("disk full")):
                marks = Marks(early=True)
                dialogue = begin(("PIPELINING",), marks.mail(A), marks.mail(B))
                dialogue.said()
                dialogue.hear(*answers)
                self.assertEqual(outcomes(dialogue), [[TEMPORARY]])
                self.assertEqual(len(marks.asked), 2, "the next one has begun")
                after = dialogue.said()
                self.assertNotIn(DOT, after)
                if noted is None:
                    marks.noted[0].callback(None)
                else:
                    marks.noted[0].errback(noted)
                self.assertEqual((dialogue.said(), dialogue.tape.aborted), (b"", False))

    def test_who_is_refused_gets_nothing_though_the_mark_names_them(self) -> None:
        dialogue = begin(("PIPELINING",), self.marks.mail(A, B))
        dialogue.hear(OK, "550 5.1.1 no", OK, "354 go")
        self.marks.noted[0].callback(None)
        dialogue.hear(KEPT)
        self.assertEqual(outcomes(dialogue), [[Outcome.PERMANENT, DELIVERED]])

    def test_what_can_not_be_noted_is_not_sent(self) -> None:
        dialogue = begin(("PIPELINING",), self.marks.mail(A))
        dialogue.said()
        self.marks.noted[0].errback(StoreError("disk full"))
        self.assertEqual((outcomes(dialogue), dialogue.tape.aborted), ([[TEMPORARY]], True))
        self.assertIn("disk full", dialogue.results[0].reason)

    def test_a_mail_that_can_not_be_marked_puts_none_in_front_of_it_in_doubt(self) -> None:
        for extensions in (("PIPELINING",), ("PIPELINING", "CHUNKING")):
            for error in (StoreError("disk full"), NoSuchMailError("b"), ZeroDivisionError("b")):
                marks = Marks(early=True)
                dialogue = begin(extensions, marks.mail(A), marks.mail(B))
                go_ahead = ["354 go"] if len(extensions) == 1 else []
                marks.noted[0].callback(None)
                dialogue.hear(OK, OK, *go_ahead)
                marks.noted[1].errback(error)
                self.assertFalse(dialogue.tape.aborted)
                dialogue.hear(KEPT)
                self.assertEqual(outcomes(dialogue), [[DELIVERED]])
                dialogue.said()
                dialogue.hear(OK, OK, *(go_ahead or [OK]))
                self.assertEqual((dialogue.said(), dialogue.tape.aborted), (b"", True))
                told = outcomes(dialogue)[1:]
                self.assertEqual(
                    told, [] if isinstance(error, ZeroDivisionError) else [[TEMPORARY]]
                )
                self.flushLoggedErrors(ZeroDivisionError)

    def test_one_that_is_refused_by_then_ends_no_session(self) -> None:
        dialogue = begin(("PIPELINING",), self.marks.mail(A), self.marks.mail(B))
        self.marks.noted[0].callback(None)
        dialogue.hear(OK, OK, "354 go")
        self.marks.noted[1].errback(StoreError("disk full"))
        dialogue.hear(KEPT, "450 4.1.0 no", OK, "503 no")
        self.assertEqual(outcomes(dialogue), [[DELIVERED], [TEMPORARY]])
        self.assertFalse(dialogue.tape.aborted)

    def given_up_behind_another(self, *, early: bool) -> Dialogue:
        """Give up a mail behind one whose final reply is due."""
        dialogue = begin(("PIPELINING",), mail(A))
        dialogue.hear(OK, OK, "354 go")
        (sending,) = dialogue.send(Marks(early=early).mail(B))
        sending.cancel()
        return dialogue

    def test_a_mail_given_up_behind_another_does_not_keep_the_session(self) -> None:
        for early in (False, True):
            dialogue = self.given_up_behind_another(early=early)
            dialogue.hear(KEPT, OK, OK, "354 go")
            self.assertTrue(dialogue.tape.aborted)
            self.assertEqual(outcomes(dialogue), [[TEMPORARY], [DELIVERED]])

    def test_nor_does_it_end_one_that_waits_for_nothing_of_it(self) -> None:
        for early in (False, True):
            dialogue = self.given_up_behind_another(early=early)
            dialogue.hear(KEPT, OK, "450 4.1.1 no", "503 no")
            self.assertFalse(dialogue.tape.aborted)

    def test_without_a_dot_nobody_is_in_doubt(self) -> None:
        dialogue = begin(("PIPELINING",), self.marks.mail(A))
        self.marks.noted[0].callback(None)
        dialogue.hear(OK, OK)
        dialogue.hang_up()
        self.assertNotIn([UNCERTAIN], outcomes(dialogue))

    def test_step_by_step_the_mark_waits_for_who_is_accepted(self) -> None:
        dialogue = begin((), self.marks.mail(A, B))
        dialogue.hear(OK)
        dialogue.hear("550 5.1.1 no")
        self.assertEqual(self.marks.asked, [])
        dialogue.hear(OK)
        self.assertEqual(self.marks.asked, [(B,)])


class CutTests(SynchronousTestCase):
    """Deliveries that are cut short, as the service stops: what was marked, too."""

    def results(self, dialogue: Dialogue) -> list[tuple[Outcome, float | None, str]]:
        dialogue.sender.cut()
        return [
            (result.outcomes[0].outcome, result.again_in, result.reason)
            for result in dialogue.results
        ]

    def test_a_mail_of_the_queue_that_nobody_has_comes_back_untried(self) -> None:
        """Waiting for a connection, before it began, in its midst, and noted for its end."""
        cut = "SMTP Error: cut short, as the service stopped"
        for extensions in ((), ("PIPELINING",), ("PIPELINING", "CHUNKING")):
            waiting = Dialogue(*extensions)
            waiting.send(Marks().mail(A), Marks().mail(B))
            untried = [result[:2] for result in self.results(waiting)]
            self.assertEqual(untried, [(TEMPORARY, 0.0)] * 2)
            for answers in range(3):
                dialogue = begin(extensions, Marks().mail(A))
                for _ in range(answers if not extensions else min(answers, 1)):
                    dialogue.hear(OK)
                self.assertEqual(self.results(dialogue), [(TEMPORARY, 0.0, cut)])
                self.assertFalse(dialogue.results[0].untaken, "no other server is tried")
                self.assertTrue(dialogue.tape.aborted)

    def test_one_that_its_server_may_have_is_in_doubt(self) -> None:
        marks = Marks()
        dialogue = begin(("PIPELINING",), marks.mail(A))
        dialogue.hear(OK, OK, "354 go")
        marks.noted[0].callback(None)
        ((outcome, again_in, _),) = self.results(dialogue)
        self.assertEqual((outcome, again_in), (UNCERTAIN, None))

    def test_one_that_a_client_waits_for_has_failed(self) -> None:
        dialogue = begin((), mail(A))
        ((outcome, again_in, _),) = self.results(dialogue)
        self.assertEqual((outcome, again_in), (TEMPORARY, None))

    def test_one_that_comes_later_ends_at_once(self) -> None:
        dialogue = Dialogue()
        dialogue.sender.cut()
        dialogue.send(Marks().mail(A))
        ((outcome, again_in),) = [
            (each.outcomes[0].outcome, each.again_in) for each in dialogue.results
        ]
        self.assertEqual((outcome, again_in), (TEMPORARY, 0.0))


class MarkTests(SynchronousTestCase):
    """With each way to hand a mail over."""

    def setUp(self) -> None:
        self.marks = Marks()

    def test_with_data_the_mark_is_made_while_354_is_waited_for(self) -> None:
        dialogue = begin(("PIPELINING",), self.marks.mail(A, B), self.marks.mail(C))
        self.assertEqual(dialogue.said(), opening(A, B))
        dialogue.hear(OK, OK)
        self.assertEqual(self.marks.asked, [])
        dialogue.hear("550 5.1.1 no")
        self.assertEqual(self.marks.asked, [(A,)], "those who are accepted")
        self.marks.noted[0].callback(None)
        self.assertEqual(dialogue.said(), b"")
        dialogue.hear("354 go")
        self.assertEqual(dialogue.said(), DOT + opening(C))

    def test_with_data_the_go_ahead_waits_for_the_mark(self) -> None:
        dialogue = begin(("PIPELINING",), self.marks.mail(A), self.marks.mail(B))
        dialogue.said()
        dialogue.hear(OK, OK, "354 go")
        self.assertEqual(dialogue.said(), b"")
        self.marks.noted[0].callback(None)
        self.assertEqual(dialogue.said(), DOT + opening(B))
        dialogue.hear(KEPT, OK, OK, "354 go")
        self.assertEqual((dialogue.said(), outcomes(dialogue)), (b"", [[DELIVERED]]))

    def test_with_chunks_a_marked_mail_rides_without_its_message(self) -> None:
        dialogue = begin(("PIPELINING", "CHUNKING"), self.marks.mail(A), self.marks.mail(B))
        self.assertEqual(dialogue.said(), envelope(A))
        dialogue.hear(OK, OK)
        self.assertEqual(dialogue.said(), b"")
        self.marks.noted[0].callback(None)
        self.assertEqual(dialogue.said(), chunk() + b"RSET\r\n" + envelope(B))
        dialogue.hear(KEPT, OK, OK, OK)
        self.assertEqual((dialogue.said(), self.marks.asked), (b"", [(A,), (B,)]))
        self.marks.noted[1].callback(None)
        self.assertEqual(dialogue.said(), chunk())

    def test_a_marked_mail_is_in_doubt_only_once_its_message_is_written(self) -> None:
        for extensions in (("PIPELINING",), ("PIPELINING", "CHUNKING")):
            dialogue = begin(extensions, Marks().mail(A))
            dialogue.hear(OK, OK, *(["354 go"] if len(extensions) == 1 else []))
            dialogue.hang_up()
            self.assertNotIn([UNCERTAIN], outcomes(dialogue))

    def test_what_can_not_be_noted_is_not_sent_nor_tried_again(self) -> None:
        def refuse(_: tuple[str, ...]) -> Deferred[None]:
            return fail(StoreError("disk full"))

        for extensions in (("PIPELINING",), ("PIPELINING", "CHUNKING")):
            dialogue = begin(extensions, attrs.evolve(mail(A), before_dot=refuse))
            dialogue.said()
            dialogue.hear(OK, OK)
            self.assertEqual((dialogue.said(), dialogue.tape.aborted), (b"", True))
            self.assertEqual(outcomes(dialogue), [[TEMPORARY]])
            self.assertIn("disk full", dialogue.results[0].reason)
            self.assertFalse(dialogue.results[0].untaken, "another server is not for that")
            dialogue.hang_up()
            self.assertEqual(dialogue.reactor.tcpClients, [])

    def test_a_slow_mark_does_not_end_the_session(self) -> None:
        dialogue = begin(("PIPELINING",), self.marks.mail(A))
        dialogue.hear(OK, OK, "354 go")
        dialogue.said()
        dialogue.reactor.advance(500)
        self.marks.noted[0].callback(None)
        self.assertEqual(dialogue.said(), DOT)

    def test_in_lock_step_the_mark_is_made_while_the_go_ahead_is_on_its_way(self) -> None:
        for mark_first in (True, False):
            self.marks = Marks()
            dialogue = begin((), self.marks.mail(A))
            dialogue.hear(OK)
            self.assertEqual(self.marks.asked, [])
            dialogue.said()
            dialogue.hear(OK)
            self.assertEqual((self.marks.asked, dialogue.said()), ([(A,)], b"DATA\r\n"))
            steps = [lambda: self.marks.noted[0].callback(None), lambda: dialogue.hear("354 go")]  # noqa: B023
            first, second = steps if mark_first else reversed(steps)
            first()
            self.assertEqual(dialogue.said(), b"")
            second()
            self.assertEqual(dialogue.said(), DOT)

    def test_a_mark_that_fails_when_its_mail_was_refused_ends_no_other_mail(self) -> None:
        for extensions in ((), ("PIPELINING",)):
            self.marks = Marks()
            dialogue = begin(extensions, self.marks.mail(A))
            dialogue.hear(OK)
            dialogue.hear(OK)
            dialogue.send(mail(B))
            dialogue.hear("451 4.3.0 not now")
            self.assertEqual(outcomes(dialogue), [[TEMPORARY]])
            self.marks.noted[0].errback(StoreError("disk full"))
            self.assertFalse(dialogue.tape.aborted)
            dialogue.said()
            for _ in range(3):
                dialogue.hear(OK)
            dialogue.hear("354 go")
            dialogue.hear(KEPT)
            self.assertEqual(outcomes(dialogue), [[TEMPORARY], [DELIVERED]])

    def test_a_mail_that_was_given_up_is_not_marked_any_more(self) -> None:
        dialogue = begin(("PIPELINING",), mail(B))
        dialogue.hear(OK, OK, "354 go")
        (given_up,) = dialogue.send(self.marks.mail(A))
        self.assertEqual(dialogue.said(), opening(B) + DOT + opening(A))
        given_up.cancel()
        dialogue.hear(KEPT, OK, OK)
        self.assertEqual((self.marks.asked, outcomes(dialogue)), ([], [[TEMPORARY], [DELIVERED]]))

    def test_a_mark_may_be_anything_that_can_be_awaited(self) -> None:
        noted: Deferred[None] = Deferred()

        async def note(_: tuple[str, ...]) -> None:
            await noted

        dialogue = begin(("PIPELINING",), attrs.evolve(mail(A), before_dot=note))
        dialogue.said()
        dialogue.hear(OK, OK, "354 go")
        self.assertEqual(dialogue.said(), b"")
        noted.callback(None)
        self.assertEqual(dialogue.said(), DOT)

    def test_a_fault_while_noting_fails_the_mail_and_sends_nothing(self) -> None:
        def fault(_: tuple[str, ...]) -> Deferred[None]:
            raise ZeroDivisionError

        dialogue = Dialogue("PIPELINING")
        (sending,) = dialogue.send(attrs.evolve(mail(A), before_dot=fault))
        dialogue.connect()
        dialogue.said()
        dialogue.hear(OK, OK, "354 go")
        self.failureResultOf(sending, ZeroDivisionError)
        self.assertEqual((dialogue.said(), dialogue.tape.aborted), (b"", True))
