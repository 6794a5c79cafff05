# SPDX-License-Identifier: MIT
"""All connections behind one descriptor of the reactor: an event costs a third less."""

from __future__ import annotations

import contextlib
import select
import socket
from typing import Any, Final

from twisted.internet import tcp
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableDescriptor, IReactorFDSet
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import directlyProvides, providedBy

__all__ = ["Bundle", "bundled"]

#: Of epoll(7), which not every system's ``select`` has: to read, to write, error or hung up.
_IN: Final = 0x001
_OUT: Final = 0x004
_GONE: Final = 0x008 | 0x010
#: What nearly all connections end with; a Failure costs more than the end itself.
_REASONS: Final[dict[type[BaseException], Failure]] = {
    ConnectionDone: connectionDone,
    ConnectionLost: Failure(CONNECTION_LOST),
}


def bundled(reactor: Any) -> Any:
    """Give a bundle in front of a reactor, or the reactor itself where there is no epoll(7)."""
    if IReactorFDSet.providedBy(reactor) and hasattr(select, "epoll"):
        return Bundle(reactor)
    return reactor


class Bundle:
    """A reactor's front: who uses it in its place has descriptors watched as a bundle.

    Twisted's reactor looks up an event's log prefix, calls with a context of the log's and asks
    the descriptor whether it is open, for each event: a third of what a small request costs. It
    watches this one's epoll(7) descriptor, which is ready while any member is; the members are
    then served like it does (``_PollLikeMixin._doReadOrWrite``).
    All the rest (timers, threads, names, processes) is the reactor's own.
    """

    _log = Logger()

    def __init__(self, reactor: Any) -> None:
        """Join the reactor with the first member, and leave it with the last."""
        self._reactor = reactor
        self._poller = select.epoll()
        self._members: dict[int, Any] = {}
        self._wanted: dict[int, int] = {}
        directlyProvides(self, providedBy(reactor))
        # For what is asked often; all else takes __getattr__.
        self.seconds = reactor.seconds
        self.callLater = reactor.callLater

    def __getattr__(self, name: str) -> Any:
        """Give what the reactor has."""
        return getattr(self._reactor, name)

    # What descriptors ask of their reactor (IReactorFDSet).

    def addReader(self, member: Any) -> None:
        """Watch whether it can read."""
        self._change(member, add=_IN)

    def addWriter(self, member: Any) -> None:
        """Watch whether it can write."""
        self._change(member, add=_OUT)

    def removeReader(self, member: Any) -> None:
        """Watch no longer whether it can read."""
        self._change(member, drop=_IN)

    def removeWriter(self, member: Any) -> None:
        """Watch no longer whether it can write."""
        self._change(member, drop=_OUT)

    def getReaders(self) -> list[Any]:
        """Give what is watched for reading, here and by the reactor."""
        return [*self._watched(_IN), *self._reactor.getReaders()]

    def getWriters(self) -> list[Any]:
        """Give what is watched for writing, here and by the reactor."""
        return [*self._watched(_OUT), *self._reactor.getWriters()]

    # What makes descriptors: as PosixReactorBase does, with the bundle as their reactor.

    def listenTCP(
        self, port: int, factory: Any, backlog: int = 50, interface: str = ""
    ) -> tcp.Port:
        """Listen; raises CannotListenError."""
        made = tcp.Port(port, factory, backlog, interface, self)
        made.startListening()
        return made

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: Any,
        timeout: float = 30.0,
        bindAddress: Any = None,  # noqa: N803 - IReactorTCP's name
    ) -> tcp.Connector:
        """Connect."""
        connector = tcp.Connector(host, port, factory, timeout, bindAddress, self)
        connector.connect()
        return connector

    def adoptStreamPort(self, descriptor: int, family: int, factory: Any) -> Any:
        """Serve a socket that listens already."""
        if family == socket.AF_UNIX:
            return self._reactor.adoptStreamPort(descriptor, family, factory)
        made = tcp.Port._fromListeningDescriptor(self, descriptor, family, factory)  # noqa: SLF001 - as Twisted does
        made.startListening()
        return made

    def adoptStreamConnection(self, descriptor: int, family: int, factory: Any) -> Any:
        """Serve a socket that is connected already."""
        if family == socket.AF_UNIX:
            return self._reactor.adoptStreamConnection(descriptor, family, factory)
        return tcp.Server._fromConnectedSocket(descriptor, family, factory, self)  # noqa: SLF001 - as Twisted does

    # What the reactor asks of its descriptor (IReadDescriptor).

    def fileno(self) -> int:
        """Give the descriptor that is ready while a member is."""
        return self._poller.fileno()

    def logPrefix(self) -> str:
        """Tell nothing: members log for themselves."""
        return "-"

    def doRead(self) -> None:
        """Let every member do what it is ready for.

        All that are ready, as the reactor does: others count on a turn's having read whatever came.
        """
        members = self._members
        for descriptor, event in self._poller.poll(0, len(members) or 1):
            member = members.get(descriptor)
            if member is None:  # One that was served before it has ended it.
                continue
            try:
                if event == _IN:
                    why, reading = member.doRead(), True
                else:
                    why, reading = self._serve(member, descriptor, event)
            except BaseException as error:  # noqa: BLE001 - as Twisted does: the others go on
                self._log.failure("a connection failed and is closed")
                why, reading = error, False
            if why:
                self._end(member, why, reading=reading)

    def connectionLost(self, reason: Failure) -> None:
        """Tell all members that the reactor ends."""
        for member in list(self._members.values()):
            self._lose(member, reason)

    def _serve(self, member: Any, descriptor: int, event: int) -> tuple[Any, bool]:
        """Let a member do what it is ready for; give why it ends, if so, and if reading told."""
        if event & _GONE and not event & _IN:
            reading = bool(self._wanted[descriptor] & _IN)
            return CONNECTION_DONE if reading else CONNECTION_LOST, reading
        why = member.doRead() if event & _IN else None
        if why or not event & _OUT:
            return why, True
        return member.doWrite(), False

    def _end(self, member: Any, why: BaseException, *, reading: bool) -> None:
        """Tell a member that it has ended, or that the other side writes no more."""
        reason = _REASONS.get(type(why)) or Failure(why)
        halves = reading and reason is connectionDone
        self._lose(member, reason, half=halves and IHalfCloseableDescriptor.providedBy(member))

    def _lose(self, member: Any, reason: Failure, *, half: bool = False) -> None:
        try:
            self.removeReader(member)
            if half:
                member.readConnectionLost(reason)
            else:
                self.removeWriter(member)
                member.connectionLost(reason)
        except BaseException:  # noqa: BLE001 - whatever it is, the others go on
            self._log.failure("a connection failed when it ended")

    def _watched(self, event: int) -> list[Any]:
        return [self._members[at] for at, wanted in self._wanted.items() if wanted & event]

    def _change(self, member: Any, *, add: int = 0, drop: int = 0) -> None:
        descriptor = member.fileno()
        if descriptor == -1:  # It is closed: then it is only left to forget it.
            descriptor = next((at for at, each in self._members.items() if each is member), -1)
        had = self._wanted.get(descriptor, 0)
        wants = (had | add) & ~drop
        if wants == had:
            return
        if not had:
            if not self._members:
                self._reactor.addReader(self)
            self._poller.register(descriptor, wants)
            self._members[descriptor] = member
        elif wants:
            self._poller.modify(descriptor, wants)
        else:
            with contextlib.suppress(OSError):  # The kernel forgets what is closed.
                self._poller.unregister(descriptor)
            del self._members[descriptor], self._wanted[descriptor]
            if not self._members:
                self._reactor.removeReader(self)
            return
        self._wanted[descriptor] = wants
