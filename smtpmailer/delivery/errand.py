# SPDX-License-Identifier: MIT
"""A mail between the sender and its end: what the pool has to know and remember of it."""

from __future__ import annotations

from typing import Protocol

import attrs

from smtpmailer.core.model import OutgoingMail, Route
from smtpmailer.errors import RemoteError

__all__ = ["Errand", "Holder"]


class Holder(Protocol):
    """Who has a mail in hand: the queue of a route, or a session."""

    def give_up(self, errand: Errand, error: RemoteError) -> None:
        """End a mail's delivery now; its result is told before this returns."""


@attrs.define(eq=False)
class Errand:
    """A mail that waits for a session or is on one.

    ``since`` is when it came, in seconds of the reactor's clock. ``fresh``: it takes only a
    session that has carried nothing, as a used one ended under it. ``lock_step``: it is handed
    over without PIPELINING and CHUNKING, as that may be what failed. ``given_up``: its end is
    decided; it is not tried again. ``dialogue`` is what was said on sessions that it left again.
    """

    mail: OutgoingMail
    route: Route
    since: float
    fresh: bool = False
    lock_step: bool = False
    given_up: bool = False
    dialogue: tuple[str, ...] = ()
    holder: Holder | None = None

    def comes_back(self, dialogue: tuple[str, ...], *, lock_step: bool) -> None:
        """Go to a session that has carried nothing; this was said on the one before."""
        self.fresh = True
        self.lock_step |= lock_step
        self.dialogue += dialogue
