# SPDX-License-Identifier: MIT
"""Every message of the table, received by SMTP servers that are not ours, compares equal."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Cooperator, deferLater
from twisted.trial.unittest import SkipTest, TestCase

from smtpmailer.core.mime import Stamp, compose
from smtpmailer.core.model import (
    Capabilities,
    DeliveryResult,
    Encryption,
    Outcome,
    OutgoingMail,
    Route,
)
from smtpmailer.coroutines import returns_deferred
from smtpmailer.delivery.sender import Sender
from tests.integration.servers import AioOptions, AioServer, Postfix, Received
from tests.messages import CASES, STAMP, MessageCase, differences, parse, unstuff

#: Deliveries under way at a time.
_AT_ONCE = 8
#: Seconds in which Postfix has to have everything in its maildir.
_DEADLINE = 60.0
_MODERN = Capabilities(eight_bit=True, smtputf8=True)
_OLD = Capabilities()


@attrs.frozen(kw_only=True)
class Sent:
    """One case's mail as it was handed over, and what became of it."""

    case: MessageCase
    mail: OutgoingMail
    result: DeliveryResult


def build(number: int, case: MessageCase) -> OutgoingMail:
    """Compose a case's mail, told from all others by its Message-ID."""
    # A body that imitates the boundary knows the table's own stamp.
    unique = STAMP.unique if STAMP.unique in case.body else f"case{number}"
    return compose(
        case.request,
        body=case.body,
        sender=case.sender,
        files=case.files,
        stamp=Stamp(unique=unique, epoch_seconds=STAMP.epoch_seconds),
        options=case.options,
    )


def mail_id(content: bytes) -> str:
    """Give the id that ``build`` put into a message."""
    found = re.search(rb"^Message-ID: <(\S+)@\S+>\r$", content, re.MULTILINE)
    assert found is not None, content[:500]
    return found[1].decode("ascii")


def wire_faults(content: bytes, mail: OutgoingMail, offered: Capabilities) -> Iterator[str]:
    """Say which rules of RFC 5321 and RFC 5322 a message broke on the wire."""
    header, _, body = content.partition(b"\r\n\r\n")
    if not content.endswith(b"\r\n"):
        yield "it does not end in CRLF"
    if re.search(rb"\r(?!\n)|(?<!\r)\n", content):
        yield "a bare CR or LF"
    if b"\0" in content:
        yield "a NUL"
    if max(map(len, content.split(b"\r\n"))) > 998:
        yield "a line over 998 bytes"
    if not header.isascii() and not mail.envelope.needs_smtputf8:
        yield "a header outside ASCII"
    if not body.isascii() and not offered.eight_bit:
        yield "8-bit text for a server without 8BITMIME"
    if max((len(word) for word in re.findall(rb"=\?[^ ]*\?=", header)), default=0) > 75:
        yield "an encoded word over 75 characters"


