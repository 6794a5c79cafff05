# SPDX-License-Identifier: MIT
"""What the lanes of a pool need of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from twisted.internet.interfaces import IReactorTime

from smtpmailer.core.model import Route
from smtpmailer.delivery.connecting import Link
from smtpmailer.delivery.departures import Departures
from smtpmailer.delivery.dispatching import Listener
from smtpmailer.delivery.limits import PoolLimits
from smtpmailer.delivery.reach import Reach

if TYPE_CHECKING:
    from smtpmailer.delivery.carrier import Carrier
    from smtpmailer.delivery.lane import Lane

__all__ = ["Owner"]


class Owner(Listener, Protocol):
    """What a lane needs of the pool."""

    clock: IReactorTime
    limits: PoolLimits
    reach: Reach
    departures: Departures
    draining: bool
    hurried: bool
    patience: float

    def connect(self, route: Route) -> Link:
        """Give a connection that is to be opened."""

    def allows(self, lane: Lane) -> bool:
        """Whether a lane may open a connection more; it counts from then on."""

    def freed(self, lane: Lane) -> None:
        """Hear that a lane has a connection less."""

    def claims(self, lane: Lane, carrier: Carrier) -> bool:
        """Whether other lanes need this session's place more."""

    def failed_in_groups(self, route: Route) -> None:
        """Hear that a server takes mails in lock-step only, whatever it offers."""

    def emptied(self, lane: Lane) -> None:
        """Hear that a lane has neither sessions nor mails."""
