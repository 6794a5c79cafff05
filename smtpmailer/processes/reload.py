# SPDX-License-Identifier: MIT
"""Reads the settings again while the service runs, and lets count what can."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from smtpmailer import configuration
from smtpmailer.configuration import Gathered
from smtpmailer.core.changes import Changes, compare
from smtpmailer.core.settings import Settings
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import ControlError, OperatorError
from smtpmailer.processes.notify import Notifier

__all__ = ["SettingsReload"]


class SettingsReload:
    """The settings in effect, and how others take their place.

    ``read`` gives what the env file and the environment hold now. ``apply`` lets changes count;
    it may raise OperatorError, or its Deferred fail with that: the old settings stay then. Keys of
    ``fixed`` keep their values until the next start.
    """

    _log = Logger()

    def __init__(
        self,
        settings: Settings,
        *,
        read: Callable[[], Gathered],
        apply: Callable[[Changes, Gathered], Deferred[None]],
        fixed: Collection[str],
        notifier: Notifier,
        clock: IReactorTime,
    ) -> None:
        """Begin with the settings of the start; ``clock`` is the machine's monotonic one."""
        self.settings = settings
        self._read = read
        self._apply = apply
        self._fixed = fixed
        self._notifier = notifier
        self._clock = clock
        self._busy = False

    @returns_deferred
    async def reload(self) -> dict[str, Any]:
        """Read and apply; fires with the keys that changed.

        ``applied`` count now, ``waiting`` at the next start. Fails with ControlError, whose text
        holds all faults; then nothing has changed.
        """
        if self._busy:
            raise ControlError("the settings are being read again already")
        self._busy = True
        self._notifier.reloading(self._clock.seconds())
        try:
            return await self._reload()
        except OperatorError as error:
            faults = str(error)
            self._log.error("the settings stay as they were: {why}", why=faults)
            raise ControlError(faults) from None
        finally:
            self._busy = False
            self._notifier.ready()

    async def _reload(self) -> dict[str, Any]:
        gathered = self._read()
        changes = compare(self.settings, configuration.check(gathered), self._fixed)
        await self._apply(changes, gathered)
        self.settings = changes.settings
        self._log.info(
            "settings read again; changed: {applied}",
            applied=", ".join(changes.applied) or "nothing",
            notice=True,
        )
        if changes.waiting:
            self._log.warn(
                "changed at the next start only: {keys}", keys=", ".join(changes.waiting)
            )
        return {"applied": list(changes.applied), "waiting": list(changes.waiting)}
