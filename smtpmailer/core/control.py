# SPDX-License-Identifier: MIT
"""What processes of the service, and its commands, say to each other: a line of JSON each.

Three kinds of messages go over a channel, either way:

- ``{"ask": 7, "what": "status", "values": {}}`` wants an answer;
- ``{"answer": 7, "value": ...}`` is one, and ``{"answer": 7, "fault": "why not"}`` is one too;
- ``{"tell": "ready", "values": {}}`` wants none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import attrs
import orjson

from smtpmailer.errors import ControlError

__all__ = ["Answer", "Ask", "Message", "Tell", "decode", "encode"]


@attrs.frozen
class Ask:
    """A question; the asker's number for it comes back with the answer."""

    number: int
    what: str
    values: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class Answer:
    """The answer to a question: a JSON value, or why there is none (never empty then)."""

    number: int
    value: Any = None
    fault: str = ""


@attrs.frozen
class Tell:
    """News, or an order."""

    what: str
    values: Mapping[str, Any] = attrs.field(factory=dict)


Message: TypeAlias = Ask | Answer | Tell


def encode(message: Message) -> bytes:
    """Give the line of a message, without its end."""
    return orjson.dumps(_fields(message))


def decode(line: bytes) -> Message:
    """Read a line; raises ControlError when it is no message."""
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ControlError(f"no JSON: {error}") from None
    match fields:
        case {"ask": int(number), "what": str(what), "values": dict(values)}:
            return Ask(number, what, values)
        case {"answer": int(number), "fault": str(fault)}:
            return Answer(number, fault=fault or "no reason given")
        case {"answer": int(number), "value": value}:
            return Answer(number, value)
        case {"tell": str(what), "values": dict(values)}:
            return Tell(what, values)
    raise ControlError("neither ask nor answer nor tell")


def _fields(message: Message) -> dict[str, Any]:
    match message:
        case Ask(number, what, values):
            return {"ask": number, "what": what, "values": values}
        case Answer(number, value, ""):
            return {"answer": number, "value": value}
        case Answer(number, _, fault):
            return {"answer": number, "fault": fault}
        case Tell(what, values):
            return {"tell": what, "values": values}
