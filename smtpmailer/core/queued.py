# SPDX-License-Identifier: MIT
"""The values that a queue and its users hand to each other."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import attrs

from smtpmailer.core.queuestate import FRESH, MailState

__all__ = [
    "Buried",
    "FoundMail",
    "MailDocument",
    "MailPlace",
    "Page",
    "Recovered",
    "Settlement",
    "StoredMail",
]

#: A mail object as JSON has it, or the text of an encrypted one.
MailDocument = Mapping[str, Any] | str


@attrs.frozen(kw_only=True)
class StoredMail:
    """A mail in the queue. With ``fault``, why its document can't be read (it is empty then).

    ``abandoned``: somebody else had claimed it, and was not heard of again.
    """

    name: str
    document: MailDocument = attrs.field(repr=False)
    state: MailState = FRESH
    fault: str = ""
    abandoned: bool = False


@attrs.frozen(kw_only=True)
class Page:
    """A page of names in ascending order, and how many there are on all pages."""

    names: tuple[str, ...]
    total: int


@attrs.frozen(kw_only=True)
class Recovered:
    """What a dead process left: mails it had claimed, and paths of the predecessor's leftovers."""

    claims: tuple[StoredMail, ...]
    leftovers: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Buried:
    """A dead letter: the mail, its record (why, when, history), as far as they can be read."""

    mail: StoredMail
    record: Mapping[str, Any]


class MailPlace(enum.Enum):
    """Where a mail is."""

    WAITING = "waiting"
    SENDING = "sending"
    DEAD = "dead"
    QUARANTINE = "quarantine"


@attrs.frozen(kw_only=True)
class FoundMail:
    """A mail and where it is; ``record`` tells why and when, where it is not to be sent."""

    place: MailPlace
    mail: StoredMail
    record: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Settlement:
    """What becomes of a claimed mail.

    Exactly one of these: ``done``; ``retry`` (back into the queue); ``dead`` (dead letters, with
    this reason); ``corrupt`` (quarantine, with this reason). ``document`` is the new content,
    None to leave it. ``at`` is now, in Unix seconds.
    """

    at: float
    state: MailState
    document: MailDocument | None = attrs.field(default=None, repr=False)
    done: bool = False
    dead: str = ""
    corrupt: str = ""
