# SPDX-License-Identifier: MIT
"""A client of the service's JSON API for asyncio.

    async with AsyncClient("127.0.0.1", 3000) as client:
        await client.send_mail({"to": ["a@b.test"], "ccList": [], "bccList": [],
                                "subject": "Hello", "body": "Hi."})

One client is one connection, which any number of tasks may use at the same time: requests are
written one behind the other, and the service sends their mails side by side. A task that is
cancelled or runs out of time only leaves its own answer to nobody. What is tried again, and what
is not, stands in ``smtpmailer.client``.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from smtpmailer.client_attempts import Attempts, Mail, carry_out, closed, knows_once
from smtpmailer.client_common import (
    CHUNK_BYTES,
    CONNECT_LIMIT,
    DEFAULT_TIMEOUT,
    FAREWELL_LIMIT,
    Conversation,
    Request,
    place,
    succeeded,
    tls_context,
    why,
)
from smtpmailer.errors import ServiceProtocolError, ServiceUnreachableError

__all__ = ["AsyncClient"]


class AsyncClient:
    """Talks to one service; the options are those of ``smtpmailer.client.Client``.

    Belongs to the event loop in which it is used first.
    """

    def __init__(  # noqa: PLR0913 - keyword options of a public constructor
        self,
        host: str = "127.0.0.1",
        port: int = 3000,
        *,
        tls: bool | ssl.SSLContext = False,
        ca_file: str | None = None,
        auth: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        retry_for: float = 0.0,
        server_name: str | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._tls = tls_context(tls, ca_file)
        self._auth = auth
        self._timeout = timeout
        self._retry_for = retry_for
        self._server_name = server_name or host
        self._numbers = itertools.count(1)
        self._connecting = asyncio.Lock()
        self._link: _Link | None = None

    async def __aenter__(self) -> Self:
        """Give the client; it connects at the first request."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        await self.close()

    @property
    def where(self) -> str:
        """The service's address as ``host:port``, for messages."""
        return place(self._host, self._port)

    async def close(self) -> None:
        """Close the connection; who still waits gets ServiceUnreachableError."""
        link, self._link = self._link, None
        if link is not None:
            link.drop()
            await link.gone()

    async def request(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Send one request, as it is, and give the service's answer, also when it is an error.

        As ``Client.request``: the same rules, the same exceptions.
        """
        return await self._carry_out(Mail.of(document, self._auth, next(self._numbers)))

    async def call(self, name: str, argument: Any = None, **more: Any) -> dict[str, Any]:
        """Send the request ``name``; give the answer when it is a success.

        Raises ServiceAnswerError when it is not, and what ``request`` raises.
        """
        return succeeded(await self.request({name: argument, **more}))

    async def send_mail(
        self, mail: Mapping[str, Any], *, once: str | bool = True, **more: Any
    ) -> dict[str, Any]:
        """Have a mail (the API's mail object) sent now; give the answer of its success.

        As ``Client.send_mail``.
        """
        return await self._make({"sendMail": mail, **more}, once=once)

    async def queue_mail(
        self, mail: Mapping[str, Any], *, once: str | bool = True, **more: Any
    ) -> str:
        """Have a mail queued; give its name in the queue, where it is safe. As ``send_mail``."""
        return str((await self._make({"queueMail": mail, **more}, once=once))["data"])

    async def forget(self, document: Mapping[str, Any]) -> None:
        """Send one request without waiting for its answer, on a connection of its own.

        Whether the service took it, nobody will know. Raises ServiceUnreachableError when it could
        not be written.
        """
        request = Request.of(document, self._auth)
        link = await self._connect(asyncio.get_running_loop().time() + self._timeout)
        try:
            async with asyncio.timeout(self._timeout):
                await link.write(request)
                await link.part()
        except OSError as error:
            raise ServiceUnreachableError(
                self.where, why(error, "not written"), maybe_done=True
            ) from error
        finally:
            link.drop()

    async def ping(self) -> float:
        """Have the service answer ``pong``; give the seconds it took. Raises as ``call`` does."""
        now = asyncio.get_running_loop().time
        started = now()
        await self.call("ping")
        return now() - started

    async def status(self) -> dict[str, Any]:
        """Give the service's counters, ``sent`` and ``failed`` among them; raises as ``call``."""
        data = (await self.call("status"))["data"]
        if not isinstance(data, dict):
            raise ServiceProtocolError(f"{self.where}: status is not an object: {data!r}")
        return data

    async def _make(self, document: Mapping[str, Any], *, once: str | bool) -> dict[str, Any]:
        retries, number = bool(self._retry_for), next(self._numbers)
        mail = Mail.making(document, self._auth, number, once=once, retries=retries)
        return succeeded(await self._carry_out(mail))

    async def _carry_out(self, mail: Mail) -> dict[str, Any]:
        now = asyncio.get_running_loop().time
        attempts = Attempts(mail, now(), self._retry_for, self._timeout)
        return await carry_out(attempts, self._attempt, now, asyncio.sleep)

    async def _attempt(self, attempts: Attempts) -> dict[str, Any]:
        link = await self._connection(attempts.deadline)
        try:
            async with asyncio.timeout_at(attempts.deadline):
                if attempts.must_ask(link.knows_once):
                    question = attempts.question(self._auth, next(self._numbers))
                    answer = await link.ask(question)
                    link.knows_once = knows_once(answer)
                    if attempts.is_over(answer):
                        return answer
                    if link.is_over:
                        raise closed(self.where)
                return await link.ask(attempts.to_write(self.where, link.knows_once))
        except TimeoutError as error:
            raise ServiceUnreachableError(
                self.where, why(error, "no answer"), maybe_done=True
            ) from error

    async def _connection(self, deadline: float) -> _Link:
        """Give the connection that all tasks share, made by the first that needs it."""
        async with self._connecting:
            if self._link is not None and self._link.is_over:
                await self.close()
            if self._link is None:
                self._link = await self._connect(deadline)
            return self._link

    async def _connect(self, deadline: float) -> _Link:
        limit = min(asyncio.get_running_loop().time() + CONNECT_LIMIT, deadline)
        try:
            async with asyncio.timeout_at(limit):
                reader, writer = await asyncio.open_connection(
                    self._host,
                    self._port,
                    ssl=self._tls or None,
                    server_hostname=self._server_name if self._tls else None,
                )
        except (OSError, ValueError) as error:
            what = "no TLS session" if isinstance(error, ssl.SSLError) else "no connection"
            raise ServiceUnreachableError(self.where, why(error, what)) from error
        return _Link(reader, writer, self.where)


class _Link:
    """One connection and the task that reads it."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, where: str
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._conversation = Conversation(where)
        #: Whether the service knows ``once``; None as long as it was not asked.
        self.knows_once: bool | None = None
        self._reading = asyncio.create_task(self._read())

    @property
    def is_over(self) -> bool:
        """Whether no further request may be written."""
        return self._conversation.is_over

    async def ask(self, request: Request) -> dict[str, Any]:
        """Write a request and wait for its answer."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def settled(outcome: Any) -> None:
            if not answer.done():
                answer.set_result(outcome)

        self._conversation.expect(request, settled)
        # A write that fails says less than what the service may have answered before.
        with contextlib.suppress(OSError):
            await self.write(request)
        outcome = await answer
        if isinstance(outcome, Exception):
            raise outcome
        return dict(outcome)

    async def write(self, request: Request) -> None:
        """Write a request, waiting while the service does not read."""
        self._writer.write(request.raw)
        await self._writer.drain()

    async def part(self) -> None:
        """Close once all that was written is out, whatever comes back; wait for that."""
        self._writer.close()
        await self._writer.wait_closed()

    def drop(self) -> None:
        """Begin to close the connection; who still waits is told."""
        self._conversation.end("the connection was closed")
        self._reading.cancel()
        self._writer.close()

    async def gone(self) -> None:
        """Wait until the connection is closed, but not for ever."""
        await asyncio.wait({self._reading})
        with contextlib.suppress(OSError):
            async with asyncio.timeout(FAREWELL_LIMIT):
                await self._writer.wait_closed()

    async def _read(self) -> None:
        reason = "the service closed the connection"
        try:
            while not self.is_over and (data := await self._reader.read(CHUNK_BYTES)):
                self._conversation.receive(data)
        except OSError as error:
            reason = str(error)
        self._conversation.end(f"no answer: {reason}")
