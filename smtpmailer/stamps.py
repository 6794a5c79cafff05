# SPDX-License-Identifier: MIT
"""What tells mails apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from smtpmailer.core.mime import Stamp

__all__ = ["Stamps"]

_ID_BYTES: Final = 8
#: So many ids are drawn with one call, which gives the interpreter lock up to other threads.
_DRAWN: Final = 256


class Stamps:
    """Gives each new mail its identity: 64 random bits that no other has, and its time."""

    def __init__(self, draw: Callable[[int], bytes], now: Callable[[], float]) -> None:
        """Draw nothing yet: a process that forks first must not share what was drawn.

        ``draw`` gives so many random bytes, fit for secrets; ``now`` Unix seconds.
        """
        self._draw = draw
        self._now = now
        self._ids: list[str] = []

    def fresh(self) -> Stamp:
        """Give a stamp."""
        if not self._ids:
            digits, each = self._draw(_ID_BYTES * _DRAWN).hex(), 2 * _ID_BYTES
            self._ids = [digits[at : at + each] for at in range(0, len(digits), each)]
        return Stamp(unique=self._ids.pop(), epoch_seconds=self._now())
