# SPDX-License-Identifier: MIT
"""ISender on Twisted: one connection for one mail, tried once, with an answer whatever happens."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import idna
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IAddress, IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger, LogLevel
from twisted.mail.smtp import ESMTPSenderFactory
from zope.interface import implementer

from smtpmailer.core.model import DeliveryResult, Encryption, Outcome, OutgoingMail, Route
from smtpmailer.coroutines import returns_deferred
from smtpmailer.delivery.outcome import Verdict, build_result, verdict_of_error
from smtpmailer.delivery.session import Session
from smtpmailer.delivery.tls import ClientTls
from smtpmailer.delivery.transaction import Transaction
from smtpmailer.errors import (
    ClientError,
    RemoteError,
    SmtpConnectError,
    SmtpLostError,
    TlsConfigError,
)
from smtpmailer.interfaces import ISender

__all__ = ["CONNECT_LIMIT", "Sender", "SessionFactory", "connect_session"]

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


@returns_deferred
async def connect_session(reactor: Any, route: Route, tls: ClientTls) -> Session:
    """Open a TCP connection for a session; fires when it stands, before the greeting.

    ``session.ready`` fires after greeting, TLS and login. Fails with SmtpConnectError when no
    connection comes about within 30 s or the route's timeout, or when cancelled; with
    TlsConfigError when the trust file or the host name can't be used.
    """
    context = None
    if route.encryption is not Encryption.NONE:
        context = tls.client_options(route.host, verify=route.verify, ca_file=route.ca_file)
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


@implementer(ISender)
class Sender:
    """Hands mails to SMTP servers, each over a connection of its own.

    ``reactor`` connects, resolves names and runs timeouts; ``limit`` (seconds) bounds a whole
    delivery. Cancelling a Deferred that ``send`` gave ends the delivery at once; it still fires
    with the result: temporary, or uncertain after the final dot. ``pace`` is asked, and what it
    gives waited for, before a result is worked on: so many answers at once hold nobody up.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        limit: float,
        tls: ClientTls | None = None,
        pace: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._reactor = reactor
        self._pace = pace
        self._limit = limit
        self._tls = ClientTls() if tls is None else tls
        self._open: set[_Delivery] = set()
        self._idle: list[Deferred[None]] = []

    def send(self, mail: OutgoingMail, route: Route) -> Deferred[DeliveryResult]:
        """Deliver ``mail`` over a new connection; see ISender."""
        delivery = _Delivery(self._reactor, self._tls, mail, route, self._pace)
        self._open.add(delivery)
        delivery.closed.addCallback(self._closed)
        started = self._reactor.seconds()
        result = delivery.start(self._limit)
        return result.addCallback(self._finished, mail, route, started)

    def idle(self) -> Deferred[None]:
        """Fire when no delivery runs and no connection is open."""
        if not self._open:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._idle.append(waiting)
        return waiting

    def _closed(self, delivery: _Delivery) -> None:
        self._open.discard(delivery)
        if not self._open:
            waiting, self._idle = self._idle, []
            for deferred in waiting:
                deferred.callback(None)

    def _finished(
        self, result: DeliveryResult, mail: OutgoingMail, route: Route, started: float
    ) -> DeliveryResult:
        result = attrs.evolve(
            result,
            server=f"{route.host}:{route.port}",
            seconds=self._reactor.seconds() - started,
        )
        counts = Counter(outcome.outcome for outcome in result.outcomes)
        telling = next(
            (o for o in result.outcomes if o.outcome is not Outcome.DELIVERED), result.outcomes[0]
        )
        self._log.emit(
            LogLevel.info if result.delivered else LogLevel.warn,
            "mail {mail_id} to {server}: {delivered} delivered, {temporary} temporary, "
            "{permanent} permanent, {uncertain} uncertain, code {code}, {seconds:.3f} s {detail}",
            mail_id=mail.mail_id,
            server=result.server,
            delivered=counts[Outcome.DELIVERED],
            temporary=counts[Outcome.TEMPORARY],
            permanent=counts[Outcome.PERMANENT],
            uncertain=counts[Outcome.UNCERTAIN],
            code=telling.code,
            seconds=result.seconds,
            reason=result.reason,
            detail=telling.reply,
        )
        return result


class _Delivery:
    """One mail on its way; ``closed`` fires with this when it and its connection have ended."""

    def __init__(
        self,
        reactor: Any,
        tls: ClientTls,
        mail: OutgoingMail,
        route: Route,
        pace: Callable[[], Awaitable[None]] | None,
    ) -> None:
        self._reactor = reactor
        self._pace = pace
        self._tls = tls
        self._mail = mail
        self._route = route
        self._connecting: Deferred[Session] | None = None
        self._session: Session | None = None
        self._transaction: Transaction | None = None
        self._given_up: RemoteError | None = None
        self.closed: Deferred[_Delivery] = Deferred()

    def start(self, limit: float) -> Deferred[DeliveryResult]:
        """Deliver within ``limit`` seconds; fires with the result."""
        result: Deferred[DeliveryResult] = Deferred(
            lambda _: self._give_up(SmtpLostError("the delivery was cancelled"))
        )
        text = f"the delivery took longer than {limit:g} s"
        timer = self._reactor.callLater(limit, self._give_up, SmtpLostError(text))

        def finish(outcome: Any) -> None:
            if timer.active():
                timer.cancel()
            result.callback(outcome)  # A Failure here is our own fault and goes to the caller.

        self._run().addBoth(finish)
        return result

    @returns_deferred
    async def _run(self) -> DeliveryResult:
        try:
            verdict = await self._deliver()
            if self._pace is not None:
                await self._pace()
        except (RemoteError, ClientError, TlsConfigError) as error:
            verdict = verdict_of_error(
                error,
                in_transaction=self._transaction is not None,
                past_dot=self._session is not None and self._session.dot_written,
            )
        finally:
            self._close()
        refused = self._transaction.refused if self._transaction else {}
        return build_result(self._mail.envelope.recipients, refused, verdict)

    async def _deliver(self) -> Verdict:
        self._connecting = connect_session(self._reactor, self._route, self._tls)
        try:
            self._session = await self._connecting
        except SmtpConnectError as error:
            if self._given_up is None:
                raise
            raise SmtpConnectError(str(self._given_up)) from error
        await self._session.ready
        self._transaction = Transaction(self._session, self._mail)
        return await self._transaction.run()

    def _give_up(self, why: RemoteError) -> None:
        self._given_up = why
        if self._session is not None:
            self._session.fail(why)
        elif self._connecting is not None:
            self._connecting.cancel()

    def _close(self) -> None:
        """Let the connection end by itself: what QUIT leads to changes no outcome any more."""
        if self._session is None:
            self.closed.callback(self)
        else:
            self._session.leave()
            self._session.closed.addCallback(lambda _: self.closed.callback(self))


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
