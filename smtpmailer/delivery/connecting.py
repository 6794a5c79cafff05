# SPDX-License-Identifier: MIT
"""The way to an SMTP server: TCP connection, TLS and login, up to a session that is ready."""

from __future__ import annotations

import ipaddress
from typing import Any

import idna
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IAddress, IReactorTime, IStreamClientEndpoint
from twisted.mail.smtp import ESMTPSenderFactory
from twisted.python.failure import Failure

from smtpmailer.core.model import Encryption, Route
from smtpmailer.coroutines import returns_deferred
from smtpmailer.delivery.session import Session
from smtpmailer.delivery.tls import ClientOptions, ClientTls
from smtpmailer.delivery.tokens import Tokens
from smtpmailer.errors import (
    SmtpConnectError,
    SmtpLoginError,
    SmtpLostError,
    SmtpTokenRefusedError,
    TlsConfigError,
    TokenError,
)

__all__ = ["CONNECT_LIMIT", "Link", "SessionFactory"]

#: Seconds that a TCP connection may take, name resolution and all addresses of a host included.
CONNECT_LIMIT = 30

_IPV4 = 4


class SessionFactory(ESMTPSenderFactory):
    """Builds the session of one connection; it knows no mail, and never connects again."""

    noisy = False
    protocol = Session

    def __init__(self, route: Route, context: Any, clock: IReactorTime, token: str = "") -> None:
        """Take what the session needs; ``context`` is its client TLS options or None."""
        secure = route.encryption is not Encryption.NONE
        ESMTPSenderFactory.__init__(
            self,
            route.user.encode(),
            route.password.encode(),
            "",
            (),
            None,
            Deferred(),
            retries=0,
            timeout=route.timeout,
            contextFactory=context,
            heloFallback=not secure and not route.user,
            requireAuthentication=bool(route.user),
            requireTransportSecurity=secure,
        )
        self.domain = route.ehlo_name.encode("ascii", "backslashreplace")
        self._route = route
        self._clock = clock
        self._token = token

    def buildProtocol(self, addr: IAddress | None) -> Session:
        """Build the session."""
        session = ESMTPSenderFactory.buildProtocol(self, addr)
        assert isinstance(session, Session)
        session.prepare(self._route, self._clock, self._token)
        return session


