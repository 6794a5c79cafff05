# SPDX-License-Identifier: MIT
"""Tests of the mail trap's sessions, in memory."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ITLSTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides

from smtpmailer.trap import TrapFactory, TrapPolicy
from smtpmailer.trap_store import CaughtMail


class TlsTransport(StringTransport):
    """A transport that only notes that TLS began."""

    tls_began = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        directlyProvides(self, ITLSTransport)

    def startTLS(self, contextFactory: Any) -> None:  # noqa: ARG002, N803
        """Note it."""
        self.tls_began = True


class Session:
    """A client's view of one session."""

    def __init__(self, policy: TrapPolicy = TrapPolicy()) -> None:  # noqa: B008
        self.clock = Clock()
        self.mails: list[CaughtMail] = []
        self.factory = TrapFactory(
            self.mails.append, clock=self.clock, now=lambda: 1000.0, policy=policy
        )
        self.protocol: Any = self.factory.buildProtocol(None)
        self.transport = TlsTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 4711))
        self.protocol.makeConnection(self.transport)
        self.greeting = self.take()

    def take(self) -> str:
        """Give what came since the last time."""
        raw: str = self.transport.value().decode("ascii")
        self.transport.clear()
        return raw

    def send(self, data: bytes | str) -> str:
        """Send bytes; give the replies."""
        self.protocol.dataReceived(data.encode("utf-8") if isinstance(data, str) else data)
        return self.take()

    def codes(self, *lines: str) -> list[str]:
        """Send each line; give each reply's code."""
        return [self.send(line + "\r\n")[:3] for line in lines]

    def mail(self, message: bytes, sender: str = "<a@b.test>", *to: str) -> str:
        """Send a mail; give the reply to its final dot."""
        self.codes("EHLO me.test", f"MAIL FROM:{sender}")
        self.codes(*(f"RCPT TO:{one}" for one in to or ("<c@d.test>",)), "DATA")
        return self.send(message + b".\r\n")

    def close(self) -> None:
        """Lose the connection."""
        self.protocol.connectionLost(Failure(ConnectionDone()))


