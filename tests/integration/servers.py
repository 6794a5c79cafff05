# SPDX-License-Identifier: MIT
"""SMTP servers that are not ours, started for one test: aiosmtpd and Postfix."""

from __future__ import annotations

import asyncio
import logging
import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
from base64 import b64decode
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from pathlib import Path
from typing import Any

import attrs
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from tests.ports import free_port

__all__ = ["AioOptions", "AioServer", "Postfix", "Received", "free_port", "parse"]

# What clients do to aiosmtpd is the tests' business: its complaints would litter their output.
logging.getLogger("mail.log").addHandler(logging.NullHandler())


def parse(content: bytes) -> EmailMessage:
    """Parse a message as the standard library understands it."""
    message = BytesParser(policy=default).parsebytes(content)
    assert isinstance(message, EmailMessage)
    return message


@attrs.frozen(kw_only=True)
class Received:
    """What arrived in one transaction; ``user`` is who had logged in, or empty."""

    sender: str
    recipients: tuple[str, ...]
    options: tuple[str, ...] = ()
    user: str = ""
    content: bytes = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class AioOptions:
    """What an AioServer offers.

    ``without`` names extensions that EHLO does not show. With ``tls`` it offers STARTTLS, and
    AUTH under TLS only; without it AUTH stands open. ``login`` is the one user and password; with
    None any will do. ``eager``: a mail has arrived before it is answered, not afterwards.
    With ``tokens`` it takes those by XOAUTH2.
    """

    without: tuple[str, ...] = ()
    utf8: bool = True
    tls: ssl.SSLContext | None = None
    login: tuple[str, str] | None = ("user", "right")
    eager: bool = False
    tokens: frozenset[str] | None = None


