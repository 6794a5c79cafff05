# SPDX-License-Identifier: MIT
"""The mail trap: a development SMTP server that takes every mail and delivers none.

The session (greeting, EHLO, AUTH, STARTTLS, time limits) is Twisted's ESMTP server. The mail
transaction is ours, because Twisted's takes no MAIL parameters and no UTF-8 addresses, hands a copy
to each recipient, adds blank lines to messages without headers, and works line by line.

What it advertises it does: PIPELINING (RFC 2920), SIZE (RFC 1870), 8BITMIME (RFC 6152), SMTPUTF8
(RFC 6531), AUTH (RFC 4954) and STARTTLS (RFC 3207). Lines end in CRLF and in nothing else: a mail
with a bare CR or LF is refused (RFC 5321 section 2.3.8).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IOpenSSLContextFactory, IReactorTime
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.mail.smtp import COMMAND, ESMTP, SMTPBadSender
from twisted.python.failure import Failure

from smtpmailer.trap_login import Guest, challengers, make_portal
from smtpmailer.trap_store import CaughtMail
from smtpmailer.trap_wire import Body, has_bare_ends, option_fault, parse_path

__all__ = ["TrapFactory", "TrapPolicy"]

_LINE_LIMIT_BYTES: Final = 16384


@attrs.frozen(kw_only=True)
class TrapPolicy:
    """How a port of the trap behaves.

    ``tls`` is the context factory that STARTTLS uses, None when it is not offered;
    ``implicit_tls`` says that the port speaks TLS from the first byte; ``require_tls`` that mail
    and login wait for STARTTLS. With ``user`` set only that user and ``password`` may send, else
    anybody may, with any login or none. ``timeout`` is in seconds.
    """

    tls: IOpenSSLContextFactory | None = None
    implicit_tls: bool = False
    require_tls: bool = False
    user: str | None = None
    password: str = attrs.field(default="", repr=False)
    size_limit_bytes: int = 64 * 1024 * 1024
    timeout: int = 300


class _TrapProtocol(ESMTP):
    """One session with a client."""

    _log = Logger()
    noisy = False
    MAX_LENGTH = _LINE_LIMIT_BYTES
    factory: Any
    portal: Any
    transport: Any
    _from: str | None
    _helo: tuple[bytes | None, bytes]

    def __init__(self, trap: TrapFactory, policy: TrapPolicy) -> None:
        cram = policy.user is not None
        super().__init__(challengers(trap.domain, cram=cram), policy.tls)
        self._trap = trap
        self._policy = policy
        self._options: tuple[str, ...] = ()
        self._body: Body | None = None
        self.timeout = policy.timeout
        self.startedTLS = policy.implicit_tls

    def dataReceived(self, data: bytes) -> None:
        """Cut the stream into command lines and message bodies."""
        self._buffer += data
        while self._buffer and not self.transport.disconnecting:
            took = self._take_line() if self._body is None else self._take_body(self._body)
            if not took:
                return

    def _take_body(self, body: Body) -> bool:
        self.resetTimeout()
        rest = body.feed(self._buffer)
        self._buffer = rest or b""
        if rest is None:
            return False
        self._finish_mail(body)
        return True

    def _take_line(self) -> bool:
        line, end, rest = self._buffer.partition(b"\r\n")
        if len(line) > self.MAX_LENGTH:
            self._hang_up(500, b"Line too long")
            return False
        if not end:
            return False
        self._buffer = rest
        if has_bare_ends(line):
            self.sendCode(500, b"Bare CR or LF: a line ends in CRLF (RFC 5321 section 2.3.8)")
            return True
        self.lineReceived(line)
        return True

    def _hang_up(self, code: int, text: bytes) -> None:
        self.sendCode(code, text)
        self._buffer = b""
        self.transport.loseConnection()

    def connectionMade(self) -> None:
        """Greet; answer without delay."""
        self._trap.sessions.add(self)
        set_no_delay = getattr(self.transport, "setTcpNoDelay", None)
        if set_no_delay is not None:
            set_no_delay(True)
        super().connectionMade()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget the session; a mail without its final dot was never caught."""
        super().connectionLost(reason)
        self._trap.session_ended(self)

    def callLater(self, period: float, func: Callable[..., Any]) -> Any:
        """Run the time limit on the factory's clock."""
        return self._trap.clock.callLater(period, func)

    def greeting(self) -> bytes:
        """Say what this is."""
        return bytes(self.host) + b" ESMTP smtpmailer trap, delivers nothing"

    def extensions(self) -> dict[bytes, list[bytes] | None]:
        """Name what is offered now; no login before a required STARTTLS."""
        offered: dict[bytes, list[bytes] | None] = {
            b"PIPELINING": None,
            b"SIZE": [b"%d" % self._policy.size_limit_bytes],
            b"8BITMIME": None,
            b"SMTPUTF8": None,
        }
        offered.update(super().extensions())
        if self._tls_missing():
            del offered[b"AUTH"]
        return offered

    def lookupMethod(self, command: bytes) -> Callable[[bytes], None] | None:
        """Find a command's method; a command that is not ASCII has none."""
        if not command.isascii():
            return None
        method: Callable[[bytes], None] | None = super().lookupMethod(command)
        return method

    def do_NOOP(self, rest: bytes) -> None:  # noqa: ARG002
        """Do nothing (RFC 5321 section 4.1.1.9)."""
        self.sendCode(250, b"OK")

    def do_VRFY(self, rest: bytes) -> None:  # noqa: ARG002
        """Tell nothing (RFC 5321 section 3.5.3)."""
        self.sendCode(252, b"Send it and see")

    def ext_STARTTLS(self, rest: bytes) -> None:
        """Begin TLS with nothing known of the client (RFC 3207 section 4.2)."""
        if self._buffer:
            self._hang_up(554, b"Nothing may follow STARTTLS before its reply")
            return
        super().ext_STARTTLS(rest)
        if self.startedTLS:
            self._from, self._to, self.delivery = None, [], None
            self.authenticated = False

    def ext_AUTH(self, rest: bytes) -> None:
        """Log in, once TLS is there where it has to be."""
        if self._tls_missing():
            self.sendCode(530, b"Must issue a STARTTLS command first")
        elif not rest:
            self.sendCode(501, b"Syntax: AUTH mechanism [initial-response]")
        else:
            super().ext_AUTH(rest)

    def state_AUTH(self, response: bytes | None) -> None:
        """Take one step of a login; a response that makes no sense ends it, not the session."""
        try:
            super().state_AUTH(response)
        except ValueError:
            self.mode = COMMAND
            self.challenger = None
            self.sendCode(501, b"Malformed response")

    def do_MAIL(self, rest: bytes) -> None:
        """Begin a mail (RFC 5321 section 4.1.1.2)."""
        if self._tls_missing():
            self.sendCode(530, b"Must issue a STARTTLS command first")
            return
        if self._helo[0] is None:
            self.sendCode(503, b"Say EHLO first")
            return
        if self._from is not None:
            self.sendCode(503, b"Only one sender per message, please")
            return
        parsed = parse_path(rest, b"FROM:")
        if parsed is None:
            self.sendCode(501, b"Syntax: MAIL FROM:<address> [parameters]")
            return
        sender, options = parsed
        fault = option_fault(options, self._policy.size_limit_bytes)
        if fault is not None:
            self.sendCode(*fault)
            return
        self._to = []
        self._options = options
        if self._address_is_fine(sender):
            self.validateFrom(self._helo, sender).addCallbacks(
                self._cbFromValidate, self._ebFromValidate
            )

    def _ebFromValidate(self, failure: Failure) -> None:
        """Ask for a login with the code that says so (RFC 4954 section 6)."""
        if failure.check(SMTPBadSender):
            self.sendCode(530, b"Authentication required")
        else:
            super()._ebFromValidate(failure)

    def do_RCPT(self, rest: bytes) -> None:
        """Take a recipient (RFC 5321 section 4.1.1.3)."""
        if self._from is None:
            self.sendCode(503, b"Must have sender before recipient")
            return
        parsed = parse_path(rest, b"TO:")
        if parsed is None or not parsed[0]:
            self.sendCode(501, b"Syntax: RCPT TO:<address>")
        elif parsed[1]:
            self.sendCode(555, b"RCPT TO parameters not recognized")
        elif self._address_is_fine(parsed[0]):
            self._to.append(parsed[0])
            self.sendCode(250, b"Recipient address accepted")

    def do_DATA(self, rest: bytes) -> None:  # noqa: ARG002
        """Take the message (RFC 5321 section 4.1.1.4)."""
        if self._from is None or not self._to:
            self.sendCode(503, b"Must have valid receiver and originator")
            return
        self._body = Body(self._policy.size_limit_bytes)
        self.sendCode(354, b"Continue")

    def _finish_mail(self, body: Body) -> None:
        sender, recipients = self._from or "", tuple(self._to)
        self._from, self._to, self._body = None, [], None
        if body.too_large:
            self.sendCode(552, b"Message exceeds %d bytes" % self._policy.size_limit_bytes)
        elif has_bare_ends(content := body.content()):
            self.sendCode(550, b"Bare CR or LF in the message (RFC 5321 section 2.3.8)")
        else:
            self._keep(content, sender, recipients)

    def _keep(self, content: bytes, sender: str, recipients: tuple[str, ...]) -> None:
        mail = CaughtMail(
            sender=sender,
            recipients=recipients,
            content=content,
            options=self._options,
            helo=self._helo[0].decode("utf-8", "replace") if self._helo[0] else "",
            peer=_peer(self.transport.getPeer()),
            user=self.delivery.user if isinstance(self.delivery, Guest) else None,
            tls=self._tls_version(),
            received=self._trap.now(),
        )
        try:
            self._trap.keep(mail)
        except OSError as error:
            self._log.error("could not keep a mail: {why}", why=str(error))
            self.sendCode(451, b"Could not keep the mail; see the trap's output")
            return
        self.sendCode(250, b"Caught")

    def _tls_missing(self) -> bool:
        return self._policy.require_tls and not self.startedTLS

    def _tls_version(self) -> str | None:
        if not self.startedTLS:
            return None
        handle = self.transport.getHandle() if hasattr(self.transport, "getHandle") else None
        name = getattr(handle, "get_protocol_version_name", None)
        return "TLS" if name is None else str(name())

    def _address_is_fine(self, address: str) -> bool:
        """Refuse an address beyond ASCII that was not announced (RFC 6531 section 3.3)."""
        if address.isascii() or "SMTPUTF8" in (one.upper() for one in self._options):
            return True
        self.sendCode(553, b"A UTF-8 address needs the SMTPUTF8 parameter of MAIL FROM")
        return False


