# SPDX-License-Identifier: MIT
"""A session with an SMTP server: from the greeting through TLS and login, then commands.

The stock ESMTPSender has traps (dots lost at chunk borders, bytes believed that came before TLS,
endless replies, passwords in error texts, waits without limit); this subclass closes them. It
keeps the stock order of greeting, EHLO and STARTTLS, and replaces what parses and logs in. Once a
session is ready it is handed over to what carries mails (``delivery.carrier``).
"""

# ruff: noqa: ARG002 -- the stock class calls its hooks with arguments that not all need

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.mail.smtp import ESMTPSender
from twisted.python.failure import Failure
from zope.interface import implementer

from smtpmailer.core.model import Encryption, Route
from smtpmailer.delivery.arrivals import Arrivals
from smtpmailer.delivery.auth import Login, choose_logins, choose_token_logins
from smtpmailer.delivery.departures import Departures, TlsOutlet
from smtpmailer.delivery.dialogue import Opening
from smtpmailer.delivery.replies import (
    MAX_REPLY_BYTES,
    ReplyParser,
    Secrets,
    SmtpReply,
    parse_extensions,
)
from smtpmailer.delivery.tls import describe_tls_failure
from smtpmailer.delivery.traffic import Traffic
from smtpmailer.errors import (
    RemoteError,
    SmtpConnectError,
    SmtpLoginError,
    SmtpLostError,
    SmtpProtocolError,
    SmtpRefusedError,
    SmtpTokenRefusedError,
)
from smtpmailer.outlet import Outlet

__all__ = ["CLOSE_LIMIT", "Session"]

#: Seconds that a server has to answer QUIT and to close.
CLOSE_LIMIT = 5.0

#: Commands that name a new stage in errors; the parts of a login don't.
_STAGES = frozenset({b"AUTH", b"EHLO", b"HELO", b"STARTTLS"})
#: The longest command line, without its end (RFC 5321 section 4.5.3.1.4).
_COMMAND_BYTES = 510
_PERMANENT = 500
_REFUSED = 400
#: The server does not know, or no longer wants, this mechanism (RFC 4954 section 4): try another.
_WRONG_MECHANISM = frozenset({504, 534})


