# SPDX-License-Identifier: MIT
"""What a session needs of whoever gives it mails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from twisted.python.failure import Failure

from smtpmailer.core.model import RecipientOutcome
from smtpmailer.delivery.errand import Errand
from smtpmailer.delivery.outcome import Verdict

if TYPE_CHECKING:
    from smtpmailer.delivery.carrier import Carrier

__all__ = ["Dispatcher", "Listener"]


class Listener(Protocol):
    """Who is told what became of mails."""

    def ended(
        self, errand: Errand, verdict: Verdict, refused: Mapping[str, RecipientOutcome]
    ) -> None:
        """Hear what became of a mail: the verdict holds for all that are not in ``refused``."""

    def broke(self, errand: Errand, failure: Failure) -> None:
        """Hear of a fault of our own that ended a mail's delivery."""


class Dispatcher(Listener, Protocol):
    """Who gives a session its mails."""

    @property
    def lock_step(self) -> bool:
        """Whether the server is known to fail at what it offers."""

    def take(self, carrier: Carrier) -> Errand | None:
        """Give the next mail for this session, if one should go there now."""

    def returned(self, errand: Errand) -> None:
        """Take back a mail that the server certainly does not have."""

    def rests(self, carrier: Carrier) -> None:
        """Hear that a session has nothing to carry."""
