# SPDX-License-Identifier: MIT
"""A session with an SMTP server: from the greeting through TLS and login, then commands.

The stock ESMTPSender has traps (dots lost at chunk borders, bytes believed that came before TLS,
endless replies, passwords in error texts, waits without limit); this subclass closes them. It
keeps the stock order of greeting, EHLO and STARTTLS, and replaces what parses, logs in and sends
mail. A session outlives a mail: transactions run on top of it (``delivery.transaction``).
"""

# ruff: noqa: ARG002 -- the stock class calls its hooks with arguments that not all need

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.mail.smtp import ESMTPSender
from twisted.python.failure import Failure
from zope.interface import implementer

from smtpmailer.core.model import Encryption, Route
from smtpmailer.delivery.auth import Login, choose_logins
from smtpmailer.delivery.body import BodyWriter
from smtpmailer.delivery.replies import (
    MAX_REPLY_BYTES,
    ReplyParser,
    Secrets,
    SmtpReply,
    parse_extensions,
)
from smtpmailer.delivery.tls import describe_tls_failure
from smtpmailer.errors import (
    RemoteError,
    SmtpConnectError,
    SmtpLoginError,
    SmtpLostError,
    SmtpProtocolError,
    SmtpRefusedError,
)

__all__ = ["CLOSE_LIMIT", "Session"]

#: Seconds that a server has to answer QUIT and to close.
CLOSE_LIMIT = 5.0

#: What each command is called in errors; anything else (parts of a login) names no new stage.
_STAGES = {
    b"AUTH": "AUTH",
    b"DATA": "DATA",
    b"EHLO": "EHLO",
    b"HELO": "HELO",
    b"MAIL": "MAIL FROM",
    b"RCPT": "RCPT TO",
    b"RSET": "RSET",
    b"STARTTLS": "STARTTLS",
}
_PERMANENT = 500
_REFUSED = 400
#: The server does not know, or no longer wants, this mechanism (RFC 4954 section 4): try another.
_WRONG_MECHANISM = frozenset({504, 534})


