# SPDX-License-Identifier: MIT
"""What people can ask of a running service, and order; in words of JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred

from smtpmailer.core.board import Board, Field, Row

__all__ = ["Desk", "ProcessState", "overview"]


class Desk(Protocol):
    """Answers the commands; each Deferred may fail with ControlError, whose text is for people."""

    def status(self) -> Deferred[dict[str, Any]]:
        """Fire with the state of all processes; see ``overview``."""

    def connections(self) -> Deferred[list[dict[str, Any]]]:
        """Fire with what is known about each connection."""

    def reload(self) -> Deferred[dict[str, Any]]:
        """Read the settings again; fires with what came of it."""

    def stop(self, *, patient: bool) -> Deferred[None]:
        """Stop the service; fires when it has begun to. With ``patient`` it may take any time."""


@attrs.frozen(kw_only=True)
class ProcessState:
    """One process; ``age`` is in seconds, ``row`` what stands on the board about it."""

    name: str
    process: int
    state: str
    age: float
    row: Row | None = None


def overview(
    processes: Iterable[ProcessState], board: Board, queued: int | None, restarts: int
) -> dict[str, Any]:
    """Give the answer to ``status``.

    ``queued`` is how many mails wait, None where nobody knows. The totals count what processes did
    that are gone; ``restarts`` counts those that died.
    """
    listed = [_described(each) for each in processes]

    def now(field: str) -> int:
        return sum(each[field] or 0 for each in listed)

    return {
        "processes": listed,
        "totals": {
            "memory": now("memory"),
            "requests": board.total(Field.REQUESTS),
            "open": now("open"),
            "connections": now("connections"),
            "sent": board.total(Field.SENT),
            "failed": board.total(Field.FAILED),
            "queued": queued,
            "deliveries": now("deliveries"),
            "restarts": restarts,
        },
    }


def _described(process: ProcessState) -> dict[str, Any]:
    row = process.row

    def cell(field: Field) -> int | None:
        return None if row is None else row[field]

    return {
        "name": process.name,
        "pid": process.process,
        "state": process.state,
        "age": round(process.age, 1),
        "memory": cell(Field.MEMORY),
        "requests": cell(Field.REQUESTS),
        "open": cell(Field.IN_FLIGHT),
        "connections": cell(Field.CONNECTIONS),
        "sent": cell(Field.SENT),
        "failed": cell(Field.FAILED),
        "deliveries": cell(Field.DELIVERIES),
    }
