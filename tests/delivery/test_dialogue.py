# SPDX-License-Identifier: MIT
"""What is kept of the dialogue of a delivery that did not go well; nothing of one that did."""

from __future__ import annotations

from base64 import b64encode

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.dialogue import MAX_LINES
from smtpmailer.core.model import DeliveryResult, Encryption
from smtpmailer.delivery.dialogue import Opening
from smtpmailer.delivery.limits import PoolLimits
from tests.delivery.certificates import issue
from tests.delivery.dialogue import Dialogue
from tests.delivery.hostile import PASSWORD, WIRE, Rig, ScriptedServer, mail, plain_route, says

A, B, C = "a@x.example", "b@x.example", "c@x.example"
OK = "250 2.0.0 ok"
FROM = "C: MAIL FROM:<from@example.com>"
MESSAGE = f"({len(WIRE)} bytes of message)"


def rcpt(address: str) -> str:
    return f"C: RCPT TO:<{address}>"


class MailTests(SynchronousTestCase):
    """A mail's own commands, each with its reply behind it."""

    def begin(
        self, *extensions: str, depth: int = 1, recipients: tuple[str, ...] = (A,)
    ) -> Dialogue:
        limits = PoolLimits(connections=1, depth=depth)
        dialogue = Dialogue(*extensions, limits=limits)
        dialogue.send(mail(*recipients))
        dialogue.connect()
        return dialogue

    def told(self, dialogue: Dialogue) -> list[str]:
        return list(dialogue.results[-1].dialogue)

    def test_of_a_mail_that_everybody_got_nothing_is_kept(self) -> None:
        for extensions in ((), ("PIPELINING",), ("PIPELINING", "CHUNKING")):
            dialogue = self.begin(*extensions)
            go_on = [] if "CHUNKING" in extensions else ["354 go on"]
            for line in (OK, OK, *go_on, OK):
                dialogue.hear(line)
            self.assertTrue(dialogue.results[0].delivered, extensions)
            self.assertEqual(self.told(dialogue), [])

    def test_a_refusal_ends_it_in_lock_step(self) -> None:
        dialogue = self.begin(recipients=(A, B))
        dialogue.hear("250-2.1.0 fine")
        dialogue.hear("250 2.1.0 so far")
        dialogue.hear("450 4.2.1 full")
        dialogue.hear("550 5.1.1 no such user")
        self.assertEqual(
            self.told(dialogue),
            [
                *(FROM, "S: 250 2.1.0 fine so far"),
                *(rcpt(A), "S: 450 4.2.1 full"),
                *(rcpt(B), "S: 550 5.1.1 no such user"),
            ],
        )

    def test_the_message_is_told_in_bytes(self) -> None:
        dialogue = self.begin()
        dialogue.hear(OK)
        dialogue.hear(OK)
        dialogue.hear("354 go on")
        dialogue.hear("554 5.7.1 spam")
        expected = ["C: DATA", "S: 354 go on", f"C: {MESSAGE}", "S: 554 5.7.1 spam"]
        self.assertEqual(self.told(dialogue)[4:], expected)
        self.assertNotIn("first", "".join(self.told(dialogue)))

    def test_in_a_group_each_reply_stands_behind_its_command(self) -> None:
        dialogue = self.begin("PIPELINING", recipients=(A, B))
        dialogue.hear(OK, "550 5.1.1 no", "250 2.1.5 yes", "354 go on")
        dialogue.hear("250 2.0.0 kept")
        self.assertEqual(
            self.told(dialogue),
            [
                *(FROM, f"S: {OK}", rcpt(A), "S: 550 5.1.1 no", rcpt(B), "S: 250 2.1.5 yes"),
                *("C: DATA", "S: 354 go on", f"C: {MESSAGE}", "S: 250 2.0.0 kept"),
            ],
        )

    def test_answers_taken_all_at_once_are_there_as_well(self) -> None:
        dialogue = self.begin("PIPELINING", recipients=(A, B))
        dialogue.hear(OK, "250 2.1.5 one", "250 2.1.5 two", "354 go on")
        dialogue.hear("451 4.3.0 later")
        lines = self.told(dialogue)
        self.assertEqual(lines[2:6], [rcpt(A), "S: 250 2.1.5 one", rcpt(B), "S: 250 2.1.5 two"])
        self.assertEqual(lines[-1], "S: 451 4.3.0 later")

    def test_a_chunk_is_told_in_bytes(self) -> None:
        dialogue = self.begin("PIPELINING", "CHUNKING")
        dialogue.hear(OK, OK)
        dialogue.hear("554 5.7.1 spam")
        size = len(WIRE) - 1  # Without the dot that DATA needs.
        expected = [f"C: BDAT {size} LAST ({size} bytes of message)", "S: 554 5.7.1 spam"]
        self.assertEqual(self.told(dialogue)[4:], expected)

    def test_a_lone_dot_is_told_as_one(self) -> None:
        dialogue = self.begin("PIPELINING")
        dialogue.hear(OK, "550 5.1.1 no", "354 go on")
        dialogue.hear("554 5.5.0 nobody")
        self.assertEqual(self.told(dialogue)[-2:], ["C: .", "S: 554 5.5.0 nobody"])

    def test_a_lost_connection_is_told_behind_the_command_that_had_no_reply(self) -> None:
        dialogue = self.begin()
        dialogue.hear(OK)
        dialogue.hear(OK)
        dialogue.hear("354 go on")
        dialogue.hang_up()
        expected = [f"C: {MESSAGE}", "-- connection lost (the end of data)"]
        self.assertEqual(self.told(dialogue)[-2:], expected)

    def test_a_command_that_was_never_written_is_not_told(self) -> None:
        dialogue = self.begin()
        dialogue.hear("354 what?")
        expected = [FROM, "S: 354 what?", "-- unexpected reply to MAIL FROM: 354 what?"]
        self.assertEqual(self.told(dialogue), expected)

    def test_a_message_cut_off_is_told_as_such(self) -> None:
        limits = PoolLimits(connections=1)
        dialogue = Dialogue(limits=limits)
        wire = b"x" * 200_000 + b"\r\n"
        dialogue.send(mail(A, wire=wire))
        dialogue.connect()
        dialogue.hear(OK)
        dialogue.tape.full = True
        dialogue.hear(OK)
        dialogue.hear("354 go on")
        dialogue.hang_up()
        expected = f"C: ({len(wire)} bytes of message, not to their end)"
        self.assertEqual(self.told(dialogue)[-2], expected)

    def test_mails_on_one_session_have_their_own_only(self) -> None:
        dialogue = Dialogue("PIPELINING", "CHUNKING", limits=PoolLimits(connections=1, depth=4))
        dialogue.send(mail(A), mail(B), mail(C))
        dialogue.connect()
        dialogue.hear(OK, OK)
        dialogue.hear("250 2.0.0 first")
        for who in ("b", "c"):
            dialogue.hear("250 2.0.0 reset", OK, f"550 5.1.1 no {who}", "554 5.5.1 nobody")
        lines = [list(result.dialogue) for result in dialogue.results]
        self.assertEqual(lines[0], [])
        for own, other, told in ((B, C, lines[1]), (C, B, lines[2])):
            self.assertEqual(told[:3], ["C: RSET", "S: 250 2.0.0 reset", FROM])
            self.assertIn(rcpt(own), told)
            self.assertNotIn(other, "".join(told))
            self.assertNotIn("first", "".join(told))

    def test_what_was_said_on_a_session_that_ended_comes_first(self) -> None:
        dialogue = self.begin("PIPELINING")
        dialogue.hear("250 2.1.0 old", OK)
        dialogue.hang_up()
        dialogue.connect()
        dialogue.hear("550 5.7.1 new")
        told = self.told(dialogue)
        again = told.index("-- again on another session, a command at a time")
        self.assertIn("S: 250 2.1.0 old", told[:again])
        self.assertEqual(told[again + 1 :], [FROM, "S: 550 5.7.1 new"])

    def test_of_a_mail_that_another_session_delivered_nothing_is_kept(self) -> None:
        dialogue = self.begin("PIPELINING")
        dialogue.hear(OK)
        dialogue.hang_up()
        dialogue.connect()
        for line in (OK, OK, "354 go on", OK):
            dialogue.hear(line)
        self.assertTrue(dialogue.results[0].delivered)
        self.assertEqual(self.told(dialogue), [])

    def test_many_recipients_and_long_replies_are_bounded(self) -> None:
        people = tuple(f"u{number}@x.example" for number in range(300))
        dialogue = self.begin("PIPELINING", recipients=people)
        dialogue.hear(OK, *(f"250-{'x' * 900}\r\n250 {'y' * 900}" for _ in people), "354 go on")
        dialogue.hear("554 5.7.1 spam")
        told = self.told(dialogue)
        self.assertLessEqual(len(told), MAX_LINES)
        self.assertLess(sum(map(len, told)), 4200)
        self.assertEqual(told[-2:], [f"C: {MESSAGE}", "S: 554 5.7.1 spam"])

    def test_replies_stay_behind_their_commands_when_the_first_are_not_kept(self) -> None:
        people = tuple(f"u{number}@x.example" for number in range(100))
        dialogue = self.begin(recipients=people)
        dialogue.hear(OK)
        for number in range(100):
            dialogue.hear(f"550 5.1.1 no u{number}")
        told = self.told(dialogue)
        self.assertEqual(told[-2:], [rcpt(people[-1]), "S: 550 5.1.1 no u99"])
        self.assertEqual(told[-20:-18], [rcpt(people[-10]), "S: 550 5.1.1 no u90"])


