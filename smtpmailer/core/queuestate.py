# SPDX-License-Identifier: MIT
"""What the queue knows about a mail beyond its stored document, and its form as JSON.

The document in the queue stays exactly what the predecessor would have written; this lives
beside it. JSON keys are short: a journal holds very many of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from smtpmailer.core.dialogue import happened
from smtpmailer.core.model import Outcome, RecipientOutcome

__all__ = [
    "FRESH",
    "MAX_ATTEMPTS",
    "MAX_SAID",
    "NOT_KEPT",
    "Attempt",
    "MailState",
    "revived",
    "state_from_json",
    "state_to_json",
    "updated",
]

#: How many attempts a mail's history keeps: the first and the newest ones. That is more than the
#: five days take for which mail is tried (RFC 5321 section 4.5.4.1), with the waits we begin with.
MAX_ATTEMPTS: Final = 50

#: So many characters it keeps of what was said in them together: in the first and the newest ones.
#: A state is written at each attempt, and the state of every waiting mail is held in memory.
MAX_SAID: Final = 64 * 1024

#: Stands in place of a dialogue that is dropped.
NOT_KEPT: Final = happened("what was said is not kept any more")


@attrs.frozen(kw_only=True)
class Attempt:
    """One attempt: when (Unix seconds), with which server, how long, and each outcome.

    ``dialogue`` is what was said (see ``core.dialogue``), ``NOT_KEPT`` once that was dropped.
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
    ``attempt_count`` is that of the attempts since the mail was queued, or revived; ``forgotten``
    that of those which followed the first one of ``attempts`` and are kept no more.
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
    forgotten: int = 0

    def doubting(self, recipients: tuple[str, ...], since: float) -> MailState:
        """Give the state before the final dot: these may have the mail from ``since`` on."""
        # Not by evolve, which takes far longer: it asks for each field by name.
        return MailState(
            next_at=self.next_at,
            attempts=self.attempts,
            attempt_count=self.attempt_count,
            settled=self.settled,
            in_doubt=recipients,
            in_doubt_since=since,
            doubted=self.doubted,
            held=self.held,
            waits=self.waits,
            crashes=self.crashes,
            forgotten=self.forgotten,
        )

    def attempted(
        self, attempt: Attempt, settled: tuple[RecipientOutcome, ...], in_doubt: tuple[str, ...]
    ) -> MailState:
        """Give the state after an attempt: who is settled besides, and who is in doubt now.

        No process died of it, and what it waited for is over.
        """
        attempts, forgotten = self._attempts_with(attempt)
        # As above.
        return MailState(
            attempts=attempts,
            attempt_count=self.attempt_count + 1,
            settled=self.settled + settled,
            in_doubt=in_doubt,
            in_doubt_since=attempt.at if in_doubt else 0.0,
            doubted=tuple(dict.fromkeys(self.doubted + in_doubt)) if in_doubt else self.doubted,
            held=self.held,
            forgotten=forgotten,
        )

    def _attempts_with(self, attempt: Attempt) -> tuple[tuple[Attempt, ...], int]:
        """Give what is kept of the history with another attempt, and how many are forgotten.

        Of a long one the middle goes, and what was said in it before.
        """
        if not self.attempts:
            return (attempt,), self.forgotten
        every = (*self.attempts, attempt)
        kept = (every[0], *every[1:][-(MAX_ATTEMPTS - 1) :])
        return _bounded(kept), self.forgotten + len(every) - len(kept)

    def settled_addresses(self) -> frozenset[str]:
        """Give the recipients that are not to be tried again."""
        if not self.settled:
            return frozenset()
        return frozenset(outcome.recipient for outcome in self.settled)

    def ever_in_doubt(self) -> tuple[str, ...]:
        """Give the recipients who are in doubt, or ever were: they may have the mail already."""
        if not (self.doubted or self.in_doubt):
            return ()
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
        forgotten=state.forgotten,
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
    rest = {"held": state.held, "waits": state.waits, "crashes": state.crashes}
    out |= {key: value for key, value in rest.items() if value}
    if state.forgotten != _missing(state.attempt_count, state.attempts):
        out["forgotten"] = state.forgotten
    return out


def state_from_json(value: Any) -> MailState:
    """Read what ``state_to_json`` wrote; raises KeyError, TypeError or ValueError otherwise."""
    if not isinstance(value, dict):
        raise TypeError("a state is a JSON object")
    tries = tuple(_attempt_from_json(each) for each in value.get("tries", ()))
    next_at = value.get("next")
    count = int(value.get("count", len(tries)))
    return MailState(
        next_at=None if next_at is None else float(next_at),
        attempts=tries,
        attempt_count=count,
        settled=tuple(_outcome_from_json(each) for each in value.get("settled", ())),
        in_doubt=tuple(str(each) for each in value.get("doubt", ())),
        in_doubt_since=float(value.get("since", 0.0)),
        doubted=tuple(str(each) for each in value.get("doubted", ())),
        held=str(value.get("held", "")),
        waits=str(value.get("waits", "")),
        crashes=int(value.get("crashes", 0)),
        forgotten=int(value.get("forgotten", _missing(count, tries))),
    )


def _missing(count: int, attempts: tuple[Attempt, ...]) -> int:
    """Give how many of so many attempts are not there: what is forgotten, if nothing else says."""
    return max(0, count - len(attempts))


def _bounded(attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    """Drop what was said in all but the first and as many of the newest as there is room for."""
    first, *others = attempts
    left = MAX_SAID - _length(first)
    kept: list[Attempt] = []
    for attempt in reversed(others):
        left -= _length(attempt)
        kept.append(attempt if left >= 0 else _silent(attempt))
    return (first, *reversed(kept))


def _length(attempt: Attempt) -> int:
    return sum(map(len, attempt.dialogue))


def _silent(attempt: Attempt) -> Attempt:
    return attrs.evolve(attempt, dialogue=(NOT_KEPT,)) if attempt.dialogue else attempt


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
