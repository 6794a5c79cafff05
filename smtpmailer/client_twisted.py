# SPDX-License-Identifier: MIT
"""A client of the service's JSON API for programs that run a Twisted reactor.

    client = TwistedClient(reactor, "127.0.0.1", 3000)
    d = client.send_mail({"to": ["a@b.test"], "ccList": [], "bccList": [],
                          "subject": "Hello", "body": "Hi."})
    d.addCallbacks(lambda answer: print(answer["message"]), log.err)

One client is one connection, which any number of callers may use at the same time: requests are
written one behind the other, and the service sends their mails side by side. A Deferred that is
cancelled or runs out of time only leaves its own answer to nobody. What is tried again, and what
is not, stands in ``smtpmailer.client``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from OpenSSL import SSL, crypto
from service_identity import VerificationError
from twisted.internet.defer import CancelledError, Deferred, DeferredLock, maybeDeferred, succeed
from twisted.internet.defer import TimeoutError as DeferTimeoutError
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectionClosed, ConnectionDone
from twisted.internet.error import TimeoutError as ConnectTimeoutError
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    ISSLTransport,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from smtpmailer.client_attempts import Attempts, Mail, carry_out, closed, knows_once
from smtpmailer.client_common import (
    CONNECT_LIMIT,
    DEFAULT_TIMEOUT,
    FAREWELL_LIMIT,
    Conversation,
    Request,
    place,
    succeeded,
)
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import ServiceProtocolError, ServiceUnreachableError

__all__ = ["TwistedClient"]

#: What may have been mended by the next attempt.
_PASSING: Final = (ConnectError, ConnectionClosed, DeferTimeoutError)


class TwistedClient:
    """Talks to one service; the options are those of ``smtpmailer.client.Client``.

    ``reactor`` is for connections and time. ``tls`` may also be TLS options of one's own
    (``twisted.internet.ssl.optionsForClientTLS``).

    Raises OSError or ValueError for a ``ca_file`` that can't be read or holds no certificate,
    ValueError when it goes with no TLS.
    """

    def __init__(  # noqa: PLR0913 - keyword options of a public constructor
        self,
        reactor: Any,
        host: str = "127.0.0.1",
        port: int = 3000,
        *,
        tls: bool | IOpenSSLClientConnectionCreator = False,
        ca_file: str | None = None,
        auth: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        retry_for: float = 0.0,
        server_name: str | None = None,
    ) -> None:
        if ca_file is not None and tls is not True:
            raise ValueError("ca_file goes with tls=True")
        if tls is True:
            tls = _trusting(server_name or host, ca_file)
        self._clock = reactor
        self._endpoint: IStreamClientEndpoint = HostnameEndpoint(
            reactor, host, port, timeout=CONNECT_LIMIT
        )
        if tls is not False:
            self._endpoint = wrapClientTLS(tls, self._endpoint)
        self._where = place(host, port)
        self._auth = auth
        self._timeout = timeout
        self._retry_for = retry_for
        self._numbers = itertools.count(1)
        self._connecting = DeferredLock()
        self._link: _Link | None = None

    @property
    def where(self) -> str:
        """The service's address as ``host:port``, for messages."""
        return self._where

    def close(self) -> Deferred[None]:
        """Close the connection; fires when it is closed.

        Who still waits gets ServiceUnreachableError.
        """
        link, self._link = self._link, None
        if link is None:
            return succeed(None)
        patience = self._clock.callLater(FAREWELL_LIMIT, link.drop)
        return link.part().addCallback(lambda _: patience.cancel() if patience.active() else None)

    def request(self, document: Mapping[str, Any]) -> Deferred[dict[str, Any]]:
        """Send one request, as it is; fires with the service's answer, also when it is an error.

        As ``Client.request``: the same rules, and it fails with what that raises.
        """
        number = next(self._numbers)
        return maybeDeferred(Mail.of, document, self._auth, number).addCallback(self._carry_out)

    @returns_deferred
    async def call(self, name: str, argument: Any = None, **more: Any) -> dict[str, Any]:
        """Send the request ``name``; fires with the answer when it is a success.

        Fails with ServiceAnswerError when it is not, and with what ``request`` fails with.
        """
        return succeeded(await self.request({name: argument, **more}))

    def send_mail(
        self, mail: Mapping[str, Any], *, once: str | bool = True, **more: Any
    ) -> Deferred[dict[str, Any]]:
        """Have a mail (the API's mail object) sent now; fires with the answer of its success.

        As ``Client.send_mail``: it fails with what that raises.
        """
        return self._make({"sendMail": mail, **more}, once=once)

    @returns_deferred
    async def queue_mail(
        self, mail: Mapping[str, Any], *, once: str | bool = True, **more: Any
    ) -> str:
        """Have a mail queued; fires with its name in the queue, where it is safe.

        As ``send_mail``.
        """
        return str((await self._make({"queueMail": mail, **more}, once=once))["data"])

    @returns_deferred
    async def forget(self, document: Mapping[str, Any]) -> None:
        """Send one request without waiting for its answer, on a connection of its own.

        Fires when it was written and the connection is closed; whether the service took it, nobody
        will know. Fails with ServiceUnreachableError when it is known that it could not be written.
        """
        request = Request.of(document, self._auth)
        link = await self._connect(self._clock.seconds() + self._timeout)
        link.write(request)
        try:
            await link.part().addTimeout(self._timeout, self._clock)
        except DeferTimeoutError as error:
            link.drop()
            raise ServiceUnreachableError(
                self.where, "not written in time", maybe_done=True
            ) from error
        if not link.ended_well:
            raise ServiceUnreachableError(
                self.where, "not written: the connection was lost", maybe_done=True
            )

    @returns_deferred
    async def ping(self) -> float:
        """Have the service answer ``pong``; fires with the seconds it took. Fails as ``call``."""
        started = self._clock.seconds()
        await self.call("ping")
        return float(self._clock.seconds() - started)

    @returns_deferred
    async def status(self) -> dict[str, Any]:
        """Fire with the service's counters, ``sent`` and ``failed``; fails as ``call``."""
        data = (await self.call("status"))["data"]
        if not isinstance(data, dict):
            raise ServiceProtocolError(f"{self.where}: status is not an object: {data!r}")
        return data

    @returns_deferred
    async def _make(self, document: Mapping[str, Any], *, once: str | bool) -> dict[str, Any]:
        retries, number = bool(self._retry_for), next(self._numbers)
        mail = Mail.making(document, self._auth, number, once=once, retries=retries)
        return succeeded(await self._carry_out(mail))

    @returns_deferred
    async def _carry_out(self, mail: Mail) -> dict[str, Any]:
        now = self._clock.seconds
        attempts = Attempts(mail, now(), self._retry_for, self._timeout)
        return await carry_out(attempts, self._attempt, now, partial(deferLater, self._clock))

    async def _attempt(self, attempts: Attempts) -> dict[str, Any]:
        link = await self._connection(attempts.deadline)
        if attempts.must_ask(link.knows_once):
            question = attempts.question(self._auth, next(self._numbers))
            answer = await self._ask(link, question, attempts.deadline)
            link.knows_once = knows_once(answer)
            if attempts.is_over(answer):
                return answer
            if link.is_over:
                raise closed(self.where)
        request = attempts.to_write(self.where, link.knows_once)
        return await self._ask(link, request, attempts.deadline)

    async def _ask(self, link: _Link, request: Request, deadline: float) -> dict[str, Any]:
        answer = link.ask(request).addTimeout(
            max(0.0, deadline - self._clock.seconds()), self._clock
        )
        try:
            return await answer
        except DeferTimeoutError as error:
            raise ServiceUnreachableError(
                self.where, "no answer in time", maybe_done=True
            ) from error

    async def _connection(self, deadline: float) -> _Link:
        """Give the connection that all callers share, made by the first that needs it."""
        await self._connecting.acquire()
        try:
            if self._link is not None and self._link.is_over:
                await self.close()
            if self._link is None:
                self._link = await self._connect(deadline)
            return self._link
        finally:
            self._connecting.release()

    async def _connect(self, deadline: float) -> _Link:
        link = _Link(self._where)
        limit = max(0.0, min(CONNECT_LIMIT, deadline - self._clock.seconds()))
        try:
            factory = Factory.forProtocol(lambda: link)
            await self._endpoint.connect(factory).addTimeout(limit, self._clock)
            await link.ready.addTimeout(limit, self._clock)
        except CancelledError:
            link.drop()
            raise
        except Exception as error:  # noqa: BLE001 - Twisted's errors have no root in common
            link.drop()
            cause = ConnectionError(str(error)) if isinstance(error, _PASSING) else error
            raise ServiceUnreachableError(self._where, _why(error)) from cause
        return link


