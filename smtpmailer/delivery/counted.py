# SPDX-License-Identifier: MIT
"""Counts the deliveries that are under way."""

from __future__ import annotations

from typing import TypeVar

from twisted.internet.defer import Deferred
from zope.interface import implementer

from smtpmailer.core.board import Field, Seat
from smtpmailer.core.model import DeliveryResult, OutgoingMail, Route
from smtpmailer.interfaces import ISender

__all__ = ["CountedSender"]

_T = TypeVar("_T")


@implementer(ISender)
class CountedSender:
    """Hands mails to another sender, and keeps their number on the board."""

    def __init__(self, sender: ISender, seat: Seat) -> None:
        """``seat`` is that of this process."""
        self._sender = sender
        self._seat = seat

    def send(self, mail: OutgoingMail, route: Route) -> Deferred[DeliveryResult]:
        """Deliver; see ISender."""
        self._seat.add(Field.DELIVERIES)
        return self._sender.send(mail, route).addBoth(self._ended)

    def _ended(self, result: _T) -> _T:
        self._seat.add(Field.DELIVERIES, -1)
        return result
