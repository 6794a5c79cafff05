# SPDX-License-Identifier: MIT
"""Lets another dispatcher take over while connections stay open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from smtpmailer.core.documents import Document
from smtpmailer.core.replies import Reply
from smtpmailer.core.standing import Standing
from smtpmailer.errors import ClientError
from smtpmailer.interfaces import IDispatcher

__all__ = ["Switch"]


@implementer(IDispatcher)
class Switch:
    """Hands everything to ``current``; what that has begun it also ends."""

    def __init__(self, current: IDispatcher) -> None:
        """Begin with this one."""
        self.current = current

    def handle(
        self, document: Document, peer: str, standing: Standing | None = None
    ) -> Deferred[Reply]:
        """Carry out one whole document; see IDispatcher."""
        return self.current.handle(document, peer, standing)

    def prompt(self, request: Mapping[str, Any], peer: str, standing: Standing) -> bytes | None:
        """Give the answer to a request for which nothing has to be done; see IDispatcher."""
        return self.current.prompt(request, peer, standing)

    def reject(self, fault: ClientError, peer: str) -> Reply:
        """Answer for input that never became a request; see IDispatcher."""
        return self.current.reject(fault, peer)

    def leave(self, standing: Standing) -> None:
        """Say that a client asks no more; see IDispatcher."""
        self.current.leave(standing)

    def may_overlap(self, document: Document) -> bool:
        """Whether this request may run beside others of its connection; see IDispatcher."""
        return self.current.may_overlap(document)
