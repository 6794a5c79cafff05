# SPDX-License-Identifier: MIT
"""What becomes of a mail when its transaction ends: told, or tried once more."""

from __future__ import annotations

import attrs

from smtpmailer.delivery.outcome import Verdict, verdict_of_error
from smtpmailer.delivery.transaction import Transaction
from smtpmailer.errors import RemoteError, SmtpLostError, SmtpProtocolError

__all__ = ["Again", "fate_of_answered", "fate_of_lost"]


@attrs.frozen
class Again:
    """The server certainly has not taken the mail: it goes to a new session, once.

    ``lock_step``: without PIPELINING and CHUNKING, as that may be what failed.
    """

    lock_step: bool = False


def fate_of_answered(transaction: Transaction) -> Verdict | Again:
    """Judge a transaction that is over."""
    assert transaction.verdict is not None
    if transaction.closing and transaction.reused and not transaction.mail_answered:
        return Again()  # It is the session that has ended.
    return Again(lock_step=True) if transaction.suspect else transaction.verdict


def fate_of_lost(transaction: Transaction, error: RemoteError) -> Verdict | Again:
    """Judge a transaction whose answers will not come, because of ``error``.

    In doubt is only a mail whose end may have been written.
    """
    if transaction.verdict is not None:
        return transaction.verdict
    if not (transaction.end_written or transaction.errand.given_up):
        if transaction.reused and not transaction.mail_answered:
            return Again()
        broken = isinstance(error, SmtpLostError | SmtpProtocolError)
        if broken and transaction.grouped:
            return Again(lock_step=True)
    return verdict_of_error(error, in_transaction=True, past_dot=transaction.end_written)
