# SPDX-License-Identifier: MIT
"""What a request's arguments mean: from JSON values to the values of ``core.model``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from smtpmailer.core.accounts import DEFAULT_ACCOUNT, NO_ACCOUNTS, Accounts
from smtpmailer.core.grants import EVERYTHING, Grant
from smtpmailer.core.mime import Stamp
from smtpmailer.core.model import (
    NO_OVERRIDES,
    Address,
    Encryption,
    FilePart,
    MailRequest,
    SmtpOverrides,
)
from smtpmailer.core.schemas import Schema
from smtpmailer.errors import NoRecipientError, NotAllowedError, RequestInvalidError

__all__ = ["Arguments", "MailLimits", "MailParser"]

#: Beyond this an integral float is written with an exponent, as it may have lost digits.
_MAX_EXACT: Final = 1e15
#: No list of a mail but those of its recipients is longer.
_MAX_ITEMS: Final = 1000
#: The fields that every mail has.
_USUAL: Final = frozenset({"to", "ccList", "bccList", "subject", "body"})
#: And those of nearly every mail that waits in a queue.
_QUEUED: Final = _USUAL | {"failToDelivered"}
_LISTS: Final = {
    "to",
    "ccList",
    "bccList",
    "replyTo",
    "attachments",
    "embedded",
    "replaceContent",
}


@attrs.frozen(kw_only=True)
class Arguments:
    """What a handler is given.

    ``value`` stands beside the request's name. ``content`` is None when the request has none;
    ``has_content`` tells that from null. ``peer`` is the client's address, for the log.
    ``wants_detail`` says that a reply's ``detail`` will be shown. ``grant`` is what the client's
    password allows. ``request`` is the request's number, unique in its process, for the log.
    ``once`` is the request's key, empty without one; ``stamp`` is then what its mail has to carry.
    """

    value: Any = attrs.field(repr=False)
    content: Any = attrs.field(default=None, repr=False)
    has_content: bool = False
    peer: str = ""
    wants_detail: bool = False
    grant: Grant = EVERYTHING
    request: int = attrs.field(default=0, eq=False)
    once: str = ""
    stamp: Stamp | None = None


@attrs.frozen(kw_only=True)
class MailLimits:
    """What a mail that is given to us now has to keep to.

    ``max_recipients`` are those in to, ccList and bccList together; 0 is no limit. ``sender`` is
    who a mail is from that does not say so.
    """

    max_recipients: int = 0
    sender: str = ""


def _no_accounts() -> Accounts:
    return NO_ACCOUNTS


class MailParser:
    """Checks mail objects and makes MailRequests of them."""

    def __init__(
        self,
        schema: Mapping[str, Any],
        limits: MailLimits = MailLimits(),
        accounts: Callable[[], Accounts] = _no_accounts,
    ) -> None:
        """Compile ``schema``, the content of ``schema/sendMail.json``.

        ``accounts`` gives those that a mail may name now.
        """
        self._schema = Schema(schema)
        # Compat: what waits in a queue may have been taken by a service without these limits.
        self._stored = Schema(_without_sizes(schema))
        self._limits = limits
        self._accounts = accounts

    def parse(self, document: Any) -> MailRequest:
        """Give the mail that ``document``, a JSON value, describes; of any size.

        Raises RequestInvalidError with every fault, NoRecipientError when to, ccList and bccList
        are all empty.
        """
        return self._parse(self._stored, document)

    def accept(self, document: Any, grant: Grant = EVERYTHING) -> MailRequest:
        """Give the mail that a client wants to send; raises what ``parse`` does.

        It has to keep to all limits, and ``grant`` to allow its sender and account: else
        NotAllowedError.
        """
        request = self._parse(self._schema, document)
        self._check_counts(request)
        self._check_sender_of(request.from_email, grant)
        self._check_account(request, grant)
        return request

    def accept_changed(
        self, document: Any, changes: Mapping[str, Any], grant: Grant = EVERYTHING
    ) -> MailRequest:
        """Give a stored mail as a client's ``changes`` have made it; raises what ``accept`` does.

        What was not changed may be of any size.
        """
        request = self._parse(self._stored, document)
        if changes.keys() & _LISTS:
            self._check_counts(request)
        self._check_sender_of(request.from_email, grant)
        self._check_account(request, grant, chosen="account" in changes)
        return request

    def check_stored(self, document: Mapping[str, Any], grant: Grant) -> None:
        """Check that a stored mail, as it is, is one that ``grant`` lets a client change.

        Raises NotAllowedError.
        """
        stored = document.get("fromEmail")
        self._check_sender_of(stored if isinstance(stored, str) else None, grant)

    @staticmethod
    def _parse(schema: Schema, document: Any) -> MailRequest:
        # Compat: an empty text in the mail's place is answered as null.
        faults = schema.faults(None if document == "" else document)
        if faults:
            raise RequestInvalidError(faults)
        if not (document["to"] or document["ccList"] or document["bccList"]):
            raise NoRecipientError
        return _mail(document)

    def _check_counts(self, request: MailRequest) -> None:
        faults: dict[str, list[str]] = {}
        limit = self._limits.max_recipients
        recipients = len(request.to) + len(request.cc) + len(request.bcc)
        if 0 < limit < recipients:
            text = f"at most {limit} recipients (MAIL_MAX_RECIPIENTS), {recipients} found"
            faults["payload"] = [f"to, ccList and bccList together may have {text}"]
        for name, count in (
            ("replyTo", len(request.reply_to)),
            ("attachments", len(request.attachments)),
            ("embedded", len(request.embedded)),
            ("replaceContent", len(request.replace_content)),
        ):
            if count > _MAX_ITEMS:
                faults[name] = [f"There should be at most {_MAX_ITEMS} items, {count} found"]
        if faults:
            raise RequestInvalidError(faults)

    def _check_sender_of(self, from_email: str | None, grant: Grant) -> None:
        sender = from_email or self._limits.sender
        if not grant.allows_sender(sender):
            raise NotAllowedError(f"its key is not for mails from {sender or 'nobody'}")

    def _check_account(self, request: MailRequest, grant: Grant, *, chosen: bool = True) -> None:
        """Check what the mail is to go through; who may not know learns of no account.

        Unless it is ``chosen`` now it need not be there any more.
        """
        named = request.account
        claimed = _claimed(request, grant)
        if claimed is None and grant.accounts is None:
            return
        accounts = self._accounts()
        if not accounts.allows(grant, claimed, request.from_email or self._limits.sender):
            raise NotAllowedError(f"its key is not for the account {claimed or 'of this sender'}")
        if named is not None and request.has_own_server:
            raise RequestInvalidError({"account": ["goes with no smtp* field: leave out one"]})
        if chosen and named is not None and named not in accounts:
            raise RequestInvalidError({"account": ["unknown account"]})


def _claimed(request: MailRequest, grant: Grant) -> str | None:
    """Give the account that a mail names, or makes use of by its ``smtp*`` fields.

    With them it goes through no account but, at most, the default one: without a host of its own
    it may get that one's login.
    """
    if request.account is not None or not request.has_own_server:
        return request.account
    own_host = request.smtp.host is not None
    return None if own_host and grant.accounts is None else DEFAULT_ACCOUNT


def _without_sizes(schema: Any) -> Any:
    """Give the schema without the limits on how long a text may be."""
    if isinstance(schema, list):
        return [_without_sizes(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {key: _without_sizes(item) for key, item in schema.items() if key != "maxLength"}


def _mail(document: Mapping[str, Any]) -> MailRequest:
    more = {} if document.keys() <= _USUAL else _more(document)
    return MailRequest(
        to=_addresses(document["to"]),
        cc=_addresses(document["ccList"]),
        bcc=_addresses(document["bccList"]),
        subject=document["subject"],
        body=document.get("body"),
        **more,
    )


def _more(document: Mapping[str, Any]) -> dict[str, Any]:
    """Read the fields that most mails lack."""
    failures = _integer(document.get("failToDelivered")) or 0
    if document.keys() <= _QUEUED:
        return {"fail_to_delivered": failures}
    return {
        "reply_to": _addresses(document.get("replyTo", ())),
        "template": document.get("useTemplate"),
        "replace_content": {
            key: _text(value) for key, value in document.get("replaceContent", {}).items()
        },
        "attachments": tuple(_attachment(*item) for item in document.get("attachments", ())),
        "embedded": tuple(_embedded(*item) for item in document.get("embedded", ())),
        "from_email": document.get("fromEmail"),
        "from_name": document.get("fromName"),
        "account": document.get("account"),
        "smtp": _overrides(document),
        "timeout": _integer(document.get("timeout")),
        "schedule_time": _integer(document.get("scheduleTime")),
        "fail_to_delivered": failures,
    }


def _overrides(document: Mapping[str, Any]) -> SmtpOverrides:
    if not any(key.startswith("smtp") for key in document):
        return NO_OVERRIDES
    encryption = document.get("smtpEncryption")
    return SmtpOverrides(
        host=document.get("smtpHost"),
        port=_integer(document.get("smtpPort")),
        encryption=None if encryption is None else Encryption(encryption),
        user=document.get("smtpUser"),
        password=document.get("smtpPassword"),
    )


def _addresses(items: Any) -> tuple[Address, ...]:
    if not items:
        return ()
    return tuple(
        [
            Address(email=item) if isinstance(item, str) else Address(email=item[0], name=item[1])
            for item in items
        ]
    )


def _attachment(path: str, name: str | None = None) -> FilePart:
    return FilePart(path=path, name=name or _last_component(path))


def _embedded(path: str, content_id: str, name: str | None = None) -> FilePart:
    return FilePart(path=path, name=name or _last_component(path), content_id=content_id)


def _last_component(path: str) -> str:
    """Give the name of the file; a path of nothing but separators keeps them (it is no file)."""
    return path.rstrip("/").rpartition("/")[2] or path


def _integer(value: float | None) -> int | None:
    """JSON Schema counts 5.0 among the integers."""
    return None if value is None else int(value)


def _text(value: str | float | bool | None) -> str:  # noqa: FBT001 - any JSON scalar
    """Write a scalar as text.

    Compat: true is ``1``, false and null are empty, 2.0 is ``2``, as in the predecessor's runtime.
    """
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool):
        return "1" if value else ""
    return str(int(value)) if value == value // 1 and abs(value) < _MAX_EXACT else str(value)