class Link:
    """A connection to a server, from the first try to its end.

    ``ready`` fires with a session that may be handed over, after greeting, TLS and login. It fails
    with RemoteError when none comes about, and with TlsConfigError when the trust file or the host
    name can't be used. ``closed`` fires with None when there is no connection any more.

    For a route with ``oauth2`` it gets an access token first. When the server refuses that, it gets
    another one and connects again, once.
    """

    def __init__(
        self, reactor: Any, route: Route, tls: ClientTls, tokens: Tokens | None = None
    ) -> None:
        """Begin nothing yet; ``tokens`` are needed for routes with ``oauth2``."""
        self.began: float = reactor.seconds()
        self.ready: Deferred[Session] = Deferred()
        self.closed: Deferred[None] = Deferred()
        self._reactor = reactor
        self._route = route
        self._tls = tls
        self._session: Session | None = None
        self._options: ClientOptions | None = None
        self._tokens = tokens
        self._token = ""
        self._refusal: Failure | None = None
        self._connecting: Deferred[Any] | None = None
        self._cancelled = False

    def open(self) -> None:
        """Connect; ``ready`` may fail before this returns."""
        source = self._route.oauth2
        if source is None:
            self._connect("")
            return
        assert self._tokens is not None, "there is who gets tokens where there are such routes"
        self._connecting = self._tokens.token(source)
        self._connecting.addCallbacks(self._connect, self._without_token)

    def _connect(self, token: str) -> None:
        route = self._route
        if self._refusal is not None and token == self._token:
            self._refused(self._refusal)
            return
        self._token = token
        if route.encryption is not Encryption.NONE:
            try:
                self._options = self._tls.options_for(route, self.began)
            except TlsConfigError:
                self._refused(Failure())
                return
        self._connecting = _connect(self._reactor, route, self._options, token)
        self._connecting.addCallbacks(self._connected, self._refused)

    def cancel(self) -> None:
        """Let go of a connection that is not ready yet."""
        self._cancelled = True
        if self._session is not None:
            self._session.fail(SmtpLostError("the connection is not needed any more"))
        elif self._connecting is not None:
            self._connecting.cancel()

    def _connected(self, session: Session) -> None:
        self._session = session
        session.ready.addCallbacks(self._set_up, self._not_set_up)
        session.closed.addCallback(self._ended)

    def _not_set_up(self, failure: Failure) -> None:
        """Pass on why there is no session, or wait for its end to try with another token."""
        source, tokens = self._route.oauth2, self._tokens
        if source and tokens and failure.check(SmtpTokenRefusedError):
            wanted = tokens.refused(source, self._token)
            if wanted and self._refusal is None:
                self._refusal = failure
                return
        self.ready.errback(failure)

    def _ended(self, _: None) -> None:
        if self.ready.called:
            self.closed.callback(None)
            return
        self._session = None
        if self._cancelled:
            self._refused(Failure(SmtpLostError("the connection is not needed any more")))
        else:
            self.open()

    def _without_token(self, failure: Failure) -> None:
        if failure.check(TokenError):
            failure = Failure(SmtpLoginError(f"no access token: {failure.value}"))
        elif failure.check(CancelledError):
            failure = Failure(SmtpConnectError("the connection is not needed any more"))
        self._refused(failure)

    def _refused(self, failure: Failure) -> None:
        self.ready.errback(failure)
        self.closed.callback(None)

    def _set_up(self, _: None) -> None:
        assert self._session is not None
        if self._options is not None:
            self._tls.keep(self._route, self._options)
        self.ready.callback(self._session)


@returns_deferred
async def _connect(
    reactor: Any, route: Route, context: ClientOptions | None, token: str
) -> Session:
    """Open a TCP connection for a session; fires when it stands, before the greeting.

    ``session.ready`` fires after greeting, TLS and login. Fails with SmtpConnectError when no
    connection comes about within 30 s or the route's timeout, or when cancelled.
    """
    limit = min(CONNECT_LIMIT, route.timeout)
    factory = SessionFactory(route, context, reactor, token)
    timed_out = False

    def cancel() -> None:
        nonlocal timed_out
        timed_out = True
        connecting.cancel()

    connecting = _endpoint(reactor, route, limit).connect(factory)
    timer = reactor.callLater(limit, cancel)
    try:
        session = await connecting
    except Exception as error:  # whatever it is, there is no connection
        text = f"no connection within {limit} s" if timed_out else str(error)
        raise SmtpConnectError(text) from error
    finally:
        if timer.active():
            timer.cancel()
    assert isinstance(session, Session)
    return session


def _endpoint(reactor: Any, route: Route, limit: float) -> IStreamClientEndpoint:
    """Give the way to the host: IPv4, IPv6 or a name, all its addresses tried in turn."""
    host, port = route.host, route.port
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return _named_endpoint(reactor, host, port, limit)
    # HostnameEndpoint takes literals as well, but costs 0.25 ms a connection more.
    endpoint = TCP4ClientEndpoint if version == _IPV4 else TCP6ClientEndpoint
    return endpoint(reactor, host, port, timeout=limit)


def _named_endpoint(reactor: Any, host: str, port: int, limit: float) -> IStreamClientEndpoint:
    try:
        host = idna.encode(host, uts46=True).decode("ascii")
    except idna.IDNAError:
        if host.isascii():
            # Names such as mail_server, common between containers, are no host names to
            # HostnameEndpoint; the resolver knows them all the same.
            return TCP4ClientEndpoint(reactor, host, port, timeout=limit)
    return HostnameEndpoint(reactor, host, port, timeout=limit)
