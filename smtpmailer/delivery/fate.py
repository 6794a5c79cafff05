# SPDX-License-Identifier: MIT
"""What becomes of a mail when its transaction ends: told, or tried once more."""

from __future__ import annotations

import attrs

from smtpmailer.core.dialogue import happened
from smtpmailer.delivery.dialogue import dialogue_of
from smtpmailer.delivery.outcome import DELIVERED, Verdict, verdict_of_error
from smtpmailer.delivery.transaction import Transaction
from smtpmailer.errors import RemoteError, SmtpLostError, SmtpProtocolError

__all__ = ["Again", "fate_of_answered", "fate_of_lost"]


@attrs.frozen
class Again:
    """The server certainly has not taken the mail: it goes to a new session, once.

    ``lock_step``: without PIPELINING and CHUNKING, as that may be what failed. ``dialogue`` is what
    was said.
    """

    lock_step: bool = False
    dialogue: tuple[str, ...] = ()


def fate_of_answered(transaction: Transaction) -> Verdict | Again:
    """Judge a transaction that is over."""
    verdict = transaction.verdict
    assert verdict is not None
    if verdict.outcome is DELIVERED and not transaction.refused:
        return verdict
    if transaction.closing and transaction.reused and not transaction.mail_answered:
        return _again(transaction)  # It is the session that has ended.
    if transaction.suspect:
        return _again(transaction, lock_step=True)
    return _told(transaction, verdict)


def fate_of_lost(transaction: Transaction, error: RemoteError) -> Verdict | Again:
    """Judge a transaction whose answers will not come, because of ``error``.

    In doubt is only a mail whose end may have been written.
    """
    verdict = transaction.verdict
    if verdict is None:
        if not (transaction.end_written or transaction.errand.given_up):
            if transaction.reused and not transaction.mail_answered:
                return _again(transaction, error)
            broken = isinstance(error, SmtpLostError | SmtpProtocolError)
            if broken and transaction.grouped:
                return _again(transaction, error, lock_step=True)
        past_dot = transaction.end_written
        verdict = verdict_of_error(error, in_transaction=True, past_dot=past_dot)
    return _told(transaction, verdict, str(error))


def _told(transaction: Transaction, verdict: Verdict, end: str = "") -> Verdict:
    return attrs.evolve(
        verdict,
        dialogue=dialogue_of(transaction, end),
        past_dot=transaction.end_written and transaction.named,
    )


def _again(
    transaction: Transaction, error: RemoteError | None = None, *, lock_step: bool = False
) -> Again:
    said = dialogue_of(transaction, "" if error is None else str(error))
    how = ", a command at a time" if lock_step else ""
    return Again(lock_step, (*said, happened(f"again on another session{how}")))
