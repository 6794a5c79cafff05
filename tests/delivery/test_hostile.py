# SPDX-License-Identifier: MIT
"""Servers that misbehave: one test for each stage of the dialogue and each way to fail there."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable

import attrs
from twisted.internet import ssl
from twisted.internet.task import LoopingCall
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.model import DeliveryResult, Encryption, Outcome
from smtpmailer.delivery.session import CLOSE_LIMIT
from tests.delivery.hostile import PASSWORD, Action, Rig, ScriptedServer, mail, plain_route

TIMEOUT = 60
CONNECT = "SMTP Error: Could not connect to SMTP host."
LOGIN = "SMTP Error: Could not authenticate."
BIG = b"Subject: big\r\n\r\n" + b"x" * 70 + b"\r\n" * 500_000


def drop(server: ScriptedServer) -> None:
    stall(server)  # nothing more is read
    server.transport.abortConnection()


def stall(server: ScriptedServer) -> None:
    server.peer.blocked = True


def later(server: ScriptedServer) -> None:
    server.reply("451 4.3.0 try later")


def never(server: ScriptedServer) -> None:
    server.reply("554 5.7.1 go away")


def garbage(server: ScriptedServer) -> None:
    server.reply("\x00\x07 hello, is it mail you are looking for?")


def endless(server: ScriptedServer) -> None:
    server.reply(*["250-and furthermore"] * 200)


def dribble(server: ScriptedServer) -> None:
    """Say a line of a reply now and then, for ever."""
    stall(server)

    def line() -> None:
        if server.lost:
            loop.stop()
        else:
            server.reply("250-one moment please")

    loop = LoopingCall(line)
    loop.clock = server.transport.clock
    loop.start(TIMEOUT / 3)


KINDS: dict[str, Action] = {
    "drop": drop,
    "stall": stall,
    "later": later,
    "never": never,
    "garbage": garbage,
    "endless": endless,
    "dribble": dribble,
}
BROKEN = ("drop", "stall", "garbage", "endless", "dribble")


@attrs.frozen
class Expected:
    """An outcome for the only recipient, and how the reason begins."""

    outcome: Outcome
    reason: str


def expectations() -> dict[tuple[str, str], Expected]:
    """Give the whole table: what must come of each way to fail at each stage."""
    temporary, permanent = Outcome.TEMPORARY, Outcome.PERMANENT
    table: dict[tuple[str, str], Expected] = {}
    for kind in BROKEN:
        for stage in ("banner", "STARTTLS"):
            table[stage, kind] = Expected(temporary, CONNECT)
        for stage in ("EHLO", "AUTH", "MAIL", "RCPT", "DATA", "body"):
            table[stage, kind] = Expected(temporary, "SMTP Error: ")
        table["dot", kind] = Expected(Outcome.UNCERTAIN, "SMTP Error: ")
    for kind, code in (("later", "451 4.3.0 try later"), ("never", "554 5.7.1 go away")):
        final = permanent if kind == "never" else temporary
        table["banner", kind] = Expected(temporary, f"SMTP Error: connection not accepted: {code}")
        table["STARTTLS", kind] = Expected(temporary, CONNECT)
        table["AUTH", kind] = Expected(temporary, LOGIN)
        table["MAIL", kind] = Expected(final, f"SMTP Error: MAIL FROM not accepted: {code}")
        table["RCPT", kind] = Expected(
            final, f"SMTP Error: The following recipients failed: to@example.com: {code}"
        )
        for stage in ("DATA", "body", "dot"):
            table[stage, kind] = Expected(final, f"SMTP Error: data not accepted: {code}")
    table["EHLO", "later"] = Expected(temporary, "SMTP Error: EHLO not accepted: 451")
    table["EHLO", "never"] = Expected(Outcome.DELIVERED, "")  # HELO is tried instead
    return table


class HostileServerTests(SynchronousTestCase):
    """The Deferred fires once, in time, with the right outcome; nothing stays behind."""

    def play(self, stage: str, kind: str) -> tuple[Rig, DeliveryResult]:
        """Deliver to a server that fails at a stage; check what always has to hold."""
        encryption = Encryption.STARTTLS if stage == "STARTTLS" else Encryption.NONE
        user = "user" if stage == "AUTH" else ""
        server = ScriptedServer(
            {stage: KINDS[kind]},
            extensions=("STARTTLS", "AUTH PLAIN"),
            tls=ssl.CertificateOptions(),
        )
        rig = Rig(server)
        route = plain_route(encryption=encryption, user=user, password=PASSWORD, timeout=TIMEOUT)
        with capturedLogs() as logs:
            rig.send(mail(wire=BIG) if stage == "body" else mail(), route)
            rig.accept()
            while not rig.results and rig.reactor.seconds() < TIMEOUT:
                rig.advance(5)
            self.assertEqual(len(rig.results), 1, "fires once, within the timeout")
            rig.advance(CLOSE_LIMIT)
        self.assertTrue(server.lost, "the connection is closed in bounded time")
        rig.advance(TIMEOUT)  # the server's own dribbling ends
        self.assertEqual(rig.reactor.getDelayedCalls(), [])
        self.successResultOf(rig.sender.drain())
        self.assertEqual(len(rig.results), 1)
        self.assertNotIn(PASSWORD, repr((rig.results, logs)))
        self.assertNotIn(b64encode(PASSWORD.encode()).decode(), repr((rig.results, logs)))
        return rig, rig.results[0]


def _add_tests() -> None:
    def make(stage: str, kind: str, expected: Expected) -> Callable[[HostileServerTests], None]:
        def test(self: HostileServerTests) -> None:
            rig, result = self.play(stage, kind)
            (outcome,) = result.outcomes
            self.assertIs(outcome.outcome, expected.outcome, result)
            self.assertTrue(result.reason.startswith(expected.reason), result.reason)
            self.assertEqual(bool(result.reason), expected.outcome is not Outcome.DELIVERED)
            self.assertEqual(len(rig.reactor.tcpClients), 0, "never connects again")

        return test

    for (stage, kind), expected in expectations().items():
        name = f"test_{stage.lower()}_{kind}_is_{expected.outcome.value}"
        setattr(HostileServerTests, name, make(stage, kind, expected))


_add_tests()


class HostileConnectTests(SynchronousTestCase):
    """Connections that never come about."""

    def assert_no_connection(self, rig: Rig, said: str) -> None:
        (result,) = rig.results
        (outcome,) = result.outcomes
        self.assertIs(outcome.outcome, Outcome.TEMPORARY)
        self.assertEqual(result.reason, CONNECT)
        self.assertIn(said, outcome.reply)
        rig.advance(1)
        self.assertEqual(rig.reactor.getDelayedCalls(), [])
        self.successResultOf(rig.sender.drain())

    def test_a_refused_connection_is_temporary(self) -> None:
        rig = Rig()
        rig.send()
        rig.refuse()
        rig.advance(1)
        self.assert_no_connection(rig, "refused")

    def test_a_silent_address_is_given_up_after_30_seconds(self) -> None:
        rig = Rig()
        rig.send(route=plain_route(timeout=300))
        rig.advance(29)
        self.assertEqual(rig.results, [])
        rig.advance(1)
        self.assert_no_connection(rig, "no connection within 30 s")

    def test_a_short_timeout_shortens_connecting(self) -> None:
        rig = Rig()
        rig.send(route=plain_route(timeout=4))
        rig.advance(4)
        self.assert_no_connection(rig, "no connection within 4 s")

    def test_a_resolver_that_never_answers_is_bounded(self) -> None:
        rig = Rig()
        rig.reactor.silent_resolver = True
        rig.send(route=plain_route(host="mx.example"))
        rig.advance(30)
        self.assert_no_connection(rig, "no connection within 30 s")

    def test_an_unknown_name_is_temporary(self) -> None:
        rig = Rig()
        rig.reactor.names["mx.example"] = ()
        rig.send(route=plain_route(host="mx.example"))
        self.assert_no_connection(rig, "mx.example")

    def test_the_whole_limit_also_ends_connecting(self) -> None:
        rig = Rig(limit=10)
        rig.send()
        rig.advance(10)
        self.assert_no_connection(rig, "longer than 10 s")


class OneLongLineTests(SynchronousTestCase):
    """A reply without any line end is cut off."""

    def test_a_line_over_64_kib_ends_the_session(self) -> None:
        rig = Rig(ScriptedServer({"EHLO": lambda server: server.transport.write(b"2" * 70_000)}))
        result = rig.deliver()
        self.assertIs(result.outcomes[0].outcome, Outcome.TEMPORARY)
        self.assertIn("65536 bytes", result.reason)
        self.assertTrue(rig.server.lost)


class WholeLimitTests(SynchronousTestCase):
    """A server that is always just in time is stopped by the limit of the whole delivery."""

    def slow(self, stages: tuple[str, ...], step: float, limit: float) -> Rig:
        """Make a server that answers right, but each time after ``step`` seconds."""
        replies = {"banner": "220 hi", "EHLO": "250 hi", "DATA": "354 go", "dot": "250 ok"}

        def wait(stage: str) -> Action:
            def act(server: ScriptedServer) -> None:
                if stage == "DATA":
                    server.setRawMode()
                answer = replies.get(stage, "250 ok")
                server.transport.clock.callLater(step, server.reply, answer)

            return act

        return Rig(ScriptedServer({stage: wait(stage) for stage in stages}), limit=limit)

    def run_out(self, rig: Rig, limit: int) -> DeliveryResult:
        rig.accept()
        for _ in range(limit):
            rig.advance(1)
        (result,) = rig.results
        self.assertEqual(result.seconds, limit)
        self.assertIn(f"longer than {limit} s", result.reason)
        return result

    def test_a_dribbling_dialogue_ends_as_temporary(self) -> None:
        rig = self.slow(("banner", "EHLO", "MAIL", "RCPT", "DATA"), 50, 200)
        rig.send()
        result = self.run_out(rig, 200)
        self.assertIs(result.outcomes[0].outcome, Outcome.TEMPORARY)

    def test_after_the_dot_the_limit_means_uncertain(self) -> None:
        rig = self.slow(("dot",), 50, 20)
        rig.send()
        result = self.run_out(rig, 20)
        self.assertIs(result.outcomes[0].outcome, Outcome.UNCERTAIN)

    def test_a_slow_reader_is_bounded_although_it_makes_progress(self) -> None:
        rig = Rig(ScriptedServer({"body": stall}), limit=300)
        rig.send(mail(wire=BIG * 3))
        rig.accept()
        for _ in range(7):  # a little room before each timeout
            rig.advance(40)
            self.assertEqual(rig.results, [])
            rig.client.blocked = False
            rig.server.faults["body"] = stall
            rig.flush()
        rig.advance(20)
        (result,) = rig.results
        self.assertIs(result.outcomes[0].outcome, Outcome.TEMPORARY)
        self.assertIn("longer than 300 s", result.reason)

    def test_cancelling_ends_a_delivery_with_a_result(self) -> None:
        for stage, outcome in (("MAIL", Outcome.TEMPORARY), ("dot", Outcome.UNCERTAIN)):
            rig = Rig(ScriptedServer({stage: stall}))
            sending = rig.send()
            rig.accept()
            sending.cancel()
            result = self.successResultOf(sending)
            self.assertIs(result.outcomes[0].outcome, outcome)
            rig.flush()
            self.assertTrue(rig.server.lost)
            self.assertEqual(rig.reactor.getDelayedCalls(), [])

    def test_cancelling_while_connecting_ends_it_with_a_result(self) -> None:
        rig = Rig()
        sending = rig.send()
        sending.cancel()
        self.assertIs(self.successResultOf(sending).outcomes[0].outcome, Outcome.TEMPORARY)
        rig.advance(1)
        self.assertEqual(rig.reactor.getDelayedCalls(), [])
