# SPDX-License-Identifier: MIT
"""What answers show of deliveries and of the queue, under ``detail``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from smtpmailer.core.model import DeliveryResult, RecipientOutcome
from smtpmailer.core.names import due_of, unique_of
from smtpmailer.core.queued import Buried, FoundMail, MailPlace
from smtpmailer.core.queuestate import Attempt, MailState

__all__ = [
    "buried_detail",
    "delivery_detail",
    "explained_mail",
    "page_of",
    "shown_mail",
    "waiting_detail",
]

#: Fields of a stored mail that no answer shows.
_PASSWORDS: Final = ("smtpPassword", "smtpEncryptPassword")

_RECIPIENTS: Final = ("to", "ccList", "bccList")

_PAGE: Final = 500


def delivery_detail(mail_id: str, result: DeliveryResult) -> dict[str, Any]:
    """Describe a delivery that has just ended."""
    return {
        "mailId": mail_id,
        "temporary": result.temporary,
        "server": result.server,
        "seconds": round(result.seconds, 3),
        "recipients": [_recipient(outcome) for outcome in result.outcomes],
    }


def waiting_detail(name: str, state: MailState) -> dict[str, Any]:
    """Describe what the queue knows about a mail that waits; times are Unix seconds."""
    due = due_of(name) if state.next_at is None else state.next_at
    return {
        "mailId": unique_of(name),
        "queueName": name,
        "nextAttempt": None if state.held else due,
        "held": state.held or None,
        **_history(state),
    }


def buried_detail(buried: Buried) -> dict[str, Any]:
    """Describe what is known about a dead letter."""
    return {
        "mailId": unique_of(buried.mail.name),
        "why": buried.record.get("why"),
        "failedAt": buried.record.get("at"),
        **_history(buried.mail.state),
    }


def explained_mail(found: FoundMail, waits_for: str) -> dict[str, Any]:
    """Describe all that is known of a mail but its content; ``dialogue`` stands by its attempt."""
    mail, state = found.mail, found.mail.state
    document = mail.document if isinstance(mail.document, Mapping) else {}
    due = due_of(mail.name) if state.next_at is None else state.next_at
    waits = found.place is MailPlace.WAITING and not state.held
    history = _history(state)
    history["attempts"] = [
        {**_attempt(attempt), "dialogue": list(attempt.dialogue)} for attempt in state.attempts
    ]
    return {
        "mailId": unique_of(mail.name),
        "queueName": mail.name,
        "place": found.place.value,
        "waitsFor": waits_for,
        "nextAttempt": due if waits else None,
        "held": state.held or None,
        "why": found.record.get("why") or mail.fault or None,
        "failedAt": found.record.get("at"),
        "subject": document.get("subject"),
        **{key: document.get(key, []) for key in _RECIPIENTS},
        "crashes": state.crashes,
        **history,
    }


def shown_mail(document: Mapping[str, Any]) -> dict[str, Any]:
    """Give a stored mail without its password fields."""
    return {key: value for key, value in document.items() if key not in _PASSWORDS}


def page_of(value: Any) -> tuple[int, int]:
    """Read ``limit`` and ``page`` of a list request; what is no fit value is the default."""
    fields = value if isinstance(value, dict) else {}
    limit, page = fields.get("limit"), fields.get("page")
    if type(limit) is not int or not 1 <= limit <= _PAGE:
        limit = _PAGE
    if type(page) is not int or page < 0:
        page = 0
    return limit, page


def _history(state: MailState) -> dict[str, Any]:
    return {
        "attemptCount": state.attempt_count,
        "attemptsNotKept": state.forgotten,
        "inDoubt": list(state.ever_in_doubt()),
        "settled": [_recipient(outcome) for outcome in state.settled],
        "attempts": [_attempt(attempt) for attempt in state.attempts],
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "at": attempt.at,
        "server": attempt.server,
        "seconds": round(attempt.seconds, 3),
        "reason": attempt.reason or None,
        "recipients": [_recipient(outcome) for outcome in attempt.outcomes],
    }


def _recipient(outcome: RecipientOutcome) -> dict[str, Any]:
    return {
        "address": outcome.recipient,
        "outcome": outcome.outcome.value,
        "code": outcome.code,
        "enhancedCode": outcome.enhanced,
        "reply": outcome.reply,
    }