class _Handler:
    """aiosmtpd's handler: keeps what arrives, and answers DATA only while the gate is open."""

    def __init__(self, options: AioOptions) -> None:
        self.received: list[Received] = []
        self.logins: list[tuple[str, str]] = []
        self.waiting = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.refusals: dict[str, list[str]] = {}
        self._options = options

    async def handle_EHLO(
        self, _server: Any, session: Any, _envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [line for line in responses if line[4:].split(" ")[0] not in self._options.without]

    async def handle_RCPT(
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: list[str]
    ) -> str:
        replies = self.refusals.get(address)
        if replies and (reply := replies.pop(0)):
            return reply
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 fine"

    async def handle_DATA(self, _server: Any, session: Any, envelope: Any) -> str:
        mail = Received(
            sender=envelope.mail_from,
            recipients=tuple(envelope.rcpt_tos),
            options=tuple(envelope.mail_options),
            user=session.auth_data.login.decode() if session.authenticated else "",
            content=envelope.content,
        )
        if self._options.eager:
            self.received.append(mail)
        self.waiting += 1
        try:
            await self.gate.wait()
        finally:
            self.waiting -= 1
        if not self._options.eager:
            self.received.append(mail)
        return "250 2.0.0 kept"

    def authenticate(self, *about: Any) -> AuthResult:
        """Judge a login; called with server, session, envelope, mechanism and credentials."""
        data = about[-1]
        pair = (data.login.decode(), data.password.decode())
        self.logins.append(pair)
        success = self._options.login in (None, pair)
        return AuthResult(success=success, handled=False, auth_data=data)


class _TokenHandler(_Handler):
    """One that takes access tokens, by XOAUTH2."""

    async def auth_XOAUTH2(self, server: Any, arguments: list[str]) -> AuthResult:
        """Judge a login; a refusal begins with a challenge, as Google's does."""
        message = await server.challenge_auth("") if len(arguments) < 2 else arguments[1]
        if isinstance(message, str):
            message = b64decode(message)
        user, bearer = message.removesuffix(b"\1\1").split(b"\1")
        token = bearer.removeprefix(b"auth=Bearer ").decode()
        self.logins.append((user.removeprefix(b"user=").decode(), token))
        if token in (self._options.tokens or ()):
            return AuthResult(success=True, auth_data=LoginPassword(user[5:], b""))
        await server.challenge_auth('{"status":"400"}')
        return AuthResult(success=False, handled=False)


class AioServer:
    """An aiosmtpd on loopback, in a thread of its own."""

    def __init__(self, options: AioOptions = AioOptions()) -> None:
        """Start it."""
        self.port = free_port()
        self._handler = (_TokenHandler if options.tokens is not None else _Handler)(options)
        self._controller = Controller(
            self._handler,
            hostname="127.0.0.1",
            port=self.port,
            enable_SMTPUTF8=options.utf8,
            data_size_limit=64 * 1024 * 1024,
            tls_context=options.tls,
            auth_require_tls=options.tls is not None,
            authenticator=self._handler.authenticate,
        )
        self._controller.start()

    @property
    def received(self) -> list[Received]:
        """What has arrived so far, in order."""
        return self._handler.received

    @property
    def logins(self) -> list[tuple[str, str]]:
        """The user and password of every attempt to log in."""
        return self._handler.logins

    @property
    def waiting(self) -> int:
        """How many mails wait at the closed gate."""
        return self._handler.waiting

    def hold(self) -> None:
        """Close the gate: a mail that comes from now on is not answered until ``release``."""
        self._controller.loop.call_soon_threadsafe(self._handler.gate.clear)

    def release(self) -> None:
        """Open the gate."""
        self._controller.loop.call_soon_threadsafe(self._handler.gate.set)

    def refuse(self, recipient: str, *replies: str) -> None:
        """Answer the next RCPT TO for a recipient with these, one each; an empty one takes it."""
        self._handler.refusals[recipient] = list(replies)

    def stop(self) -> None:
        """Stop listening and end the thread."""
        self._controller.stop()


_MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {root}/queue
data_directory = {root}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = postfix.example.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
virtual_mailbox_domains = static:all
virtual_mailbox_base = {root}
virtual_mailbox_maps = static:mail/
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
virtual_mailbox_limit = 0
message_size_limit = 67108864
maillog_file = {root}/log
maillog_file_prefixes = {root}
smtputf8_enable = yes
local_header_rewrite_clients =
smtpd_client_connection_count_limit = 0
"""

_MASTER_CF = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
virtual unix - n n - - virtual
error unix - - n - - error
retry unix - - n - - error
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""

#: What Postfix puts in front of a message on its way into the maildir.
_ADDED = ("Return-Path", "X-Original-To", "Delivered-To", "Received")


class Postfix:
    """A Postfix of the test's own: every address is delivered into one maildir."""

    def __init__(self, root: Path) -> None:
        """Write its configuration under ``root`` and start it; needs to be root."""
        self.port = free_port()
        self._root = root
        self._maildir = root / "mail"
        owner = pwd.getpwnam("postfix")
        for name, mode in (("etc", 0o755), ("queue", 0o755), ("data", 0o700), ("mail", 0o700)):
            (root / name).mkdir(mode=mode)
            if name in ("data", "mail"):
                os.chown(root / name, owner.pw_uid, owner.pw_gid)
        values = {"root": root, "port": self.port, "uid": owner.pw_uid, "gid": owner.pw_gid}
        (root / "etc/main.cf").write_text(_MAIN_CF.format(**values), "ascii")
        (root / "etc/master.cf").write_text(_MASTER_CF.format(**values), "ascii")
        postfix = shutil.which("postfix", path=f"{os.environ['PATH']}:/usr/sbin")
        assert postfix is not None, "postfix is missing: sh scripts/test-tools.sh installs it"
        with (root / "output").open("wb") as output:
            self._running = subprocess.Popen(
                [postfix, "-c", str(root / "etc"), "start-fg"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def is_ready(self) -> bool:
        """Tell whether it takes connections; AssertionError when it has ended."""
        assert self._running.poll() is None, self.log()
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """Stop all of its processes."""
        master = self._root / "queue/pid/master.pid"
        if master.exists():
            os.kill(int(master.read_text("ascii")), signal.SIGTERM)
        else:
            self._running.terminate()
        self._running.wait(10)

    def log(self) -> str:
        """Give the end of what it logged, for a test that fails."""
        logs = [self._root / name for name in ("output", "log")]
        texts = [log.read_text("utf-8", "replace") for log in logs if log.exists()]
        return "".join(texts)[-5000:]

    def delivered(self) -> list[Received]:
        """Give what lies in the maildir, a message for each recipient, as it was sent.

        So with CRLF, and without the fields that Postfix added.
        """
        return [_as_sent(path.read_bytes()) for path in (self._maildir / "new").glob("*")]

    @property
    def count(self) -> int:
        """How many messages lie in the maildir."""
        return sum(1 for _ in (self._maildir / "new").glob("*"))


def _as_sent(content: bytes) -> Received:
    fields: dict[str, str] = {}
    lines = content.split(b"\n")
    while (name := lines[0].decode("utf-8").partition(": ")[0]) in _ADDED:
        fields[name] = lines.pop(0).decode("utf-8").partition(": ")[2]
        while lines[0][:1] in (b" ", b"\t"):
            lines.pop(0)
    return Received(
        sender=fields["Return-Path"].strip("<>"),
        recipients=(fields["X-Original-To"],),
        content=b"\r\n".join(lines),
    )
