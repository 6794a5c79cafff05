# SPDX-License-Identifier: MIT
"""What each request about waiting mails does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.logger import Logger

from smtpmailer.core.mime import Stamp
from smtpmailer.core.model import MailRequest
from smtpmailer.core.names import unique_of
from smtpmailer.core.queued import StoredMail
from smtpmailer.core.queuestate import FRESH, updated
from smtpmailer.core.replies import Effect, Reply, error, success
from smtpmailer.core.requests import Arguments, MailParser
from smtpmailer.core.schemas import Schema
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import (
    ClientError,
    NoSuchMailError,
    RequestInvalidError,
    StoreError,
    TemplatesOffError,
)
from smtpmailer.interfaces import Handler, IQueueStore
from smtpmailer.services.answers import INVALID, Answers, ListWords, effect_of, readable
from smtpmailer.services.courier import Courier
from smtpmailer.services.replies import shown_mail, waiting_detail
from smtpmailer.services.telling import name_fields, request_domains

__all__ = ["QueueService", "QueueTools"]

_LIST = ListWords(
    found="found {n} mails in queue",
    empty="queue list is empty",
    refused="unable to get queue list",
)
_NOT_QUEUED = "failed to add mail to queue"
#: Where nobody knows: the mail may be on its way, so nothing may say that it is not queued.
_DOUBTFUL = "mail may have been added to queue"
_NOT_UPDATED = "unable to update queued mail"
_SERVER = frozenset({"smtpHost", "smtpPort", "smtpEncryption", "smtpUser", "smtpPassword"})
#: What tells where a mail's own login goes, and how safely.
_PLACE = ("smtpHost", "smtpPort", "smtpEncryption")
_NO_VALUES = "replaceContent goes with a template, and this mail has its text: add useTemplate"


@attrs.frozen(kw_only=True)
class QueueTools:
    """What the queue's requests need besides the queue.

    With ``tells_queued`` off there is no line on a mail that was queued: nobody would see it.
    """

    parser: MailParser
    update_schema: Schema
    courier: Courier
    stamp: Callable[[], Stamp]
    tells_queued: bool = True


class QueueService:
    """Answers the requests about waiting mails.

    ``lists_when_empty``: clearing an empty queue is answered with an empty list. Compat: the
    predecessor's file queue does so, its Redis queue does not.
    """

    _log = Logger()

    def __init__(
        self, store: IQueueStore, tools: QueueTools, *, lists_when_empty: bool = True
    ) -> None:
        """Use this store."""
        self._answers = Answers("queue store")
        self._store = store
        self._tools = tools
        self._lists_when_empty = lists_when_empty

    def handlers(self) -> Mapping[str, Handler]:
        """Give what carries out each request, by its name."""
        return {
            "queueMail": self.queue_mail,
            "getQueueList": self.get_list,
            "getQueuedMail": self.get,
            "updateQueuedMail": self.update,
            "removeQueuedMail": self.remove,
            "clearQueue": self.clear,
        }

    @returns_deferred
    async def queue_mail(self, arguments: Arguments) -> Reply:
        """Accept a mail for delivery at its time; answer once it is durable.

        Fails with RequestInvalidError or NoRecipientError when the mail object is none, or its
        template and values don't fit together.
        """
        request = self._tools.parser.accept(arguments.value, arguments.grant)
        stamp = arguments.stamp or self._tools.stamp()
        name = self._store.make_name(self._due(request, stamp), stamp.unique)
        try:
            kept = await self._checked(arguments.value, request, stamp)
            document = {**kept, "failToDelivered": request.fail_to_delivered}
            await self._store.put(name, document, FRESH)
        except ClientError as fault:
            self._log.warn(
                "mail {mail_id} from {peer} (request {request}) to {domains} can't be built: {why}",
                mail_id=stamp.unique,
                peer=arguments.peer,
                request=arguments.request,
                domains=request_domains(request),
                why=str(fault),
                outcome="failed",
            )
            return _refusal(fault, _NOT_QUEUED)
        except StoreError as fault:
            self._log.failure("mail {mail_id} could not be queued", mail_id=stamp.unique)
            effect = effect_of(fault)
            message = _DOUBTFUL if effect is Effect.UNKNOWN else _NOT_QUEUED
            return error(None, message, effect=effect)
        if self._tools.tells_queued:
            self._log.info(
                "mail {mail_id} from {peer} (request {request}) to {domains} queued as {name}",
                mail_id=stamp.unique,
                name=name,
                peer=arguments.peer,
                request=arguments.request,
                domains=request_domains(request),
                outcome="queued",
            )
        return success(name, "mail added to queue", waiting_detail(name, FRESH))

    @returns_deferred
    async def get_list(self, arguments: Arguments) -> Reply:
        """Answer a page of names."""
        return await self._answers.page(self._store.page, arguments.value, _LIST)

    @returns_deferred
    async def get(self, arguments: Arguments) -> Reply:
        """Answer a mail without its passwords."""
        refused = "unable to get queued mail"
        return await self._answers.mail(arguments.value, self._read_with_detail, refused)

    @returns_deferred
    async def update(self, arguments: Arguments) -> Reply:
        """Change fields of a mail; it gets a new name."""
        name = arguments.value
        if not isinstance(name, str) or not arguments.has_content:
            return error("invalid file path string or missing content", INVALID)
        faults = self._tools.update_schema.faults(arguments.content)
        if faults:
            raise RequestInvalidError(faults)
        try:
            return await self._update(name, arguments)
        except NoSuchMailError:
            return error(None, _NOT_UPDATED)
        except StoreError:
            return self._answers.broken(_NOT_UPDATED)

    async def _update(self, name: str, arguments: Arguments) -> Reply:
        mail = await self._read(name)
        stored, changes = readable(mail), arguments.content
        self._tools.parser.check_stored(stored, arguments.grant)
        document: Mapping[str, Any] = _merged(stored, changes)
        request = self._tools.parser.accept_changed(document, changes, arguments.grant)
        if request.template is None and "replaceContent" in arguments.content:
            return error(_NO_VALUES, _NOT_UPDATED)
        stamp = attrs.evolve(self._tools.stamp(), unique=unique_of(name))
        try:
            document = await self._checked(document, request, stamp)
        except ClientError as fault:
            return _refusal(fault, _NOT_UPDATED)
        new_name = self._store.make_name(self._due(request, stamp), stamp.unique)
        await self._store.replace(name, new_name, document)
        self._log.info(
            "mail {mail_id} changed by {peer}: {name} is {new_name} now",
            mail_id=stamp.unique,
            name=name,
            new_name=new_name,
            peer=arguments.peer,
            request=arguments.request,
            outcome="changed",
        )
        detail = waiting_detail(new_name, updated(mail.state))
        return success(shown_mail(document), {"original": name, "updated": new_name}, detail)

    @returns_deferred
    async def remove(self, arguments: Arguments) -> Reply:
        """Remove a waiting mail."""
        reply = await self._answers.removal(
            arguments.value, self._store.is_name, self._store.remove, "queued mail"
        )
        if reply.status == "success":
            self._log.info(
                "mail {mail_id} ({name}) removed by {peer}",
                **name_fields(arguments.value),
                peer=arguments.peer,
                request=arguments.request,
                outcome="removed",
            )
        return reply

    @returns_deferred
    async def clear(self, arguments: Arguments) -> Reply:
        """Remove all waiting mails."""
        try:
            removed = await self._store.clear()
        except StoreError:
            return self._answers.broken("unable to read queue dir")
        if not removed and self._lists_when_empty:
            return success([], "queue list is empty")
        self._log.info(
            "queue cleared by {peer}: {removed}",
            peer=arguments.peer,
            request=arguments.request,
            removed=removed,
        )
        return success({"removed": removed}, f"removed {removed} mails in queue")

    async def _read(self, name: str) -> StoredMail:
        """Read a mail; raises NoSuchMailError also for what can be none."""
        if not self._store.is_name(name):
            raise NoSuchMailError(name)
        return await self._store.get(name)

    async def _read_with_detail(self, name: str) -> tuple[StoredMail, Mapping[str, Any]]:
        mail = await self._read(name)
        return mail, waiting_detail(name, mail.state)

    async def _checked(
        self, document: Mapping[str, Any], request: MailRequest, stamp: Stamp
    ) -> Mapping[str, Any]:
        """Check that a mail can be built; gives the mail object to keep."""
        courier = self._tools.courier
        rendered = await courier.render(request)
        await courier.check(rendered, stamp)
        return courier.stored(document, rendered)

    def _due(self, request: MailRequest, stamp: Stamp) -> float:
        """Give the due time; the clock's fraction keeps names of one second in order."""
        if request.schedule_time is None:
            return stamp.epoch_seconds
        return request.schedule_time + stamp.epoch_seconds % 1


