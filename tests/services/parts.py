# SPDX-License-Identifier: MIT
"""Small parts for the tests of services: each keeps what it is given, and does what it is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import attrs
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from zope.interface import implementer

from smtpmailer.core.mime import MessageOptions, Stamp
from smtpmailer.core.model import (
    DeliveryResult,
    Encryption,
    FilePart,
    LoadedFile,
    Outcome,
    OutgoingMail,
    RecipientOutcome,
    Route,
)
from smtpmailer.errors import AttachmentError
from smtpmailer.interfaces import IAttachments, ICounters, ISender, IThreads
from smtpmailer.services.courier import MailDefaults

__all__ = ["DEFAULTS", "STAMP", "Counters", "Files", "Sender", "WatchedThreads", "result_of"]

_T = TypeVar("_T")

STAMP = Stamp(unique="mail-1", epoch_seconds=1_700_000_000)
DEFAULTS = MailDefaults(
    from_email="service@example.org",
    from_name="The Service",
    options=MessageOptions(html=False),
    route=Route(
        host="smtp.example.org",
        port=587,
        encryption=Encryption.STARTTLS,
        user="user",
        password="secret",
        ehlo_name="client.example.org",
    ),
)


def result_of(outcome: Outcome, *recipients: str, reason: str = "") -> DeliveryResult:
    """Give a result in which all recipients share an outcome."""
    return DeliveryResult(
        outcomes=tuple(
            RecipientOutcome(
                recipient=recipient, outcome=outcome, code=250, enhanced="2.0.0", reply="fine"
            )
            for recipient in recipients
        ),
        reason=reason,
        server="smtp.example.org:587",
        seconds=0.12345,
    )


@implementer(ISender)
class Sender:
    """Gives ``result`` for every mail."""

    def __init__(self) -> None:
        self.sent: list[tuple[OutgoingMail, Route]] = []
        self.result = result_of(Outcome.DELIVERED, "user@example.org")

    def send(self, mail: OutgoingMail, route: Route) -> Deferred[DeliveryResult]:
        self.sent.append((mail, route))
        return succeed(self.result)


@implementer(IAttachments)
class Files:
    """Has the files in ``contents``, by path."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}

    def load(self, parts: tuple[FilePart, ...]) -> Deferred[tuple[LoadedFile, ...]]:
        for part in parts:
            if part.path not in self.contents:
                return fail(AttachmentError(part.path, "no such file"))
        return succeed(
            tuple(LoadedFile(part=part, content=self.contents[part.path]) for part in parts)
        )

    def check(self, parts: tuple[FilePart, ...]) -> Deferred[int]:
        return self.load(parts).addCallback(lambda files: sum(len(f.content) for f in files))


@implementer(ICounters)
@attrs.define
class Counters:
    """Counts, or fails when ``broken``."""

    sent: int = 0
    failed: int = 0
    broken: bool = False

    def add_sent(self) -> Deferred[None]:
        self.sent += 1
        return self._done()

    def add_failed(self) -> Deferred[None]:
        self.failed += 1
        return self._done()

    def read(self) -> Deferred[tuple[int, int]]:
        return succeed((self.sent, self.failed))

    def _done(self) -> Deferred[None]:
        return fail(OSError("the store is away")) if self.broken else succeed(None)


@implementer(IThreads)
class WatchedThreads:
    """Runs work at once; ``runs`` counts it."""

    runs = 0

    def run(self, work: Callable[[], _T]) -> Deferred[_T]:
        self.runs += 1
        return maybeDeferred(work)
