# SPDX-License-Identifier: MIT
"""A synchronous client of the service's JSON API, on plain sockets and ssl.

    with Client("127.0.0.1", 3000) as client:
        client.send_mail({"to": ["a@b.test"], "ccList": [], "bccList": [],
                          "subject": "Hello", "body": "Hi."})

One client is one connection: made at the first request, kept for the next ones, made anew when the
service has closed it in between. A request that was written is never written again by itself,
because a mail may have gone out. Not for use by several threads at once.
"""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Self

from smtpmailer.errors import (
    ServiceAnswerError,
    ServiceProtocolError,
    ServiceUnreachableError,
)

__all__ = ["DEFAULT_TIMEOUT", "Client"]

#: Seconds; above the service's own default for a whole SMTP dialogue (``MAILER_TIMEOUT``, 300).
DEFAULT_TIMEOUT: Final = 330.0
_CONNECT_LIMIT: Final = 10.0
_ANSWER_LIMIT_BYTES: Final = 256 * 1024 * 1024
_CHUNK_BYTES: Final = 65536


class Client:
    """Talks to one service.

    ``tls`` is False for plain TCP, True for TLS with the system's trust, or a context of one's own;
    ``server_name`` is the name the certificate has to carry when it is not ``host``. ``auth`` is
    the service's password (``MAILER_AUTH``). ``timeout`` (seconds) bounds every request as a whole.
    ``clock`` gives monotonic seconds.
    """

    def __init__(  # noqa: PLR0913 - keyword options of a public constructor
        self,
        host: str = "127.0.0.1",
        port: int = 3000,
        *,
        tls: bool | ssl.SSLContext = False,
        auth: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        server_name: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._auth = auth
        self._timeout = timeout
        self._server_name = server_name or host
        self._clock = clock
        self._socket: socket.socket | None = None

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
        return f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"

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
        raw = self._encode(document)
        deadline = self._clock() + self._timeout
        connection = self._connection(deadline)
        try:
            line = self._exchange(connection, raw, deadline)
        except BaseException:
            # Whatever ended it, a late answer must not be taken for the next request's.
            self.close()
            raise
        return self._decode(line)

    def call(self, name: str, argument: Any = None, **more: Any) -> dict[str, Any]:
        """Send the request ``name``; give the answer when it is a success.

        Raises ServiceAnswerError when it is not, and what ``request`` raises.
        """
        answer = self.request({name: argument, **more})
        if answer["status"] != "success":
            raise ServiceAnswerError(answer)
        return answer

    def send_mail(self, mail: Mapping[str, Any], *, detail: bool = False) -> dict[str, Any]:
        """Have a mail (the API's mail object) sent now; give the answer of its success.

        With ``detail`` the answer carries per-recipient outcomes. Raises as ``call`` does.
        """
        return self.call("sendMail", mail, **({"detail": True} if detail else {}))

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

    def _encode(self, document: Mapping[str, Any]) -> bytes:
        whole = dict(document)
        if self._auth is not None and whole:
            whole.setdefault("auth", self._auth)
        return json.dumps(whole, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"

    def _connection(self, deadline: float) -> socket.socket:
        if self._socket is not None and _gone(self._socket):
            self.close()
        if self._socket is None:
            self._socket = self._connect(deadline)
        return self._socket

    def _connect(self, deadline: float) -> socket.socket:
        try:
            limit = min(_CONNECT_LIMIT, self._left(deadline))
            plain = socket.create_connection((self._host, self._port), timeout=limit)
        except OSError as error:
            raise ServiceUnreachableError(self.where, _why(error, "no connection")) from error
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is False:
            return plain
        context = ssl.create_default_context() if self._tls is True else self._tls
        try:
            return context.wrap_socket(plain, server_hostname=self._server_name)
        except (OSError, ValueError) as error:
            plain.close()
            raise ServiceUnreachableError(self.where, _why(error, "no TLS session")) from error

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
                    self.where, _why(error, "no answer"), maybe_done=True
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
            chunk = connection.recv(_CHUNK_BYTES)
            if not chunk:
                raise ConnectionResetError("the service closed the connection")
            received += chunk
            if len(received) > _ANSWER_LIMIT_BYTES:
                raise ServiceProtocolError(f"{self.where}: the answer does not end")

    def _left(self, deadline: float) -> float:
        left = deadline - self._clock()
        if left <= 0:
            raise TimeoutError("timed out")
        return left

    def _decode(self, line: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or answer.get("status") not in ("success", "error"):
            self.close()
            raise ServiceProtocolError(
                f"{self.where}: this is not an answer of smtpmailer: {line[:60]!r}; "
                "is another service listening there, or TLS where plain TCP was used?"
            )
        return answer


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
        while chunk := connection.recv(_CHUNK_BYTES):
            rest += chunk
    except OSError:
        pass
    return bytes(rest)


def _why(error: Exception, what: str) -> str:
    if isinstance(error, TimeoutError):
        return f"{what} in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{what}: the certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"{what}: {error.reason or error}"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{what}: {text}"
