# SPDX-License-Identifier: MIT
"""What each request about dead letters does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.logger import Logger

from smtpmailer.core.queued import StoredMail
from smtpmailer.core.replies import Reply, error, success
from smtpmailer.core.requests import Arguments
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import NoSuchMailError, StoreError
from smtpmailer.interfaces import Handler, IDeadLetters
from smtpmailer.services.answers import INVALID, NOT_A_NAME, Answers, ListWords, readable
from smtpmailer.services.replies import buried_detail
from smtpmailer.services.telling import name_fields

__all__ = ["DeadLetterService"]

_LIST = ListWords(
    found="found {n} failed mails",
    empty="failed list is empty",
    refused="unable to get failed list",
)


class DeadLetterService:
    """Answers the requests about mails that could not be delivered."""

    _log = Logger()

    def __init__(self, letters: IDeadLetters, is_name: Callable[[str], bool]) -> None:
        """Use these dead letters; ``is_name`` tells what can be the name of one."""
        self._answers = Answers("dead letters")
        self._letters = letters
        self._is_name = is_name

    def handlers(self) -> Mapping[str, Handler]:
        """Give what carries out each request, by its name."""
        return {
            "getFailedList": self.get_list,
            "getFailedMail": self.get,
            "retryFailedMail": self.retry,
            "removeFailedMail": self.remove,
            "clearFailed": self.clear,
        }

    @returns_deferred
    async def get_list(self, arguments: Arguments) -> Reply:
        """Answer a page of names."""
        return await self._answers.page(self._letters.page_failed, arguments.value, _LIST)

    @returns_deferred
    async def get(self, arguments: Arguments) -> Reply:
        """Answer a dead letter without its passwords; its history under ``detail``."""
        refused = "unable to get failed mail"
        return await self._answers.mail(arguments.value, self._read_with_detail, refused)

    @returns_deferred
    async def retry(self, arguments: Arguments) -> Reply:
        """Put a dead letter back into the queue."""
        name = arguments.value
        if not isinstance(name, str):
            return error(NOT_A_NAME, INVALID)
        try:
            mail, _ = await self._read_with_detail(name)
            document = {**readable(mail), "failToDelivered": 0}
            await self._letters.retry_failed(name, document)
        except NoSuchMailError:
            return error(None, "unable to retry failed mail")
        except StoreError:
            return self._answers.broken("unable to retry failed mail")
        self._log.info(
            "dead letter {name} queued again by {peer}",
            **name_fields(name),
            peer=arguments.peer,
            request=arguments.request,
            outcome="queued",
        )
        return success(name, "failed mail added to queue")

    @returns_deferred
    async def remove(self, arguments: Arguments) -> Reply:
        """Remove a dead letter for good."""
        reply = await self._answers.removal(
            arguments.value, self._is_name, self._letters.remove_failed, "failed mail"
        )
        if reply.status == "success":
            self._log.info(
                "dead letter {name} removed by {peer}",
                **name_fields(arguments.value),
                peer=arguments.peer,
                request=arguments.request,
                outcome="removed",
            )
        return reply

    @returns_deferred
    async def clear(self, arguments: Arguments) -> Reply:
        """Remove all dead letters for good."""
        try:
            removed = await self._letters.clear_failed()
        except StoreError:
            return self._answers.broken("unable to read failed dir")
        self._log.info(
            "{n} dead letters cleared by {peer}",
            n=removed,
            peer=arguments.peer,
            request=arguments.request,
        )
        return success({"removed": removed}, f"removed {removed} failed mails")

    async def _read_with_detail(self, name: str) -> tuple[StoredMail, Mapping[str, Any]]:
        """Read a dead letter; raises NoSuchMailError also for what can be none."""
        if not self._is_name(name):
            raise NoSuchMailError(name)
        buried = await self._letters.get_failed(name)
        return buried.mail, buried_detail(buried)
