# SPDX-License-Identifier: MIT
"""Servers that offer PIPELINING or CHUNKING and fail at it."""

from __future__ import annotations

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.model import Outcome
from smtpmailer.delivery.limits import PoolLimits
from smtpmailer.delivery.pool import MEMORY
from tests.delivery.hostile import mail, plain_route
from tests.delivery.network import Network, StrictServer, hold, release

DELIVERED, TEMPORARY, UNCERTAIN = Outcome.DELIVERED, Outcome.TEMPORARY, Outcome.UNCERTAIN


class BrokenPipeliningTests(SynchronousTestCase):
    """A server that offers PIPELINING or CHUNKING and fails at it is used without."""

    def assert_falls_back(self, network: Network, *, wait: float = 0) -> None:
        with capturedLogs() as logs:
            network.deliver(mail("a@x.example"))
            network.advance(wait)
        self.assertEqual(network.outcomes, [DELIVERED])
        self.assertEqual(len(network.mails), 1)
        said = [event for event in logs if "fails at it" in event.get("log_format", "")]
        self.assertEqual([event["host"] for event in said], ["192.0.2.1"])
        connections = len(network.servers)
        for n in range(3):
            network.deliver(mail(f"{n}@x.example"))
        self.assertEqual(network.outcomes, [DELIVERED] * 4)
        self.assertEqual(len(network.servers), connections, "it is remembered")

    def test_one_that_reads_only_the_first_command_of_a_group(self) -> None:
        self.assert_falls_back(Network(_FirstOnly), wait=60)

    def test_one_that_hangs_up_on_a_group(self) -> None:
        self.assert_falls_back(Network(_HangsUp))

    def test_one_that_calls_it_improper(self) -> None:
        for answer in (
            "503 5.5.0 improper use of SMTP command pipelining",
            "554 5.5.0 SMTP synchronization error",
            "503 5.5.1 bad sequence of commands",
        ):
            self.assert_falls_back(Network(lambda answer=answer: _Improper(answer)))  # type: ignore[misc]

    def test_one_that_does_not_know_bdat_after_all(self) -> None:
        for answer in ("500 5.5.2 what?", "502 5.5.1 not implemented"):

            def make(answer: str = answer) -> StrictServer:
                return _NoBdat(answer)

            self.assert_falls_back(Network(make))

    def test_it_is_forgotten_after_a_while(self) -> None:
        network = Network(_HangsUp)
        network.deliver()
        network.make = StrictServer
        network.advance(MEMORY)
        network.deliver()
        self.assertTrue(any(command.startswith("BDAT") for command in network.servers[-1].commands))

    def test_every_route_to_that_server_is_concerned(self) -> None:
        network = Network(_HangsUp, limits=PoolLimits(idle_seconds=0))
        other = plain_route(ehlo_name="other.example")
        network.send(route=other)
        network.settle()
        connections = len(network.servers)
        network.deliver()  # a route that is new now
        network.send(route=other)  # and the old one, which was forgotten meanwhile
        network.settle()
        self.assertEqual((len(network.mails), len(network.servers)), (3, connections + 2))

    def test_once_it_is_known_nobody_rides(self) -> None:
        network = Network(
            lambda: StrictServer({"dot": hold}, extensions=("PIPELINING",)),
            limits=PoolLimits(connections=1),
        )
        network.deliver()
        network.sender._pool.failed_in_groups(plain_route())
        network.deliver(mail("b@x.example"))
        (server,) = network.servers
        self.assertEqual(server.commands[-1], "DATA")
        release(server)
        network.settle()
        self.assertIn("RCPT TO:<b@x.example>", server.commands)

    def test_other_servers_are_not_concerned(self) -> None:
        other = plain_route(host="192.0.2.2")
        network = Network()
        network.send(route=other)
        network.settle()
        network.make = _HangsUp
        network.deliver()
        network.send(route=other)
        network.settle()
        commands = network.servers[0].commands
        self.assertEqual(sum(command.startswith("BDAT") for command in commands), 2)

    def test_a_server_that_fails_without_groups_too_is_not_remembered(self) -> None:
        network = Network(
            lambda: StrictServer({"RCPT": lambda server: server.transport.abortConnection()})
        )
        network.deliver()
        self.assertEqual((network.outcomes, len(network.servers)), ([TEMPORARY], 2))
        network.make = StrictServer
        network.deliver()
        self.assertTrue(any(command.startswith("BDAT") for command in network.servers[-1].commands))


class _FirstOnly(StrictServer):
    """Throws away what came in one piece with a command, as some firewalls do."""

    def dataReceived(self, data: bytes) -> None:
        if not self.line_mode:
            super().dataReceived(data)
        else:
            super().dataReceived(data[: data.find(b"\r\n") + 2])


class _HangsUp(StrictServer):
    """Takes several commands in one piece for an attack."""

    def dataReceived(self, data: bytes) -> None:
        if self.line_mode and data.count(b"\r\n") > 1 and b"BDAT" not in data[:4]:
            self.transport.abortConnection()
        else:
            super().dataReceived(data)


class _Improper(StrictServer):
    """Refuses what comes in one piece with another command."""

    def __init__(self, answer: str) -> None:
        super().__init__(extensions=("PIPELINING",))
        self._answer = answer

    def dataReceived(self, data: bytes) -> None:
        first, end, rest = data.partition(b"\r\n")
        if not self.line_mode or not rest:
            super().dataReceived(data)
            return
        super().dataReceived(first + end)
        for _ in range(rest.count(b"\r\n")):
            self.reply(self._answer)


class _NoBdat(StrictServer):
    """Offers CHUNKING for somebody behind it who does not know BDAT."""

    def __init__(self, answer: str) -> None:
        super().__init__()
        self._answer = answer

    def on_dot(self) -> None:
        if self._chunked:
            self.reply(self._answer)
        else:
            super().on_dot()