@implementer(IHandshakeListener)
class _Link(Protocol):
    """One connection; ``ready`` fires when requests may be written, inside TLS if that is wanted.

    ``gone`` fires when it is closed; ``ended_well`` is false when something was cut off then.
    """

    transport: Any = None

    def __init__(self, where: str) -> None:
        self.ready: Deferred[None] = Deferred()
        self.gone: Deferred[None] = Deferred()
        self.ended_well = False
        self._conversation = Conversation(where)
        #: Whether the service knows ``once``; None as long as it was not asked.
        self.knows_once: bool | None = None

    @property
    def is_over(self) -> bool:
        """Whether no further request may be written."""
        return self._conversation.is_over

    def connectionMade(self) -> None:
        """Send small requests at once."""
        self.transport.setTcpNoDelay(True)
        if not ISSLTransport.providedBy(self.transport):
            self.ready.callback(None)

    def handshakeCompleted(self) -> None:
        """Be ready."""
        self.ready.callback(None)

    def dataReceived(self, data: bytes) -> None:
        """Take what the service wrote."""
        self._conversation.receive(data)
        if self.is_over:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell everybody who waits."""
        if not self.ready.called:
            self.ready.errback(reason)
        self._conversation.end(f"no answer: {reason.getErrorMessage()}")
        # Inside TLS the service's end looks the same, whether it had read all or cut us off.
        is_tls = ISSLTransport.providedBy(self.transport)
        self.ended_well = is_tls or reason.check(ConnectionDone) is not None
        self.gone.callback(None)

    def ask(self, request: Request) -> Deferred[dict[str, Any]]:
        """Write a request; fires with its answer."""
        answer: Deferred[dict[str, Any]] = Deferred()

        def settled(outcome: Any) -> None:
            # A Deferred that was cancelled takes one result more, and ignores it.
            if isinstance(outcome, Exception):
                answer.errback(outcome)
            else:
                answer.callback(dict(outcome))

        self._conversation.expect(request, settled)
        self.transport.write(request.raw)
        return answer

    def write(self, request: Request) -> None:
        """Write a request whose answer nobody waits for."""
        self.transport.write(request.raw)

    def part(self) -> Deferred[None]:
        """Close once all that was written is out; fires when it is closed."""
        self._conversation.end("the connection was closed")
        self.transport.loseConnection()
        return self.gone

    def drop(self) -> None:
        """Close at once, if there is anything to close."""
        if self.transport is not None:
            self.transport.abortConnection()


def _trusting(host: str, ca_file: str | None) -> IOpenSSLClientConnectionCreator:
    """Give TLS options that trust the system's authorities, or those of ``ca_file`` instead."""
    if ca_file is None:
        return optionsForClientTLS(host)
    found = x509.load_pem_x509_certificates(Path(ca_file).read_bytes())
    trusted = [Certificate(crypto.X509.from_cryptography(each)) for each in found]
    return optionsForClientTLS(host, trustRootFromCertificates(trusted))


def _why(error: Exception) -> str:
    """Say why there is no connection, or no TLS session in it."""
    if isinstance(error, DeferTimeoutError | ConnectTimeoutError):
        return "no connection in time"
    if isinstance(error, VerificationError):
        return "no TLS session: the certificate is not trusted: it is for another name"
    if isinstance(error, SSL.Error):
        reasons = ", ".join(str(each[-1]) for each in error.args[0]) if error.args else ""
        trust = "the certificate is not trusted: " if "verify" in reasons else ""
        return f"no TLS session: {trust}{reasons or 'the connection was closed'}"
    return f"no connection: {error}"
