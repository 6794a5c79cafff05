# SPDX-License-Identifier: MIT
"""So much in a time, and no more: a token bucket."""

from __future__ import annotations

from typing import Final

import attrs

__all__ = ["ENOUGH", "Bucket", "Lines"]

#: As much of a token counts as one: who waited just long enough must not miss it by rounding.
ENOUGH: Final = 1 - 1e-6


@attrs.define
class Bucket:
    """Holds at most ``size`` tokens, begins full, and gets ``per_second`` of them back.

    Times are seconds of one clock that does not go back.
    """

    size: float
    per_second: float
    _left: float = attrs.field(init=False)
    _at: float = attrs.field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        """Fill it."""
        self._left = self.size

    def take(self, now: float) -> bool:
        """Take a token; False when there is none."""
        self._left = min(self.size, self._left + max(0.0, now - self._at) * self.per_second)
        self._at = now
        if self._left < ENOUGH:
            return False
        self._left -= 1
        return True


#: Lines of one kind that the log gets in a second.
_LINES: Final = 10.0


@attrs.define
class Lines:
    """Decides which of many lines are logged, when clients can cause them at will."""

    _bucket: Bucket = attrs.field(factory=lambda: Bucket(_LINES, _LINES), init=False)
    _left_out: int = attrs.field(default=0, init=False)

    def next(self, now: float) -> str | None:
        """Give what to put behind the next line; None when it is to be left out."""
        if not self._bucket.take(now):
            self._left_out += 1
            return None
        left_out, self._left_out = self._left_out, 0
        return f" ({left_out} such lines left out before)" if left_out else ""
