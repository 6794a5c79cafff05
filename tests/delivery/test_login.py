# SPDX-License-Identifier: MIT
"""Logins: the mechanism is chosen by offer and safety, refusals are told without secrets."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.model import DeliveryResult, Encryption, Outcome
from smtpmailer.delivery.auth import choose_logins
from tests.delivery.certificates import issue
from tests.delivery.hostile import PASSWORD, Rig, ScriptedServer, plain_route, says

REASON = "SMTP Error: Could not authenticate."
IDENTITY = issue("192.0.2.1")


def log_in(server: ScriptedServer, password: str = PASSWORD) -> tuple[Rig, DeliveryResult]:
    """Deliver with a user, without TLS."""
    rig = Rig(server)
    return rig, rig.deliver(route=plain_route(user="user", password=password))


class ChoiceTests(SynchronousTestCase):
    """Which mechanism is tried, and in which order."""

    def names(self, offered: str, *, secure: bool) -> list[str]:
        return [login.name for login in choose_logins(offered, "u", "p", secure=secure)]

    def test_under_tls_plain_comes_first(self) -> None:
        offered = "CRAM-MD5 login XOAUTH2 plain"
        self.assertEqual(self.names(offered, secure=True), ["PLAIN", "LOGIN", "CRAM-MD5"])

    def test_without_tls_the_one_that_hides_the_password_comes_first(self) -> None:
        offered = "PLAIN LOGIN CRAM-MD5"
        self.assertEqual(self.names(offered, secure=False), ["CRAM-MD5", "PLAIN", "LOGIN"])

    def test_nothing_is_tried_that_is_not_offered(self) -> None:
        self.assertEqual(self.names("XOAUTH2 GSSAPI", secure=True), [])
        self.assertEqual(self.names("", secure=True), [])

    def test_plain_is_not_used_for_a_password_with_nul(self) -> None:
        (login,) = choose_logins("PLAIN LOGIN", "u", "a\0b", secure=True)
        self.assertEqual(login.name, "LOGIN")

    def test_a_login_does_not_show_its_secrets(self) -> None:
        for login in choose_logins("PLAIN LOGIN CRAM-MD5", "u", PASSWORD, secure=True):
            self.assertNotIn(PASSWORD, repr(login))


class LoginTests(SynchronousTestCase):
    """The dialogue of each mechanism."""

    def test_no_user_means_no_login(self) -> None:
        rig = Rig(ScriptedServer(extensions=("AUTH PLAIN",)))
        self.assertTrue(rig.deliver(route=plain_route(password=PASSWORD)).delivered)
        self.assertEqual(rig.server.logins, [])

    def test_plain_sends_user_and_password_with_the_command(self) -> None:
        rig, result = log_in(ScriptedServer(extensions=("AUTH PLAIN",)), "pässword")
        self.assertTrue(result.delivered)
        self.assertEqual(rig.server.logins, ["\0user\0pässword".encode()])

    def test_plain_is_sent_again_to_a_server_that_asks_for_it(self) -> None:
        server = ScriptedServer({"AUTH": says("334 ")}, extensions=("AUTH PLAIN",))
        rig, result = log_in(server)
        self.assertTrue(result.delivered)
        self.assertEqual(rig.server.logins, [b"\0user\0" + PASSWORD.encode()])

    def test_login_answers_user_then_password(self) -> None:
        rig, result = log_in(ScriptedServer(extensions=("AUTH LOGIN",)))
        self.assertTrue(result.delivered)
        self.assertEqual(rig.server.logins, [b"user", PASSWORD.encode()])

    def test_cram_md5_sends_a_digest_of_the_challenge(self) -> None:
        challenge = b"<1896.697170952@mx.example>"
        offer = f"334 {b64encode(challenge).decode()}"
        server = ScriptedServer({"AUTH": says(offer)}, extensions=("AUTH CRAM-MD5",))
        rig, result = log_in(server)
        self.assertTrue(result.delivered)
        digest = hmac.new(PASSWORD.encode(), challenge, hashlib.md5).hexdigest()
        self.assertEqual(rig.server.logins, [f"user {digest}".encode()])

    def test_without_tls_a_session_hides_the_password_if_it_can(self) -> None:
        rig, _ = log_in(ScriptedServer(extensions=("AUTH PLAIN LOGIN CRAM-MD5",)))
        self.assertEqual(rig.server.commands[1], "AUTH CRAM-MD5")

    def test_the_old_spelling_of_the_offer_is_understood(self) -> None:
        rig, result = log_in(ScriptedServer(extensions=("AUTH=LOGIN PLAIN",)))
        self.assertTrue(result.delivered)
        self.assertIn("AUTH PLAIN", rig.server.commands[1])

    def test_a_mechanism_the_server_does_not_want_after_all_is_followed_by_the_next(self) -> None:
        server = ScriptedServer(extensions=("AUTH PLAIN LOGIN",))
        polite = server.on_AUTH
        server.on_AUTH = lambda text: (  # type: ignore[method-assign]
            server.reply("504 5.5.4 no") if "PLAIN" in text else polite(text)
        )
        rig, result = log_in(server)
        self.assertTrue(result.delivered)
        self.assertEqual(rig.server.logins, [b"user", PASSWORD.encode()])


class RefusalTests(SynchronousTestCase):
    """A login that fails is temporary, for it is the operator's to mend."""

    def assert_refused(self, result: DeliveryResult, code: int, said: str) -> None:
        (outcome,) = result.outcomes
        self.assertIs(outcome.outcome, Outcome.TEMPORARY)
        self.assertEqual((outcome.code, result.reason), (code, REASON))
        self.assertIn(said, outcome.reply)

    def test_every_refusal_is_temporary(self) -> None:
        for code in (432, 454, 530, 534, 535, 538, 550):
            server = ScriptedServer({"AUTH": says(f"{code} no")}, extensions=("AUTH PLAIN",))
            rig, result = log_in(server)
            self.assert_refused(result, code, f"login refused: {code} no")
            self.assertEqual(rig.server.commands[-1], "QUIT")

    def test_a_wrong_password_is_tried_once(self) -> None:
        server = ScriptedServer({"AUTH": says("535 no")}, extensions=("AUTH PLAIN LOGIN CRAM-MD5",))
        log_in(server)
        self.assertEqual(sum(c.startswith("AUTH") for c in server.commands), 1)

    def test_no_common_mechanism_sends_nothing(self) -> None:
        for extensions in ((), ("AUTH XOAUTH2",)):
            rig, result = log_in(ScriptedServer(extensions=extensions))
            self.assert_refused(result, 0, "no login that can be used is offered")
            self.assertEqual([c.split()[0] for c in rig.server.commands], ["EHLO", "QUIT"])

    def test_helo_is_not_tried_when_a_login_is_needed(self) -> None:
        server = ScriptedServer({"EHLO": says("502 unknown")})
        rig, result = log_in(server)
        self.assertEqual(result.reason, "SMTP Error: EHLO not accepted: 502 unknown")
        self.assertNotIn("HELO client.example", rig.server.commands)

    def test_challenges_that_make_no_sense_cancel_the_login(self) -> None:
        server = ScriptedServer({"AUTH": says("334 !")}, extensions=("AUTH CRAM-MD5",))
        rig, result = log_in(server)
        self.assert_refused(result, 501, "501 5.7.0 cancelled")
        self.assertIn("*", rig.server.commands)

    def test_challenges_without_end_cancel_the_login(self) -> None:
        server = ScriptedServer(extensions=("AUTH LOGIN",))
        server.on_login_answer = lambda line: server.reply(  # type: ignore[method-assign]
            "501 cancelled" if line == b"*" else "334 VXNlcm5hbWU6"
        )
        _, result = log_in(server)
        self.assert_refused(result, 501, "cancelled")

    def test_a_server_that_echoes_the_login_does_not_spread_it(self) -> None:
        def echo(server: ScriptedServer) -> None:
            server.reply(f"535-{PASSWORD}", f"535 {server.commands[-1]}")

        with capturedLogs() as logs:
            _, result = log_in(ScriptedServer({"AUTH": echo}, extensions=("AUTH PLAIN",)))
        seen = repr((result, logs))
        self.assertNotIn(PASSWORD, seen)
        self.assertNotIn(b64encode(b"\0user\0" + PASSWORD.encode()).decode(), seen)
        self.assertIn("***", result.outcomes[0].reply)

    def test_an_echo_at_a_later_stage_is_hidden_too(self) -> None:
        server = ScriptedServer(
            {"MAIL": lambda s: s.reply(f"550 {s.commands[1]}")}, extensions=("AUTH PLAIN",)
        )
        _, result = log_in(server)
        self.assertEqual(result.reason, "SMTP Error: MAIL FROM not accepted: 550 AUTH PLAIN ***")


