# SPDX-License-Identifier: MIT
"""All parts of a process as one service, with what twistd wants to know of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from twisted.application.service import IServiceCollection
from twisted.internet.defer import Deferred, succeed
from twisted.logger import ILogObserver, LogEvent, Logger
from twisted.python import log as legacy_log
from twisted.python.components import Componentized
from twisted.python.failure import Failure
from zope.interface import implementer

from smtpmailer import __version__
from smtpmailer.core.settings import Settings
from smtpmailer.errors import ControlError
from smtpmailer.lifecycle import OrderedService
from smtpmailer.processes.notify import Notifier

__all__ = ["Log", "Root"]


@implementer(ILogObserver)
class Log:
    """Hands events to the observer that the settings ask for; ``renew`` opens its file again."""

    def __init__(
        self, make: Callable[[Settings], ILogObserver], settings: Settings, process: str = ""
    ) -> None:
        """Begin with these settings; ``process`` names one of several in what it logs."""
        self._make = make
        self._process = process
        self._current = make(settings)

    def __call__(self, event: LogEvent) -> None:
        """Hand one event on."""
        self._current({**event, "process": self._process} if self._process else event)

    def renew(self, settings: Settings) -> None:
        """Go on with these settings, and with a new file where the old one was moved away."""
        self._current = self._make(settings)


def _nothing() -> Deferred[Any]:
    return succeed(None)


def _tell_nobody(_text: str) -> None:
    """Do nothing."""


class Root(OrderedService):
    """All parts; gives twistd the log observer that the settings ask for."""

    _log = Logger()

    def __init__(
        self,
        clock: Any,
        settings: Settings,
        observer: ILogObserver,
        *,
        notifier: Notifier | None = None,
        name: str = "",
        refused: Callable[[str], None] = _tell_nobody,
    ) -> None:
        """Hold no part yet; ``name`` is that of a process which has a supervisor.

        ``refused`` is told why the port can't be opened.
        """
        super().__init__(clock, settings.mailer_stop_timeout)
        self._settings = settings
        self._observer = observer
        self._notifier = notifier or Notifier()
        self._name = name
        self._refused = refused
        #: Reads the settings again; fires with what came of it, or fails.
        self.on_reload: Callable[[], Deferred[Any]] = _nothing

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """Join an application, before it begins to log."""
        if isinstance(parent, Componentized):
            parent.setComponent(legacy_log.ILogObserver, self._observer)
        super().setServiceParent(parent)

    def privilegedStartService(self) -> None:
        """Open the port; a refusal is shown also where standard error is not the log."""
        try:
            super().privilegedStartService()
        except SystemExit as refusal:
            self._refused(str(refusal))
            # twistd has made sys.stderr write to the log.
            if self._settings.mailer_log_output == "syslog" or not self._settings.mailer_log:
                print(refusal, file=sys.__stderr__)
            raise

    def startService(self) -> None:
        """Start all parts, saying first what is odd about the settings."""
        if self._name:
            self._log.info("{name} starts", name=self._name)
        else:
            self._log.info("smtpmailer {version} starts", version=__version__, notice=True)
            for warning in self._settings.warnings:
                self._log.warn("{text}", text=warning)  # trial takes "warning" for Python's own
        super().startService()

    def reload(self) -> None:
        """Read the settings again; what comes of it is logged."""
        self.on_reload().addErrback(self._not_reloaded)

    def stopService(self) -> Deferred[None]:
        """Stop all parts, saying so first; see OrderedService."""
        self._notifier.stopping()
        self._log.info("{what} stops", what=self._name or "smtpmailer", notice=not self._name)
        return super().stopService()

    def _not_reloaded(self, failure: Failure) -> None:
        if not failure.check(ControlError):
            self._log.failure("the settings can't be read again", failure)
