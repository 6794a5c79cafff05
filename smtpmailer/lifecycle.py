# SPDX-License-Identifier: MIT
"""Services that start in order and stop in reverse order, one after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol, runtime_checkable

from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
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
        self.stop_limit = stop_limit
        self._stopping: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []
        # Whose turn to stop it is; and whom the line on what was cut short has named.
        self._current = ""
        self._told: set[str] = set()

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
        limit, begun_at = self.stop_limit, self._clock.seconds()
        timer = None if limit is None else self._clock.callLater(limit, self._cut_short, limit)
        for child in reversed(list(self)):
            left = None
            if limit is not None:
                left = max(0.0, begun_at + limit - self._clock.seconds()) + _MOMENT
            await self._stop_one(child, left)
        if timer is not None and timer.active():
            timer.cancel()

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

    def _cut_short(self, limit: float) -> None:
        """Say what is under way, and end it."""
        found = [child for child in reversed(list(self)) if isinstance(child, Unfinished)]
        left = {_name_of(child): text for child in found if (text := child.left())}
        left = left or {self._current: self._current}
        self._told = set(left)
        self._log.warn(
            "the time to stop is over ({limit:g} s, MAILER_STOP_TIMEOUT); cut short: {left}",
            limit=limit,
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
