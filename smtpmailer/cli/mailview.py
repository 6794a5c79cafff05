# SPDX-License-Identifier: MIT
"""A mail of the queue as text for people: headers, history, body."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from email.utils import formataddr
from typing import Any

from smtpmailer.cli.tables import clean, clean_lines, local_time

__all__ = ["history_view", "mail_view", "recipient_count", "recipients_of"]

_LISTS = ("to", "ccList", "bccList")
_PLACES = {
    "waiting": "waits in the queue",
    "sending": "is claimed, to be sent",
    "dead": "is a dead letter",
    "quarantine": "is in quarantine",
}


def mail_view(name: str, mail: Mapping[str, Any], detail: Mapping[str, Any]) -> str:
    """Give the whole view; ``detail`` is that of the request that answered with the mail."""
    lines = [*_table([("Name", name), *_fields(mail), *_state(detail)])]
    lines += _attempts(detail)
    if isinstance(mail.get("body"), str):
        lines += ["", clean_lines(mail["body"])]
    return "\n".join(lines)


def history_view(history: Mapping[str, Any]) -> str:
    """Give the history of a mail as ``getMailHistory`` answers it."""
    place = str(history["place"])
    fields = [
        ("Mail", str(history["mailId"])),
        ("Name", str(history["queueName"])),
        ("State", _PLACES.get(place, place)),
        ("Waits for", str(history["waitsFor"])),
        *_fields(history),
        *_state(history),
        ("Crashes", str(history["crashes"] or "")),
    ]
    return "\n".join([*_table(fields), *_attempts(history)])


def recipients_of(mail: Mapping[str, Any]) -> list[str]:
    """Give all recipients of a mail object, as far as it is one."""
    return [_address(item) for key in _LISTS for item in _items(mail.get(key))]


def recipient_count(mail: Mapping[str, Any]) -> int:
    """Count them."""
    return len(recipients_of(mail))


def _table(fields: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Give a line for each field that has a text."""
    width = max(len(label) for label, _ in fields) + 1
    for label, text in fields:
        if text:
            yield f"{label + ':':<{width}} {clean(text)}"


def _fields(mail: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    sender = (mail.get("fromName"), mail.get("fromEmail"))
    yield "From", _address([sender[1] or "", sender[0] or ""]) if any(sender) else ""
    labels = {"to": "To", "ccList": "Cc", "bccList": "Bcc", "replyTo": "Reply-To"}
    for key, label in labels.items():
        yield label, ", ".join(_address(item) for item in _items(mail.get(key)))
    yield "Subject", str(mail.get("subject") or "")
    yield "Template", str(mail.get("useTemplate", ""))
    for key, label in (("attachments", "Attached"), ("embedded", "Embedded")):
        for item in _items(mail.get(key)):
            yield label, " ".join(map(str, item))
    yield "Account", str(mail.get("account", ""))
    server = [str(mail[key]) for key in ("smtpHost", "smtpPort") if key in mail]
    more = [str(mail[key]) for key in ("smtpEncryption", "smtpUser") if key in mail]
    yield "Server", " ".join([":".join(server), *more]).strip()


def _state(detail: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "Next attempt", local_time(detail.get("nextAttempt"))
    yield "Held", str(detail.get("held") or "")
    yield "Failed", local_time(detail.get("failedAt"))
    yield "Reason", str(detail.get("why") or "")
    yield "In doubt", ", ".join(map(str, detail.get("inDoubt") or ()))
    settled = (f"{each['address']} ({each['outcome']})" for each in detail.get("settled") or ())
    yield "Settled", ", ".join(settled)
    yield "Attempts", str(detail.get("attemptCount", ""))


def _attempts(history: Mapping[str, Any]) -> Iterator[str]:
    for number, attempt in enumerate(history.get("attempts") or ()):
        if number == 1 and (gone := history.get("attemptsNotKept")):
            yield f"  ... {gone} {'attempts are' if gone > 1 else 'attempt is'} not kept ..."
        where = f"{attempt['server'] or 'no server'}, {attempt['seconds']} s"
        reason = attempt["reason"] or "delivered"
        yield clean(f"  {local_time(attempt['at'])}  {where}: {reason}")
        for each in attempt["recipients"]:
            said = " ".join(str(each[key]) for key in ("code", "reply") if each[key])
            yield clean(f"    {each['address']}: {each['outcome']} {said}".rstrip())
        for line in attempt.get("dialogue", ()):
            yield clean(f"      {line}")


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _address(item: Any) -> str:
    """Write a recipient of the mail object as a header would."""
    if isinstance(item, list) and len(item) > 1:
        name, address = str(item[1]), str(item[0])
        # formataddr encodes what is not ASCII; people want to read it.
        return formataddr((name, address)) if name.isascii() else f"{name} <{address}>"
    return str(item[0]) if isinstance(item, list) and item else str(item)
