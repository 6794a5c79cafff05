# SPDX-License-Identifier: MIT
"""Every interface between the parts of smtpmailer.

A Deferred promised here always fires: each implementation bounds its own waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from zope.interface import Interface

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from smtpmailer.core.model import (
        DeliveryResult,
        FilePart,
        LoadedFile,
        OutgoingMail,
        Route,
    )
    from smtpmailer.core.replies import Reply

__all__ = ["IAttachments", "ICounters", "IDispatcher", "ISender", "IThreads"]

_T = TypeVar("_T")


class IThreads(Interface):
    """Runs blocking work away from the reactor thread."""

    def run(work: Callable[[], _T]) -> Deferred[_T]:
        """Call ``work`` in a thread; fire with its result or fail with its exception."""


class IAttachments(Interface):
    """Reads the files that a mail names."""

    def load(parts: tuple[FilePart, ...]) -> Deferred[tuple[LoadedFile, ...]]:
        """Read all parts, in order.

        Fails with AttachmentError for the first one that is missing, unreadable, no regular
        file, outside the allowed directories, or one of the service's own secrets.
        """

    def check(parts: tuple[FilePart, ...]) -> Deferred[None]:
        """Fire with None when ``load`` would work now; fails as ``load`` does; reads nothing."""


class ISender(Interface):
    """Hands a mail to an SMTP server, once."""

    def send(mail: OutgoingMail, route: Route) -> Deferred[DeliveryResult]:
        """Deliver and fire with one outcome per recipient.

        Never retries, never fails for what a server or network did: that is a result. Whatever
        happens it fires, at the latest when the whole-delivery limit has passed.
        """


class ICounters(Interface):
    """The counters of mails sent and mails failed."""

    def add_sent() -> Deferred[None]:
        """Count one mail as sent; fires when counted."""

    def add_failed() -> Deferred[None]:
        """Count one mail as failed; fires when counted."""

    def read() -> Deferred[tuple[int, int]]:
        """Fire with (sent, failed)."""


class IDispatcher(Interface):
    """Answers requests; one for the whole process, no state per connection."""

    def handle(raw: bytes, peer: str) -> Deferred[Reply]:
        """Carry out one whole JSON document that came from ``peer`` (an address, for the log).

        Always fires with a reply, never fails: an unexpected exception is logged and answered
        ``exception occurred``. ``raw`` has no surrounding blanks.
        """

    def reject(error: Exception, peer: str) -> Reply:
        """Answer for input that never became a document (FramingError)."""

    def may_overlap(raw: bytes) -> bool:
        """Whether this request may run beside others of its connection (see protocol)."""
