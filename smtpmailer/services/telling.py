# SPDX-License-Identifier: MIT
"""What the log's lines on mails have in common: fields by the same names, times people can read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from smtpmailer.core.model import DeliveryResult, MailRequest, Outcome, RecipientOutcome
from smtpmailer.core.names import unique_of

__all__ = [
    "attempt_fields",
    "name_fields",
    "put_off",
    "recipient_domains",
    "request_domains",
    "said_yes",
    "told_time",
    "with_reply",
]

#: So many domains are named; of the others, their number.
_DOMAINS: Final = 5


def name_fields(name: str) -> dict[str, Any]:
    """Give id and name of a mail in the queue."""
    return {"mail_id": unique_of(name), "name": name}


def attempt_fields(result: DeliveryResult, attempt: int) -> dict[str, Any]:
    """Give what is to be told of an attempt; ``attempt`` is its number, from 1.

    ``code`` and ``reply`` are those of the first recipient who does not have the mail, if any.
    """
    telling = _telling(result)
    return {
        "domains": recipient_domains(outcome.recipient for outcome in result.outcomes),
        "server": result.server,
        "code": telling.code,
        "reply": telling.reply,
        "attempt": attempt,
        "seconds": round(result.seconds, 3),
        "reason": result.reason,
    }


def said_yes(result: DeliveryResult) -> str:
    """Say that a mail was sent, in the server's words."""
    first = result.outcomes[0]
    return f"sent ({first.code} {first.reply})" if first.code else "sent"


def with_reply(text: str, result: DeliveryResult) -> str:
    """Add the reply that is told, or what went wrong, to a text that does not have it."""
    telling = _telling(result)
    return f"{text} ({telling.reply})" if telling.reply not in text else text


def put_off(result: DeliveryResult) -> str:
    """Give the outcome of an attempt after which there is another one."""
    some = any(outcome.outcome is Outcome.DELIVERED for outcome in result.outcomes)
    return "partly sent" if some else "put off"


def recipient_domains(addresses: Iterable[str]) -> str:
    """Give the domains of addresses, each once, in order; of many, the first and a number."""
    domains = list(dict.fromkeys(each.rpartition("@")[2].lower() for each in addresses))
    more = [f"and {len(domains) - _DOMAINS} more"] if len(domains) > _DOMAINS else []
    return ", ".join([*domains[:_DOMAINS], *more])


def request_domains(mail: MailRequest | Mapping[str, Any]) -> str:
    """Give the domains of a mail's recipients, for a mail object that has been checked, too."""
    if isinstance(mail, MailRequest):
        return recipient_domains(each.email for each in (*mail.to, *mail.cc, *mail.bcc))
    return recipient_domains(_addresses(mail))


def told_time(at: float) -> str:
    """Give a Unix time for people, in UTC, to the second."""
    try:
        moment = datetime.fromtimestamp(at, tz=UTC)
    except (OverflowError, OSError, ValueError):
        return f"{at:.0f} (Unix time)"
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _telling(result: DeliveryResult) -> RecipientOutcome:
    """Give the outcome that says most: the first that is not good."""
    outcomes = result.outcomes
    return next((o for o in outcomes if o.outcome is not Outcome.DELIVERED), outcomes[0])


def _addresses(mail: Mapping[str, Any]) -> Iterator[str]:
    for key in ("to", "ccList", "bccList"):
        for item in mail.get(key, ()):
            yield item if isinstance(item, str) else item[0]
