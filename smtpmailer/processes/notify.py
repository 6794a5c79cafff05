# SPDX-License-Identifier: MIT
"""Tells systemd how the service is (sd_notify(3)), and that it is alive (WatchdogSec=)."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from typing import Final

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

__all__ = ["Notifier", "Watchdog"]

_MICROSECONDS: Final = 1_000_000


class Notifier:
    """Speaks to systemd, or to nobody where nobody asked for it."""

    _log = Logger()

    def __init__(self, address: str = "", watchdog_seconds: float = 0.0) -> None:
        """``address`` is a socket's path, ``@`` in front for one in the abstract namespace.

        Systemd expects a sign of life every ``watchdog_seconds``; 0 for never.
        """
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.watchdog_seconds = watchdog_seconds

    @classmethod
    def take(cls, environ: MutableMapping[str, str], process: int) -> Notifier:
        """Read what systemd put into the environment, and take it out: children are not asked."""
        address = environ.pop("NOTIFY_SOCKET", "")
        microseconds = environ.pop("WATCHDOG_USEC", "")
        asked = environ.pop("WATCHDOG_PID", str(process))
        counts = microseconds.isdecimal() and asked == str(process)
        return cls(address, int(microseconds) / _MICROSECONDS if counts else 0.0)

    def ready(self) -> None:
        """Say that the service serves, or that it has read its settings again."""
        self._send("READY=1")

    def reloading(self, monotonic_seconds: float) -> None:
        """Say that settings are being read again; ``ready`` follows."""
        now = int(monotonic_seconds * _MICROSECONDS)
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now}")

    def stopping(self) -> None:
        """Say that the service has begun to stop."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Say that it turns."""
        self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(text.encode("ascii"), os.fsencode(self._address))
        except OSError as error:
            self._log.warn("systemd can't be told {text}: {why}", text=text, why=str(error))


class Watchdog(Service):
    """Says that the reactor turns, twice in the time in which systemd expects it."""

    def __init__(self, clock: IReactorTime, notifier: Notifier) -> None:
        """Say nothing yet."""
        self.setName("watchdog")
        self._notifier = notifier
        self._loop = LoopingCall(notifier.alive)
        self._loop.clock = clock

    def startService(self) -> None:
        """Begin, if it is asked for."""
        super().startService()
        if self._notifier.watchdog_seconds > 0:
            self._loop.start(self._notifier.watchdog_seconds / 2, now=False)

    def stopService(self) -> None:
        """Say no more."""
        super().stopService()
        if self._loop.running:
            self._loop.stop()