class NeverBeforeTlsTests(SynchronousTestCase):
    """Credentials are not sent in the clear unless encryption is none."""

    def test_an_offer_before_starttls_is_not_taken_up_nor_remembered(self) -> None:
        server = ScriptedServer(
            extensions=("AUTH PLAIN LOGIN", "STARTTLS", "SIZE 1"),
            tls_extensions=("HELP",),
            tls=IDENTITY.options(),
        )
        rig = Rig(server)
        result = rig.deliver(
            route=plain_route(
                user="user", password=PASSWORD, encryption=Encryption.STARTTLS, verify=False
            )
        )
        self.assertEqual(result.reason, REASON)
        self.assertEqual(
            [c.split()[0] for c in server.commands], ["EHLO", "STARTTLS", "EHLO", "QUIT"]
        )

    def test_without_starttls_nothing_is_sent(self) -> None:
        rig = Rig(ScriptedServer(extensions=("AUTH PLAIN",)))
        result = rig.deliver(
            route=plain_route(user="user", password=PASSWORD, encryption=Encryption.STARTTLS)
        )
        self.assertEqual(result.reason, "SMTP Error: Could not connect to SMTP host.")
        self.assertIs(result.outcomes[0].outcome, Outcome.TEMPORARY)
        self.assertIn("SMTP_ENCRYPTION", result.outcomes[0].reply)
        self.assertEqual(rig.server.commands, ["EHLO client.example", "QUIT"])
