# SPDX-License-Identifier: MIT
"""What the clients have in common: requests as bytes, answers, and what may be tried again.

Only the standard library is needed here and in the clients for sockets and asyncio, so that a
program gets by with ``pip install --no-deps smtpmailer``.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from smtpmailer.errors import (
    ServiceAnswerError,
    ServiceProtocolError,
    ServiceUnreachableError,
)

__all__ = [
    "ANSWER_LIMIT_BYTES",
    "CHUNK_BYTES",
    "CONNECT_LIMIT",
    "DEFAULT_TIMEOUT",
    "FAREWELL_LIMIT",
    "Conversation",
    "Request",
    "may_pass",
    "may_repeat",
    "pauses",
    "place",
    "succeeded",
    "tls_context",
    "unheard",
    "why",
]

#: Seconds; above the service's own default for a whole SMTP dialogue (``MAILER_TIMEOUT``, 300).
DEFAULT_TIMEOUT: Final = 330.0
#: Seconds for a connection, and for a TLS session.
CONNECT_LIMIT: Final = 10.0
#: Seconds that the end of a TLS session may take.
FAREWELL_LIMIT: Final = 5.0
ANSWER_LIMIT_BYTES: Final = 256 * 1024 * 1024
CHUNK_BYTES: Final = 65536

#: Requests that change nothing: carrying one out twice does no harm.
_READING: Final = frozenset(
    {
        "ping",
        "status",
        "getQueueList",
        "getQueuedMail",
        "getFailedList",
        "getFailedMail",
        "getMailHistory",
        "getTemplateList",
        "getTemplate",
    }
)
#: Messages of answers that stand for "not even looked at" (docs/reference/protocol.md).
_UNHEARD: Final = frozenset({"connection timed out", "service is busy", "too many connections"})
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 1.6
_INT64: Final = range(-(2**63), 2**63)

_Outcome: TypeAlias = dict[str, Any] | ServiceUnreachableError | ServiceProtocolError


@dataclass(frozen=True)
class Request:
    """One request: its bytes, and how its answer is known.

    ``number`` is the ``id`` that the answer has to carry back. When it is None there is no ``id``,
    or with ``has_number`` one that may come back changed. ``is_ours`` says that the caller did not
    ask for it. ``only_reads``: it changes nothing.
    """

    raw: bytes = field(repr=False)
    number: Any
    has_number: bool
    is_ours: bool
    only_reads: bool

    @classmethod
    def of(
        cls, document: Mapping[str, Any], auth: str | None, number: int | None = None
    ) -> Request:
        """Encode a document whose first key is the request's name.

        ``auth`` is added when the document has none; so is ``number`` as its ``id``. Raises
        ValueError or TypeError for a document that is not JSON.
        """
        whole = dict(document)
        is_ours = bool(whole) and number is not None and "id" not in whole
        if is_ours:
            whole["id"] = number
        if auth is not None and whole:
            whole.setdefault("auth", auth)
        raw = json.dumps(whole, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"
        only_reads = next(iter(whole), None) in _READING
        return cls(raw, _comparable(whole.get("id")), "id" in whole, is_ours, only_reads)

    def answer(self, line: bytes, where: str) -> dict[str, Any]:
        """Decode the answer to this request.

        An answer without ``id`` is taken as well: the service gives none where it could not read
        the request. Raises ServiceProtocolError for what is no answer, or another request's.
        """
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or answer.get("status") not in ("success", "error"):
            raise ServiceProtocolError(
                f"{where}: this is not an answer of smtpmailer: {line[:60]!r}; "
                "is another service listening there, or TLS where plain TCP was used?"
            )
        if "id" in answer and not self._may_have(answer["id"]):
            raise ServiceProtocolError(
                f"{where}: the answer belongs to another request: its id is "
                f"{answer['id']!r}, not {self.number!r}"
            )
        if self.is_ours:
            answer.pop("id", None)
        return answer

    def _may_have(self, number: Any) -> bool:
        return self.has_number if self.number is None else bool(number == self.number)


def _comparable(number: Any) -> Any:
    """Give an ``id`` that comes back as it went out: larger integers come back as floats."""
    if isinstance(number, str) or (type(number) is int and number in _INT64):
        return number
    return None


def succeeded(answer: dict[str, Any]) -> dict[str, Any]:
    """Give an answer that is a success; raises ServiceAnswerError for another."""
    if answer["status"] != "success":
        raise ServiceAnswerError(answer)
    return answer


def unheard(answer: Mapping[str, Any]) -> bool:
    """Whether the service refused to look at the request, so that nothing of it was done."""
    return answer["status"] == "error" and answer.get("message") in _UNHEARD


def may_repeat(error: ServiceUnreachableError, request: Request) -> bool:
    """Whether a request that failed may be tried again without doing anything twice.

    Before anything was written every request may, when its cause may pass: a refused connection
    does, a certificate that is not trusted does not. Afterwards only one that changes nothing.
    """
    return request.only_reads if error.maybe_done else may_pass(error.__cause__)


def may_pass(cause: BaseException | None) -> bool:
    """Whether what kept a request from being written may have passed by the next attempt."""
    if isinstance(cause, ssl.SSLError):
        return isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError)
    if isinstance(cause, socket.gaierror):
        return cause.errno == socket.EAI_AGAIN
    return isinstance(cause, OSError)


def pauses() -> Iterator[float]:
    """Give the seconds to wait before each further attempt, without end."""
    pause = _FIRST_PAUSE
    while True:
        yield pause
        pause = min(2 * pause, _LONGEST_PAUSE)


def place(host: str, port: int) -> str:
    """Give an address as ``host:port``, for messages."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def tls_context(
    tls: bool | ssl.SSLContext,  # noqa: FBT001 - the clients' own option
    ca_file: str | None,
) -> ssl.SSLContext | Literal[False]:
    """Give the context for a client's options; False is plain TCP.

    Raises ValueError when ``ca_file`` goes with no TLS or with a context of one's own, OSError
    when it can't be read.
    """
    if ca_file is not None and tls is not True:
        raise ValueError("ca_file goes with tls=True")
    if tls is True:
        return ssl.create_default_context(cafile=ca_file)
    return tls


