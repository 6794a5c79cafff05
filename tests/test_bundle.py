# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.bundle, with sockets and beside Twisted's own reactor."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableDescriptor, IReactorTCP, IReactorTime
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from smtpmailer.bundle import Bundle, bundled

#: What a member may do or give when it is ready.
_ANSWERS: dict[str, Callable[[], Any]] = {
    "goes on": lambda: None,
    "done": lambda: CONNECTION_DONE,
    "lost": lambda: CONNECTION_LOST,
    "other": lambda: OSError(5, "I/O error"),
    "fails": lambda: 1 / 0,
    "ends badly": lambda: CONNECTION_LOST,
}


class Member:
    """One end of a socket, which notes what it is told."""

    def __init__(self, reactor: Any, name: str, said: list[str], answer: str = "goes on") -> None:
        self.reactor, self.name, self.said, self.answer = reactor, name, said, answer
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.ends: list[Member] = []

    def fileno(self) -> int:
        return self.ours.fileno()

    def logPrefix(self) -> str:
        return self.name

    def doRead(self) -> Any:
        return self.act("reads")

    def doWrite(self) -> Any:
        return self.act("writes")

    def connectionLost(self, reason: Failure) -> None:
        self.note(f"ends: {type(reason.value).__name__}")
        if self.answer == "ends badly":
            raise ZeroDivisionError

    def act(self, what: str) -> Any:
        self.note(what)
        for other in self.ends:
            other.leave()
        return _ANSWERS[self.answer]()

    def note(self, what: str) -> None:
        self.said.append(f"{self.name} {what}")

    def leave(self) -> None:
        self.reactor.removeReader(self)
        self.reactor.removeWriter(self)

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@implementer(IHalfCloseableDescriptor)
class HalfCloseable(Member):
    """One that is told that the other side writes no more."""

    def readConnectionLost(self, reason: Failure) -> None:
        self.note(f"half-ends: {type(reason.value).__name__}")

    def writeConnectionLost(self, reason: Failure) -> None:
        raise AssertionError(reason)  # Reactors don't tell this.


