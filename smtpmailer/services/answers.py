# SPDX-License-Identifier: MIT
"""Answers that requests about several stores have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import attrs
from twisted.logger import Logger

from smtpmailer.core.queued import Page, StoredMail
from smtpmailer.core.replies import Effect, Reply, error, success
from smtpmailer.errors import MailGoneOnError, NoSuchMailError, RedisAwayError, StoreError
from smtpmailer.services.replies import page_of, shown_mail

__all__ = ["INVALID", "NOT_A_NAME", "Answers", "ListWords", "effect_of", "readable"]

INVALID: Final = "invalid payload"
NOT_A_NAME: Final = "invalid file path string"


@attrs.frozen(kw_only=True)
class ListWords:
    """The messages of a list: of one with names (``{n}`` is their number), an empty one, none."""

    found: str
    empty: str
    refused: str


class Answers:
    """Makes the answers of one store's requests; ``what`` names the store in the log."""

    _log = Logger()

    def __init__(self, what: str) -> None:
        """Keep what the store is called."""
        self._what = what

    async def page(
        self, pages: Callable[[int, int], Awaitable[Page]], value: Any, words: ListWords
    ) -> Reply:
        """Answer a page of names; ``value`` is the request's argument."""
        try:
            page = await pages(*page_of(value))
        except StoreError:
            return self.broken(words.refused)
        data = {"items": list(page.names), "total": page.total}
        return success(data, words.found.format(n=page.total) if page.total else words.empty)

    async def mail(
        self,
        name: Any,
        read: Callable[[str], Awaitable[tuple[StoredMail, Mapping[str, Any]]]],
        refused: str,
    ) -> Reply:
        """Answer a mail without its passwords; ``read`` gives it with the answer's detail."""
        if not isinstance(name, str):
            return error(NOT_A_NAME, INVALID)
        try:
            mail, detail = await read(name)
            document = readable(mail)
        except NoSuchMailError:
            return error(None, refused)
        except StoreError:
            return self.broken(refused)
        return success(shown_mail(document), name, detail)

    async def removal(
        self,
        name: Any,
        is_name: Callable[[str], bool],
        remove: Callable[[str], Awaitable[None]],
        what: str,
    ) -> Reply:
        """Remove a mail; ``what`` is what the messages call it."""
        if not isinstance(name, str):
            return error(None, INVALID)
        if not is_name(name):
            return error(None, "invalid filepath string")
        try:
            await remove(name)
        except NoSuchMailError:
            return error(None, f"unable to remove {what}")
        except StoreError:
            return self.broken(f"unable to remove {what}")
        return success(name, f"{what} removed")

    def broken(self, message: str) -> Reply:
        """Answer, and log, that the store could not do it; while its exception is handled."""
        self._log.failure("{what}: {message}", what=self._what, message=message)
        return error(None, message)


def readable(mail: StoredMail) -> Mapping[str, Any]:
    """Give a mail's document; raises StoreError for one that can't be read or decrypted."""
    if mail.fault or isinstance(mail.document, str):
        raise StoreError(f"{mail.name}: {mail.fault or 'encrypted'}")
    return mail.document


def effect_of(fault: StoreError) -> Effect:
    """Say what came of putting a mail that failed so; of most faults nothing, see IQueueStore."""
    if isinstance(fault, MailGoneOnError) or (isinstance(fault, RedisAwayError) and fault.sent):
        return Effect.UNKNOWN
    return Effect.NONE
