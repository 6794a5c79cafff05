# SPDX-License-Identifier: MIT
"""Codes and failures become outcomes and reasons."""

from __future__ import annotations

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.model import Outcome
from smtpmailer.delivery.outcome import (
    MAX_REASON,
    Verdict,
    build_result,
    classify,
    refused_recipient,
    verdict_of_error,
    verdict_of_reply,
)
from smtpmailer.delivery.replies import SmtpReply
from smtpmailer.errors import (
    MessageError,
    SmtpConnectError,
    SmtpLoginError,
    SmtpLostError,
    SmtpMailerError,
    SmtpProtocolError,
    SmtpRefusedError,
    TlsConfigError,
)

NO = SmtpReply(550, (b"5.1.1 no such user",))
DELIVERED = Verdict(outcome=Outcome.DELIVERED, code=250, reply="ok")
TEMPORARY, PERMANENT, UNCERTAIN = Outcome.TEMPORARY, Outcome.PERMANENT, Outcome.UNCERTAIN


class ClassifyTests(SynchronousTestCase):
    """What a code means."""

    def test_4xx_is_temporary_and_5xx_permanent(self) -> None:
        for code in (421, 450, 451, 452, 499):
            self.assertIs(classify(code), TEMPORARY)
        for code in (500, 550, 552, 554, 599):
            self.assertIs(classify(code), PERMANENT)

    def test_codes_about_our_account_are_temporary(self) -> None:
        for code in (530, 534, 535, 538):
            self.assertIs(classify(code), TEMPORARY)


class VerdictTests(SynchronousTestCase):
    """What ended a delivery, and when."""

    def test_errors_are_judged_by_kind_and_moment(self) -> None:
        refused = SmtpRefusedError("RCPT TO", "5.7.1 no", code=550, enhanced="5.7.1")
        table: tuple[tuple[SmtpMailerError, Outcome, Outcome, Outcome], ...] = (
            (SmtpLostError("gone"), TEMPORARY, TEMPORARY, UNCERTAIN),
            (SmtpProtocolError("what?"), TEMPORARY, TEMPORARY, UNCERTAIN),
            (SmtpConnectError("none"), TEMPORARY, TEMPORARY, TEMPORARY),
            (SmtpLoginError("no"), TEMPORARY, TEMPORARY, TEMPORARY),
            (TlsConfigError("no file"), TEMPORARY, TEMPORARY, TEMPORARY),
            (refused, TEMPORARY, PERMANENT, PERMANENT),
            (MessageError("bad"), PERMANENT, PERMANENT, PERMANENT),
        )
        for error, before, within, after in table:
            for in_transaction, past_dot, expected in (
                (False, False, before),
                (True, False, within),
                (True, True, after),
            ):
                verdict = verdict_of_error(error, in_transaction=in_transaction, past_dot=past_dot)
                self.assertIs(verdict.outcome, expected, (error, in_transaction, past_dot))

    def test_headlines_are_the_contracts(self) -> None:
        for error, headline in (
            (SmtpConnectError("why"), "Could not connect to SMTP host."),
            (TlsConfigError("why"), "Could not connect to SMTP host."),
            (SmtpLoginError("why"), "Could not authenticate."),
            (SmtpRefusedError("data", "no", code=554), "data not accepted: 554 no"),
            (SmtpLostError("connection lost (DATA)"), "connection lost (DATA)"),
        ):
            verdict = verdict_of_error(error, in_transaction=True, past_dot=False)
            self.assertEqual(verdict.headline, headline)

    def test_a_reply_keeps_its_codes(self) -> None:
        verdict = verdict_of_reply("data", NO)
        self.assertEqual(
            (verdict.outcome, verdict.code, verdict.enhanced, verdict.headline),
            (PERMANENT, 550, "5.1.1", "data not accepted: 550 5.1.1 no such user"),
        )


class ResultTests(SynchronousTestCase):
    """One outcome for each recipient, in the envelope's order."""

    def test_all_delivered_needs_no_reason(self) -> None:
        result = build_result(["a", "b"], {}, DELIVERED)
        self.assertTrue(result.delivered)
        self.assertEqual(result.reason, "")
        self.assertEqual([o.recipient for o in result.outcomes], ["a", "b"])

    @given(
        st.lists(st.text(max_size=9), min_size=1, max_size=4, unique=True),
        st.integers(200, 299),
        st.text(max_size=9),
        st.text(max_size=9),
    )
    @settings(deadline=None, max_examples=60, derandomize=True)
    def test_where_all_is_well_the_short_way_gives_the_same(
        self, names: list[str], code: int, enhanced: str, reply: str
    ) -> None:
        verdict = Verdict(
            outcome=Outcome.DELIVERED, code=code, enhanced=enhanced, reply=reply, past_dot=True
        )
        short = build_result(names, {}, verdict, server="h:25", seconds=2.0, earlier=("C: x",))
        # A refusal of somebody else takes the long way.
        other = {"somebody else": refused_recipient("somebody else", NO)}
        long = build_result(names, other, verdict, server="h:25", seconds=2.0)
        self.assertEqual(short, attrs.evolve(long, reason="", dialogue=()))

    def test_a_refused_recipient_keeps_its_own_words(self) -> None:
        result = build_result(["a", "b"], {"a": refused_recipient("a", NO)}, DELIVERED)
        self.assertEqual([o.outcome for o in result.outcomes], [PERMANENT, Outcome.DELIVERED])
        self.assertEqual(
            result.reason,
            "SMTP Error: The following recipients failed: a: 550 5.1.1 no such user",
        )

    def test_the_verdict_is_not_told_when_it_is_about_nobody(self) -> None:
        verdict = Verdict(outcome=TEMPORARY, headline="connection lost")
        result = build_result(["a"], {"a": refused_recipient("a", NO)}, verdict)
        self.assertNotIn("connection lost", result.reason)

    def test_a_reason_has_an_end(self) -> None:
        names = [f"user{n}@example.com" for n in range(1000)]
        refused = {name: refused_recipient(name, NO) for name in names}
        result = build_result(names, refused, DELIVERED)
        self.assertEqual(len(result.reason), MAX_REASON)
        self.assertEqual(len(result.outcomes), 1000)