class MailTests(SynchronousTestCase):
    """Mails are caught as they were sent."""

    def test_a_mail_is_caught_once_with_all_its_recipients(self) -> None:
        session = Session()
        reply = session.mail(b"Subject: s\r\n\r\n..x\r\n", "<a@b.test>", "<c@d.test>", "<e@f.test>")
        self.assertEqual(reply, "250 Caught\r\n")
        self.assertEqual(
            session.mails,
            [
                CaughtMail(
                    sender="a@b.test",
                    recipients=("c@d.test", "e@f.test"),
                    content=b"Subject: s\r\n\r\n.x\r\n",
                    helo="me.test",
                    peer="127.0.0.1:4711",
                    received=1000.0,
                )
            ],
        )

    def test_a_message_without_headers_gets_no_line_more(self) -> None:
        session = Session()
        session.mail(b"no header\r\n")
        self.assertEqual(session.mails[0].content, b"no header\r\n")

    def test_lines_of_any_length_and_8_bit_pass(self) -> None:
        session = Session()
        content = b"x" * 100_000 + b"\r\n" + bytes(range(128, 256)) + b"\0\r\n"
        session.mail(content)
        self.assertEqual(session.mails[0].content, content)

    def test_a_bounce_has_no_sender(self) -> None:
        session = Session()
        session.mail(b"x\r\n", "<>")
        self.assertEqual(session.mails[0].sender, "")

    def test_a_pipelined_session_in_one_segment(self) -> None:
        session = Session()
        replies = session.send(
            "EHLO me\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\nx\r\n.\r\n"
            "MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\ny\r\n.\r\nQUIT\r\n"
        )
        self.assertEqual([mail.content for mail in session.mails], [b"x\r\n", b"y\r\n"])
        self.assertTrue(replies.endswith("221 See you later\r\n"))
        self.assertTrue(session.transport.disconnecting)

    def test_bare_line_ends_are_refused(self) -> None:
        for message in (b"a\nb\r\n", b"a\rb\r\n", b"a\n.\r\n"):
            session = Session()
            self.assertTrue(session.mail(message).startswith("550 Bare CR or LF"), message)
            self.assertEqual(session.mails, [])

    def test_a_command_with_a_bare_line_end_is_refused(self) -> None:
        session = Session()
        self.assertEqual(session.codes("NOOP\nNOOP", "NOOP"), ["500", "250"])

    def test_a_mail_that_is_too_large_is_refused_and_the_session_goes_on(self) -> None:
        session = Session(TrapPolicy(size_limit_bytes=10))
        self.assertTrue(session.mail(b"x" * 50 + b"\r\n").startswith("552"))
        self.assertTrue(session.mail(b"small\r\n").startswith("250"))
        self.assertEqual(len(session.mails), 1)

    def test_a_mail_without_its_final_dot_is_not_caught(self) -> None:
        session = Session()
        session.codes("EHLO me", "MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA", "x")
        session.close()
        self.assertEqual(session.mails, [])

    def test_a_mail_that_can_t_be_kept_is_a_temporary_refusal(self) -> None:
        session = Session()

        def full(_mail: CaughtMail) -> None:
            raise OSError(28, "No space left on device")

        session.factory.keep = full
        self.assertTrue(session.mail(b"x\r\n").startswith("451"))

    def test_commands_out_of_order_are_refused(self) -> None:
        session = Session()
        self.assertEqual(session.codes("MAIL FROM:<a@b.test>"), ["503"])
        session.codes("EHLO me")
        self.assertEqual(session.codes("RCPT TO:<c@d.test>", "DATA"), ["503", "503"])
        self.assertEqual(session.codes("MAIL FROM:<>", "DATA"), ["250", "503"])
        self.assertEqual(session.codes("MAIL FROM:<a@b.test>"), ["503"])
        self.assertEqual(session.codes("RSET", "MAIL FROM:<a@b.test>"), ["250", "250"])

    def test_faulty_arguments_are_refused(self) -> None:
        session = Session()
        session.codes("EHLO me")
        self.assertEqual(session.codes("MAIL FROM:a@b.test", "MAIL TO:<a@b.test>"), ["501", "501"])
        self.assertEqual(session.codes("MAIL FROM:<a@b.test> RET=FULL"), ["555"])
        session.codes("MAIL FROM:<a@b.test>")
        self.assertEqual(
            session.codes("RCPT TO:<>", "RCPT TO:<c@d.test> NOTIFY=NEVER"), ["501", "555"]
        )

    def test_utf_8_addresses_need_to_be_announced(self) -> None:
        session = Session()
        session.codes("EHLO me")
        self.assertEqual(session.codes("MAIL FROM:<ü@b.test>"), ["553"])
        self.assertEqual(
            session.codes("MAIL FROM:<a@b.test>", "RCPT TO:<ü@b.test>"), ["250", "553"]
        )
        session.mail(b"x\r\n", "<ü@b.test> SMTPUTF8", "<ö@d.test>")
        self.assertEqual(session.mails[0].recipients, ("ö@d.test",))
        self.assertEqual(session.mails[0].options, ("SMTPUTF8",))

    def test_commands_that_make_no_sense_do_not_end_the_session(self) -> None:
        session = Session()
        self.assertEqual(
            session.codes("", "ÄÖÜ", "BDAT 5", "VRFY a", "NOOP"),
            ["500", "500", "500", "252", "250"],
        )

    def test_an_endless_line_ends_the_session(self) -> None:
        session = Session()
        self.assertTrue(session.send(b"x" * 20000).startswith("500"))
        self.assertTrue(session.transport.disconnecting)

    def test_a_silent_client_is_sent_away(self) -> None:
        session = Session(TrapPolicy(timeout=60))
        session.clock.advance(59)
        session.codes("NOOP")
        session.clock.advance(59)
        self.assertFalse(session.transport.disconnecting)
        session.clock.advance(2)
        self.assertTrue(session.take().startswith("421"))
        self.assertTrue(session.transport.disconnecting)

    def test_idle_fires_when_the_last_session_ended(self) -> None:
        session = Session()
        idle = session.factory.idle()
        self.assertNoResult(idle)
        session.close()
        self.successResultOf(idle)
        self.successResultOf(session.factory.idle())


def b64(text: str) -> str:
    """Give base64."""
    return base64.b64encode(text.encode("utf-8")).decode("ascii")


