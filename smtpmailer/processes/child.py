# SPDX-License-Identifier: MIT
"""A process of the service, as its supervisor knows it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from smtpmailer.processes.channel import Channel, Ears

__all__ = ["CHANNEL", "Child", "Launch", "adopt_channel", "launch"]

#: The descriptor under which a child finds its channel.
CHANNEL: Final = 3


@attrs.frozen(kw_only=True)
class Launch:
    """How a child is started.

    ``command`` is its program with all arguments, ``descriptors`` maps its file descriptors to
    ours, but for that of the channel.
    """

    command: tuple[str, ...]
    environ: Mapping[str, str] = attrs.field(repr=False)
    descriptors: Mapping[int, int]


class Child(ProcessProtocol):
    """One process: it starts, becomes ready, retires, and ends."""

    _log = Logger()

    def __init__(self, name: str, seat: int, clock: IReactorTime) -> None:
        """``seat`` is its place on the board."""
        self.name = name
        self.seat = seat
        self._clock = clock
        self.channel = Channel(clock, Ears(told=self._told))
        self.started_at = clock.seconds()
        self.ready = False
        self.retiring = False
        self.ended = False
        #: What it took of memory in its beginning; 0 while that is not known.
        self.first_memory_bytes = 0
        self._waiting: dict[str, list[Deferred[bool]]] = {"ready": [], "end": []}

    @property
    def process_id(self) -> int:
        """Its process id; 0 once it has ended."""
        return (getattr(self.transport, "pid", None) or 0) if self.transport else 0

    @property
    def age(self) -> float:
        """Seconds since its start."""
        return self._clock.seconds() - self.started_at

    @property
    def state(self) -> str:
        """What it does, in a word."""
        if self.retiring:
            return "retiring"
        return "running" if self.ready else "starting"

    def is_ready(self) -> Deferred[bool]:
        """Fire with True when it is ready, or False when it ended before."""
        return self._wait("ready", over=self.ready or self.ended, result=self.ready)

    def has_ended(self) -> Deferred[bool]:
        """Fire when it has ended."""
        return self._wait("end", over=self.ended, result=True)

    def retire(self) -> None:
        """Ask it to take no more connections, to finish what it does, and to end."""
        if not self.retiring and not self.ended:
            self.retiring = True
            self.channel.tell("retire")

    def stop(self, limit: float | None) -> None:
        """Ask it to end; what it does may take ``limit`` seconds more, or any time.

        One that has not got ready yet does nothing that matters.
        """
        self.retiring = True
        if self.ready:
            self.channel.tell("stop", {"limit": limit})
        else:
            self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        try:
            if self.transport is not None:
                self.transport.signalProcess(number.value)
        except ProcessExitedAlready:
            pass

    def processEnded(self, reason: Failure) -> None:
        """Notice its end."""
        self.ended = True
        why = reason.value
        code, number = getattr(why, "exitCode", None), getattr(why, "signal", None)
        how = f"signal {number}" if number else f"status {code}"
        badly = code or number not in (None, signal.SIGTERM)
        if badly or not self.retiring:
            self._log.error("{name} (process {pid}) ended with {how}", **self._about(how))
        else:
            self._log.info("{name} (process {pid}) ended", **self._about(how))
        self.channel.close()
        self._fire("ready", result=self.ready)
        self._fire("end", result=True)

    def _about(self, how: str) -> dict[str, Any]:
        return {"name": self.name, "pid": self._known_id, "how": how}

    def connectionMade(self) -> None:
        """Keep its id for the log: the transport forgets it."""
        self._known_id = self.process_id

    def _told(self, what: str, values: Mapping[str, Any]) -> None:
        if what == "ready" and not self.ready:
            self.ready = True
            self._fire("ready", result=True)
        elif what == "failed":
            self._log.error("{name}: {why}", name=self.name, why=str(values.get("why")))

    def _wait(self, what: str, *, over: bool, result: bool) -> Deferred[bool]:
        waiting: Deferred[bool] = Deferred()
        if over:
            waiting.callback(result)
        else:
            self._waiting[what].append(waiting)
        return waiting

    def _fire(self, what: str, *, result: bool) -> None:
        waiting, self._waiting[what] = self._waiting[what], []
        for each in waiting:
            each.callback(result)


class _Once(Factory):
    """Gives the one protocol that is there already."""

    noisy = False

    def __init__(self, protocol: Channel) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: object) -> Channel:  # noqa: ARG002
        """Give it."""
        return self._protocol


def adopt_channel(reactor: Any, descriptor: int, channel: Channel) -> None:
    """Connect a channel to our end of a socket pair, and close this descriptor of it."""
    os.set_blocking(descriptor, False)
    reactor.adoptStreamConnection(descriptor, socket.AF_UNIX, _Once(channel))
    os.close(descriptor)


def launch(reactor: Any, child: Child, how: Launch) -> None:
    """Start a child, with a channel to it."""
    ours, theirs = socket.socketpair()
    with theirs, open(os.devnull, "rb") as nothing:  # noqa: PTH123
        files = {0: nothing.fileno(), 1: 1, 2: 2, CHANNEL: theirs.fileno(), **how.descriptors}
        adopt_channel(reactor, ours.detach(), child.channel)
        reactor.spawnProcess(
            child, how.command[0], list(how.command), env=dict(how.environ), childFDs=files
        )