@implementer(IHandshakeListener)
class Session(ESMTPSender):
    """One connection to an SMTP server.

    ``ready`` fires with None when it may be handed over, or fails with a RemoteError. ``closed``
    fires with None when the connection is gone. ``extensions`` maps what the server offers now
    to its parameters.
    """

    debug = False  # The stock log keeps AUTH lines and puts them into exceptions.
    MAX_LENGTH = MAX_REPLY_BYTES
    transport: Any
    extensions: dict[str, str]
    #: What is written goes through it, all that is said on a session that is ready included.
    outlet: Outlet | TlsOutlet

    def prepare(self, route: Route, clock: IReactorTime, token: str = "") -> None:
        """Say what the session is for; called once, before the connection is made.

        ``token`` is for the login of a route with ``oauth2``.
        """
        self.ready: Deferred[None] = Deferred()
        self.closed: Deferred[None] = Deferred()
        self.extensions = {}
        self._route = route
        self._clock = clock
        self._token = token
        secret = token or route.password
        self._secrets = Secrets(secret, b64encode(secret.encode()).decode())
        #: Puts replies together, with the session's secrets hidden in them.
        self.parser = ReplyParser(self._secrets.hide)
        self._reply = SmtpReply(0)
        self._opening = Opening()
        self._traffic: Traffic | None = None
        self._logins: list[Login] = []
        self._error: RemoteError | None = None
        self._stage = "the greeting"
        self._established = False
        self._handshaking = False
        self._leaving = False
        self._arrivals: Arrivals | None = None

    # What its user calls.

    def hasten(self, departures: Departures) -> None:
        """Take fewer steps under TLS from now on, when all that was written is answered."""
        if self._arrivals is not None:
            self._arrivals.begin()
            self.outlet = TlsOutlet(self.transport, self._arrivals.layer, departures)

    def hand_over(self, traffic: Traffic) -> None:
        """Give all that comes in from now on to ``traffic``, which writes to ``transport``."""
        self._traffic = traffic
        self._opening.forget()

    def leave(self) -> None:
        """Say QUIT if anybody listens, and close within ``CLOSE_LIMIT`` seconds."""
        if self._leaving or self._error is not None:
            return
        self._leaving = True
        self.setTimeout(min(CLOSE_LIMIT, self._route.timeout))
        self.outlet.write(b"QUIT\r\n")

    def fail(self, error: RemoteError) -> None:
        """End the session at once; whoever waits for it gets the error. Only the first counts."""
        if self._error is not None:
            return
        self.setTimeout(None)
        self._set_error(error)
        self.outlet.drop()
        self.transport.abortConnection()
        self._tell()

    # What Twisted calls.

    def callLater(self, period: float, func: Callable[[], Any]) -> IDelayedCall:
        """Run timeouts on the clock we were given, not on the global reactor."""
        return self._clock.callLater(period, func)

    def connectionMade(self) -> None:
        """Wait for the greeting, under TLS if that comes first."""
        self.transport.setTcpNoDelay(True)
        self.outlet = Outlet(self.transport)
        ESMTPSender.connectionMade(self)
        if self._route.encryption is Encryption.TLS:
            self._start_tls()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell whoever waits."""
        ESMTPSender.connectionLost(self, reason)
        if self._error is None:
            stage = self._stage if self._traffic is None else self._traffic.stage
            lost: RemoteError = SmtpLostError(f"connection lost ({stage})")
            if self._handshaking:
                lost = SmtpConnectError(describe_tls_failure(reason.value))
            self._set_error(lost)
            self._tell()
        self.closed.callback(None)

    def handshakeCompleted(self) -> None:
        """Go on under TLS: with the greeting, or with a new EHLO (RFC 3207 section 4.2)."""
        self._handshaking = False
        self._tlsMode = True
        self._opening.happened("TLS")
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

    def dataReceived(self, data: bytes) -> None:
        """Cut into lines what comes before the session is handed over, and after its end."""
        if self._traffic is None or self._leaving:
            ESMTPSender.dataReceived(self, data)
        else:
            self._traffic.received(data)

    def lineReceived(self, line: bytes) -> None:
        """Take a line of a reply; waits are not prolonged before the reply is whole."""
        if self._error is not None or self._leaving:
            if self._leaving:
                self.transport.loseConnection()
            return
        try:
            reply = self.parser.feed(line)
        except SmtpProtocolError as error:
            self.fail(error)
            return
        if reply is not None:
            self.setTimeout(None)
            self._reply = reply
            self._opening.heard(reply)
            self._answered(reply)

    def sendLine(self, line: bytes) -> None:
        """Send a command line and begin to wait for its reply."""
        if self._spoke_early():
            return
        if any(byte in line for byte in b"\r\n\0"):  # Checked before; this is the last fence.
            self.fail(SmtpProtocolError("a command would hold CR, LF or NUL; not sent"))
            return
        verb = line.partition(b" ")[0]
        if verb in _STAGES:
            self._stage = verb.decode()
        self._start_wait()
        self._opening.said(line)
        self.outlet.write(line + b"\r\n")

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
        self._logins = self._choose_logins(offered)
        if self._logins:
            self._next_login()
            return
        what = "login with an access token" if self._token else "login that can be used"
        text = f"no {what} is offered ({offered or 'none'})"
        self._part(SmtpLoginError(text))

    def smtpState_from(self, code: int, resp: bytes) -> None:
        """Say that the session takes mails now."""
        if not self._spoke_early():
            self.ready.callback(None)

    # Our own parts.

    def _answered(self, reply: SmtpReply) -> None:
        step = self._okresponse if reply.code in self._expected else self._failresponse
        step(reply.code, b"\n".join(reply.lines))

    def _start_tls(self) -> None:
        self._stage = "the TLS handshake"
        self._handshaking = True
        self._start_wait()
        self.outlet.leave()
        self.transport.startTLS(self.context)
        self._arrivals = Arrivals.of(self.transport)

    def _choose_logins(self, offered: str) -> list[Login]:
        route = self._route
        if route.oauth2 is None:
            return choose_logins(offered, route.user, route.password, secure=self._tlsMode)
        if not self._tlsMode:  # Checked before; this is the last fence (RFC 6750 section 5.2).
            return []
        return choose_token_logins(offered, route.user, self._token, route.host, route.port)

    def _next_login(self) -> None:
        login = self._logins[0]
        self._expected = [235, 334]
        self._okresponse = self._login_goes_on
        self._failresponse = self._login_refused
        line = b"AUTH " + login.name.encode()
        if login.initial is not None:
            whole = line + b" " + self._secret_b64(login.initial)
            # A longer one has to wait until it is asked for (RFC 4954 section 4).
            line = whole if len(whole) <= _COMMAND_BYTES else line
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
        elif self._token and code >= _PERMANENT:
            self._part(self._from_reply(SmtpTokenRefusedError, "access token refused"))
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
            error = SmtpRefusedError(stage, reply.text, code=reply.code, enhanced=reply.enhanced)
            self._part(error)
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

    def _set_error(self, error: RemoteError) -> None:
        """Keep the first error; before TLS it means that no TLS session came about."""
        if not self._established and isinstance(error, SmtpLostError | SmtpProtocolError):
            error = SmtpConnectError(str(error))
        error.at_login = self._stage == "AUTH"
        self._error = error

    def _tell(self) -> None:
        error = self._error
        assert error is not None
        if not self.ready.called:
            error.dialogue = self._opening.lines(self._secrets.hide, str(error))
            self.ready.errback(error)
        elif self._traffic is not None:
            self._traffic.lost(error)
