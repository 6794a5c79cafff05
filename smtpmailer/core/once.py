# SPDX-License-Identifier: MIT
"""Requests that are carried out once however often they are made: their keys, notes and answers.

A client puts a key of its own (``once``) beside ``sendMail`` or ``queueMail``. Under it is kept
what the request was (a keyed digest, never the mail), the id that its mail has if it made one, and,
when it is over, what was answered.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeGuard

import attrs
import orjson

from smtpmailer.core.queued import MailDocument
from smtpmailer.core.replies import Reply
from smtpmailer.errors import RequestInvalidError

__all__ = ["Kept", "Note", "answer_to_json", "is_key", "marks_of", "place_of", "reply_of_answer"]

_KEY: Final = re.compile(r"[!-~]{1,64}")
_PERSON: Final = b"smtpmailer once"
_MARK_BYTES: Final = 32
#: No longer key is taken by BLAKE2b.
_MOST_KEY: Final = 64
_TOO_DEEP: Final = "No mail is nested so deeply"


@attrs.frozen(kw_only=True)
class Note:
    """What is known of a request from its beginning on.

    ``mark`` tells it from others (see ``marks_of``), ``mail_id`` is the id of the mail that may
    come of it, ``at`` when it began, in Unix seconds.
    """

    mark: str
    mail_id: str
    at: float

    def to_json(self) -> dict[str, Any]:
        """Give it as a JSON object."""
        return {"mark": self.mark, "mail": self.mail_id, "at": self.at}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Note | None:
        """Read what ``to_json`` gave; None for anything else."""
        try:
            note = cls(mark=value["mark"], mail_id=value["mail"], at=float(value["at"]))
        except (KeyError, TypeError, ValueError):
            return None
        return note if isinstance(note.mark, str) and isinstance(note.mail_id, str) else None


@attrs.frozen(kw_only=True)
class Kept:
    """What a store has under a key: a note, the answer once it is known.

    While there is no answer, ``alive`` tells whether somebody still works on it.
    """

    note: Mapping[str, Any]
    answer: MailDocument | None = None
    alive: bool = False


def is_key(value: object) -> TypeGuard[str]:
    """Whether a JSON value can be a request's key: 1 to 64 visible ASCII characters."""
    return isinstance(value, str) and _KEY.fullmatch(value) is not None


def place_of(owner: str, key: str) -> str:
    """Give the name under which stores keep a key: 64 hexadecimal digits.

    Each ``owner`` (the name of a password) has keys of its own.
    """
    return hashlib.sha256(f"{len(owner)}:{owner}{key}".encode()).hexdigest()


def marks_of(name: str, mail: Any, secrets: Sequence[bytes]) -> tuple[str, ...]:
    """Give what tells a request from others, made with each of these secrets; the first counts.

    An SMTP password makes no difference: a login that was mended is no other mail. Without a
    secret of ours whoever reads the mark could try out which mail it is of.

    Raises RequestInvalidError for what is nested too deeply for one; no mail is.
    """
    if isinstance(mail, dict) and "smtpPassword" in mail:
        mail = {key: value for key, value in mail.items() if key != "smtpPassword"}
    try:
        text = orjson.dumps([name, mail], option=orjson.OPT_SORT_KEYS)
    except TypeError:
        raise RequestInvalidError({"payload": [_TOO_DEEP]}) from None

    def mark(secret: bytes) -> str:
        digest = hashlib.blake2b(
            text, digest_size=_MARK_BYTES, key=secret[:_MOST_KEY], person=_PERSON
        )
        return digest.hexdigest()

    return tuple(map(mark, secrets or (b"",)))


def answer_to_json(reply: Reply) -> dict[str, Any]:
    """Give what is kept of an answer; it holds no password, as no answer does."""
    return {
        "status": reply.status,
        "data": reply.data,
        "message": reply.message,
        "detail": reply.detail,
    }


def reply_of_answer(value: Mapping[str, Any]) -> Reply | None:
    """Read what ``answer_to_json`` gave; None for anything else."""
    if value.get("status") not in ("success", "error"):
        return None
    detail = value.get("detail")
    return Reply(
        status=value["status"],
        data=value.get("data"),
        message=value.get("message"),
        detail=detail if isinstance(detail, dict) else None,
    )
