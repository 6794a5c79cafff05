# SPDX-License-Identifier: MIT
"""What is put together anew when settings change: everything from the request to the mail."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import attrs
from twisted.internet.defer import Deferred

from smtpmailer.account_parts import AccountsDesk
from smtpmailer.accountsfile import default_route
from smtpmailer.core.mime import MessageOptions, Stamp
from smtpmailer.core.requests import MailParser
from smtpmailer.core.schemas import Schema
from smtpmailer.core.settings import Settings
from smtpmailer.dispatcher import Dispatcher, Gates
from smtpmailer.door_parts import mail_limits
from smtpmailer.interfaces import Handler, IAuth, ICounters, IDispatcher, IRedis, ISender, IThreads
from smtpmailer.log import hidden_levels
from smtpmailer.pacing import paced
from smtpmailer.queue_parts import QueueGround, build_queue_front
from smtpmailer.schemafiles import load_schema
from smtpmailer.services.courier import Courier, MailDefaults
from smtpmailer.services.mail import MailService
from smtpmailer.services.once import Once
from smtpmailer.services.postman import Postman
from smtpmailer.services.queue import QueueTools
from smtpmailer.services.room import MemoryRoom
from smtpmailer.services.status import PONG, StatusService
from smtpmailer.stores.attachments import Attachments
from smtpmailer.template_parts import build_templates

__all__ = ["Front", "Ground", "build_front", "find_machine_name"]

#: Requests that take a part of a millisecond and more.
_COSTLY: Final = frozenset({"sendMail", "queueMail"})


@attrs.frozen(kw_only=True)
class Ground:
    """What stays while settings change.

    Mails with files share ``room``.
    ``auth`` counts when MAILER_AUTH is on. ``redis`` and ``queue`` are there when they are on.
    ``machine_name`` is what SMTP servers are told where SMTP_EHLO_NAME is empty. ``accounts`` holds
    those that there are now. ``stamp`` gives a new mail its identity.
    """

    threads: IThreads
    sender: ISender
    counters: ICounters
    pace: Callable[[], Deferred[None] | None]
    auth: IAuth
    redis: IRedis | None
    queue: QueueGround | None
    machine_name: str
    room: MemoryRoom
    accounts: AccountsDesk
    once: Once
    stamp: Callable[[], Stamp]


@attrs.frozen(kw_only=True)
class Front:
    """What answers requests, and what delivers from the queue, if there is one."""

    dispatcher: IDispatcher
    postman: Postman | None


def build_front(settings: Settings, ground: Ground) -> Front:
    """Put it together; opens nothing."""
    templates = None
    if settings.email_template:
        templates = build_templates(settings, ground.threads, ground.redis)
    courier = Courier(
        _mail_defaults(settings, ground),
        attachments=_attachments(settings, ground),
        sender=ground.sender,
        threads=ground.threads,
        templates=templates.templates if templates else None,
        room=ground.room,
    )
    ground.room.limit = settings.mail_max_memory
    parser = MailParser(load_schema("sendMail"), mail_limits(settings), ground.accounts.current)
    tells = "info" not in hidden_levels(settings)
    queue = None
    if ground.queue is not None:
        schema = Schema(load_schema("updateQueuedMail"))
        tools = QueueTools(
            parser=parser,
            update_schema=schema,
            courier=courier,
            stamp=ground.stamp,
            tells_queued=tells,
        )
        queue = build_queue_front(settings, ground.queue, tools, ground.counters)
    mail = MailService(
        parser,
        courier,
        ground.counters,
        ground.stamp,
        queue.requeue if queue else None,
        tells_sent=tells,
    )
    handlers: Mapping[str, Handler] = {
        "sendMail": mail.send_mail,
        **_status_handlers(settings, ground),
        **(queue.handlers if queue else {}),
        **(templates.handlers if templates else {}),
    }
    # A burst of mails is spread over turns of the reactor; what costs little goes in between.
    costly = {
        name: paced(ground.pace, ground.once.wrap(name, handlers[name]))
        for name in _COSTLY & handlers.keys()
    }
    auth = ground.auth if settings.mailer_auth else None
    return Front(
        dispatcher=Dispatcher(
            {**handlers, **costly}, auth, _gates(settings), prompt={"ping": PONG}
        ),
        postman=queue.postman if queue else None,
    )


def _status_handlers(settings: Settings, ground: Ground) -> Mapping[str, Handler]:
    store = ground.queue.store if ground.queue else None
    status = StatusService(ground.counters, store, ground.redis, settings.mailer_once_keep)
    return {"ping": status.ping, "status": status.status}


def _mail_defaults(settings: Settings, ground: Ground) -> MailDefaults:
    options = MessageOptions(
        html=settings.mail_html,
        charset=settings.mail_charset,
        encoding=settings.mail_encoding,
        max_bytes=settings.mail_max_size,
    )
    return MailDefaults(
        from_email=settings.mail_from_addr,
        from_name=settings.mail_from_name,
        options=options,
        route=default_route(settings, ground.machine_name),
        accounts=ground.accounts.current,
    )


def find_machine_name() -> str:
    """Give the machine's name as far as a server would take it (RFC 5321 section 4.1.1.1)."""
    name = socket.getfqdn()
    return (
        name if name.isascii() and name.replace(".", "").replace("-", "").isalnum() else "localhost"
    )


def _attachments(settings: Settings, ground: Ground) -> Attachments:
    queue = (settings.queue_dir, settings.queue_process_dir, settings.queue_failed_dir)
    remembered = str(Path(settings.queue_dir, ".smtpmailer"))
    own = (*settings.secret_files, remembered, *(queue if settings.mailer_queue else ()))
    return Attachments(
        ground.threads,
        directories=settings.attachment_dirs,
        forbidden=lambda: (*own, *ground.accounts.files()),
        limit_bytes=settings.mail_max_size or sys.maxsize,
    )


def _gates(settings: Settings) -> Gates:
    return Gates(
        queue_enabled=settings.mailer_queue,
        queue_read_only=settings.mailer_queue_api_read_only,
        template_enabled=settings.email_template,
        template_read_only=settings.email_template_api_read_only,
    )
