# SPDX-License-Identifier: MIT
"""Requests with keys against a queue in memory and keys in files, for tests of services.once."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from smtpmailer.core.grants import EVERYTHING, Grant
from smtpmailer.core.replies import Reply
from smtpmailer.core.requests import Arguments
from smtpmailer.interfaces import IMailSearch
from smtpmailer.services.mail import MailService, Requeue
from smtpmailer.services.once import Once, OnceTools
from smtpmailer.services.queue import QueueService, QueueTools
from smtpmailer.stores.once_files import FileOnceStore
from smtpmailer.stores.sealed import SealedSearch
from smtpmailer.threads import InlineThreads
from tests.services.queueing import PARSER, UPDATES, Faulty, QueueCase, mail
from tests.stores.queues import SHM

__all__ = ["Node", "OnceCase"]


class Node:
    """One process of several that share a queue and its keys.

    ``faults`` is the store of keys, with faults at will.
    """

    def __init__(self, case: OnceCase, secrets: Sequence[bytes], *, queue: bool = True) -> None:
        self.files = FileOnceStore(str(case.keys), InlineThreads(), durable=True)
        self.faults = Faulty(self.files)
        search: IMailSearch = SealedSearch(case.search, case.cipher)  # type: ignore[arg-type]
        tools = OnceTools(
            store=self.faults,  # type: ignore[arg-type]
            stamp=case.stamp,
            clock=case.clock,
            search=search if queue else None,
            secrets=secrets,
        )
        requeue = Requeue(
            store=case.store, policy=case.policy, now=case.now, jitter=lambda: case.jitter
        )
        sending = MailService(
            PARSER, case.courier, case.counters, case.stamp, requeue if queue else None
        )
        queueing = QueueService(
            case.store,
            QueueTools(
                parser=PARSER, update_schema=UPDATES, courier=case.courier, stamp=case.stamp
            ),
        )
        once = Once(tools)
        self.once = once
        self.handlers = {
            "sendMail": once.wrap("sendMail", sending.send_mail),
            "queueMail": once.wrap("queueMail", queueing.queue_mail),
        }

    def ask(
        self, name: str, value: Any, key: str = "k1", *, grant: Grant = EVERYTHING
    ) -> Deferred[Reply]:
        """Make a request."""
        arguments = Arguments(value=value, once=key, grant=grant, peer="192.0.2.1")
        return self.handlers[name](arguments)


class OnceCase(QueueCase):
    """Has one node; ``make_node`` makes others."""

    def setUp(self) -> None:
        """Put it together."""
        super().setUp()
        directory = tempfile.TemporaryDirectory(dir=SHM)
        self.addCleanup(directory.cleanup)
        self.keys = Path(directory.name, "once")
        self.search = Faulty(self.memory)
        self.node = self.make_node()

    def make_node(self, secrets: Sequence[bytes] = (b"secret",), *, queue: bool = True) -> Node:
        """Make a process."""
        node = Node(self, secrets, queue=queue)
        self.addCleanup(lambda: self.successResultOf(node.files.stop()))
        return node

    def asked(
        self, name: str, *, node: Node | None = None, key: str = "k1", **fields: Any
    ) -> Reply:
        """Make a request whose mail has these fields; gives its answer."""
        deferred = (node or self.node).ask(name, mail(**fields), key)
        return self.successResultOf(deferred)

    def said(self, reply: Reply) -> tuple[Any, ...]:
        """Give what a reply says, and whether it was said before."""
        return reply.status, reply.data, reply.message, reply.repeated
