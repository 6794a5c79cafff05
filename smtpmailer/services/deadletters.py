# SPDX-License-Identifier: MIT
"""What each request about dead letters does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.logger import Logger

from smtpmailer.core.queued import Buried
from smtpmailer.core.replies import Reply, error, success
from smtpmailer.core.requests import Arguments
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import NoSuchMailError, StoreError
from smtpmailer.interfaces import IDeadLetters
from smtpmailer.services.replies import buried_detail, page_of, shown_mail

__all__ = ["DeadLetterService"]

_INVALID = "invalid payload"
_NOT_A_NAME = "invalid file path string"


class DeadLetterService:
    """Answers the requests about mails that could not be delivered."""

    _log = Logger()

    def __init__(self, letters: IDeadLetters, is_name: Callable[[str], bool]) -> None:
        """Use these dead letters; ``is_name`` tells what can be the name of one."""
        self._letters = letters
        self._is_name = is_name

    @returns_deferred
    async def get_list(self, arguments: Arguments) -> Reply:
        """Answer a page of names."""
        try:
            page = await self._letters.page_failed(*page_of(arguments.value))
        except StoreError:
            return self._broken("unable to get failed list")
        data = {"items": list(page.names), "total": page.total}
        found = f"found {page.total} failed mails" if page.total else "failed list is empty"
        return success(data, found)

    @returns_deferred
    async def get(self, arguments: Arguments) -> Reply:
        """Answer a dead letter without its passwords; its history under ``detail``."""
        name = arguments.value
        if not isinstance(name, str):
            return error(_NOT_A_NAME, _INVALID)
        try:
            buried = await self._read(name)
        except NoSuchMailError:
            return error(None, "unable to get failed mail")
        except StoreError:
            return self._broken("unable to get failed mail")
        return success(shown_mail(_fields(buried)), name, buried_detail(buried))

    @returns_deferred
    async def retry(self, arguments: Arguments) -> Reply:
        """Put a dead letter back into the queue."""
        name = arguments.value
        if not isinstance(name, str):
            return error(_NOT_A_NAME, _INVALID)
        try:
            buried = await self._read(name)
            document = {**_fields(buried), "failToDelivered": 0}
            await self._letters.retry_failed(name, document)
        except NoSuchMailError:
            return error(None, "unable to retry failed mail")
        except StoreError:
            return self._broken("unable to retry failed mail")
        self._log.info("dead letter {name} queued again by {peer}", name=name, peer=arguments.peer)
        return success(name, "failed mail added to queue")

    @returns_deferred
    async def remove(self, arguments: Arguments) -> Reply:
        """Remove a dead letter for good."""
        name = arguments.value
        if not isinstance(name, str):
            return error(None, _INVALID)
        if not self._is_name(name):
            return error(None, "invalid filepath string")
        try:
            await self._letters.remove_failed(name)
        except NoSuchMailError:
            return error(None, "unable to remove failed mail")
        except StoreError:
            return self._broken("unable to remove failed mail")
        self._log.info("dead letter {name} removed by {peer}", name=name, peer=arguments.peer)
        return success(name, "failed mail removed")

    @returns_deferred
    async def clear(self, arguments: Arguments) -> Reply:
        """Remove all dead letters for good."""
        try:
            removed = await self._letters.clear_failed()
        except StoreError:
            return self._broken("unable to read failed dir")
        self._log.info("{n} dead letters cleared by {peer}", n=removed, peer=arguments.peer)
        return success({"removed": removed}, f"removed {removed} failed mails")

    def _broken(self, message: str) -> Reply:
        """Answer, and log, that the store could not do it."""
        self._log.failure("dead letters: {message}", message=message)
        return error(None, message)

    async def _read(self, name: str) -> Buried:
        if not self._is_name(name):
            raise NoSuchMailError(name)
        buried = await self._letters.get_failed(name)
        if buried.mail.fault or isinstance(buried.mail.document, str):
            raise StoreError(f"{name}: {buried.mail.fault or 'encrypted'}")
        return buried


def _fields(buried: Buried) -> Mapping[str, Any]:
    assert not isinstance(buried.mail.document, str)
    return buried.mail.document
