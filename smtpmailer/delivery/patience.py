# SPDX-License-Identifier: MIT
"""How long a session waits for its server, and stays when there is nothing to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IReactorTime

from smtpmailer.alarm import Alarm

__all__ = ["STALE_LIMIT", "Patience"]

#: Seconds that a session which lay idle has for its first answer: it may be dead without a sign.
STALE_LIMIT: Final = 20.0

_RECHECK: Final = 60.0


class Patience:
    """Calls ``expire`` when the server has not answered in time, or the session lay idle too long.

    ``seconds`` is the limit that holds now.
    """

    def __init__(self, clock: IReactorTime, expire: Callable[[], None]) -> None:
        """Wait for nothing yet."""
        self._clock = clock
        self._deadline: float | None = None
        self._rested = False
        self._alarm = Alarm(clock, lambda: self._deadline, expire, _RECHECK)
        self.seconds = 0.0

    def wait(self, seconds: float) -> None:
        """Wait for an answer, from now on."""
        self._set(min(seconds, STALE_LIMIT) if self._rested else seconds)

    def rest(self, seconds: float) -> None:
        """Lie idle from now on."""
        self._rested = True
        self._set(seconds)

    def heard(self) -> None:
        """Note that the server is alive."""
        self._rested = False

    def pause(self) -> None:
        """Wait for nobody: it is our turn."""
        self._deadline = None

    def end(self) -> None:
        """Never expire any more."""
        self._alarm.cancel()

    def _set(self, seconds: float) -> None:
        self.seconds = seconds
        before, self._deadline = self._deadline, self._clock.seconds() + seconds
        if before is None or self._deadline < before:
            self._alarm.arm()