class TrapFactory(ServerFactory):
    """Makes the sessions of one port.

    ``keep`` is called with every mail before it is acknowledged; an OSError of it becomes a 451.
    ``clock`` runs the time limits, ``now`` gives Unix seconds.
    """

    noisy = False
    domain = b"trap.localhost"

    def __init__(
        self,
        keep: Callable[[CaughtMail], object],
        *,
        clock: IReactorTime,
        now: Callable[[], float],
        policy: TrapPolicy = TrapPolicy(),
    ) -> None:
        self.keep = keep
        self.clock = clock
        self.now = now
        self.sessions: set[_TrapProtocol] = set()
        self._policy = policy
        self._portal: Portal = make_portal(policy.user, policy.password)
        self._waiting: list[Deferred[None]] = []

    def buildProtocol(self, addr: IAddress | None) -> _TrapProtocol:  # noqa: ARG002
        """Make a session."""
        protocol = _TrapProtocol(self, self._policy)
        protocol.factory = self
        protocol.portal = self._portal
        protocol.host = self.domain
        return protocol

    def session_ended(self, session: _TrapProtocol) -> None:
        """Forget a session whose connection is gone."""
        self.sessions.discard(session)
        if not self.sessions:
            waiting, self._waiting = self._waiting, []
            for one in waiting:
                one.callback(None)

    def idle(self) -> Deferred[None]:
        """Fire when no session is open, at once when none is now."""
        done: Deferred[None] = Deferred()
        if self.sessions:
            self._waiting.append(done)
        else:
            done.callback(None)
        return done


def _peer(address: Any) -> str:
    host, port = getattr(address, "host", None), getattr(address, "port", None)
    return f"{host}:{port}" if host is not None else str(address)
