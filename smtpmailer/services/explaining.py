# SPDX-License-Identifier: MIT
"""Answers what became of a mail so far, and what it waits for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from smtpmailer.core.lookup import read_wanted
from smtpmailer.core.names import due_of
from smtpmailer.core.queued import FoundMail, MailPlace
from smtpmailer.core.queuestate import MailState
from smtpmailer.core.replies import Reply, error, success
from smtpmailer.core.requests import Arguments
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import NoSuchMailError, StoreError
from smtpmailer.interfaces import Handler, IMailSearch, IQueueRun
from smtpmailer.services.answers import INVALID, Answers
from smtpmailer.services.replies import explained_mail

__all__ = ["ExplainService"]

_REFUSED: Final = "unable to get mail history"
_NOWHERE: Final = "neither in the queue nor among dead letters or in quarantine"


class ExplainService:
    """Answers ``getMailHistory``."""

    def __init__(self, search: IMailSearch, run: IQueueRun, now: Callable[[], float]) -> None:
        """``now`` gives Unix seconds."""
        self._answers = Answers("queue store")
        self._search = search
        self._run = run
        self._now = now

    def handlers(self) -> Mapping[str, Handler]:
        """Give what carries out the request, by its name."""
        return {"getMailHistory": self.explain}

    @returns_deferred
    async def explain(self, arguments: Arguments) -> Reply:
        """Answer the history of a mail, wherever it is; by id or name."""
        if not isinstance(arguments.value, str):
            return error("invalid mail id", INVALID)
        wanted = read_wanted(arguments.value)
        if wanted is None:
            return error("invalid mail id", INVALID)
        try:
            found = await self._search.find(wanted)
            waits_for = await self._waits_for(found)
        except NoSuchMailError:
            return error(_NOWHERE, _REFUSED)
        except StoreError:
            return self._answers.broken(_REFUSED)
        return success(explained_mail(found, waits_for), "mail found")

    async def _waits_for(self, found: FoundMail) -> str:
        state = found.mail.state
        if found.place is MailPlace.DEAD:
            return "somebody's decision: queue retry, or queue failed remove"
        if found.place is MailPlace.QUARANTINE:
            return "somebody's decision: queue rescue --quarantine"
        if found.place is MailPlace.SENDING and state.in_doubt:
            return "the server's reply to the message, which it may have taken already"
        if found.place is MailPlace.SENDING:
            return "its turn, or the end of the attempt that is under way"
        if state.held:
            return f"its operator; it is held: {state.held}"
        return await self._next_step(found.mail.name, state)

    async def _next_step(self, name: str, state: MailState) -> str:
        due = due_of(name) if state.next_at is None else state.next_at
        if due > self._now():
            what = "its next attempt" if state.attempts else "its time"
            return state.waits or (what if not state.in_doubt else f"{what}; it is in doubt")
        runner = await self._run.runner()
        return f"its turn: it is due{f'; the queue is run by {runner}' if runner else ''}"
