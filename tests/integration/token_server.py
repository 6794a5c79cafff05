# SPDX-License-Identifier: MIT
"""Token servers over HTTPS that do what a test says: in the test's reactor, or in a thread."""

from __future__ import annotations

import json
import ssl as standard_ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from twisted.internet import ssl
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

__all__ = ["TokenPage", "TokenThread", "token_site"]


class TokenPage(Resource):
    """Answers with ``status`` and ``answer``, unless that is None; ``asked`` keeps the forms.

    With ``begin`` it then writes that as the beginning of an answer, reads nothing any more, and
    puts the connection's transport into ``silent``.
    """

    isLeaf = True  # noqa: N815 - Twisted's

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.status = 200
        self.begin = b""
        self.silent: list[Any] = []
        self.answer: Callable[[int], Any] = lambda number: {
            "access_token": f"token-{number}",
            "token_type": "Bearer",
            "expires_in": 3600,
        }

    def render_POST(self, request: Any) -> bytes | int:
        form = parse_qs(request.content.read().decode("ascii"), strict_parsing=True)
        self.asked.append({name: text for name, (text,) in form.items()})
        known = request.requestHeaders.getAllRawHeaders()
        self.headers.append({name.decode().lower(): text[0].decode() for name, text in known})
        request.setResponseCode(self.status)
        answer = self.answer(len(self.asked))
        if answer is None:
            if self.begin:
                request.setHeader(b"content-length", b"%d" % (2 * len(self.begin)))
                request.write(self.begin)
                request.channel.transport.pauseProducing()
                self.silent.append(request.channel.transport)
            return NOT_DONE_YET
        return answer if isinstance(answer, bytes) else json.dumps(answer).encode()


def token_site(reactor: Any, page: TokenPage, identity: Any) -> Any:
    """Serve a page on loopback; gives the listening port."""
    options = identity.options()
    assert isinstance(options, ssl.CertificateOptions)
    return reactor.listenSSL(0, Site(page), options, interface="127.0.0.1")


class TokenThread:
    """A token server in a thread, for tests that block; it answers with what ``answers`` holds.

    Each answer is (status, JSON value); the last one is given for ever.
    """

    def __init__(self, context: standard_ssl.SSLContext, *answers: tuple[int, Any]) -> None:
        """Start it."""
        self.asked: list[dict[str, str]] = []
        self.answers = list(answers)
        thread = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode("ascii")
                thread.asked.append({name: text for name, (text,) in parse_qs(body).items()})
                index = min(len(thread.asked), len(thread.answers)) - 1
                status, answer = thread.answers[index]
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            def log_message(self, *_: object) -> None:
                """Keep the tests' output clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_port}/token"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
