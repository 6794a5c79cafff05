# SPDX-License-Identifier: MIT
"""Reads files again when they have changed, while the service runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import attrs
from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from smtpmailer.errors import OperatorError

__all__ = ["Reloadable", "Reloader"]

_State = tuple[tuple[int, int, int, int] | None, ...]


@attrs.frozen(kw_only=True)
class Reloadable:
    """What is made of files. ``what`` names it for the log.

    ``apply`` reads them and puts the new in place of the old, or raises OperatorError: the old
    stays then. ``more`` gives files that were named by what was read last.
    """

    what: str
    files: tuple[str, ...]
    apply: Callable[[], None]
    more: Callable[[], tuple[str, ...]] = tuple


class Reloader(Service):
    """Looks after files, every ``interval`` seconds."""

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, items: Sequence[Reloadable], interval: float = 5.0
    ) -> None:
        """Touch nothing yet."""
        self.setName("reloader")
        self._items = tuple(items)
        self._interval = interval
        self._states: dict[str, _State] = {}
        self._loop = LoopingCall(self._look)
        self._loop.clock = clock

    def startService(self) -> None:
        """Begin to look; what is there now has been read already."""
        super().startService()
        self._states = {item.what: _state(item) for item in self._items}
        if self._items:
            self._loop.start(self._interval, now=False)

    def stopService(self) -> None:
        """Look no more."""
        super().stopService()
        if self._loop.running:
            self._loop.stop()

    def use(self, items: Sequence[Reloadable]) -> None:
        """Look after these from now on, which have been read already."""
        self._items = tuple(items)
        self._states = {item.what: _state(item) for item in self._items}
        if self.running and self._items and not self._loop.running:
            self._loop.start(self._interval, now=False)

    def reload(self) -> None:
        """Read everything again, whether or not it has changed."""
        for item in self._items:
            self._apply(item)

    def _look(self) -> None:
        for item in self._items:
            state = _state(item)
            if state != self._states[item.what]:
                self._apply(item)

    def _apply(self, item: Reloadable) -> None:
        # Before it is read: what changes meanwhile is read again.
        before = {path: _file_state(path) for path in _paths(item)}
        self._try(item)
        # It may name other files now.
        self._states[item.what] = tuple(
            before[path] if path in before else _file_state(path) for path in _paths(item)
        )

    def _try(self, item: Reloadable) -> None:
        try:
            item.apply()
        except OperatorError as error:
            self._log.error(
                "{what} can't be used, what was read before stays: {why}",
                what=item.what,
                why=str(error),
            )
        except Exception:  # noqa: BLE001 - the loop has to go on
            self._log.failure("{what} can't be read again", what=item.what)
        else:
            self._log.info("{what} read again", what=item.what, notice=True)


def _state(item: Reloadable) -> _State:
    """Tell one state of the files from another."""
    return tuple(map(_file_state, _paths(item)))


def _paths(item: Reloadable) -> tuple[str, ...]:
    return (*item.files, *item.more())


def _file_state(path: str) -> tuple[int, int, int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - a path may be any text here
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode
