# SPDX-License-Identifier: MIT
"""What is told of mails that were not tried: it is not their turn, or their server is not there."""

from __future__ import annotations

import attrs

from smtpmailer.delivery.outcome import Verdict, verdict_of_error
from smtpmailer.delivery.reach import Refusal
from smtpmailer.delivery.replies import clean_text
from smtpmailer.errors import RemoteError, SmtpLostError

__all__ = ["out_of_reach", "overdue", "postponed", "too_late"]


def out_of_reach(refusal: Refusal, *, urgent: bool) -> Verdict:
    """Judge a mail whose server is out of reach; it comes again later unless it is urgent."""
    again_in = None if urgent else refusal.wait
    text = clean_text(str(refusal))
    return attrs.evolve(_judge(refusal.error), reply=text, again_in=again_in)


def overdue(error: RemoteError) -> Verdict:
    """Judge a mail whose time is over before it was its turn; ``error`` says that."""
    text = f"{error}: it was not its turn yet (SMTP_RATE_LIMIT, or lowered limits)"
    return _judge(SmtpLostError(text))


def postponed(account: str) -> Verdict:
    """Judge a mail of the queue that is not to wait for its turn here any longer."""
    return attrs.evolve(_judge(SmtpLostError(f"{account} takes no more mail now")), again_in=0.0)


def too_late(wait: float) -> Verdict:
    """Judge a mail whose turn would come in so many seconds."""
    text = f"its turn would come in {wait:.0f} s only (SMTP_RATE_LIMIT, or lowered limits)"
    return _judge(SmtpLostError(f"{text}, after its time"))


def _judge(error: RemoteError) -> Verdict:
    return verdict_of_error(error, in_transaction=False, past_dot=False)