class _Hears(Protocol):
    """Answers in capitals."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data.upper())


class _Says(Protocol):
    """Says hello."""

    transport: Any

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def connectionMade(self) -> None:
        self.transport.write(b"hello")

    def dataReceived(self, data: bytes) -> None:
        self.heard.append(data)


_MEMBER = st.fixed_dictionaries(
    {
        "kind": st.sampled_from([Member, HalfCloseable]),
        "answer": st.sampled_from(sorted(_ANSWERS)),
        "reads": st.booleans(),
        "writes": st.booleans(),
        "says": st.booleans(),
        "goes": st.sampled_from(["", "closes", "says no more"]),
        "ends": st.lists(st.integers(0, 3), max_size=2),
    }
)


class BundleTests(SynchronousTestCase):
    """Members are served as by a reactor."""

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.bundle = Bundle(self.reactor)
        self.said: list[str] = []

    def member(self, name: str, answer: str = "goes on", kind: type[Member] = Member) -> Member:
        """Make one that reads."""
        made = kind(self.bundle, name, self.said, answer)
        self.addCleanup(made.close)
        self.bundle.addReader(made)
        return made

    def test_it_is_in_the_reactor_while_it_has_members(self) -> None:
        self.assertEqual(self.reactor.getReaders(), [])
        one, two = self.member("one"), self.member("two")
        self.assertEqual(self.reactor.getReaders(), [self.bundle])
        one.leave()
        self.assertEqual(self.reactor.getReaders(), [self.bundle])
        two.leave()
        self.assertEqual(self.reactor.getReaders(), [])

    def test_its_descriptor_is_ready_when_a_members_is(self) -> None:
        outer = EPollReactor()
        self.addCleanup(_forget, outer)
        self.bundle = Bundle(outer)
        one, _two = self.member("one"), self.member("two")
        outer.doPoll(0)
        self.assertEqual(self.said, [])
        one.theirs.send(b"x")
        outer.doPoll(0)
        self.assertEqual(self.said, ["one reads"])

    def test_who_reads_and_writes_is_told(self) -> None:
        one = self.member("one")
        self.bundle.addWriter(one)
        self.assertEqual(self.bundle.getReaders(), [one, self.bundle])
        self.assertEqual(self.bundle.getWriters(), [one])
        self.bundle.removeReader(one)
        self.assertEqual(self.bundle.getReaders(), [self.bundle])
        self.bundle.removeWriter(one)
        self.assertEqual(self.bundle.getWriters(), [])

    def test_an_error_of_one_is_its_own(self) -> None:
        for name, answer in (("one", "fails"), ("two", "goes on")):
            self.member(name, answer).theirs.send(b"x")
        self.bundle.doRead()
        self.assertEqual(self.said, ["one reads", "one ends: ZeroDivisionError", "two reads"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_an_exit_asked_for_by_one_is_its_own_too(self) -> None:
        one = self.member("one")
        one.theirs.send(b"x")
        self.patch(one, "doRead", exit)
        self.bundle.doRead()
        self.assertEqual(self.said, ["one ends: SystemExit"])
        self.assertEqual(len(self.flushLoggedErrors(SystemExit)), 1)

    def test_one_that_can_not_even_end_harms_nobody(self) -> None:
        one, two = self.member("one", "done"), self.member("two")
        for member in (one, two):
            member.theirs.send(b"x")
        self.patch(one, "connectionLost", exit)
        self.bundle.doRead()
        self.assertEqual(self.said, ["one reads", "two reads"])
        self.assertEqual(len(self.flushLoggedErrors(SystemExit)), 1)
        self.assertEqual(self.bundle.getReaders(), [two, self.bundle])

    def test_all_that_are_ready_are_served_in_a_turn(self) -> None:
        members = [self.member(str(number)) for number in range(400)]
        for member in members:
            member.theirs.send(b"x")
        self.bundle.doRead()
        self.assertEqual(len(set(self.said)), 400)

    def test_what_the_kernel_refuses_can_be_tried_again(self) -> None:
        one, two = Member(self.bundle, "one", self.said), Member(self.bundle, "two", self.said)
        refused = OSError(28, "No space left on device")
        adding = self.patch(self.reactor, "addReader", _raises(refused))
        self.assertRaises(OSError, self.bundle.addReader, one)
        adding.restore()
        for member in (two, one):
            self.addCleanup(member.close)
            self.bundle.addReader(member)
            member.theirs.send(b"x")
        self.assertEqual(self.reactor.getReaders(), [self.bundle])
        self.bundle.doRead()
        self.assertEqual(sorted(self.said), ["one reads", "two reads"])

    def test_one_closed_before_it_left_is_forgotten(self) -> None:
        one = self.member("one")
        one.close()
        self.bundle.removeReader(one)
        self.assertEqual(self.bundle.getReaders(), [])

    def test_the_end_of_the_reactor_is_told_to_all(self) -> None:
        members = [self.member(name) for name in ("one", "two", "three")]
        self.patch(members[1], "connectionLost", exit)
        self.bundle.connectionLost(Failure(CONNECTION_LOST))
        self.assertEqual(self.said, ["one ends: ConnectionLost", "three ends: ConnectionLost"])
        self.assertEqual(len(self.flushLoggedErrors(SystemExit)), 1)
        self.assertEqual(self.bundle.getReaders(), [])

    def test_all_else_is_the_reactors(self) -> None:
        self.assertTrue(IReactorTime.providedBy(self.bundle))
        self.assertTrue(IReactorTCP.providedBy(self.bundle))
        called: list[int] = []
        self.bundle.callLater(1, called.append, 1)
        self.bundle.callWhenRunning(called.append, 2)
        self.reactor.advance(1)
        self.assertEqual((called[-1], self.bundle.seconds()), (1, 1))

    def test_what_has_no_descriptors_is_left_as_it_is(self) -> None:
        clock = object()
        self.assertIs(bundled(clock), clock)
        self.assertIsInstance(bundled(self.reactor), Bundle)


class LikeTwistedTests(SynchronousTestCase):
    """Beside Twisted's reactor."""

    @settings(deadline=None, max_examples=100, derandomize=True)
    @given(st.lists(_MEMBER, min_size=1, max_size=4), st.integers(1, 3))
    def test_members_are_told_the_same(self, members: list[dict[str, Any]], turns: int) -> None:
        self.assertEqual(
            self.told(members, turns, lambda outer: outer),
            self.told(members, turns, Bundle),
        )
        self.flushLoggedErrors(ZeroDivisionError)

    def told(self, plan: list[dict[str, Any]], turns: int, front: Any) -> list[str]:
        """Give what members are told that so much happens to."""
        outer = EPollReactor()
        reactor, said = front(outer), list[str]()
        made = [
            each["kind"](reactor, str(number), said, each["answer"])
            for number, each in enumerate(plan)
        ]
        for member, each in zip(made, plan, strict=True):
            member.ends = [made[at] for at in each["ends"] if at < len(made)]
            if each["reads"]:
                reactor.addReader(member)
            if each["writes"]:
                reactor.addWriter(member)
            if each["says"]:
                member.theirs.send(b"x")
            if each["goes"] == "closes":
                member.theirs.close()
            elif each["goes"]:
                member.theirs.shutdown(socket.SHUT_WR)
        for _ in range(turns):
            outer.doPoll(0)
        watched = [each for each in (*reactor.getReaders(), *reactor.getWriters()) if each in made]
        said.append(f"watched: {sorted(each.name for each in watched)}")
        for member in made:
            member.leave()
            member.close()
        _forget(outer)
        return said


