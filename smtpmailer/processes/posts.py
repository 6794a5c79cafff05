# SPDX-License-Identifier: MIT
"""A post: one process of the service, and who comes after it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from smtpmailer.core.respawn import Growth, Patience
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import ControlError
from smtpmailer.processes.child import Child

__all__ = ["Post"]

#: A successor that is not ready after so many seconds is killed; the old one stays.
_START_LIMIT: Final = 300.0


class Post:
    """Keeps one process running.

    When it dies another one is started, at once unless they die one after another. ``replace``
    lets another one take over from it.
    """

    _log = Logger()

    def __init__(self, name: str, start: Callable[[str], Child], clock: IReactorTime) -> None:
        """``start`` starts a process of this name; it may raise OSError and ControlError."""
        self.name = name
        #: Who serves here; None while nobody does.
        self.child: Child | None = None
        #: Who comes after it.
        self.successor: Child | None = None
        #: How soon those who serve here are replaced for what they used.
        self.growth = Growth()
        self._start = start
        self._clock = clock
        self._patience = Patience()
        self._timer: IDelayedCall | None = None
        self._closed = False
        #: How many died here unasked.
        self.deaths = 0

    @property
    def children(self) -> list[Child]:
        """Who serves here, and who is to."""
        return [each for each in (self.child, self.successor) if each is not None]

    def open(self) -> Deferred[bool]:
        """Start the process; fires with whether it became ready, when it did or has ended."""
        self.child = self._begin()
        if self.child is None:
            self._again_later(0.0)
            return _known(False)
        return self.child.is_ready()

    @returns_deferred
    async def replace(self) -> bool:
        """Start another process and let it take over once it is ready; then the old one retires.

        Fires with whether that worked. When the new one ends before it is ready the old one stays.
        """
        if self._closed or self.successor is not None:
            return False
        new = self.successor = self._begin()
        ready = new is not None and await self._got_ready(new)
        self.successor = None
        if new is None or not ready:
            self._log.error("{name} is not replaced: the new one did not start", name=self.name)
            if self.child is None:
                self._again_later(0.0)
            return False
        if self._closed:
            return False
        old, self.child = self.child, new
        self._cancel()
        if old is not None:
            old.retire()
        return True

    async def _got_ready(self, child: Child) -> bool:
        limit = self._clock.callLater(_START_LIMIT, child.kill)
        ready = await child.is_ready()
        if limit.active():
            limit.cancel()
        return ready

    def close(self) -> None:
        """Start nobody any more; whoever is here is the caller's affair."""
        self._closed = True
        self._cancel()

    def _begin(self) -> Child | None:
        try:
            child = self._start(self.name)
        except (OSError, ControlError) as error:
            self._log.error("{name} can't be started: {why}", name=self.name, why=str(error))
            return None
        child.has_ended().addCallback(partial(self._ended, child))
        return child

    def _ended(self, child: Child, _result: bool) -> None:  # noqa: FBT001 - a callback's
        if child is not self.child:
            return
        self.child = None
        self.deaths += 1
        if self.successor is None:
            self._again_later(child.age if child.ready else 0.0)

    def _again_later(self, lived: float) -> None:
        """Start the next one, at once or soon."""
        if self._closed:
            return
        delay = self._patience.delay(lived)
        if delay:
            self._log.warn(
                "{name} is started again in {delay:g} seconds", name=self.name, delay=delay
            )
        self._cancel()
        self._timer = self._clock.callLater(delay, self._fill)

    def _fill(self) -> None:
        if not self._closed and self.child is None and self.successor is None:
            self.open()

    def _cancel(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()


def _known(result: bool) -> Deferred[bool]:  # noqa: FBT001 - its only argument
    known: Deferred[bool] = Deferred()
    known.callback(result)
    return known
