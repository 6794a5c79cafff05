# SPDX-License-Identifier: MIT
"""So many mails in a second, a minute or an hour: how that is written, and what it allows."""

from __future__ import annotations

import re
from typing import Final

import attrs

__all__ = ["Rate"]

_FORM: Final = re.compile(r"([1-9][0-9]{0,8})/(s|m|h|d)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

#: One of so many parts of the mails of a span may go out at once.
_BURST_PARTS: Final = 10


@attrs.frozen
class Rate:
    """At most ``mails`` in any ``seconds``: a second, a minute, an hour or a day."""

    mails: int
    seconds: int

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Read ``10/s``, ``300/m``, ``5000/h`` or ``2000/d``; raises ValueError for all else."""
        match = _FORM.fullmatch(text)
        if match is None:
            msg = "has to be mails in a time, such as 10/s, 300/m, 5000/h or 2000/d"
            raise ValueError(msg)
        return cls(int(match[1]), _SECONDS[match[2]])

    def __str__(self) -> str:
        """Give what ``parse`` reads."""
        unit = next(unit for unit, seconds in _SECONDS.items() if seconds == self.seconds)
        return f"{self.mails}/{unit}"

    @property
    def burst(self) -> int:
        """How many mails may go out at once after a rest: a tenth of them, but one at least."""
        return max(1, self.mails // _BURST_PARTS)

    @property
    def per_second(self) -> float:
        """How many mails a second may go out in the long run.

        A server counts what comes in a span of time, so a burst and what follows it have to stay
        within ``mails``: the tenth that may go out at once is missing from what flows.
        """
        return (self.mails - self.burst + 1) / self.seconds
