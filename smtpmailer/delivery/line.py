# SPDX-License-Identifier: MIT
"""The mails that wait for a session of one route, in the order in which they are served."""

from __future__ import annotations

from collections import deque
from typing import Final

from smtpmailer.delivery.errand import Errand

__all__ = ["PATIENCE", "Line"]

#: Seconds by which a mail from the queue lets younger ones go first that somebody waits for.
PATIENCE: Final = 30.0


class Line:
    """Serves by age; mails from the queue count as ``PATIENCE`` seconds younger than they are.

    So instant mails go first, and can't keep those of the queue waiting for ever. ``count`` says
    how many wait.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self._urgent: deque[Errand] = deque()
        self._patient: deque[Errand] = deque()
        self.count = 0

    @property
    def urgent(self) -> int:
        """How many of them somebody waits for."""
        return len(self._urgent)

    def add(self, errand: Errand) -> None:
        """Let a mail wait."""
        self.count += 1
        (self._urgent if errand.mail.urgent else self._patient).append(errand)

    def first(self) -> Errand:
        """Show the mail whose turn it is; there has to be one."""
        return self._next()[0]

    def pop(self) -> Errand:
        """Take the mail whose turn it is; there has to be one."""
        self.count -= 1
        return self._next().popleft()

    def remove(self, errand: Errand) -> bool:
        """Take a certain mail; False when it does not wait here."""
        for waiting in (self._urgent, self._patient):
            if errand in waiting:
                waiting.remove(errand)
                self.count -= 1
                return True
        return False

    def pop_until(self, moment: float) -> list[Errand]:
        """Take all mails that came at ``moment`` or before."""
        taken = []
        for waiting in (self._urgent, self._patient):
            while waiting and waiting[0].since <= moment:
                taken.append(waiting.popleft())
        self.count -= len(taken)
        return taken

    def pop_patient(self) -> list[Errand]:
        """Take all mails from the queue."""
        taken = list(self._patient)
        self._patient.clear()
        self.count -= len(taken)
        return taken

    def pop_urgent_behind(self, count: int) -> list[Errand]:
        """Take all mails that somebody waits for, but the first so many."""
        taken = []
        while len(self._urgent) > count:
            taken.append(self._urgent.pop())
        self.count -= len(taken)
        return taken[::-1]

    def _next(self) -> deque[Errand]:
        urgent, patient = self._urgent, self._patient
        if urgent and patient:
            return patient if patient[0].since + PATIENCE < urgent[0].since else urgent
        return urgent or patient