def why(error: BaseException, what: str) -> str:
    """Say what went wrong, ``what`` being the thing that did not come about."""
    if isinstance(error, TimeoutError):
        return f"{what} in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{what}: the certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"{what}: {error.reason or error}"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{what}: {text}"


class Conversation:
    """The requests that were written on one connection, and their answers in the same order.

    It does no I/O: its owner writes a request after ``expect``, hands what comes in to
    ``receive``, and calls ``end`` when the connection is gone.
    """

    def __init__(self, where: str) -> None:
        """``where`` is the service's address, for errors."""
        self._where = where
        self._waiting: deque[tuple[Request, Callable[[_Outcome], object]]] = deque()
        self._received = bytearray()
        self._is_over = False

    @property
    def is_over(self) -> bool:
        """Whether no further request may be written; the connection is to be closed."""
        return self._is_over

    def expect(self, request: Request, settled: Callable[[_Outcome], object]) -> None:
        """Wait for an answer; ``settled`` is called once, with it or with what went wrong."""
        self._waiting.append((request, settled))

    def receive(self, data: bytes) -> None:
        """Take what the service wrote, in any pieces."""
        self._received += data
        if b"\n" not in data:
            if len(self._received) > ANSWER_LIMIT_BYTES:
                self._settle_all(ServiceProtocolError(f"{self._where}: the answer does not end"))
            return
        *lines, rest = bytes(self._received).split(b"\n")
        self._received = bytearray(rest)
        for line in lines:
            self._take(line)

    def end(self, reason: str) -> None:
        """Tell everybody who still waits that no answer will come; nobody knows what was done."""
        self._settle_all(ServiceUnreachableError(self._where, reason, maybe_done=True))

    def _take(self, line: bytes) -> None:
        if not self._waiting or self._is_over:
            # Unasked the service only says why it is about to close.
            self._is_over = True
            return
        request, settled = self._waiting[0]
        try:
            answer = request.answer(line, self._where)
        except ServiceProtocolError as error:
            # The answers can't be told apart any more.
            self._settle_all(error)
            return
        if unheard(answer):
            # The service reads no further: those behind were not heard either.
            self._settle_all(answer)
            return
        self._waiting.popleft()
        settled(answer)

    def _settle_all(self, outcome: _Outcome) -> None:
        self._is_over = True
        while self._waiting:
            _, settled = self._waiting.popleft()
            settled(outcome)
