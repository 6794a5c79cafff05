# SPDX-License-Identifier: MIT
"""Services that start in order and stop in reverse order, one after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol, runtime_checkable

from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from smtpmailer.coroutines import returns_deferred

__all__ = ["OrderedService", "Part", "Unfinished", "counted"]

#: Seconds that a child has to stop once the time of all is over.
_MOMENT: Final = 1.0


def _nothing() -> None:
    """Do nothing."""


def _nothing_left() -> str:
    """Tell of nothing."""
    return ""


def counted(number: int, one: str, many: str = "") -> str:
    """Say how many there are of something; empty when there are none."""
    return f"{number} {one if number == 1 else many or one + 's'}" if number else ""


@runtime_checkable
class Unfinished(Protocol):
    """A service that can tell what of its work is under way, and can cut it short."""

    def left(self) -> str:
        """Say what is under way, in a few words; empty when nothing is."""

    def cut(self) -> None:
        """End at once what is under way, as the time of all is over."""


class _LateError(Exception):
    """A child did not stop in time."""


class OrderedService(MultiService):
    """A MultiService that stops its children one by one, last started first.

    Twisted's own stops all at once. Together they have ``stop_limit`` seconds, or any time when it
    is None. When that is over what is under way is logged, in one line, and cut short (see
    Unfinished); then each child has a moment. One that fails or takes longer is logged and the next
    one's turn comes all the same. ``stopService`` fires when all have had their turn and may be
    called again meanwhile.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, stop_limit: float | None) -> None:
        """Make it without children; add them in the order in which they are to start."""
        super().__init__()
        self._clock = clock
        self._stop_limit = stop_limit
        # Since when it stops; and what cuts short what is under way then.
        self._begun_at = 0.0
        self._timer: IDelayedCall | None = None
        self._stopping: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []
        # Whose turn to stop it is; and whom the line on what was cut short has named.
        self._current = ""
        self._told: set[str] = set()

    @property
    def stop_limit(self) -> float | None:
        """The seconds that a stop may take; may be set anew, even while it stops."""
        return self._stop_limit

    @stop_limit.setter
    def stop_limit(self, seconds: float | None) -> None:
        self._stop_limit = seconds
        if self._stopping is not None:
            self._set_timer()

    def stopService(self) -> Deferred[None]:
        """Stop all children; fires when the last one's turn is over."""
        Service.stopService(self)
        waiter: Deferred[None] = Deferred()
        self._waiting.append(waiter)
        if self._stopping is None:
            self._stopping = self._stop_all()
            self._stopping.addBoth(self._stopped)
        return waiter

    def _stopped(self, _result: Any) -> None:
        self._stopping = None
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)

    @returns_deferred
    async def _stop_all(self) -> None:
        self._told = set()
        self._begun_at = self._clock.seconds()
        self._set_timer()
        for child in reversed(list(self)):
            left = self._left()
            await self._stop_one(child, None if left is None else left + _MOMENT)
        self._forget_timer()

    def _left(self) -> float | None:
        """Tell how many seconds all have together; None for any number."""
        if self._stop_limit is None:
            return None
        return max(0.0, self._begun_at + self._stop_limit - self._clock.seconds())

    def _set_timer(self) -> None:
        """Begin to wait for the end of the time that there is now."""
        self._forget_timer()
        left = self._left()
        if left is not None:
            self._timer = self._clock.callLater(left, self._cut_short)

    def _forget_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    async def _stop_one(self, child: IService, limit: float | None) -> None:
        self._current = name = _name_of(child)
        try:
            stopped = maybeDeferred(child.stopService)
            if limit is not None:
                stopped.addTimeout(limit, self._clock, _late)
            await stopped
        except _LateError:
            if name not in self._told:
                self._log.warn("{child} did not stop in time", child=name)
        except Exception:  # noqa: BLE001 - the next child's turn comes all the same
            self._log.failure("{child} did not stop as it should", child=name)

    def _cut_short(self) -> None:
        """Say what is under way, and end it."""
        found = [child for child in reversed(list(self)) if isinstance(child, Unfinished)]
        left = {_name_of(child): text for child in found if (text := child.left())}
        left = left or {self._current: self._current}
        self._told = set(left)
        self._log.warn(
            "the time to stop is over ({limit:g} s, MAILER_STOP_TIMEOUT); cut short: {left}",
            limit=self._stop_limit,
            left=", ".join(left.values()),
        )
        for child in found:
            try:
                child.cut()
            except Exception:  # noqa: BLE001 - the others are to be cut short, too
                self._log.failure("{child} did not stop as it should", child=_name_of(child))


def _late(result: Any, _limit: float) -> Any:
    """Make the end of a Deferred that was cancelled a _LateError."""
    if isinstance(result, Failure):
        raise _LateError
    return result


def _name_of(child: Any) -> str:
    return child.name or type(child).__name__


class Part(Service):
    """A service made of a part's own way to start and to stop."""

    def __init__(
        self,
        name: str,
        *,
        start: Callable[[], object] = _nothing,
        stop: Callable[[], Any] = _nothing,
        left: Callable[[], str] = _nothing_left,
        cut: Callable[[], None] = _nothing,
    ) -> None:
        """``stop`` may return a Deferred, which is waited for; the rest as Unfinished has it."""
        self.setName(name)
        self._start = start
        self._stop = stop
        self.left = left
        self.cut = cut

    def startService(self) -> None:
        """Start the part."""
        super().startService()
        self._start()

    def stopService(self) -> Any:
        """Stop the part; a Deferred that fires when it has stopped, or None."""
        super().stopService()
        return self._stop()
