# SPDX-License-Identifier: MIT
"""Collect garbage when nobody waits: a full collection in a burst holds everybody up for 100 ms."""

from __future__ import annotations

import gc
from collections.abc import Callable

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from smtpmailer import heap

__all__ = ["GarbageCollector"]

#: Seconds between looks whether it is a good moment.
_INTERVAL = 10.0

#: By so much rarer are full collections that Python begins by itself: only when memory needs it.
_RARER = 100

#: By so much rarer are those of the youngest: by then nearly all that mails in flight held is gone.
_RARER_YOUNG = 10


class GarbageCollector(Service):
    """Full collections at idle moments, while it runs; then free memory goes back to the system.

    What exists at its start is left out of all collections: it stays anyhow.
    """

    def __init__(self, clock: IReactorTime, busy: Callable[[], object]) -> None:
        """Leave the moments out in which ``busy`` gives something true."""
        self.setName("garbage collector")
        self._busy = busy
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock
        self._thresholds = gc.get_threshold()

    def startService(self) -> None:
        """Take over from Python's own rhythm."""
        super().startService()
        gc.collect()
        gc.freeze()
        self._thresholds = gc.get_threshold()
        young, middle, old = self._thresholds
        gc.set_threshold(young * _RARER_YOUNG, middle, old * _RARER)
        self._looking.start(_INTERVAL, now=False)

    def stopService(self) -> None:
        """Leave it to Python again."""
        super().stopService()
        self._looking.stop()
        gc.set_threshold(*self._thresholds)
        gc.unfreeze()

    def _look(self) -> None:
        if not self._busy():
            gc.collect()
            heap.give_back()
