# SPDX-License-Identifier: MIT
"""A client of the service's JSON API, on plain sockets and ssl.

    with Client("127.0.0.1", 3000) as client:
        client.send_mail({"to": ["a@b.test"], "ccList": [], "bccList": [],
                          "subject": "Hello", "body": "Hi."})

One client is one connection: made at the first request, kept for the next ones, made anew when the
service has closed it in between. Not for use by several threads at once. ``client_asyncio`` and
``client_twisted`` have the same methods for programs with an event loop.

What is tried again. With ``retry_for`` a request is repeated where that can't do anything twice:
the service could not be connected to, said that it did not look at the request, the request only
reads, or the service remembers it. So ``Client(retry_for=30).queue_mail(mail)`` makes one mail,
however often connections break in that time: ``send_mail`` and ``queue_mail`` give each mail a key
of its own (``once``), under which the service keeps its answer for a day. A key of the program's
own, such as an order's number, holds over restarts of the program as well; ``request`` and
``call`` take it in the document.

A key of the client's own keeps no mail back: where the service can't remember it now (a full disk),
and nothing was written before, the mail goes without it.

An older service ignores the key. So each connection is asked first (a ``ping``), and to a service
that does not know ``once`` a mail goes without, and is never written again once it was, in part or
whole. Who gets ServiceUnreachableError with ``maybe_done`` has to choose between a mail too many
and none. An ``id`` changes nothing about that; it comes back in the answer, and the client checks
that it does.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from smtpmailer.client_attempts import Attempts, Mail, closed, knows_once
from smtpmailer.client_common import (
    ANSWER_LIMIT_BYTES,
    CHUNK_BYTES,
    CONNECT_LIMIT,
    DEFAULT_TIMEOUT,
    FAREWELL_LIMIT,
    Request,
    place,
    succeeded,
    tls_context,
    unheard,
    why,
)
from smtpmailer.errors import ServiceProtocolError, ServiceUnreachableError

__all__ = ["DEFAULT_TIMEOUT", "Client"]


class Client:
    """Talks to one service.

    ``tls`` is False for plain TCP, True for TLS with the system's trust or that of ``ca_file``
    (PEM), or a context of one's own; ``server_name`` is the name the certificate has to carry when
    it is not ``host``. ``auth`` is the service's password (``MAILER_AUTH``). ``timeout`` (seconds)
    bounds every request as a whole, ``retry_for`` (seconds) how long it is tried again.
    ``clock`` gives monotonic seconds, ``sleep`` waits for some.

    Raises OSError for a ``ca_file`` that can't be read, ValueError when it goes with no TLS.
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
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._host = host
        self._port = port
        self._tls = tls_context(tls, ca_file)
        self._auth = auth
        self._timeout = timeout
        self._retry_for = retry_for
        self._server_name = server_name or host
        self._clock = clock
        self._sleep = sleep
        self._socket: socket.socket | None = None
        # Whether the service at its other end knows ``once``; None as long as it was not asked.
        self._knows_once: bool | None = None

    def __enter__(self) -> Self:
        """Give the client; it connects at the first request."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()

    @property
    def where(self) -> str:
        """The service's address as ``host:port``, for messages."""
        return place(self._host, self._port)

    def close(self) -> None:
        """Close the connection; the next request makes a new one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def request(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Send one request, as it is, and give the service's answer, also when it is an error.

        The name of the request has to be the document's first key; the password is added when the
        client has one and the document does not.

        Raises ServiceUnreachableError (see its ``maybe_done``), ServiceProtocolError, and
        ValueError or TypeError for a document that is not JSON.
        """
        return self._carry_out(Mail.of(document, self._auth))

    def call(self, name: str, argument: Any = None, **more: Any) -> dict[str, Any]:
        """Send the request ``name``; give the answer when it is a success.

        Raises ServiceAnswerError when it is not, and what ``request`` raises.
        """
        return succeeded(self.request({name: argument, **more}))

    def send_mail(
        self, mail: Mapping[str, Any], *, once: str | bool = True, **more: Any
    ) -> dict[str, Any]:
        """Have a mail (the API's mail object) sent now; give the answer of its success.

        ``once`` is the request's key: 1 to 64 visible ASCII characters. True gives it a key of its
        own where the client tries again, and the service knows what that is; False gives none.
        ``more`` stands beside the request's name: with ``detail=True`` the answer carries the
        outcome for each recipient, an ``id`` comes back in it. Raises as ``call`` does, and
        ServiceProtocolError when the service does not know the key that was given.
        """
        return self._make({"sendMail": mail, **more}, once=once)

    def queue_mail(self, mail: Mapping[str, Any], *, once: str | bool = True, **more: Any) -> str:
        """Have a mail queued; give its name in the queue, where it is safe. As ``send_mail``."""
        return str(self._make({"queueMail": mail, **more}, once=once)["data"])

    def forget(self, document: Mapping[str, Any]) -> None:
        """Send one request without waiting for its answer, on a connection of its own.

        Whether the service took it, nobody will know. Raises ServiceUnreachableError when it could
        not be written.
        """
        request = Request.of(document, self._auth)
        connection = self._connect(self._clock() + self._timeout)
        try:
            connection.settimeout(self._timeout)
            connection.sendall(request.raw)
            _part(connection)
        except OSError as error:
            raise ServiceUnreachableError(
                self.where, why(error, "not written"), maybe_done=True
            ) from error
        finally:
            connection.close()

    def ping(self) -> float:
        """Have the service answer ``pong``; give the seconds it took. Raises as ``call`` does."""
        started = self._clock()
        self.call("ping")
        return self._clock() - started

    def status(self) -> dict[str, Any]:
        """Give the service's counters, ``sent`` and ``failed`` among them; raises as ``call``."""
        data = self.call("status")["data"]
        if not isinstance(data, dict):
            raise ServiceProtocolError(f"{self.where}: status is not an object: {data!r}")
        return data

    def _make(self, document: Mapping[str, Any], *, once: str | bool) -> dict[str, Any]:
        mail = Mail.making(document, self._auth, once=once, retries=bool(self._retry_for))
        return succeeded(self._carry_out(mail))

    def _carry_out(self, mail: Mail) -> dict[str, Any]:
        attempts = Attempts(mail, self._clock(), self._retry_for, self._timeout)
        while True:
            try:
                answer = self._attempt(attempts)
            except (ServiceUnreachableError, ServiceProtocolError) as error:
                pause = attempts.after(error, self._clock())
            else:
                if unheard(answer):
                    self.close()
                wait = attempts.after_answer(answer, self._clock())
                if wait is None:
                    return answer
                pause = wait
            self._sleep(pause)

    def _attempt(self, attempts: Attempts) -> dict[str, Any]:
        connection = self._connection(attempts.deadline)
        try:
            if attempts.must_ask(self._knows_once):
                question = attempts.question(self._auth)
                answer = self._ask(connection, question, attempts.deadline)
                self._knows_once = knows_once(answer)
                if attempts.is_over(answer):
                    return answer
                self._check_open()
            request = attempts.to_write(self.where, self._knows_once)
            return self._ask(connection, request, attempts.deadline)
        except BaseException:
            # Whatever ended it, a late answer must not be taken for the next request's.
            self.close()
            raise

    def _check_open(self) -> None:
        if self._socket is None:
            raise closed(self.where)

    def _ask(self, connection: socket.socket, request: Request, deadline: float) -> dict[str, Any]:
        return request.answer(self._exchange(connection, request.raw, deadline), self.where)

    def _connection(self, deadline: float) -> socket.socket:
        if self._socket is not None and _gone(self._socket):
            self.close()
        if self._socket is None:
            self._knows_once = None
            self._socket = self._connect(deadline)
        return self._socket

    def _connect(self, deadline: float) -> socket.socket:
        try:
            limit = min(CONNECT_LIMIT, self._left(deadline))
            plain = socket.create_connection((self._host, self._port), timeout=limit)
        except OSError as error:
            raise ServiceUnreachableError(self.where, why(error, "no connection")) from error
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is False:
            return plain
        try:
            return self._tls.wrap_socket(plain, server_hostname=self._server_name)
        except (OSError, ValueError) as error:
            plain.close()
            raise ServiceUnreachableError(self.where, why(error, "no TLS session")) from error

    def _exchange(self, connection: socket.socket, raw: bytes, deadline: float) -> bytes:
        received = bytearray()
        try:
            connection.settimeout(self._left(deadline))
            connection.sendall(raw)
            self._receive_line(connection, received, deadline)
        except OSError as error:
            # An answer may lie there although writing failed: a service that refuses a request
            # answers and closes while the client still writes.
            received += _rest(connection)
            self.close()
            if b"\n" not in received:
                raise ServiceUnreachableError(
                    self.where, why(error, "no answer"), maybe_done=True
                ) from error
        line, _, behind = received.partition(b"\n")
        if behind:
            self.close()
        return bytes(line)

    def _receive_line(
        self, connection: socket.socket, received: bytearray, deadline: float
    ) -> None:
        chunk = b""
        while b"\n" not in chunk:
            connection.settimeout(self._left(deadline))
            chunk = connection.recv(CHUNK_BYTES)
            if not chunk:
                raise ConnectionResetError("the service closed the connection")
            received += chunk
            if len(received) > ANSWER_LIMIT_BYTES:
                raise ServiceProtocolError(f"{self.where}: the answer does not end")

    def _left(self, deadline: float) -> float:
        left = deadline - self._clock()
        if left <= 0:
            raise TimeoutError("timed out")
        return left


def _gone(connection: socket.socket) -> bool:
    """Whether the service closed an idle connection (or said why it is about to)."""
    connection.settimeout(0)
    try:
        connection.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    return True


def _rest(connection: socket.socket) -> bytes:
    """Give what still lies in the socket, without waiting for more."""
    rest = bytearray()
    try:
        connection.settimeout(0)
        while chunk := connection.recv(CHUNK_BYTES):
            rest += chunk
    except OSError:
        pass
    return bytes(rest)


def _part(connection: socket.socket) -> None:
    """End a connection so that all that was written arrives, whatever comes back unread.

    A socket that is closed with something unread in it resets the connection, and under TLS 1.3
    there is: the session tickets. They are read with the service's own farewell.
    """
    if isinstance(connection, ssl.SSLSocket):
        connection.settimeout(FAREWELL_LIMIT)
        # The answer may come before the farewell, which ssl takes for an error.
        with contextlib.suppress(OSError):
            connection.unwrap()
    else:
        connection.shutdown(socket.SHUT_WR)
