# SPDX-License-Identifier: MIT
"""Children in memory: a supervisor's view of processes that do what a test says."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from smtpmailer.core.control import Answer, Ask, Message, Tell, decode, encode
from smtpmailer.processes.child import Child

__all__ = ["Body", "Family"]


class _Transport:
    """What spawnProcess would give; signals are written down."""

    def __init__(self, process: int) -> None:
        self.pid: int | None = process
        self.signals: list[int] = []

    def signalProcess(self, number: int) -> None:
        if self.pid is None:
            raise ProcessExitedAlready
        self.signals.append(number)


class Body:
    """The process behind a child: what it was told, and what it does."""

    def __init__(self, child: Child, process: int) -> None:
        """Begin to live."""
        self.child = child
        self.wire = StringTransport()
        child.channel.makeConnection(self.wire)
        self.transport = _Transport(process)
        child.makeConnection(self.transport)

    @property
    def heard(self) -> list[Message]:
        """What the supervisor said."""
        return [decode(line) for line in self.wire.value().splitlines()]

    @property
    def orders(self) -> list[tuple[str, Any]]:
        """What the supervisor ordered."""
        return [(each.what, dict(each.values)) for each in self.heard if isinstance(each, Tell)]

    @property
    def signals(self) -> list[int]:
        """Which signals it got."""
        return self.transport.signals

    def say(self, message: Message) -> None:
        """Say something to the supervisor."""
        self.child.channel.dataReceived(encode(message) + b"\n")

    def get_ready(self) -> None:
        """Be ready to serve."""
        self.say(Tell("ready"))

    def answer(self, value: Any) -> None:
        """Answer the last question."""
        ask = [each for each in self.heard if isinstance(each, Ask)][-1]
        self.say(Answer(ask.number, value))

    def end(self, *, signal: int | None = None, status: int = 0) -> None:
        """End."""
        self.transport.pid = None
        fine = signal is None and status == 0
        reason = ProcessDone(0) if fine else ProcessTerminated(status or None, signal)
        self.child.processEnded(Failure(reason))


class Family:
    """Starts children whose bodies a test moves."""

    def __init__(self, clock: Clock) -> None:
        """Nobody lives yet."""
        self.clock = clock
        self.bodies: list[Body] = []
        #: Why nobody can be started, if nobody can.
        self.trouble: Exception | None = None

    def start(self, name: str, seat: int = 0) -> Child:
        """Start a child, as a supervisor wants it."""
        if self.trouble is not None:
            raise self.trouble
        child = Child(name, seat, self.clock)
        self.bodies.append(Body(child, 1000 + len(self.bodies)))
        return child

    def living(self, name: str) -> list[Body]:
        """Give the bodies of that name that live, oldest first."""
        return [body for body in self.bodies if body.child.name == name and not body.child.ended]

    def names(self) -> list[str]:
        """Name all who live."""
        return sorted(body.child.name for body in self.bodies if not body.child.ended)