class PortTests(SynchronousTestCase):
    """What the bundle makes belongs to it."""

    def setUp(self) -> None:
        self.outer = EPollReactor()
        self.addCleanup(_forget, self.outer)
        self.bundle = Bundle(self.outer)

    def turn_until(self, reached: Callable[[], Any]) -> None:
        """Let the reactor turn until something is so."""
        for _ in range(1000):
            if reached():
                return
            self.outer.runUntilCurrent()
            self.outer.doPoll(0.01)
        self.fail("not within 1,000 turns")

    def speak(self, port: Any) -> None:
        """Connect, say something, and hear it in capitals."""
        with socket.create_connection(("127.0.0.1", port.getHost().port)) as client:
            client.setblocking(False)
            client.send(b"hello")
            self.turn_until(lambda: len(self.bundle.getReaders()) > self.before)
            heard: list[bytes] = []
            self.turn_until(lambda: _read(client, heard))
            self.assertEqual(heard, [b"HELLO"])
            # With a reset, so that no port of the machine is kept.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.turn_until(lambda: len(self.bundle.getReaders()) == self.before)
        port.stopListening()
        self.turn_until(lambda: self.bundle.getReaders() == self.outer.getReaders())

    @property
    def before(self) -> int:
        """How many are watched without the connection: the port, and what the reactor has."""
        return 1 + len(self.outer.getReaders())

    def test_ports_and_what_they_take(self) -> None:
        self.speak(self.bundle.listenTCP(0, Factory.forProtocol(_Hears), interface="127.0.0.1"))

    def test_adopted_ports(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as made:
            made.setblocking(False)
            factory = Factory.forProtocol(_Hears)
            port = self.bundle.adoptStreamPort(made.fileno(), made.family, factory)
        self.speak(port)

    def test_connections(self) -> None:
        port = self.bundle.listenTCP(0, Factory.forProtocol(_Hears), interface="127.0.0.1")
        says = _Says()
        factory = ClientFactory.forProtocol(lambda: says)
        self.bundle.connectTCP("127.0.0.1", port.getHost().port, factory)
        self.turn_until(lambda: says.heard)
        self.assertEqual(says.heard, [b"HELLO"])
        self.assertIs(says.transport.reactor, self.bundle)
        says.transport.loseConnection()
        port.stopListening()
        self.turn_until(lambda: self.bundle.getReaders() == self.outer.getReaders())

    def test_adopted_connections(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as made:
            with socket.create_connection(made.getsockname()) as client, made.accept()[0] as taken:
                taken.setblocking(False)
                factory = Factory.forProtocol(_Hears)
                self.bundle.adoptStreamConnection(taken.fileno(), taken.family, factory)
                client.setblocking(False)
                client.send(b"hello")
                heard: list[bytes] = []
                self.turn_until(lambda: _read(client, heard))
                self.assertEqual(heard, [b"HELLO"])
                (transport,) = set(self.bundle.getReaders()) - set(self.outer.getReaders())
                self.assertIs(transport.reactor, self.bundle)
            self.turn_until(lambda: self.bundle.getReaders() == self.outer.getReaders())


def _raises(error: Exception) -> Callable[[object], None]:
    def work(_: object) -> None:
        raise error

    return work


def _read(client: socket.socket, heard: list[bytes]) -> bool:
    try:
        heard.append(client.recv(100))
    except BlockingIOError:
        return False
    return True


def _forget(reactor: EPollReactor) -> None:
    """Close what a reactor that never ran has open."""
    for each in reactor.removeAll():
        each.connectionLost(Failure(ConnectionDone()))
    for waker in reactor._internalReaders:
        waker.connectionLost(Failure(ConnectionLost()))
    reactor._poller.close()
