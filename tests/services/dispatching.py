# SPDX-License-Identifier: MIT
"""The whole service behind its protocol, on stores in memory."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from smtpmailer.core.documents import read
from smtpmailer.dispatcher import Dispatcher, Gates, Handler
from smtpmailer.services.deadletters import DeadLetterService
from smtpmailer.services.explaining import ExplainService
from smtpmailer.services.mail import MailService, Requeue
from smtpmailer.services.once import Once, OnceTools
from smtpmailer.services.queue import QueueService, QueueTools
from smtpmailer.services.status import StatusService
from smtpmailer.services.templates import TemplateService
from smtpmailer.stores.memory_templates import MemoryTemplateStore
from smtpmailer.stores.once_files import FileOnceStore
from smtpmailer.stores.sealed import SealedSearch
from smtpmailer.threads import InlineThreads
from tests.services.queueing import PARSER, UPDATES, QueueCase
from tests.stores.queues import SHM

__all__ = ["ask", "make_dispatcher"]

_OPEN = Gates(
    queue_enabled=True, queue_read_only=False, template_enabled=True, template_read_only=False
)


def make_dispatcher(case: QueueCase, gates: Gates = _OPEN) -> Dispatcher:
    """Put the service together from a test case's parts."""
    requeue = Requeue(
        store=case.store, policy=case.policy, now=case.now, jitter=lambda: case.jitter
    )
    mail = MailService(PARSER, case.courier, case.counters, case.stamp, requeue)
    status = StatusService(case.counters, once_keep=86400)
    tools = QueueTools(parser=PARSER, update_schema=UPDATES, courier=case.courier, stamp=case.stamp)
    queue = QueueService(case.store, tools)
    dead = DeadLetterService(case.letters, case.store.is_name)
    explain = ExplainService(SealedSearch(case.memory, case.cipher), case.store, case.now)
    templates = TemplateService(MemoryTemplateStore(limit_bytes=1_000_000))
    once = _make_once(case)
    handlers: dict[str, Handler] = {
        "ping": status.ping,
        "status": status.status,
        "sendMail": once.wrap("sendMail", mail.send_mail),
        **queue.handlers(),
        "queueMail": once.wrap("queueMail", queue.queue_mail),
        **dead.handlers(),
        **explain.handlers(),
        **templates.handlers(),
    }
    return Dispatcher(handlers, None, gates)


def _make_once(case: QueueCase) -> Once:
    directory = tempfile.TemporaryDirectory(dir=SHM)
    case.addCleanup(directory.cleanup)
    store = FileOnceStore(str(Path(directory.name, "once")), InlineThreads(), durable=True)
    case.addCleanup(lambda: case.successResultOf(store.stop()))
    return Once(OnceTools(store=store, stamp=case.stamp, clock=case.clock))


def ask(case: QueueCase, dispatcher: Dispatcher, request: dict[str, Any]) -> dict[str, Any]:
    """Make a request; gives the answer as JSON has it."""
    done = dispatcher.handle(read(json.dumps(request).encode()), "192.0.2.1")
    answer: dict[str, Any] = json.loads(case.successResultOf(done).encode())
    return answer
