# SPDX-License-Identifier: MIT
"""Writes on the board, every second, how a process is."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from smtpmailer.core.board import Field, Seat

__all__ = ["Pulse", "own_memory"]

_INTERVAL: Final = 1.0
_STATM: Final = Path("/proc/self/statm")


def own_memory() -> int:
    """Give the bytes of memory that are this process's own: not those of files and libraries.

    0 where the machine does not tell (proc_pid_statm(5)).
    """
    try:
        _, resident, shared, *_ = map(int, _STATM.read_text("ascii").split())
    except (OSError, ValueError):
        return 0
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


class Pulse(Service):
    """Keeps the cells of a seat up to date.

    ``gauges`` give the values of some fields.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, seat: Seat, gauges: Mapping[Field, Callable[[], int]]
    ) -> None:
        """``clock`` is the machine's monotonic one."""
        self.setName("pulse")
        self._clock = clock
        self._seat = seat
        self._gauges = {Field.MEMORY: own_memory, **gauges}
        self._loop = LoopingCall(self.beat)
        self._loop.clock = clock

    def startService(self) -> None:
        """Sit down and begin."""
        super().startService()
        self._seat[Field.PROCESS] = os.getpid()
        self._loop.start(_INTERVAL, now=True)

    def stopService(self) -> None:
        """Write no more."""
        super().stopService()
        if self._loop.running:
            self._loop.stop()

    def beat(self) -> None:
        """Write how things are."""
        self._seat[Field.BEAT] = int(self._clock.seconds() * 1000)
        for field, gauge in self._gauges.items():
            try:
                self._seat[field] = gauge()
            except Exception:  # noqa: BLE001 - the loop has to go on
                self._log.failure("{field} can't be told", field=field.name)
