# SPDX-License-Identifier: MIT
"""Tests of core.slowdown: which answers ask for less mail."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.slowdown import asks_for_less

#: Answers as servers give them, and whether they ask for less: to RCPT, and to all else.
TABLE = (
    ("421 4.7.0 Too many messages, slow down", True, True),
    ("421 4.3.2 Service not available", True, True),
    ("421 closing", True, True),
    ("432 4.3.2 Concurrent connections limit exceeded", True, True),
    ("432 4.7.12 A password transition is needed", False, False),
    ("454 Throttling failure: Maximum sending rate exceeded.", True, True),
    ("454 4.7.0 Temporary authentication failure", False, True),
    ("450 4.2.0 Greylisted, see http://postgrey.example/", False, False),
    ("451 4.7.1 Greylisting in action, please come back later", False, False),
    ("421 4.7.0 grey-listed", False, False),
    ("450 4.2.1 The user you are trying to contact is receiving mail too quickly", False, False),
    ("452 4.2.2 Mailbox full", False, False),
    ("450 4.1.2 Domain not found", False, False),
    ("451 4.3.0 Temporary lookup failure", True, True),
    ("452 4.3.1 Insufficient system storage", True, True),
    ("451 4.3.5 Server configuration problem", True, True),
    ("452 4.3.4 Message too big for now", False, False),
    ("451 4.3.3 Not capable", False, False),
    ("451 4.4.1 No answer from host", False, True),
    ("450 4.4.5 Congestion", True, True),
    ("452 4.5.3 Too many recipients", False, False),
    ("451 4.6.0 Conversion failed", False, False),
    ("451 4.7.500 Server busy. Please try again later", True, True),
    ("450 4.7.1 Error: too much mail from 192.0.2.1", True, True),
    ("450 4.7.1 Error: too many recipients from 192.0.2.1", True, True),
    ("450 4.7.1 <a@b.test>: Sender address rejected: Rate limit exceeded", True, True),
    ("454 4.7.1 <a@b.test>: Relay access denied", False, True),
    ("454 Relay access denied", False, True),
    ("450 4.7.1 <a@b.test>: Recipient address rejected: try later", False, True),
    ("454 4.7.1 <throttled@too-many.test>: Relay access denied", False, True),
    ("454 4.7.1 slow.rate-limit@throttled.test... Relaying denied", False, True),
    ('454 4.7.1 <"<too many messages>"@b.test>: Relay access denied', False, True),
    ("454 4.7.0 <greylist@b.test>: Throttling failure", True, True),
    ("452 4.3.2 Not accepting messages", True, True),
    ("450 Mailbox busy", False, True),
    ("451 Local error in processing", False, True),
    ("452 Too many recipients", False, True),
    ("450 4.0.0 Rate limit exceeded", True, True),
    ("451 Too many connections from your host", True, True),
    ("550 5.7.1 Too many messages, rate limit", False, False),
    ("250 2.0.0 slow down", False, False),
    ("535 5.7.8 no", False, False),
)


class TableTests(SynchronousTestCase):
    """By code, enhanced code and words."""

    def test_each_answer_is_understood(self) -> None:
        for line, to_rcpt, to_others in TABLE:
            code, _, text = line.partition(" ")
            first = text.split(" ", 1)[0]
            enhanced = first if first.count(".") == 2 else ""
            found = [
                asks_for_less(int(code), enhanced, text, about_recipient=about)
                for about in (True, False)
            ]
            self.assertEqual(found, [to_rcpt, to_others], line)
