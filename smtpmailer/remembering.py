# SPDX-License-Identifier: MIT
"""Lowered limits of accounts outlive the service: written when they change, and at its end."""

from __future__ import annotations

from typing import Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from smtpmailer.delivery.paces import Paces
from smtpmailer.interfaces import IThreads
from smtpmailer.stores.limits_file import LimitsFile

__all__ = ["PAUSE", "Remembering"]

#: Seconds between a change and its writing: changes come in crowds.
PAUSE: Final = 10.0


class Remembering(Service):
    """Reads the file at the start and writes it, in a thread, a while after changes.

    What can't be written is logged, and tried again with the next change and at the end: the
    service works without, and finds the limits anew after a restart.
    """

    _log = Logger()

    def __init__(
        self, paces: Paces, file: LimitsFile, threads: IThreads, clock: IReactorTime
    ) -> None:
        """Touch nothing yet."""
        self.setName("account limits")
        self._paces = paces
        self._file = file
        self._threads = threads
        self._clock = clock
        self._timer: IDelayedCall | None = None
        self._dirty = False
        self._failed = False
        self._written: Deferred[None] = succeed(None)

    def startService(self) -> None:
        """Read."""
        super().startService()
        self._paces.recall(self._file.read())
        self._paces.changed = self._changed

    def stopService(self) -> Deferred[None]:
        """Write what is not written yet; fires when that is done, or failed."""
        super().stopService()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        # What is being written now may fail, and hold nothing of the latest changes.
        return self._written.addCallback(lambda _: self._write())

    def _changed(self) -> None:
        self._dirty = True
        if self.running and (self._timer is None or not self._timer.active()):
            self._timer = self._clock.callLater(PAUSE, self._write)

    def _write(self) -> Deferred[None]:
        if not self._dirty:
            return succeed(None)
        self._dirty = False
        notes, known = self._paces.remember(), self._paces.names()
        written = self._threads.run(lambda: self._file.write(notes, known))
        self._written = written.addCallbacks(self._done, self._not_written)
        return self._written

    def _done(self, _: None) -> None:
        self._failed = False

    def _not_written(self, failure: Failure) -> None:
        failure.trap(Exception)
        self._dirty = True
        if not self._failed:
            self._log.warn(
                "lowered limits of accounts are not remembered: {path} can't be written: {why}",
                path=self._file.path,
                why=failure.getErrorMessage(),
            )
        self._failed = True