@implementer(IHandshakeListener)
class Session(ESMTPSender):
    """One connection to an SMTP server.

    ``ready`` fires with None when commands may be sent, or fails with a RemoteError. ``closed``
    fires with None when the connection is gone. ``extensions`` maps what the server offers now
    to its parameters. ``dot_written`` tells whether the last message's final dot may be out.
    """

    debug = False  # The stock log keeps AUTH lines and puts them into exceptions.
    MAX_LENGTH = MAX_REPLY_BYTES
    transport: Any
    extensions: dict[str, str]
    dot_written = False

    def prepare(self, route: Route, clock: IReactorTime) -> None:
        """Say what the session is for; called once, before the connection is made."""
        self.ready: Deferred[None] = Deferred()
        self.closed: Deferred[None] = Deferred()
        self.extensions = {}
        self._route = route
        self._clock = clock
        self._secrets = Secrets(route.password, b64encode(route.password.encode()).decode())
        self._parser = ReplyParser(self._secrets.hide)
        self._reply = SmtpReply(code=0)
        self._waiting: deque[Deferred[SmtpReply]] = deque()
        self._logins: list[Login] = []
        self._body: BodyWriter | None = None
        self._error: RemoteError | None = None
        self._stage = "the greeting"
        self._established = False
        self._handshaking = False
        self._leaving = False

    # What transactions use.

    def command(self, line: bytes) -> Deferred[SmtpReply]:
        """Send a command; fire with the reply, whatever its code, or fail with a RemoteError."""
        if self._error is not None:
            return fail(self._error)
        answer: Deferred[SmtpReply] = Deferred()
        self._waiting.append(answer)
        self.sendLine(line)
        return answer

    def send_message(self, wire: bytes) -> Deferred[SmtpReply]:
        """Write a message after 354, with the final dot; fire with the reply to that.

        ``wire`` is dot-stuffed and ends in CRLF. Fails with a RemoteError; whether the server
        may have the message then says ``dot_written``.
        """
        self.dot_written = False
        if self._spoke_early():
            return fail(self._error)
        answer: Deferred[SmtpReply] = Deferred()
        self._waiting.append(answer)
        self._stage = "the end of data"
        self._body = BodyWriter(
            wire, self.transport, progress=self._start_wait, last=self._dot_goes_out
        )
        self._body.start()
        return answer

    def leave(self) -> None:
        """Say QUIT if anybody listens, and close within ``CLOSE_LIMIT`` seconds."""
        if self._leaving or self._error is not None:
            return
        self._leaving = True
        self.setTimeout(min(CLOSE_LIMIT, self._route.timeout))
        self.transport.write(b"QUIT\r\n")

    def fail(self, error: RemoteError) -> None:
        """End the session at once; whoever waits for it gets the error. Only the first counts."""
        if self._error is not None:
            return
        self.setTimeout(None)
        self._set_error(error)
        if self._body is not None:
            self._body.abandon()
        self.transport.abortConnection()
        self._tell()

    # What Twisted calls.

    def callLater(self, period: float, func: Callable[[], Any]) -> IDelayedCall:
        """Run timeouts on the clock we were given, not on the global reactor."""
        return self._clock.callLater(period, func)

    def connectionMade(self) -> None:
        """Wait for the greeting, under TLS if that comes first."""
        self.transport.setTcpNoDelay(True)
        ESMTPSender.connectionMade(self)
        if self._route.encryption is Encryption.TLS:
            self._start_tls()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell whoever waits."""
        ESMTPSender.connectionLost(self, reason)
        if self._error is None:
            lost: RemoteError = SmtpLostError(f"connection lost ({self._stage})")
            if self._handshaking:
                lost = SmtpConnectError(describe_tls_failure(reason.value))
            self._set_error(lost)
            self._tell()
        self.closed.callback(None)

    def handshakeCompleted(self) -> None:
        """Go on under TLS: with the greeting, or with a new EHLO (RFC 3207 section 4.2)."""
        self._handshaking = False
        self._tlsMode = True
        if self._route.encryption is Encryption.TLS:
            self._stage = "the greeting"
            self._start_wait()
        else:
            self.esmtpState_ehlo(0, b"")

    def timeoutConnection(self) -> None:
        """Give up on a server that did not answer in time."""
        if self._leaving:
            self.transport.abortConnection()
            return
        text = f"no answer within {self._route.timeout} s ({self._stage})"
        if not self._tlsMode and self._stage == "the greeting":
            text += "; a port that begins with TLS needs SMTP_ENCRYPTION=ssl"
        self.fail(SmtpLostError(text))

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a line that no reply can have."""
        self.fail(SmtpProtocolError(f"a reply line is over {MAX_REPLY_BYTES} bytes"))

    def lineReceived(self, line: bytes) -> None:
        """Take a line of a reply; waits are not prolonged before the reply is whole."""
        if self._error is not None or self._leaving:
            if self._leaving:
                self.transport.loseConnection()
            return
        try:
            reply = self._parser.feed(line)
        except SmtpProtocolError as error:
            self.fail(error)
            return
        if reply is not None:
            self.setTimeout(None)
            self._reply = reply
            self._answered(reply)

    def sendLine(self, line: bytes) -> None:
        """Send a command line and begin to wait for its reply."""
        if self._spoke_early():
            return
        if any(byte in line for byte in b"\r\n\0"):  # Checked before; this is the last fence.
            self.fail(SmtpProtocolError("a command would hold CR, LF or NUL; not sent"))
            return
        self._stage = _STAGES.get(line.partition(b" ")[0], self._stage)
        self._start_wait()
        self.transport.write(line + b"\r\n")

    # The stock set-up dialogue, where it has to differ.

    def esmtpState_ehlo(self, code: int, resp: bytes) -> None:
        """Send EHLO: after the greeting, and again under TLS."""
        self._established = self._tlsMode or not self.requireTransportSecurity
        ESMTPSender.esmtpState_ehlo(self, code, resp)

    def esmtpState_serverConfig(self, code: int, resp: bytes) -> None:
        """Keep what the server offers, forget what it offered before TLS, go on."""
        self.extensions = parse_extensions(self._reply.lines)
        items = {key.encode(): value.encode() for key, value in self.extensions.items()}
        self.tryTLS(code, resp, items)

    def smtpState_helo(self, code: int, resp: bytes) -> None:
        """Fall back to HELO where EHLO is unknown; the stock one repeats HELO for ever."""
        if code < _PERMANENT:
            self.esmtpEHLORequired(code, resp)
            return
        self._okresponse = self.smtpState_from
        self._failresponse = self.esmtpEHLORequired
        self.sendLine(b"HELO " + self.identity)

    def smtpConnectionFailed(self, code: int, resp: bytes) -> None:
        """Handle a greeting that is none."""
        self._refused("connection")

    def esmtpEHLORequired(self, code: int = -1, resp: bytes | None = None) -> None:
        """Handle a refused EHLO or HELO."""
        self._refused(self._stage)

    def esmtpTLSRequired(self, code: int = -1, resp: bytes | None = None) -> None:
        """Handle a server without STARTTLS: nothing is sent to it in the clear."""
        self._part(SmtpConnectError("the server does not offer STARTTLS (SMTP_ENCRYPTION)"))

    def esmtpTLSFailed(self, code: int = -1, resp: bytes | None = None) -> None:
        """Handle a refused STARTTLS."""
        self._part(self._from_reply(SmtpConnectError, "STARTTLS not accepted"))

    def esmtpState_starttls(self, code: int, resp: bytes) -> None:
        """Begin TLS, unless plaintext was slipped in behind the reply (CVE-2011-0411)."""
        if self.clearLineBuffer():
            self.fail(SmtpConnectError("unencrypted bytes followed the reply to STARTTLS"))
            return
        self._start_tls()

    def authenticate(self, code: int, resp: bytes, items: dict[bytes, bytes]) -> None:
        """Log in if the route has a user."""
        route = self._route
        if not route.user:
            self.smtpState_from(code, resp)
            return
        offered = self.extensions.get("AUTH", "")
        self._logins = choose_logins(offered, route.user, route.password, secure=self._tlsMode)
        if self._logins:
            self._next_login()
            return
        text = f"no login that can be used is offered ({offered or 'none'})"
        self._part(SmtpLoginError(text))

    def smtpState_from(self, code: int, resp: bytes) -> None:
        """Hand the session over: it takes commands now."""
        self.ready.callback(None)

    # Our own parts.

    def _answered(self, reply: SmtpReply) -> None:
        if not self.ready.called:
            step = self._okresponse if reply.code in self._expected else self._failresponse
            step(reply.code, b"\n".join(reply.lines))
            return
        early = self._body is not None and not self._body.ended
        if self._waiting and not early:
            self._body = None
            self._waiting.popleft().callback(reply)
        elif reply.code >= _REFUSED:
            self.fail(_refusal("data" if early else "session", reply))
        else:
            self.fail(SmtpProtocolError(f"unexpected reply: {reply.code} {reply.text}"))

    def _start_tls(self) -> None:
        self._stage = "the TLS handshake"
        self._handshaking = True
        self._start_wait()
        self.transport.startTLS(self.context)

    def _next_login(self) -> None:
        login = self._logins[0]
        self._expected = [235, 334]
        self._okresponse = self._login_goes_on
        self._failresponse = self._login_refused
        line = b"AUTH " + login.name.encode()
        if login.initial is not None:
            line += b" " + self._secret_b64(login.initial)
        self.sendLine(line)

    def _login_goes_on(self, code: int, resp: bytes) -> None:
        if code == 235:  # noqa: PLR2004 -- RFC 4954 section 4
            self._logins = []
            self.smtpState_from(code, resp)
            return
        try:
            answer = self._logins[0].answer(b64decode(resp, validate=True))
        except (binascii.Error, ValueError):
            answer = None
        if answer is None:  # Not what this mechanism asks: cancel (RFC 4954 section 4).
            self._expected = []
            self.sendLine(b"*")
        else:
            self.sendLine(self._secret_b64(answer))

    def _login_refused(self, code: int, resp: bytes) -> None:
        del self._logins[0]
        if self._logins and code in _WRONG_MECHANISM:
            self._next_login()
        else:
            self._part(self._from_reply(SmtpLoginError, "login refused"))

    def _secret_b64(self, secret: bytes) -> bytes:
        line = b64encode(secret)
        self._secrets.add(line.decode())
        if secret != self._route.user.encode():
            self._secrets.add(secret.decode("utf-8", "replace"))
        return line

    def _refused(self, stage: str) -> None:
        reply = self._reply
        if reply.code >= _REFUSED:
            self._part(_refusal(stage, reply))
            return
        self.fail(SmtpProtocolError(f"unexpected reply ({stage}): {reply.code} {reply.text}"))

    def _from_reply(self, kind: type[RemoteError], what: str) -> RemoteError:
        reply = self._reply
        return kind(f"{what}: {reply.code} {reply.text}", code=reply.code, enhanced=reply.enhanced)

    def _part(self, error: RemoteError) -> None:
        """End the set-up in peace: QUIT, then tell."""
        self.leave()
        self._set_error(error)
        self._tell()

    def _spoke_early(self) -> bool:
        """Refuse to go on when replies came that nothing was asked for: they would be believed."""
        if self._error is None and self.clearLineBuffer():
            self.fail(SmtpProtocolError(f"the server spoke out of turn (after {self._stage})"))
        return self._error is not None

    def _start_wait(self) -> None:
        self.setTimeout(self._route.timeout)

    def _dot_goes_out(self) -> None:
        self.dot_written = True

    def _set_error(self, error: RemoteError) -> None:
        """Keep the first error; before TLS it means that no TLS session came about."""
        if not self._established and isinstance(error, SmtpLostError | SmtpProtocolError):
            error = SmtpConnectError(str(error))
        self._error = error

    def _tell(self) -> None:
        error = self._error
        assert error is not None
        if not self.ready.called:
            self.ready.errback(error)
        while self._waiting:
            self._waiting.popleft().errback(error)


def _refusal(stage: str, reply: SmtpReply) -> SmtpRefusedError:
    return SmtpRefusedError(stage, reply.text, code=reply.code, enhanced=reply.enhanced)
