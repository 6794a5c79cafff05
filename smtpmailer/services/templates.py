# SPDX-License-Identifier: MIT
"""What each request about templates does."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping

from twisted.logger import Logger

from smtpmailer.core.replies import Reply, error, success
from smtpmailer.core.requests import Arguments
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import (
    BadTemplateError,
    NoSuchTemplateError,
    StoreError,
    TemplateExistsError,
)
from smtpmailer.interfaces import Handler, ITemplateStore
from smtpmailer.services.answers import INVALID, NOT_A_NAME, Answers, ListWords

__all__ = ["TemplateService"]

_LIST = ListWords(
    found="found {n} templates",
    empty="template list is empty",
    refused="unable to get template list",
)
_NO_CONTENT = "invalid file path string or missing content"


class TemplateService:
    """Answers the requests about templates.

    ``lists_when_empty``: clearing an empty store is answered with an empty list. Compat: the
    predecessor's file store does so.
    """

    _log = Logger()

    def __init__(self, store: ITemplateStore, *, lists_when_empty: bool = True) -> None:
        """Use this store."""
        self._answers = Answers("template store")
        self._store = store
        self._lists_when_empty = lists_when_empty

    def handlers(self) -> Mapping[str, Handler]:
        """Give what carries out each request, by its name."""
        return {
            "getTemplateList": self.get_list,
            "getTemplate": self.get,
            "addTemplate": self.add,
            "updateTemplate": self.update,
            "removeTemplate": self.remove,
            "clearTemplate": self.clear,
        }

    @returns_deferred
    async def get_list(self, arguments: Arguments) -> Reply:
        """Answer a page of names."""
        return await self._answers.page(self._store.page, arguments.value, _LIST)

    @returns_deferred
    async def get(self, arguments: Arguments) -> Reply:
        """Answer a template's text."""
        if not isinstance(arguments.value, str):
            return error(NOT_A_NAME, INVALID)
        return await self._outcome(
            self._store.get(arguments.value), "template found", "unable to get template"
        )

    @returns_deferred
    async def add(self, arguments: Arguments) -> Reply:
        """Add a template; one that exists stays as it is."""
        name, text = arguments.value, arguments.content
        if not isinstance(name, str) or not isinstance(text, str):
            return error(_NO_CONTENT, INVALID)
        return await self._change(
            self._store.add(name, text), arguments, "added", "unable to add template"
        )

    @returns_deferred
    async def update(self, arguments: Arguments) -> Reply:
        """Replace a template's text."""
        name, text = arguments.value, arguments.content
        if not isinstance(name, str) or not isinstance(text, str):
            return error(_NO_CONTENT, INVALID)
        return await self._change(
            self._store.update(name, text), arguments, "updated", "unable to update template"
        )

    @returns_deferred
    async def remove(self, arguments: Arguments) -> Reply:
        """Remove a template."""
        if not isinstance(arguments.value, str):
            return error(NOT_A_NAME, INVALID)
        return await self._change(
            self._store.remove(arguments.value), arguments, "removed", "unable to remove template"
        )

    @returns_deferred
    async def clear(self, arguments: Arguments) -> Reply:
        """Remove all templates."""
        try:
            removed = await self._store.clear()
        except StoreError:
            return self._answers.broken("unable to read template dir")
        if not removed and self._lists_when_empty:
            return success([], "no template found")
        self._log.info("{n} templates cleared by {peer}", n=removed, peer=arguments.peer)
        return success({"removed": removed}, f"removed {removed} templates")

    async def _change(
        self, change: Awaitable[None], arguments: Arguments, done: str, refused: str
    ) -> Reply:
        """Answer a change with the template's name, and log who made it."""
        reply = await self._outcome(change, f"template {done}", refused)
        if reply.status == "error":
            return reply
        self._log.info(
            "template {name} {done} by {peer}",
            name=arguments.value,
            done=done,
            peer=arguments.peer,
        )
        return success(arguments.value, reply.message)

    async def _outcome(self, work: Awaitable[object], done: str, refused: str) -> Reply:
        """Wait for the store's work and answer what came of it."""
        try:
            return success(await work, done)
        except NoSuchTemplateError:
            return error(None, refused)
        except TemplateExistsError as fault:
            return error(str(fault), refused)
        except BadTemplateError as fault:
            self._log.warn("{message}: {why}", message=refused, why=str(fault))
            return error(None, refused)
        except StoreError:
            return self._answers.broken(refused)