class LoginTests(SynchronousTestCase):
    """Any login, or the given one."""

    def test_any_login_is_taken_and_noted(self) -> None:
        for lines in (
            [f"AUTH PLAIN {b64(chr(0) + 'ü' + chr(0) + 'p')}"],
            ["AUTH PLAIN", b64("\0ü\0p")],
            ["AUTH LOGIN", b64("ü"), b64("p")],
            [f"AUTH LOGIN {b64('ü')}", b64("p")],
        ):
            session = Session()
            session.codes("EHLO me")
            self.assertEqual(session.codes(*lines)[-1], "235", lines)
            session.codes("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA", "x", ".")
            self.assertEqual(session.mails[0].user, "ü", lines)

    def test_without_a_given_login_none_is_needed_and_cram_is_not_offered(self) -> None:
        session = Session()
        self.assertIn("AUTH PLAIN LOGIN\r\n", session.send("EHLO me\r\n"))
        session.mail(b"x\r\n")
        self.assertIsNone(session.mails[0].user)

    def test_a_given_login_is_needed(self) -> None:
        session = Session(TrapPolicy(user="u", password="p"))
        session.codes("EHLO me")
        self.assertEqual(session.codes("MAIL FROM:<a@b.test>"), ["530"])
        self.assertEqual(session.codes(f"AUTH PLAIN {b64(chr(0) + 'u' + chr(0) + 'x')}"), ["535"])
        self.assertEqual(session.codes("MAIL FROM:<a@b.test>"), ["530"])
        self.assertEqual(session.codes(f"AUTH PLAIN {b64(chr(0) + 'u' + chr(0) + 'p')}"), ["235"])
        self.assertEqual(session.codes("MAIL FROM:<a@b.test>", "AUTH PLAIN"), ["250", "503"])

    def test_cram_md5_with_a_given_login(self) -> None:
        for password, expected in (("p", "235"), ("x", "535")):
            session = Session(TrapPolicy(user="u", password="p"))
            self.assertIn("CRAM-MD5", session.send("EHLO me\r\n"))
            challenge = base64.b64decode(session.send("AUTH CRAM-MD5\r\n")[4:])
            digest = hmac.new(password.encode(), challenge, hashlib.md5).hexdigest()
            self.assertEqual(session.codes(b64(f"u {digest}")), [expected])

    def test_malformed_logins_do_not_end_the_session(self) -> None:
        session = Session(TrapPolicy(user="u", password="p"))
        session.codes("EHLO me")
        for lines in (
            ["AUTH"],
            ["AUTH PLAIN !"],
            [f"AUTH PLAIN {b64('no separators')}"],
            ["AUTH CRAM-MD5", b64("nodigest")],
            ["AUTH LOGIN", "*"],
        ):
            self.assertEqual(session.codes(*lines)[-1], "501", lines)
        self.assertEqual(session.codes("AUTH GSSAPI", "NOOP"), ["504", "250"])


class StarttlsTests(SynchronousTestCase):
    """STARTTLS is offered where there is a certificate and begins anew."""

    def setUp(self) -> None:
        self.context: Any = object()

    def test_offered_with_a_certificate_only(self) -> None:
        self.assertNotIn("STARTTLS", Session().send("EHLO me\r\n"))
        session = Session(TrapPolicy(tls=self.context))
        self.assertIn("STARTTLS", session.send("EHLO me\r\n"))
        self.assertEqual(session.codes("STARTTLS"), ["220"])
        self.assertTrue(session.transport.tls_began)
        self.assertNotIn("STARTTLS", session.send("EHLO me\r\n"))

    def test_not_offered_inside_tls(self) -> None:
        session = Session(TrapPolicy(tls=self.context, implicit_tls=True))
        self.assertNotIn("STARTTLS", session.send("EHLO me\r\n"))

    def test_refused_without_a_certificate(self) -> None:
        self.assertEqual(Session().codes("STARTTLS"), ["454"])

    def test_where_required_nothing_goes_before_it(self) -> None:
        session = Session(TrapPolicy(tls=self.context, require_tls=True))
        self.assertNotIn("AUTH", session.send("EHLO me\r\n"))
        self.assertEqual(session.codes("AUTH PLAIN", "MAIL FROM:<a@b.test>"), ["530", "530"])
        session.codes("STARTTLS")
        self.assertIn("AUTH", session.send("EHLO me\r\n"))
        self.assertEqual(session.codes("MAIL FROM:<a@b.test>"), ["250"])

    def test_what_was_said_before_is_forgotten(self) -> None:
        session = Session(TrapPolicy(tls=self.context, user="u", password="p"))
        session.codes("EHLO me", f"AUTH PLAIN {b64(chr(0) + 'u' + chr(0) + 'p')}")
        session.codes("MAIL FROM:<a@b.test>", "STARTTLS", "EHLO me")
        self.assertEqual(session.codes("RCPT TO:<c@d.test>"), ["503"])
        self.assertEqual(session.codes("MAIL FROM:<a@b.test>"), ["530"])

    def test_commands_slipped_in_behind_it_are_not_obeyed(self) -> None:
        session = Session(TrapPolicy(tls=self.context))
        session.codes("EHLO me")
        replies = session.send("STARTTLS\r\nMAIL FROM:<a@b.test>\r\n")
        self.assertTrue(replies.startswith("554"))
        self.assertFalse(session.transport.tls_began)
        self.assertTrue(session.transport.disconnecting)
