# SPDX-License-Identifier: MIT
"""The way to an SMTP server: TCP connection, TLS and login, up to a session that is ready."""

from __future__ import annotations

import ipaddress
from typing import Any

import idna
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IAddress, IReactorTime, IStreamClientEndpoint
from twisted.mail.smtp import ESMTPSenderFactory
from twisted.python.failure import Failure

from smtpmailer.core.model import Encryption, Route
from smtpmailer.coroutines import returns_deferred
from smtpmailer.delivery.session import Session
from smtpmailer.delivery.tls import ClientOptions, ClientTls
from smtpmailer.errors import SmtpConnectError, SmtpLostError, TlsConfigError

__all__ = ["CONNECT_LIMIT", "Link", "SessionFactory"]

#: Seconds that a TCP connection may take, name resolution and all addresses of a host included.
CONNECT_LIMIT = 30

_IPV4 = 4


class SessionFactory(ESMTPSenderFactory):
    """Builds the session of one connection; it knows no mail, and never connects again."""

    noisy = False
    protocol = Session

    def __init__(self, route: Route, context: Any, clock: IReactorTime) -> None:
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

    def buildProtocol(self, addr: IAddress | None) -> Session:
        """Build the session."""
        session = ESMTPSenderFactory.buildProtocol(self, addr)
        assert isinstance(session, Session)
        session.prepare(self._route, self._clock)
        return session


class Link:
    """A connection to a server, from the first try to its end.

    ``ready`` fires with a session that may be handed over, after greeting, TLS and login. It fails
    with RemoteError when none comes about, and with TlsConfigError when the trust file or the host
    name can't be used. ``closed`` fires with None when there is no connection any more.
    """

    def __init__(self, reactor: Any, route: Route, tls: ClientTls) -> None:
        """Begin to connect."""
        self.began: float = reactor.seconds()
        self.ready: Deferred[Session] = Deferred()
        self.closed: Deferred[None] = Deferred()
        self._reactor = reactor
        self._route = route
        self._tls = tls
        self._session: Session | None = None
        self._options: ClientOptions | None = None
        self._connecting: Deferred[Session] | None = None

    def open(self) -> None:
        """Connect; ``ready`` may fail before this returns."""
        route = self._route
        if route.encryption is not Encryption.NONE:
            try:
                self._options = self._tls.options_for(route, self.began)
            except TlsConfigError:
                self._refused(Failure())
                return
        self._connecting = _connect(self._reactor, route, self._options)
        self._connecting.addCallbacks(self._connected, self._refused)

    def cancel(self) -> None:
        """Let go of a connection that is not ready yet."""
        if self._session is not None:
            self._session.fail(SmtpLostError("the connection is not needed any more"))
        elif self._connecting is not None:
            self._connecting.cancel()

    def _connected(self, session: Session) -> None:
        self._session = session
        session.ready.addCallbacks(self._set_up, self.ready.errback)
        session.closed.chainDeferred(self.closed)

    def _refused(self, failure: Failure) -> None:
        self.ready.errback(failure)
        self.closed.callback(None)

    def _set_up(self, _: None) -> None:
        assert self._session is not None
        if self._options is not None:
            self._tls.keep(self._route, self._options)
        self.ready.callback(self._session)


@returns_deferred
async def _connect(reactor: Any, route: Route, context: ClientOptions | None) -> Session:
    """Open a TCP connection for a session; fires when it stands, before the greeting.

    ``session.ready`` fires after greeting, TLS and login. Fails with SmtpConnectError when no
    connection comes about within 30 s or the route's timeout, or when cancelled.
    """
    limit = min(CONNECT_LIMIT, route.timeout)
    factory = SessionFactory(route, context, reactor)
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
