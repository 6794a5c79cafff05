# SPDX-License-Identifier: MIT
"""Gets access tokens: from token servers over HTTPS, from files, from the output of commands."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectingCancelledError, ProcessDone
from twisted.internet.interfaces import (
    IDelayedCall,
    IOpenSSLClientConnectionCreator,
    IReactorTime,
)
from twisted.internet.protocol import ProcessProtocol, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer, IPolicyForHTTPS, IResponse
from zope.interface import implementer

from smtpmailer.core.oauth import OAuth2, Token, TokenGrant, read_output
from smtpmailer.coroutines import returns_deferred
from smtpmailer.delivery.replies import Secrets, clean_text
from smtpmailer.delivery.tls import ClientTls
from smtpmailer.errors import TlsConfigError, TokenError
from smtpmailer.interfaces import IThreads
from smtpmailer.smallfiles import read_small_text

__all__ = ["Issuer"]

#: No answer of a token server, and no output of a command, is longer.
_LARGEST_BYTES: Final = 64 * 1024
_CONNECT_LIMIT: Final = 15.0

#: Seconds in which what a command has written is read once it has ended. Programs that it left
#: behind may keep its output open for ever.
_REST_LIMIT: Final = 1.0

#: The settings that a fault of a session with an SMTP server names; of them one counts here.
_SETTINGS: Final = re.compile(r" \(SMTP_[A-Z_, ]+\)$")
_CERTIFICATES: Final = " (SMTP_CA_FILE, caFile)"


class Issuer:
    """Gets tokens; each call asks once, and keeps nothing.

    ``environment`` is that of commands. ``threads`` read files.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        threads: IThreads,
        tls: ClientTls,
        environment: Mapping[str, str],
    ) -> None:
        """Ask nobody yet."""
        self._reactor = reactor
        self._threads = threads
        self._tls = tls
        self._environment = dict(environment)

    @returns_deferred
    async def fetch(self, grant: TokenGrant) -> tuple[Token, TokenGrant]:
        """Get a token; see Fetch. Cancelling it ends what is under way."""
        source = grant.source
        if source.token_file:
            return await self._threads.run(partial(_from_file, source.token_file)), grant
        if source.token_command:
            return _from_output(source, await self._run(source)), grant
        status, body = await self._post(source, grant.form())
        try:
            return grant.read(status, body)
        except TokenError as error:
            # It may repeat what it was asked with.
            secrets = Secrets(*grant.secrets)
            raise TokenError(clean_text(secrets.hide(str(error)))) from None

    async def _post(self, source: OAuth2, form: bytes) -> tuple[int, bytes]:
        """Ask a token server (RFC 6749 section 3.2); give status and body of its answer."""
        policy = _Policy(self._tls, source.ca_file)
        connections = _Connections(self._reactor, persistent=False)
        agent = Agent(self._reactor, policy, connectTimeout=_CONNECT_LIMIT, pool=connections)
        headers = Headers(
            {
                "Content-Type": ["application/x-www-form-urlencoded"],
                "Accept": ["application/json"],
                "User-Agent": ["smtpmailer"],
            }
        )
        url = source.token_endpoint.encode("ascii")
        host = urlsplit(source.token_endpoint).hostname
        try:
            response = await agent.request(b"POST", url, headers, _Form(form))
            return response.code, await _body(response)
        except TokenError as error:
            raise TokenError(f"the token server {host}: {error}") from None
        except TlsConfigError as error:
            told = f"the token server {host}: its certificate can't be verified (see the log)"
            raise TokenError(str(error), told=told) from None
        except Exception as error:  # whatever it is, there is no answer
            raise TokenError(f"the token server {host}: {_why(error)}") from error
        finally:
            connections.abort()

    def _run(self, source: OAuth2) -> Deferred[bytes]:
        """Run a command; fires with its output."""
        program = source.token_command[0]
        found = shutil.which(program, path=self._environment.get("PATH"))
        if found is None:
            raise TokenError(f"there is no program {program} to get a token from")
        output = _Output(program, self._reactor)
        # In a group of its own the programs that it starts can be ended with it.
        leader = shutil.which("setsid", path=self._environment.get("PATH"))
        own_group = () if leader is None else (leader, "--")
        self._reactor.spawnProcess(
            output,
            leader or found,
            (*own_group, found, *source.token_command[1:]),
            env=self._environment,
            childFDs={0: "w", 1: "r", 2: 2},
        )
        return output.whole


