# SPDX-License-Identifier: MIT
"""What holds whatever servers do: one result, at most one copy, right words, and the bounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import succeed
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.model import Capabilities, DeliveryResult, Outcome, OutgoingMail
from smtpmailer.core.rates import Rate
from smtpmailer.delivery.limits import PoolLimits
from tests.delivery.hostile import mail, plain_route
from tests.delivery.network import Network, StrictServer

STAGES = ("banner", "EHLO", "MAIL", "RCPT", "DATA", "RSET", "dot")


def _leave(server: StrictServer) -> None:
    server.reply("421 4.3.2 closing")
    server.transport.loseConnection()


def _stall(server: StrictServer) -> None:
    server.peer.blocked = True


ACTIONS: dict[str, Any] = {
    "close": lambda server: server.transport.loseConnection(),
    "abort": lambda server: server.transport.abortConnection(),
    "421": _leave,
    "stall": _stall,
    "later": lambda server: server.refuse("451 4.3.0 later"),
    "never": lambda server: server.refuse("554 5.7.1 never"),
    "nonsense": lambda server: server.refuse("999 what"),
}


@attrs.frozen
class Fault:
    """What a server does the ``nth`` time that it comes to ``stage``.

    ``taken``: at the end of a message it takes that first, and only does not say so.
    """

    stage: str
    nth: int
    action: str
    taken: bool


class Faulty(StrictServer):
    """Keeps to all rules, but for one fault."""

    def __init__(self, offers: tuple[str, ...], fault: Fault | None) -> None:
        super().__init__(extensions=offers)
        self._fault = fault
        self._times = Counter[str]()
        self._mute = False

    def at(self, stage: str, polite: Callable[[], None]) -> None:
        """Do what is right, except at the place of the fault."""
        self._times[stage] += 1
        fault = self._fault
        if fault is None or (fault.stage, fault.nth) != (stage, self._times[stage]):
            polite()
            return
        silent = fault.action in ("close", "abort", "stall")
        if stage == "dot" and fault.taken and silent:
            self.take()
        self._mute = silent or fault.action == "421"
        ACTIONS[fault.action](self)

    def lineReceived(self, line: bytes) -> None:
        """Take a command, unless all is over."""
        if not self._mute:
            super().lineReceived(line)

    def refuse(self, line: str) -> None:
        """Answer no; behind DATA that ends the transaction, behind BDAT it does not."""
        if self.bodies and not self._chunked and not self.line_mode:
            self.forget()
        self.reply(line)


FAULTS = st.none() | st.builds(
    Fault,
    st.sampled_from(STAGES),
    st.integers(1, 4),
    st.sampled_from(sorted(ACTIONS)),
    st.booleans(),
)
OFFERS = st.sampled_from(
    ((), ("PIPELINING",), ("CHUNKING",), ("PIPELINING", "CHUNKING"), ("PIPELINING", "SIZE"))
)
LIMITS = st.builds(
    PoolLimits,
    connections=st.integers(1, 4),
    connections_in_all=st.integers(1, 6),
    mails_per_connection=st.integers(1, 8),
    idle_seconds=st.sampled_from((0.0, 30.0)),
    depth=st.integers(1, 4),
    rate=st.sampled_from((None, None, Rate(1, 1), Rate(30, 60))),
)
QUICK = settings(deadline=None, max_examples=100, derandomize=True)


@attrs.frozen
class Mail:
    """A mail, from the queue or not, and whether its sender loses patience."""

    recipients: int
    marked: bool
    cancelled: bool


MAILS = st.builds(Mail, st.integers(1, 4), st.booleans(), st.booleans())


def build(number: int, one: Mail) -> OutgoingMail:
    """Make a mail that is told from all others; every third recipient does not exist."""
    numbers = range(one.recipients)
    names = [f"{'no' if n % 3 == 2 else 'to'}{n}.{number}@x.example" for n in numbers]
    wire = b"Subject: %d\r\n\r\n..\r\n..%d\r\n" % (number, number) + b"x.\r\n" * (number % 5)
    message = mail(*names, wire=wire, sender=f"from{number}@example.com")
    return attrs.evolve(message, before_dot=(lambda _: succeed(None)) if one.marked else None)


class OneFaultASessionTests(SynchronousTestCase):
    """Each session has its fault; what was told has to be what happened."""

    @QUICK
    @given(
        offers=OFFERS,
        limits=LIMITS,
        faults=st.lists(FAULTS, min_size=1, max_size=8),
        mails=st.lists(MAILS, min_size=1, max_size=12),
        routes=st.integers(1, 3),
    )
    def test_each_mail_has_one_result_and_at_most_one_copy(
        self,
        offers: tuple[str, ...],
        limits: PoolLimits,
        faults: list[Fault | None],
        mails: list[Mail],
        routes: int,
    ) -> None:
        planned = iter(faults)

        def make() -> StrictServer:
            server = Faulty(offers, next(planned, None))
            server.rcpt_replies = dict.fromkeys(REFUSED, "550 5.1.1 no such user")
            return server

        network = Network(make, limits=limits, limit=3600)
        results: dict[OutgoingMail, DeliveryResult] = {}
        sendings = []
        for number, one in enumerate(mails):
            message = build(number, one)
            place = number % routes
            route = plain_route(host=f"192.0.2.{place + 1}", foreign=place == 1)
            sending = network.send(message, route)
            sending.addCallback(partial(results.setdefault, message))
            sendings.append(sending)
            if number % 3 == 0:
                network.settle()
        for one, sending in zip(mails, sendings, strict=True):
            if one.cancelled:
                sending.cancel()
        network.settle()
        for _ in range(100):
            if len(network.results) == len(mails):
                break
            network.advance(10)
        self.assertEqual((len(results), len(network.results)), (len(mails), len(mails)))
        arrived = Counter(r for one in network.mails for r in one.recipients)
        for message, result in results.items():
            self.check(message, result, arrived)
        self.check_contents(network, list(results))
        self.check_bounds(network, limits)

    def check(self, message: OutgoingMail, result: DeliveryResult, arrived: Counter[str]) -> None:
        for outcome in result.outcomes:
            copies = arrived[outcome.recipient]
            if outcome.outcome is Outcome.DELIVERED:
                self.assertEqual(copies, 1, outcome)
            elif outcome.outcome is Outcome.UNCERTAIN:
                self.assertLessEqual(copies, 1, outcome)
            else:
                self.assertEqual(copies, 0, outcome)
            if outcome.recipient.startswith("no"):
                self.assertEqual(copies, 0)
        self.assertEqual([o.recipient for o in result.outcomes], list(message.envelope.recipients))

    def check_contents(self, network: Network, mails: list[OutgoingMail]) -> None:
        """Every copy has the sender, the body and only recipients of its own mail."""
        by_sender = {message.envelope.sender: message for message in mails}
        for one in network.mails:
            message = by_sender[one.sender]
            self.assertEqual(
                one.body, message.wire(Capabilities()).data.replace(b"\r\n..", b"\r\n."), one
            )
            self.assertLessEqual(set(one.recipients), set(message.envelope.recipients))

    def check_bounds(self, network: Network, limits: PoolLimits) -> None:
        self.assertLessEqual(network.most, limits.connections_in_all)
        for server in network.servers:
            mails = sum(command.startswith("MAIL") for command in server.commands)
            self.assertLessEqual(mails, limits.mails_per_connection)
        drained = network.sender.drain()
        network.settle()
        network.advance(100)
        self.successResultOf(drained)
        self.assertEqual((network.open, network.reactor.getDelayedCalls()), ([], []))


#: Every recipient that no server takes.
REFUSED = tuple(f"no{n}.{number}@x.example" for n in range(4) for number in range(12))
