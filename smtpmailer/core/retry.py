# SPDX-License-Identifier: MIT
"""After an attempt: is a mail done, tried again, held, or dead."""

from __future__ import annotations

from typing import Final

import attrs

from smtpmailer.core.model import DeliveryResult, Outcome, RecipientOutcome
from smtpmailer.core.queuestate import Attempt, MailState

__all__ = [
    "MAX_CRASHES",
    "Dead",
    "Done",
    "Moment",
    "Retry",
    "RetryPolicy",
    "Verdict",
    "after_attempt",
    "after_crash",
    "without_attempt",
]

#: A mail that the service died of so often is taken for the cause.
MAX_CRASHES: Final = 5

#: A server has ten minutes for its reply to the final dot (RFC 5321 section 4.5.3.2.6). For so
#: long (seconds) it may still be at work on a mail in doubt, whoever hung up: do not hurry.
_DOUBT_DELAY: Final = 600.0


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """The retry settings; times in seconds.

    ``max_retries`` -1 is without end. ``max_age`` 0 is none. ``hold_doubtful`` is
    QUEUE_ON_DOUBT = hold.
    """

    max_retries: int
    delay: float = 60.0
    factor: float = 2.0
    max_delay: float = 14_400.0
    max_age: float = 0.0
    hold_doubtful: bool = False

    def delay_after(self, failures: int, jitter: float) -> float:
        """Give the wait after so many failures; ``jitter`` (0 to 1) spreads it by 20 % each way."""
        try:
            delay = min(self.delay * self.factor ** max(failures - 1, 0), self.max_delay)
        except OverflowError:
            delay = self.max_delay
        return delay * (0.8 + 0.4 * jitter)


@attrs.frozen(kw_only=True)
class Done:
    """Every recipient has the mail."""

    state: MailState


@attrs.frozen(kw_only=True)
class Retry:
    """Another attempt at ``state.next_at``, or a wait for the operator when ``state.held``.

    ``failures`` is the new ``failToDelivered``.
    """

    state: MailState
    failures: int


@attrs.frozen(kw_only=True)
class Dead:
    """No further attempt; ``why`` is for the dead letters."""

    state: MailState
    failures: int
    why: str


Verdict = Done | Retry | Dead


@attrs.frozen(kw_only=True)
class Moment:
    """When an attempt ended and when the mail was accepted (Unix seconds); jitter is 0 to 1."""

    now: float
    accepted_at: float
    jitter: float


def after_attempt(
    state: MailState,
    failures: int,
    result: DeliveryResult,
    policy: RetryPolicy,
    moment: Moment,
) -> Verdict:
    """Judge an attempt; ``failures`` counts those before it.

    Recipients delivered or refused for good are settled and never tried again.
    """
    attempt = Attempt(
        at=moment.now,
        server=result.server,
        seconds=result.seconds,
        reason=result.reason,
        outcomes=result.outcomes,
        dialogue=result.dialogue,
    )
    if result.delivered and not state.settled:
        # What becomes of most mails; what follows would come to the same.
        return Done(state=state.attempted(attempt, result.outcomes, ()))
    final = (Outcome.DELIVERED, Outcome.PERMANENT)
    settled = tuple(o for o in result.outcomes if o.outcome in final)
    doubtful = tuple(o.recipient for o in result.outcomes if o.outcome is Outcome.UNCERTAIN)
    state = state.attempted(attempt, settled, doubtful)
    if not result.temporary:
        return without_attempt(state, failures + 1)
    return _again(state, failures + 1, result.reason, policy, moment)


def without_attempt(state: MailState, failures: int) -> Verdict:
    """Judge a mail of which every recipient is settled: nobody is left to send it to.

    A crash between an attempt and its settlement leaves such mails too. ``failures`` is the
    count for a mail that somebody refused.
    """
    refused = [o for o in state.settled if o.outcome is Outcome.PERMANENT]
    if not refused:
        return Done(state=state)
    return Dead(state=state, failures=failures, why=_refusals(refused))


def after_crash(state: MailState, policy: RetryPolicy, *, failures: int, now: float) -> Verdict:
    """Judge a mail that a process had when it died: unsent, or in doubt when it was marked.

    It is due at ``now``; in doubt, ten minutes after the mark at the earliest.
    """
    crashes = state.crashes + 1
    state = attrs.evolve(state, crashes=crashes, doubted=state.ever_in_doubt(), waits="")
    if state.crashes > MAX_CRASHES:
        why = f"the service died {state.crashes} times while it had this mail"
        return Dead(state=state, failures=failures, why=why)
    if state.in_doubt and policy.hold_doubtful:
        return Retry(state=_held(state), failures=failures)
    if state.in_doubt:
        # A mark that lies ahead was made before the clock went back.
        now = max(now, min(state.in_doubt_since, now) + _DOUBT_DELAY)
    return Retry(state=attrs.evolve(state, next_at=now), failures=failures)


def _again(
    state: MailState, failures: int, reason: str, policy: RetryPolicy, moment: Moment
) -> Verdict:
    if state.in_doubt and policy.hold_doubtful:
        return Retry(state=_held(state), failures=failures)
    if 0 <= policy.max_retries < failures:
        why = f"given up after {failures} attempts: {reason}"
        return Dead(state=state, failures=failures, why=why)
    delay = policy.delay_after(failures, moment.jitter)
    next_at = moment.now + (max(delay, _DOUBT_DELAY) if state.in_doubt else delay)
    if policy.max_age and next_at > moment.accepted_at + policy.max_age:
        why = f"given up after {policy.max_age:.0f} seconds: {reason}"
        return Dead(state=state, failures=failures, why=why)
    return Retry(state=attrs.evolve(state, next_at=next_at), failures=failures)


def _held(state: MailState) -> MailState:
    why = "may have been delivered already: QUEUE_ON_DOUBT = hold"
    return attrs.evolve(state, held=why, next_at=None)


def _refusals(refused: list[RecipientOutcome]) -> str:
    shown = "; ".join(f"{o.recipient}: {o.code} {o.reply}".rstrip() for o in refused)
    return f"refused for good: {shown}"