def _refusal(fault: ClientError, message: str) -> Reply:
    """Answer why a mail can't be built; raises a fault of the mail object itself."""
    if isinstance(fault, RequestInvalidError):
        raise fault
    if isinstance(fault, TemplatesOffError):
        return error(None, str(fault), effect=Effect.NONE)
    return error(str(fault), message, effect=Effect.NONE)


def _merged(document: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Put changes over a mail.

    A new text replaces a template, an account the mail's own server, and the other way round.
    A stored login goes nowhere but where it was meant for: whoever changes the server may not be
    who knows it.
    """
    merged = {**document, **changes}
    moved = any(merged.get(field) != document.get(field) for field in _PLACE)
    if moved and "smtpPassword" not in changes:
        merged.pop("smtpPassword", None)
        if "smtpUser" not in changes:
            merged.pop("smtpUser", None)
    if "account" in changes and not changes.keys() & _SERVER:
        for field in _SERVER:
            merged.pop(field, None)
    elif changes.keys() & _SERVER and "account" not in changes:
        merged.pop("account", None)
    if "body" in changes and "useTemplate" not in changes:
        merged.pop("useTemplate", None)
        merged.pop("replaceContent", None)
    elif "useTemplate" in changes and "body" not in changes:
        merged.pop("body", None)
    return merged
