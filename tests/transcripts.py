# SPDX-License-Identifier: MIT
"""The predecessor's recorded request and response pairs, and a dispatcher to check them against."""

from __future__ import annotations

import json
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed

from smtpmailer.core.mime import Stamp
from smtpmailer.core.replies import Reply, success
from smtpmailer.core.requests import Arguments, MailParser
from smtpmailer.core.schemas import Schema
from smtpmailer.dispatcher import Dispatcher, Gates
from smtpmailer.interfaces import IAuth, ITemplateStore
from smtpmailer.schemafiles import load_schema
from smtpmailer.services.courier import Courier
from smtpmailer.services.queue import QueueService, QueueTools
from smtpmailer.services.templates import TemplateService
from smtpmailer.stores.memory import MemoryQueueStore
from smtpmailer.stores.memory_templates import MemoryTemplateStore
from tests.services.parts import DEFAULTS, Files, Sender, WatchedThreads
from tests.vectors import DATA

_PARSER = MailParser(load_schema("sendMail"))


@attrs.frozen
class Pair:
    """A request's text and the answer expected; ``ends`` when the connection is closed after."""

    request: bytes
    response: dict[str, Any]
    ends: bool = False


def load_pairs() -> list[Pair]:
    """Give every recorded pair.

    A ``queueMail`` pair recorded for validation is there a second time as ``sendMail``, which
    validates alike.
    """
    pairs = []
    for recorded in json.loads((DATA / "transcripts.json").read_text("utf-8"))["pairs"]:
        text, response = recorded["request"], recorded["response"]
        name = _name(text)
        if name == "queueMail" and response["message"] == "invalid payload":
            pairs.append(Pair(text.replace(name, "sendMail", 1).encode(), response))
        ends = text.lstrip()[0] not in "{["
        pairs.append(Pair(text.strip().encode(), response, ends))
    return pairs


def make_dispatcher(
    auth: IAuth | None = None,
    *,
    templates: ITemplateStore | None = None,
    read_only: bool = False,
) -> Dispatcher:
    """Make a dispatcher of the services that exist, which validates mails and sends none."""
    service = TemplateService(templates or MemoryTemplateStore(limit_bytes=1_000_000))
    handlers = {
        "ping": _ping,
        "status": _status,
        "sendMail": _send_mail,
        **_queue().handlers(),
        **service.handlers(),
    }
    gates = Gates(
        queue_enabled=True,
        queue_read_only=read_only,
        template_enabled=True,
        template_read_only=read_only,
    )
    return Dispatcher(handlers, auth, gates)


def _queue() -> QueueService:
    courier = Courier(DEFAULTS, attachments=Files(), sender=Sender(), threads=WatchedThreads())
    tools = QueueTools(
        parser=_PARSER,
        update_schema=Schema(load_schema("updateQueuedMail")),
        courier=courier,
        stamp=lambda: Stamp(unique="0123456789abcdef", epoch_seconds=0),
    )
    return QueueService(MemoryQueueStore(), tools)


def _name(text: str) -> str:
    value = json.loads(text)
    return str(next(iter(value))) if isinstance(value, dict) else ""


def _ping(_arguments: Arguments) -> Deferred[Reply]:
    return succeed(success(message="pong"))


def _status(_arguments: Arguments) -> Deferred[Reply]:
    return succeed(success({"sent": 0, "failed": 0}))


def _send_mail(arguments: Arguments) -> Deferred[Reply]:
    _PARSER.parse(arguments.value)
    return succeed(success(message="mail sent successfully"))