class _Refusing(ScriptedServer):
    """Refuses every login, with the secrets in its words."""

    words = f"535 5.7.8 no: {PASSWORD} {b64encode(PASSWORD.encode()).decode()}"

    def on_login_answer(self, line: bytes) -> None:
        del line
        self.reply(self.words)


class OpeningTests(SynchronousTestCase):
    """A session that did not come about: how it began, without secrets."""

    def deliver(self, server: ScriptedServer, **route: object) -> DeliveryResult:
        return Rig(server).deliver(route=plain_route(**route))

    def test_a_refused_greeting(self) -> None:
        result = self.deliver(ScriptedServer({"banner": says("554 5.3.2 go away")}))
        self.assertEqual(result.dialogue[0], "S: 554 5.3.2 go away")
        self.assertTrue(result.dialogue[-1].startswith("-- "))

    def test_a_refused_login_shows_the_mechanism_and_no_secret(self) -> None:
        for mechanism, line in (
            ("PLAIN", "C: AUTH PLAIN ***"),
            ("LOGIN", "C: AUTH LOGIN"),
            ("CRAM-MD5", "C: AUTH CRAM-MD5"),
        ):
            server = _Refusing(extensions=(f"AUTH {mechanism}",))
            if mechanism == "PLAIN":
                server.faults["AUTH"] = says(_Refusing.words)
            result = self.deliver(server, user="user", password=PASSWORD)
            said = list(result.dialogue)
            self.assertEqual(said[0], "S: 220 mx.example ESMTP")
            self.assertEqual(said[1], "C: EHLO client.example")
            self.assertIn(line, said)
            self.assertIn("S: 535 5.7.8 no: *** ***", said)
            if mechanism != "PLAIN":
                self.assertEqual(said[-3], "C: ***")
            for secret in (PASSWORD, b64encode(PASSWORD.encode()).decode()):
                self.assertNotIn(secret, "\n".join(said))

    def test_a_login_is_masked_though_nobody_knows_its_secrets(self) -> None:
        opening = Opening()
        for line in (b"EHLO x", b"AUTH LOGIN", b"dXNlcg==", b"EHLO", b"AUTH PLAIN AHUAcA==", b"*"):
            opening.said(line)
        said = ("EHLO x", "AUTH LOGIN", "***", "***", "AUTH PLAIN ***", "***")
        expected = (*(f"C: {line}" for line in said), "-- the end")
        self.assertEqual(opening.lines(str, "the end"), expected)

    def test_tls_is_told(self) -> None:
        identity = issue("192.0.2.1")
        server = ScriptedServer(
            {"AUTH": says("535 5.7.8 no")},
            extensions=("STARTTLS",),
            tls_extensions=("AUTH PLAIN",),
            tls=identity.options(),
        )
        result = self.deliver(
            server,
            encryption=Encryption.STARTTLS,
            verify=False,
            user="user",
            password=PASSWORD,
        )
        said = list(result.dialogue)
        start = said.index("C: STARTTLS")
        self.assertEqual(said[start + 1 : start + 3], ["S: 220 go ahead", "-- TLS"])
        self.assertIn("C: AUTH PLAIN ***", said)

    def test_of_a_session_that_is_ready_nothing_is_kept(self) -> None:
        dialogue = Dialogue()
        dialogue.send()
        dialogue.connect()
        session = dialogue.session._wrappedProtocol
        self.assertEqual(session._opening.lines(str, "the end"), ("-- the end",))

    def test_every_mail_that_waited_has_it(self) -> None:
        dialogue = Dialogue()
        dialogue.send(mail(A), mail(B))
        factory = dialogue.reactor.tcpClients.pop(0)[2]
        dialogue.session = factory.buildProtocol(None)
        dialogue.session.makeConnection(dialogue.tape)
        dialogue.hear("421 4.3.2 too busy")
        self.assertEqual(len(dialogue.results), 2)
        for result in dialogue.results:
            self.assertEqual(result.dialogue[0], "S: 421 4.3.2 too busy")
            self.assertNotIn("@", "".join(result.dialogue))