@implementer(IPolicyForHTTPS)
class _Policy:
    """Verifies token servers, always; ``ca_file`` adds trust."""

    def __init__(self, tls: ClientTls, ca_file: str) -> None:
        self._tls = tls
        self._ca_file = ca_file

    def creatorForNetloc(self, hostname: bytes, _port: int) -> IOpenSSLClientConnectionCreator:
        return self._tls.client_options(
            hostname.decode("ascii"), verify=True, ca_file=self._ca_file
        )


class _Connections(HTTPConnectionPool):
    """Makes a connection for one request, and ends it whatever the peer does."""

    def __init__(self, reactor: Any, *, persistent: bool) -> None:
        super().__init__(reactor, persistent=persistent)
        self._made: list[Any] = []

    def getConnection(self, key: Any, endpoint: Any) -> Deferred[Any]:
        made: Deferred[Any] = super().getConnection(key, endpoint)
        return made.addCallback(self._keep)

    def abort(self) -> None:
        """Wait for no end of TLS: a peer that has died never sends it."""
        for connection in self._made:
            if connection.transport is not None:
                connection.transport.abortConnection()

    def _keep(self, connection: Any) -> Any:
        self._made.append(connection)
        return connection


@implementer(IBodyProducer)
class _Form:
    """The body of a request, in one piece."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.length = len(content)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(self._content)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Do nothing: all is written already."""

    def resumeProducing(self) -> None:
        """Do nothing, too."""

    def stopProducing(self) -> None:
        """Do nothing, too."""


class _Body(Protocol):
    """Takes an answer of bounded length."""

    transport: Any

    def __init__(self, whole: Deferred[bytes]) -> None:
        self._whole = whole
        self._content = bytearray()

    def dataReceived(self, data: bytes) -> None:
        if self._whole.called:
            return
        self._content += data
        if len(self._content) > _LARGEST_BYTES:
            self._whole.errback(TokenError(f"its answer is over {_LARGEST_BYTES} bytes"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._whole.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self._whole.callback(bytes(self._content))
        else:
            self._whole.errback(reason)


class _Output(ProcessProtocol):
    """Takes the output of a command; ``whole`` fires with it once the command has ended.

    What the command leaves behind may live on, unless it is in the way of its end.
    """

    transport: Any

    def __init__(self, program: str, clock: IReactorTime) -> None:
        self.whole: Deferred[bytes] = Deferred(lambda _: self._kill())
        self._program = program
        self._clock = clock
        self._rest: IDelayedCall | None = None
        self._content = bytearray()

    def connectionMade(self) -> None:
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        if len(self._content) <= _LARGEST_BYTES:
            self._content += data
        if len(self._content) > _LARGEST_BYTES:
            self._kill()

    def processExited(self, _reason: Failure) -> None:
        self._rest = self._clock.callLater(_REST_LIMIT, self.transport.loseConnection)

    def processEnded(self, reason: Failure) -> None:
        if self._rest is not None and self._rest.active():
            self._rest.cancel()
        if self.whole.called:
            return
        if len(self._content) > _LARGEST_BYTES:
            error = f"wrote more than {_LARGEST_BYTES} bytes instead of a token"
            self.whole.errback(TokenError(f"{self._program} {error}"))
        elif reason.check(ProcessDone):
            self.whole.callback(bytes(self._content))
        else:
            self.whole.errback(TokenError(f"{self._program} failed: {_ending(reason)}"))

    def _kill(self) -> None:
        pid = self.transport.pid
        if pid is None:
            self.transport.loseConnection()
        elif os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        else:
            self.transport.signalProcess("KILL")


def _body(response: IResponse) -> Deferred[bytes]:
    whole: Deferred[bytes] = Deferred()
    response.deliverBody(_Body(whole))
    return whole


def _from_file(path: str) -> Token:
    try:
        return read_output(read_small_text(path))
    except ValueError as error:
        raise TokenError(f"{path} {error}") from None
    except TokenError as error:
        raise TokenError(f"{path}: {error}") from None


def _from_output(source: OAuth2, output: bytes) -> Token:
    try:
        return read_output(output.decode("utf-8", "replace"))
    except TokenError as error:
        raise TokenError(f"{source.name}: {error}") from None


def _ending(reason: Failure) -> str:
    """Say how a command ended."""
    status = getattr(reason.value, "exitCode", None)
    if status is not None:
        return f"it ended with status {status}"
    return f"signal {getattr(reason.value, 'signal', None)} ended it"


def _why(error: BaseException) -> str:
    """Say why there was no answer; several failures of HTTP's hold the one that counts."""
    reasons = getattr(error, "reasons", None)
    if reasons:
        return _why(reasons[-1].value)
    if isinstance(error, CancelledError | ConnectingCancelledError):
        return "no answer in time"
    text = clean_text(str(error)) or type(error).__name__
    return _SETTINGS.sub(_CERTIFICATES, text)
