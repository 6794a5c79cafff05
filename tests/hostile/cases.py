# SPDX-License-Identifier: MIT
"""What a hostile input is, and how its answer is described."""

from __future__ import annotations

import json
from typing import Any, Final

import attrs

__all__ = ["ANY", "UNAUTHORIZED", "Answer", "Case", "Holds", "case", "refused", "request"]


@attrs.frozen
class Holds:
    """Equals every text, or JSON value as text, that holds ``part``."""

    part: str

    def matches(self, value: object) -> bool:
        """Whether ``value`` holds it."""
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return self.part in text


#: Any value will do.
ANY: Final = Holds("")


@attrs.frozen
class Answer:
    """An expected answer."""

    status: str
    data: Any
    message: Any

    def fault(self, answer: dict[str, Any]) -> str:
        """Say what is wrong with ``answer``; empty when nothing is."""
        if list(answer)[:3] != ["status", "data", "message"]:
            return f"keys {list(answer)}"
        for key in ("status", "data", "message"):
            wanted, found = getattr(self, key), answer[key]
            fine = wanted.matches(found) if isinstance(wanted, Holds) else wanted == found
            if not fine:
                return f"{key} is {str(found)[:300]!r}, not {wanted!r}"
        return ""


@attrs.frozen
class Case:
    """What a client sends on a connection of its own, and all the answers to that.

    ``closes`` says that the service then ends the connection; ``half_closes`` that the client
    sends no more. A connection that stays open has to answer a ping.
    """

    name: str
    sent: bytes = attrs.field(repr=False)
    answers: tuple[Answer, ...]
    closes: bool = False
    half_closes: bool = False


def refused(message: Any, data: Any = None) -> Answer:
    """Expect an error."""
    return Answer("error", data, message)


UNAUTHORIZED: Final = refused("unauthorized request")


def case(
    name: str, sent: bytes | str, *answers: Answer, closes: bool = False, half_closes: bool = False
) -> Case:
    """Make a case; a text is sent as UTF-8."""
    raw = sent.encode("utf-8", "surrogatepass") if isinstance(sent, str) else sent
    return Case(name, raw, answers, closes, half_closes)


def request(name: str, value: Any, **more: Any) -> bytes:
    """Write a request as JSON."""
    return json.dumps({name: value, **more}, ensure_ascii=False).encode("utf-8", "surrogatepass")
