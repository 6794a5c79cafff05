# SPDX-License-Identifier: MIT
"""What a request's arguments mean: from JSON values to the values of ``core.model``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from smtpmailer.core.model import Address, Encryption, FilePart, MailRequest, SmtpOverrides
from smtpmailer.core.schemas import Schema
from smtpmailer.errors import NoRecipientError, RequestInvalidError

__all__ = ["Arguments", "MailParser"]

#: Beyond this an integral float is written with an exponent, as it may have lost digits.
_MAX_EXACT: Final = 1e15


@attrs.frozen(kw_only=True)
class Arguments:
    """What a handler is given.

    ``value`` stands beside the request's name. ``content`` is None when the request has none;
    ``has_content`` tells that from null. ``peer`` is the client's address, for the log.
    ``wants_detail`` says that a reply's ``detail`` will be shown.
    """

    value: Any = attrs.field(repr=False)
    content: Any = attrs.field(default=None, repr=False)
    has_content: bool = False
    peer: str = ""
    wants_detail: bool = False


class MailParser:
    """Checks mail objects and makes MailRequests of them."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        """Compile ``schema``, the content of ``schema/sendMail.json``."""
        self._schema = Schema(schema)

    def parse(self, document: Any) -> MailRequest:
        """Give the mail that ``document``, a JSON value, describes.

        Raises RequestInvalidError with every fault, NoRecipientError when to, ccList and bccList
        are all empty.
        """
        # Compat: an empty text in the mail's place is answered as null.
        faults = self._schema.faults(None if document == "" else document)
        if faults:
            raise RequestInvalidError(faults)
        if not (document["to"] or document["ccList"] or document["bccList"]):
            raise NoRecipientError
        return _mail(document)


def _mail(document: Mapping[str, Any]) -> MailRequest:
    return MailRequest(
        to=_addresses(document["to"]),
        cc=_addresses(document["ccList"]),
        bcc=_addresses(document["bccList"]),
        reply_to=_addresses(document.get("replyTo", ())),
        subject=document["subject"],
        body=document.get("body"),
        template=document.get("useTemplate"),
        replace_content={
            key: _text(value) for key, value in document.get("replaceContent", {}).items()
        },
        attachments=tuple(_attachment(*item) for item in document.get("attachments", ())),
        embedded=tuple(_embedded(*item) for item in document.get("embedded", ())),
        from_email=document.get("fromEmail"),
        from_name=document.get("fromName"),
        smtp=_overrides(document),
        timeout=_integer(document.get("timeout")),
        schedule_time=_integer(document.get("scheduleTime")),
        fail_to_delivered=_integer(document.get("failToDelivered")) or 0,
    )


def _overrides(document: Mapping[str, Any]) -> SmtpOverrides:
    encryption = document.get("smtpEncryption")
    return SmtpOverrides(
        host=document.get("smtpHost"),
        port=_integer(document.get("smtpPort")),
        encryption=None if encryption is None else Encryption(encryption),
        user=document.get("smtpUser"),
        password=document.get("smtpPassword"),
    )


def _addresses(items: Any) -> tuple[Address, ...]:
    return tuple(
        Address(email=item) if isinstance(item, str) else Address(email=item[0], name=item[1])
        for item in items
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
