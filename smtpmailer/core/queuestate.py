# SPDX-License-Identifier: MIT
"""What the queue knows about a mail beyond its stored document, and its form as JSON.

The document in the queue stays exactly what the predecessor would have written; this lives
beside it. JSON keys are short: a journal holds very many of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from smtpmailer.core.model import Outcome, RecipientOutcome

__all__ = [
    "FRESH",
    "Attempt",
    "MailState",
    "revived",
    "state_from_json",
    "state_to_json",
    "updated",
]

#: How many attempts a mail's history keeps in full: the first and the newest ones.
_HISTORY: Final = 20

#: Of so many of them, the newest, it keeps what was said.
_DIALOGUES: Final = 3


@attrs.frozen(kw_only=True)
class Attempt:
    """One attempt: when (Unix seconds), with which server, how long, and each outcome.

    ``dialogue`` is what was said (see ``core.dialogue``), as far as that is kept.
    """

    at: float
    server: str
    seconds: float
    reason: str
    outcomes: tuple[RecipientOutcome, ...]
    dialogue: tuple[str, ...] = attrs.field(default=(), repr=False)


@attrs.frozen(kw_only=True)
class MailState:
    """The history of one mail.

    ``next_at`` is the Unix time of the next attempt, None for "when its name says". ``settled``
    holds the recipients that are done with, delivered or refused for good. ``in_doubt`` names
    the recipients for whom the final dot may have been sent without a known answer, and since
    when; ``doubted`` those of earlier attempts, whatever a later one came to. ``held`` says why a
    mail waits for its operator; empty when it does not. ``waits`` says why it was put off without
    an attempt, empty when it was not. ``crashes`` counts the processes that died while they had it.
    """

    next_at: float | None = None
    attempts: tuple[Attempt, ...] = ()
    attempt_count: int = 0
    settled: tuple[RecipientOutcome, ...] = ()
    in_doubt: tuple[str, ...] = ()
    in_doubt_since: float = 0.0
    doubted: tuple[str, ...] = ()
    held: str = ""
    waits: str = ""
    crashes: int = 0

    def with_attempt(self, attempt: Attempt) -> MailState:
        """Add an attempt; of a long history the middle goes."""
        kept = (*self.attempts, attempt)
        if len(kept) > _HISTORY:
            kept = (kept[0], *kept[-(_HISTORY - 1) :])
        older = tuple(_silent(each) for each in kept[:-_DIALOGUES])
        kept = (*older, *kept[-_DIALOGUES:])
        return attrs.evolve(self, attempts=kept, attempt_count=self.attempt_count + 1, waits="")

    def settled_addresses(self) -> frozenset[str]:
        """Give the recipients that are not to be tried again."""
        return frozenset(outcome.recipient for outcome in self.settled)

    def ever_in_doubt(self) -> tuple[str, ...]:
        """Give the recipients who are in doubt, or ever were: they may have the mail already."""
        return tuple(dict.fromkeys((*self.doubted, *self.in_doubt)))


#: The state of a mail that nothing has happened to.
FRESH: Final = MailState()


def revived(state: MailState) -> MailState:
    """Give the state of a dead letter that is to be tried again.

    Who has the mail stays settled; who was refused is tried again; history and doubts stay.
    """
    settled = tuple(o for o in state.settled if o.outcome is Outcome.DELIVERED)
    return MailState(
        attempts=state.attempts,
        attempt_count=0,
        settled=settled,
        doubted=state.ever_in_doubt(),
    )


def updated(state: MailState) -> MailState:
    """Give the state of a waiting mail that somebody has changed.

    It is due when its new name says, also when it was held; history and settled recipients stay.
    """
    return attrs.evolve(state, next_at=None, held="", waits="")


def state_to_json(state: MailState) -> dict[str, Any]:
    """Give a state as a JSON object; what has its default is left out."""
    out: dict[str, Any] = {}
    if state.next_at is not None:
        out["next"] = state.next_at
    if state.attempts:
        out["tries"] = [_attempt_to_json(attempt) for attempt in state.attempts]
    if state.attempt_count != len(state.attempts):
        out["count"] = state.attempt_count
    if state.settled:
        out["settled"] = [_outcome_to_json(outcome) for outcome in state.settled]
    if state.in_doubt:
        out["doubt"] = list(state.in_doubt)
        out["since"] = state.in_doubt_since
    if state.doubted:
        out["doubted"] = list(state.doubted)
    if state.held:
        out["held"] = state.held
    if state.waits:
        out["waits"] = state.waits
    if state.crashes:
        out["crashes"] = state.crashes
    return out


def state_from_json(value: Any) -> MailState:
    """Read what ``state_to_json`` wrote; raises KeyError, TypeError or ValueError otherwise."""
    if not isinstance(value, dict):
        raise TypeError("a state is a JSON object")
    tries = tuple(_attempt_from_json(each) for each in value.get("tries", ()))
    next_at = value.get("next")
    return MailState(
        next_at=None if next_at is None else float(next_at),
        attempts=tries,
        attempt_count=int(value.get("count", len(tries))),
        settled=tuple(_outcome_from_json(each) for each in value.get("settled", ())),
        in_doubt=tuple(str(each) for each in value.get("doubt", ())),
        in_doubt_since=float(value.get("since", 0.0)),
        doubted=tuple(str(each) for each in value.get("doubted", ())),
        held=str(value.get("held", "")),
        waits=str(value.get("waits", "")),
        crashes=int(value.get("crashes", 0)),
    )


def _silent(attempt: Attempt) -> Attempt:
    return attrs.evolve(attempt, dialogue=()) if attempt.dialogue else attempt


def _attempt_to_json(attempt: Attempt) -> dict[str, Any]:
    out = {
        "at": attempt.at,
        "server": attempt.server,
        "seconds": attempt.seconds,
        "reason": attempt.reason,
        "outcomes": [_outcome_to_json(outcome) for outcome in attempt.outcomes],
    }
    if attempt.dialogue:
        out["said"] = list(attempt.dialogue)
    return out


def _attempt_from_json(value: Mapping[str, Any]) -> Attempt:
    return Attempt(
        at=float(value["at"]),
        server=str(value["server"]),
        seconds=float(value["seconds"]),
        reason=str(value["reason"]),
        outcomes=tuple(_outcome_from_json(each) for each in value["outcomes"]),
        dialogue=tuple(str(each) for each in value.get("said", ())),
    )


def _outcome_to_json(outcome: RecipientOutcome) -> list[Any]:
    return [
        outcome.recipient,
        outcome.outcome.value,
        outcome.code,
        outcome.enhanced,
        outcome.reply,
    ]


def _outcome_from_json(value: list[Any]) -> RecipientOutcome:
    recipient, outcome, code, enhanced, reply = value
    return RecipientOutcome(
        recipient=str(recipient),
        outcome=Outcome(outcome),
        code=int(code),
        enhanced=str(enhanced),
        reply=str(reply),
    )
