# SPDX-License-Identifier: MIT
"""The port for machines that watch: figures, is it alive, can it take mails.

Plain HTTP on MAILER_METRICS_PORT, off by default and meant for loopback: there is no password. It
answers three paths and tells nothing about mails but their number.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from smtpmailer.coroutines import returns_deferred

__all__ = ["HealthPort", "make_site"]

_TEXT = b"text/plain; charset=utf-8"
#: Prometheus's text format.
_FIGURES = b"text/plain; version=0.0.4; charset=utf-8"
_UNAVAILABLE = 503
_FAULT = 500
#: Connections are closed after so many seconds without a request.
_IDLE = 60


class _Page(Resource):
    """One path, answered by a function when it is asked for."""

    _log = Logger()

    def __init__(
        self, content_type: bytes, make: Callable[[], Awaitable[tuple[int, bytes]]]
    ) -> None:
        super().__init__()
        self.isLeaf = True
        self._content_type = content_type
        self._make = make

    def render_GET(self, request: Request) -> int:
        """Answer once it is known; HEAD is this without the text."""
        gone: list[Any] = []
        request.notifyFinish().addErrback(gone.append)
        page: Deferred[tuple[int, bytes]] = maybeDeferred(_begin, self._make)
        page.addErrback(self._fault).addCallback(self._write, request, gone)
        return NOT_DONE_YET

    def _fault(self, failure: Failure) -> tuple[int, bytes]:
        self._log.failure("a page for machines failed", failure)
        return _FAULT, b"the log says why\n"

    def _write(self, page: tuple[int, bytes], request: Request, gone: list[Any]) -> None:
        if gone:
            return
        code, text = page
        request.setResponseCode(code)
        request.setHeader(b"content-type", self._content_type)
        request.setHeader(b"content-length", b"%d" % len(text))
        if request.method != b"HEAD":
            request.write(text)
        request.finish()


@returns_deferred
async def _begin(make: Callable[[], Awaitable[tuple[int, bytes]]]) -> tuple[int, bytes]:
    return await make()


def make_site(
    figures: Callable[[], Awaitable[bytes]], why_not_ready: Callable[[], Awaitable[str]]
) -> Site:
    """Make the pages: ``/metrics``, ``/livez``, ``/readyz``.

    ``figures`` gives the text of the first. ``why_not_ready`` gives an empty text when requests
    can be accepted, else why not: a relay that is dead is no reason.
    """

    async def metrics() -> tuple[int, bytes]:
        return 200, await figures()

    async def alive() -> tuple[int, bytes]:
        # Who answers at all has a reactor that turns.
        return 200, b"alive\n"

    async def ready() -> tuple[int, bytes]:
        why = await why_not_ready()
        return (_UNAVAILABLE, f"not ready: {why}\n".encode()) if why else (200, b"ready\n")

    root = Resource()
    root.putChild(b"metrics", _Page(_FIGURES, metrics))
    root.putChild(b"livez", _Page(_TEXT, alive))
    root.putChild(b"readyz", _Page(_TEXT, ready))
    return _Site(root, timeout=_IDLE)


class _Site(Site):
    """A site that writes no line for each look at it."""

    noisy = False

    def log(self, request: Any) -> None:
        """Do nothing."""


class HealthPort(Service):
    """Serves a site on an address."""

    _log = Logger()

    def __init__(self, reactor: Any, address: str, port: int, site: Site) -> None:
        """Serve nothing yet."""
        self.setName("health port")
        self._reactor = reactor
        self._address = address
        self._number = port
        self._site = site
        self._port: Any = None

    def startService(self) -> None:
        """Listen; a port that can't be had is logged, and mails go on without it."""
        super().startService()
        try:
            self._port = self._reactor.listenTCP(self._number, self._site, interface=self._address)
        except Exception:  # noqa: BLE001 - whatever it is, mails matter more
            self._log.failure(
                "MAILER_METRICS_PORT: {address}:{port} can't be listened on",
                address=self._address,
                port=self._number,
            )
            return
        self._log.info("figures and health at http://{at}/", at=self.address, notice=True)

    @property
    def address(self) -> str:
        """Where it is served, as ``host:port``; empty when it is not."""
        if self._port is None:
            return ""
        host = self._port.getHost()
        shown = f"[{host.host}]" if ":" in host.host else host.host
        return f"{shown}:{host.port}"

    @returns_deferred
    async def stopService(self) -> None:
        """Serve no longer."""
        super().stopService()
        port, self._port = self._port, None
        if port is not None:
            await maybeDeferred(port.stopListening)
