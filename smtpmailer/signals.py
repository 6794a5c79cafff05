# SPDX-License-Identifier: MIT
"""The signals by which the service is told to stop and to read its settings again."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ReactorNotRunning

__all__ = ["Ending", "listen_to_signals"]


class Ending:
    """Stops the reactor, once however often it is asked to."""

    def __init__(self, reactor: Any) -> None:
        """Do nothing yet."""
        self._reactor = reactor
        self._begun = False

    def begin(self) -> None:
        """Begin to stop."""
        if not self._begun:
            self._begun = True
            # Ctrl-C may have come first: that is the reactor's own affair.
            with contextlib.suppress(ReactorNotRunning):
                self._reactor.stop()


def listen_to_signals(reactor: Any, ending: Ending, reload: Callable[[], object]) -> None:
    """Make SIGTERM an orderly end with status 0, and SIGHUP a reload.

    The reactor's own handler of SIGTERM ends with the signal, and logs a traceback when that comes
    again during the end.
    """
    signal.signal(signal.SIGTERM, lambda *_: reactor.callFromThread(ending.begin))
    signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(reload))
