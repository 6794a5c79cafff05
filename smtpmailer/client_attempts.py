# SPDX-License-Identifier: MIT
"""What the clients write in each attempt at a request, and whether another attempt may follow."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from smtpmailer.client_common import Request, may_pass, may_repeat, pauses, unheard
from smtpmailer.errors import ServiceProtocolError, ServiceUnreachableError

__all__ = ["Attempts", "Mail", "carry_out", "closed", "knows_once"]

#: Messages of answers that stand for "not now": with the same key a request may be made again.
_UNDER_WAY: Final = "request is under way"
_NOT_KEPT: Final = "request can't be remembered"
#: The requests that the service remembers when they come with a key, ``once``.
_MAKING: Final = frozenset({"sendMail", "queueMail"})


def closed(where: str) -> ServiceUnreachableError:
    """Make the error for a connection that was closed before anything was written."""
    error = ServiceUnreachableError(where, "the service closed the connection")
    error.__cause__ = ConnectionResetError()
    return error


def knows_once(answer: Mapping[str, Any]) -> bool | None:
    """Whether the answer to a question (see ``Attempts``) says that the service knows ``once``.

    None when it says nothing about that: the question was refused, or failed.
    """
    if answer["status"] != "success":
        return None
    detail = answer.get("detail")
    return isinstance(detail, dict) and bool(detail.get("once"))


def _tells(answer: Mapping[str, Any]) -> bool:
    """Whether the answer to a request with a key holds for every attempt at it.

    An error may concern this attempt alone: a password's limit, a service that is switched off.
    """
    return (
        answer["status"] == "success"
        or "repeated" in answer
        or answer.get("message") == "invalid payload"
    )


@dataclass(frozen=True)
class Mail:
    """A request in the forms in which it may be written.

    ``keyed`` has a key (``once``): written again it is no second mail, where the service knows
    such keys. ``plain`` has none; it is None when the caller wants the key to count.
    """

    keyed: Request | None
    plain: Request | None

    @classmethod
    def of(cls, document: Mapping[str, Any], auth: str | None, number: int | None = None) -> Mail:
        """Encode a request as it is; raises as ``Request.of``."""
        request = Request.of(document, auth, number)
        if "once" in document and next(iter(document)) in _MAKING:
            return cls(request, None)
        return cls(None, request)

    @classmethod
    def making(
        cls,
        document: Mapping[str, Any],
        auth: str | None,
        number: int | None = None,
        *,
        once: str | bool,
        retries: bool,
    ) -> Mail:
        """Encode a request that makes a mail, with this key; raises as ``Request.of``.

        True stands for a key of its own where there are ``retries``, which it can do without; False
        for none.
        """
        if isinstance(once, str):
            return cls.of({**document, "once": once}, auth, number)
        if not (once and retries) or "once" in document:
            return cls.of(document, auth, number)
        keyed = Request.of({**document, "once": str(uuid.uuid4())}, auth, number)
        return cls(keyed, Request.of(document, auth, number))


class Attempts:
    """The attempts at one request: what each may write, and whether another one may follow.

    A request with a key goes only to a service that has said, on the same connection, that it
    knows ``once``: an older one ignores it, and would make a second mail. Its owner asks that
    with ``question`` when ``must_ask``, and writes what ``to_write`` gives. ``deadline`` is the
    end of the whole, on the owner's clock.
    """

    def __init__(self, mail: Mail, begun: float, retry_for: float, timeout: float) -> None:
        """Begin at ``begun``; ``retry_for`` and ``timeout`` are the client's options (seconds)."""
        self.deadline = begun + timeout
        self._patience = begun + min(retry_for, timeout)
        self._mail = mail
        self._pauses = pauses()
        self._written: Request | None = None
        # Whether the service may be at work on it, so that it must not be made without its key.
        self._may_run = False
        # Why nobody knows whether an earlier attempt was carried out.
        self._doubt: ServiceUnreachableError | None = None

    def must_ask(self, knows: bool | None) -> bool:  # noqa: FBT001 - None is "not yet asked"
        """Whether the service has to be asked first, of which this is known."""
        return knows is None and self._mail.keyed is not None

    def question(self, auth: str | None, number: int | None = None) -> Request:
        """Give the request that asks a service what it can do."""
        return Request.of({"ping": None, "detail": True}, auth, number)

    def is_over(self, answer: Mapping[str, Any]) -> bool:
        """Whether the answer to a question is that to the request: it says why it is refused."""
        return unheard(answer) or (answer["status"] == "error" and self._mail.plain is None)

    def to_write(self, where: str, knows: bool | None) -> Request:  # noqa: FBT001 - as above
        """Give what may be written on this connection.

        Raises ServiceProtocolError when nothing may: the service does not know ``once``.
        """
        keyed = self._mail.keyed if knows else None
        self._written = keyed or self._mail.plain
        if self._doubt is not None and self._written is not self._mail.keyed:
            raise self._doubt
        if self._written is None:
            raise ServiceProtocolError(
                f"{where}: the service does not know `once` (it is older), and would not remember "
                "the request; nothing was sent"
            )
        return self._written

    def after(self, error: ServiceUnreachableError | ServiceProtocolError, now: float) -> float:
        """Give the seconds to wait before another attempt; raises when there is to be none."""
        request, self._written = self._written, None
        if isinstance(error, ServiceProtocolError):
            # It says nothing about an earlier attempt, which another service may have had.
            raise self._doubt or error
        if request is None:
            # It was only asked whether it knows the key, if that.
            may = error.maybe_done or may_pass(error.__cause__)
            told = self._doubt or ServiceUnreachableError(error.where, error.why)
        else:
            may = may_repeat(error, request) or request is self._mail.keyed
            told = error if error.maybe_done else self._doubt or error
            if error.maybe_done and not request.only_reads:
                self._doubt, self._may_run = error, True
        pause = next(self._pauses)
        if not may or now + pause >= self._patience:
            raise told from told.__cause__ or error.__cause__
        return pause

    def after_answer(self, answer: Mapping[str, Any], now: float) -> float | None:
        """Give the seconds to wait before another attempt; None when this is the answer.

        Raises ServiceUnreachableError when this attempt did nothing, and nobody knows of another.
        """
        request, self._written = self._written, None
        message = answer.get("message") if answer["status"] == "error" else None
        keyed = request is not None and request is self._mail.keyed
        if keyed and message == _UNDER_WAY:
            self._may_run = True
        elif keyed and message == _NOT_KEPT:
            if self._mail.plain is not None and not self._may_run:
                # Nothing was done, and nobody asked for the key: it must not keep a mail back.
                self._mail = Mail(None, self._mail.plain)
                return 0.0
        elif not unheard(answer):
            if self._doubt is not None and not _tells(answer):
                raise self._doubt
            return None
        pause = next(self._pauses)
        if now + pause < self._patience:
            return pause
        if self._doubt is not None:
            raise self._doubt
        return None


async def carry_out(
    attempts: Attempts,
    attempt: Callable[[Attempts], Awaitable[dict[str, Any]]],
    now: Callable[[], float],
    sleep: Callable[[float], Awaitable[object]],
) -> dict[str, Any]:
    """Make attempts until one gives the answer; raises what the last one did.

    ``now`` is the owner's clock, ``sleep`` waits for so many seconds.
    """
    while True:
        try:
            answer = await attempt(attempts)
        except (ServiceUnreachableError, ServiceProtocolError) as error:
            pause = attempts.after(error, now())
        else:
            wait = attempts.after_answer(answer, now())
            if wait is None:
                return answer
            pause = wait
        await sleep(pause)
