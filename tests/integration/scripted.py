# SPDX-License-Identifier: MIT
"""A service in a thread that does what a test scripts, for clients that block."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["ScriptedService", "answering", "older", "remembering"]

Handler = Callable[[socket.socket], None]

_LIMIT = 10.0


class ScriptedService:
    """Listens on loopback and hands each connection to the next handler, the last one for ever.

    ``requests`` holds what handlers noted, ``connections`` the number of connections. Leaving the
    context stops it and raises what a handler raised.
    """

    def __init__(
        self, *handlers: Handler, tls: ssl.SSLContext | None = None, port: int = 0
    ) -> None:
        self.connections = 0
        self._handlers = handlers
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self._errors: list[Exception] = []
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> ScriptedService:  # noqa: PYI034
        """Start serving."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop; raise what went wrong."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._thread.join(_LIMIT)
        if self._errors:
            raise self._errors[0]

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(plain)
            handler = self._handlers[min(self.connections, len(self._handlers) - 1)]
            self.connections += 1
            try:
                plain.settimeout(_LIMIT)
                with plain:
                    if self._tls is None:
                        handler(plain)
                    else:
                        with self._tls.wrap_socket(plain, server_side=True) as secured:
                            handler(secured)
            except OSError:
                continue
            except Exception as error:  # noqa: BLE001 - raised by __exit__
                self._errors.append(error)


def requests_of(connection: socket.socket) -> Iterator[dict[str, Any]]:
    """Give the requests of a connection, a line each."""
    with connection.makefile("rb") as lines:
        for line in lines:
            yield json.loads(line)


def answering(
    reply: Callable[[dict[str, Any]], Mapping[str, Any]], seen: list[dict[str, Any]]
) -> Handler:
    """Make a handler that notes each request in ``seen`` and answers it with ``reply``."""

    def handle(connection: socket.socket) -> None:
        for request in requests_of(connection):
            seen.append(request)
            answer = {"status": "success", "data": None, "message": None, **reply(request)}
            connection.sendall(json.dumps(answer).encode() + b"\n")

    return handle


def older(seen: list[dict[str, Any]]) -> Handler:
    """Make a handler that answers pings, and cuts the connection at any other request."""

    def handle(connection: socket.socket) -> None:
        for request in requests_of(connection):
            if "ping" not in request:
                seen.append(request)
                return
            _answer(connection, request, message="pong")

    return handle


def remembering(seen: list[dict[str, Any]], *answers: Mapping[str, Any] | None) -> Handler:
    """Make a handler that knows ``once``, and gives these answers to what is no ping, in turn.

    None cuts the connection. Those to come are shared by all connections that it handles.
    """
    left = list(answers)

    def handle(connection: socket.socket) -> None:
        for request in requests_of(connection):
            if "ping" in request:
                _answer(connection, request, message="pong", detail={"once": 86400})
                continue
            seen.append(request)
            answer = left.pop(0)
            if answer is None:
                return
            _answer(connection, request, **answer)

    return handle


def _answer(connection: socket.socket, request: Mapping[str, Any], **more: Any) -> None:
    answer = {"status": "success", "data": None, "message": None, **more}
    if "id" in request:
        answer["id"] = request["id"]
    connection.sendall(json.dumps(answer).encode() + b"\n")