class MessageTableTests(TestCase):
    """The table of messages against three servers."""

    timeout = 120

    def setUp(self) -> None:
        self.sender = Sender(reactor, 60)

    @returns_deferred
    async def deliver_all(self, port: int) -> list[Sent]:
        """Deliver every case to a server on the loopback, several at a time."""
        route = Route(
            host="127.0.0.1",
            port=port,
            encryption=Encryption.NONE,
            ehlo_name="client.example.org",
            timeout=30,
        )
        mails = [(case, build(number, case)) for number, case in enumerate(CASES)]
        sent: list[Sent] = []

        def work() -> Iterator[Deferred[None]]:
            for case, mail in mails:
                done = self.sender.send(mail, route)
                yield done.addCallback(keep, case, mail)

        def keep(result: DeliveryResult, case: MessageCase, mail: OutgoingMail) -> None:
            sent.append(Sent(case=case, mail=mail, result=result))

        cooperator, queue = Cooperator(), work()
        await gatherResults([cooperator.coiterate(queue) for _ in range(_AT_ONCE)])
        await self.sender.drain()
        self.assertEqual(len(sent), len(CASES))
        return sent

    def check(self, sent: Iterable[Sent], arrived: dict[str, bytes], offered: Capabilities) -> int:
        """Compare what arrived with what was meant; give the number of messages."""
        count = 0
        for one in sent:
            name = one.case.name
            self.assertTrue(one.result.delivered, f"{name}: {one.result.reason}")
            content = arrived[one.mail.mail_id]
            self.assertEqual(differences(one.case, content), [], name)
            self.assertEqual(list(wire_faults(content, one.mail, offered)), [], name)
            # Byte for byte what was composed: nobody on the way had to mend anything.
            self.assertTrue(content == unstuff(one.mail.wire(offered).data), name)
            count += 1
        return count

    def check_envelopes(self, sent: Iterable[Sent], received: Iterable[Received]) -> None:
        """Compare each message's sender and recipients with its envelope."""
        seen: dict[str, Counter[tuple[str, str]]] = {}
        for one in received:
            pairs = Counter((one.sender, recipient) for recipient in one.recipients)
            seen[mail_id(one.content)] = seen.get(mail_id(one.content), Counter()) + pairs
        for mail in (one.mail for one in sent):
            envelope = mail.envelope
            meant = Counter((envelope.sender, recipient) for recipient in envelope.recipients)
            self.assertEqual(seen.pop(mail.mail_id), meant)
        self.assertEqual(seen, {})

    def aiosmtpd(self, options: AioOptions) -> AioServer:
        """Start an aiosmtpd."""
        server = AioServer(options)
        self.addCleanup(server.stop)
        return server

    def test_the_table_is_large(self) -> None:
        self.assertGreaterEqual(len(CASES), 40)
        self.assertEqual(len({case.name for case in CASES}), len(CASES))

    def test_aiosmtpd_with_8bitmime_receives_what_was_meant(self) -> Deferred[None]:
        return self._modern_aiosmtpd()

    @returns_deferred
    async def _modern_aiosmtpd(self) -> None:
        server = self.aiosmtpd(AioOptions())
        sent = await self.deliver_all(server.port)
        arrived = {mail_id(one.content): one.content for one in server.received}
        self.assertEqual(self.check(sent, arrived, _MODERN), len(CASES))
        self.check_envelopes(sent, server.received)
        for one in server.received:
            eight_bit = not one.content.isascii()
            self.assertEqual("BODY=8BITMIME" in one.options, eight_bit)

    def test_aiosmtpd_without_extensions_receives_what_was_meant(self) -> Deferred[None]:
        return self._old_aiosmtpd()

    @returns_deferred
    async def _old_aiosmtpd(self) -> None:
        server = self.aiosmtpd(AioOptions(without=("8BITMIME", "SMTPUTF8"), utf8=False))
        sent = await self.deliver_all(server.port)
        arrived = {mail_id(one.content): one.content for one in server.received}
        fitting = [one for one in sent if not one.case.smtputf8]
        self.assertEqual(self.check(fitting, arrived, _OLD), len(arrived))
        self.check_envelopes(fitting, server.received)
        for one in sent:
            if one.case.smtputf8:
                self.assertIn("SMTPUTF8", one.result.reason)
                self.assertIs(one.result.outcomes[0].outcome, Outcome.PERMANENT)

    def test_postfix_receives_what_was_meant(self) -> Deferred[None]:
        if os.geteuid() != 0:
            raise SkipTest("only root can run a Postfix")
        return self._postfix()

    def folder(self) -> Path:
        """Make a folder into which programs that are not root can go."""
        folder = Path(tempfile.mkdtemp(prefix="smtpmailer-"))
        self.addCleanup(shutil.rmtree, folder)
        folder.chmod(0o755)
        return folder

    @returns_deferred
    async def _postfix(self) -> None:
        server = Postfix(self.folder())
        self.addCleanup(server.stop)
        await self._until(server, server.is_ready)
        sent = await self.deliver_all(server.port)
        copies = sum(len(one.mail.envelope.recipients) for one in sent)
        await self._until(server, lambda: server.count >= copies)
        received = server.delivered()
        arrived = {mail_id(one.content): one.content for one in received}
        self.assertEqual(self.check(sent, arrived, _MODERN), len(CASES))
        self.check_envelopes(sent, received)

    @returns_deferred
    async def _until(self, server: Postfix, probe: Callable[[], bool]) -> None:
        """Wait, not for ever, until ``probe`` says so."""
        clock: Any = reactor
        end = clock.seconds() + _DEADLINE
        while not probe():
            self.assertLess(clock.seconds(), end, server.log())
            await deferLater(clock, 0.02)


class WireFaultsTests(TestCase):
    """The check of the wire's rules finds each of them broken."""

    def test_each_rule_is_checked(self) -> None:
        mail = build(0, CASES[0])
        good = b"Subject: x\r\n\r\nbody\r\n"
        self.assertEqual(list(wire_faults(good, mail, _OLD)), [])
        self.assertEqual(parse(good)["Subject"], "x")
        for bad in (
            good[:-2],
            good + b"a\rb\r\n",
            good + b"a\nb\r\n",
            good + b"\0\r\n",
            good + b"x" * 999 + b"\r\n",
            good + "ü\r\n".encode(),
            "Subject: ü\r\n\r\n".encode(),
            b"Subject: =?utf-8?q?" + b"x" * 70 + b"?=\r\n\r\n",
        ):
            self.assertEqual(len(list(wire_faults(bad, mail, _OLD))), 1, bad[:60])
