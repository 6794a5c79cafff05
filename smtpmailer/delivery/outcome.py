# SPDX-License-Identifier: MIT
"""SMTP replies and failures, turned into outcomes per recipient and the API's reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from smtpmailer.core.dialogue import bounded
from smtpmailer.core.model import NOT_REACHED, DeliveryResult, Outcome, RecipientOutcome
from smtpmailer.delivery.replies import SmtpReply, clean_text
from smtpmailer.errors import (
    RemoteError,
    SmtpConnectError,
    SmtpLoginError,
    SmtpLostError,
    SmtpMailerError,
    SmtpProtocolError,
    SmtpRefusedError,
    TlsConfigError,
)

__all__ = [
    "DELIVERED",
    "MAX_REASON",
    "Verdict",
    "build_result",
    "classify",
    "refused_recipient",
    "verdict_of_error",
    "verdict_of_reply",
]

#: For comparing: to ask the enumeration for it, for every mail, takes longer than that.
DELIVERED: Final = Outcome.DELIVERED

#: The longest reason, in characters; who failed is in the outcomes, all of them.
MAX_REASON = 4000

#: Replies about our account, not about the mail: for the operator to mend, so try again.
_ACCOUNT_CODES = frozenset({530, 534, 535, 538})
_PERMANENT = 500

_CONNECT = NOT_REACHED.removeprefix("SMTP Error: ")
_LOGIN = "Could not authenticate."


@attrs.define(kw_only=True)  # Not frozen: that takes three times as long, for every mail.
class Verdict:
    """What became of all recipients that the server did not refuse one by one.

    ``headline`` says it for the API, without ``SMTP Error: ``; empty when delivered. ``dialogue``
    is what was said, where not all went well. ``past_dot``: the mail's end was, or may have been,
    written while somebody was to get it. ``again_in`` is DeliveryResult's.
    """

    outcome: Outcome
    headline: str = ""
    code: int = 0
    enhanced: str = ""
    reply: str = ""
    dialogue: tuple[str, ...] = attrs.field(default=(), repr=False)
    past_dot: bool = False
    again_in: float | None = None


def classify(code: int) -> Outcome:
    """Say what a refusal means: 5xx is final, except where it is about our own account."""
    final = code >= _PERMANENT and code not in _ACCOUNT_CODES
    return Outcome.PERMANENT if final else Outcome.TEMPORARY


def refused_recipient(recipient: str, reply: SmtpReply) -> RecipientOutcome:
    """Give the outcome of a recipient that RCPT TO was refused for."""
    return RecipientOutcome(
        recipient=recipient,
        outcome=classify(reply.code),
        code=reply.code,
        enhanced=reply.enhanced,
        reply=reply.text,
    )


def verdict_of_reply(stage: str, reply: SmtpReply) -> Verdict:
    """Judge a 4xx or 5xx reply to ``stage`` of a mail transaction."""
    return Verdict(
        outcome=classify(reply.code),
        headline=_not_accepted(stage, reply.code, reply.text),
        code=reply.code,
        enhanced=reply.enhanced,
        reply=reply.text,
    )


def verdict_of_error(error: SmtpMailerError, *, in_transaction: bool, past_dot: bool) -> Verdict:
    """Judge what ended a delivery before the reply to the final dot.

    ``past_dot``: the final dot was, or may have been, written; then only a refusal tells
    that the server has not taken the mail. A refusal ``in_transaction`` is about the mail;
    before it, it is about us or the server and never final.
    """
    if not isinstance(error, RemoteError | TlsConfigError):
        return Verdict(outcome=Outcome.PERMANENT, headline=str(error), reply=clean_text(str(error)))
    outcome = Outcome.TEMPORARY
    if isinstance(error, SmtpRefusedError):
        outcome = classify(error.code) if in_transaction else outcome
    elif past_dot and isinstance(error, SmtpLostError | SmtpProtocolError):
        outcome = Outcome.UNCERTAIN
    return Verdict(
        outcome=outcome,
        headline=_headline(error),
        code=getattr(error, "code", 0),
        enhanced=getattr(error, "enhanced", ""),
        reply=clean_text(str(error)),
        dialogue=getattr(error, "dialogue", ()),
    )


def build_result(
    recipients: Sequence[str],
    refused: Mapping[str, RecipientOutcome],
    verdict: Verdict,
    *,
    server: str = "",
    seconds: float = 0.0,
    earlier: tuple[str, ...] = (),
) -> DeliveryResult:
    """Give each recipient its own refusal or else the verdict, and say why not all got it.

    ``earlier`` was said before what the verdict holds of the dialogue.
    """
    if verdict.outcome is DELIVERED and not refused and not verdict.headline:
        return _all_delivered(recipients, verdict, server, seconds)
    outcomes = [
        refused.get(recipient)
        or RecipientOutcome(
            recipient=recipient,
            outcome=verdict.outcome,
            code=verdict.code,
            enhanced=verdict.enhanced,
            reply=verdict.reply,
        )
        for recipient in recipients
    ]
    reason = _reason(recipients, refused, verdict) if refused or verdict.headline else ""
    return DeliveryResult(
        outcomes=tuple(outcomes),
        reason=reason,
        server=server,
        seconds=seconds,
        dialogue=bounded((*earlier, *verdict.dialogue)) if reason else (),
        again_in=verdict.again_in,
        untaken=not (verdict.past_dot or verdict.again_in == 0)
        and all(outcome.outcome is Outcome.TEMPORARY for outcome in outcomes),
    )


def _all_delivered(
    recipients: Sequence[str], verdict: Verdict, server: str, seconds: float
) -> DeliveryResult:
    """Give what ``build_result`` gives for nearly all mails: nothing of it has to be explained."""
    code, enhanced, reply = verdict.code, verdict.enhanced, verdict.reply
    return DeliveryResult(
        outcomes=tuple(
            [
                RecipientOutcome(
                    recipient=recipient,
                    outcome=DELIVERED,
                    code=code,
                    enhanced=enhanced,
                    reply=reply,
                )
                for recipient in recipients
            ]
        ),
        server=server,
        seconds=seconds,
    )


def _reason(
    recipients: Sequence[str], refused: Mapping[str, RecipientOutcome], verdict: Verdict
) -> str:
    parts = []
    if verdict.headline and len(refused) < len(recipients):
        parts.append(verdict.headline)
    if refused:
        listed = ", ".join(
            f"{who}: {outcome.code} {outcome.reply}".rstrip() for who, outcome in refused.items()
        )
        parts.append(f"The following recipients failed: {listed}")
    if not parts:
        return ""
    text = "SMTP Error: " + "; ".join(parts)
    return text if len(text) <= MAX_REASON else text[: MAX_REASON - 3] + "..."


def _headline(error: SmtpMailerError) -> str:
    if isinstance(error, SmtpConnectError | TlsConfigError):
        return _CONNECT
    if isinstance(error, SmtpLoginError):
        return _LOGIN
    if isinstance(error, SmtpRefusedError):
        return _not_accepted(error.stage, error.code, str(error))
    return clean_text(str(error))


def _not_accepted(stage: str, code: int, text: str) -> str:
    return f"{stage} not accepted: {code} {text}".rstrip()
