# SPDX-License-Identifier: MIT
"""How a queue in Redis writes mails, their history, and when they are due."""

from __future__ import annotations

import math
from typing import Any

import attrs
import orjson

from smtpmailer.core.names import due_of
from smtpmailer.core.queued import MailDocument, Settlement, StoredMail
from smtpmailer.core.queuestate import FRESH, MailState, state_from_json, state_to_json
from smtpmailer.core.redisvalues import Word
from smtpmailer.stores.content import decode

__all__ = [
    "Due",
    "due_when",
    "encoded",
    "number",
    "read_state",
    "record_text",
    "state_text",
    "stored_mail",
]


@attrs.frozen(kw_only=True)
class Due:
    """When a mail is due by the node's clock; ``moved`` when its state says so, not its name."""

    at: float
    moved: bool

    def words(self, wall: float) -> tuple[Word, ...]:
        """Give what scripts are told, at this time by the node's clock."""
        return number(self.at), "1" if self.moved else "0", number(wall)

    @property
    def ever(self) -> float | None:
        """The time; None when the mail is held."""
        return None if self.at == math.inf else self.at


def due_when(name: str, state: MailState) -> Due:
    """Tell when a mail is due."""
    if state.held:
        return Due(at=math.inf, moved=True)
    if state.next_at is None:
        return Due(at=due_of(name), moved=False)
    return Due(at=state.next_at, moved=True)


def number(value: float) -> Word:
    """Give a number as scripts take it."""
    return repr(value)


def encoded(document: MailDocument) -> bytes:
    """Give a mail's value; an encrypted one is a JSON text as well."""
    return orjson.dumps(document)


def state_text(state: MailState) -> str:
    """Give a state's value; empty for that of a mail that nothing has happened to."""
    return "" if state == FRESH else orjson.dumps(state_to_json(state)).decode()


def read_state(text: bytes | None) -> MailState:
    """Read what ``state_text`` gave; raises ValueError."""
    if not text:
        return FRESH
    try:
        return state_from_json(orjson.loads(text))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"its history can't be read: {error!r}") from error


def record_text(settlement: Settlement) -> bytes:
    """Give the record of a mail that is buried."""
    record: dict[str, Any] = {
        "why": settlement.dead or settlement.corrupt,
        "at": settlement.at,
        "state": state_to_json(settlement.state),
    }
    return orjson.dumps(record)


def stored_mail(
    name: str, content: bytes, state: bytes | None, *, abandoned: bool = False
) -> StoredMail:
    """Read a mail; one that can't be read has a fault and no document."""
    document: MailDocument = ""
    known, fault = FRESH, ""
    try:
        known = read_state(state)
        document = decode(content)
    except ValueError as error:
        fault = str(error)
    return StoredMail(name=name, document=document, state=known, fault=fault, abandoned=abandoned)
