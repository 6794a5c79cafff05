# SPDX-License-Identifier: MIT
"""A channel between two processes of the service: questions, answers and news, either way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from smtpmailer.core.control import Answer, Ask, Message, Tell, decode, encode
from smtpmailer.errors import ControlError, SmtpMailerError

__all__ = ["Channel", "Ears"]

#: No message is longer; a table of 10,000 connections is not.
_LONGEST: Final = 16 * 2**20
#: Seconds that an answer may take.
_PATIENCE: Final = 5.0


def _ignore(_what: str, _values: Mapping[str, Any]) -> None:
    """Do nothing."""


def _refuse(what: str, _values: Mapping[str, Any]) -> Any:
    raise ControlError(f"nobody here knows {what!r}")


def _nothing() -> None:
    """Do nothing."""


@attrs.frozen(kw_only=True)
class Ears:
    """Who listens on a channel.

    ``asked`` gives the answer to a question, or a Deferred of it; ``told`` hears news, ``lost``
    that the other side is gone.
    """

    asked: Callable[[str, Mapping[str, Any]], Any] = _refuse
    told: Callable[[str, Mapping[str, Any]], None] = _ignore
    lost: Callable[[], None] = _nothing


class Channel(LineOnlyReceiver):
    """One end of a channel; a line that is no message ends it."""

    _log = Logger()

    delimiter = b"\n"
    MAX_LENGTH = _LONGEST

    transport: Any

    def __init__(self, clock: IReactorTime, ears: Ears) -> None:
        """Wait for the connection."""
        self._clock = clock
        self._ears = ears
        self._asked: dict[int, Deferred[Any]] = {}
        self._last = 0
        self._open = False

    @property
    def is_open(self) -> bool:
        """Whether the other side is there."""
        return self._open

    def connectionMade(self) -> None:
        """Begin."""
        self._open = True

    def ask(
        self, what: str, values: Mapping[str, Any] | None = None, *, patience: float = _PATIENCE
    ) -> Deferred[Any]:
        """Ask the other side; fires with its answer.

        Fails with ControlError when it refuses, goes, or takes longer than ``patience`` seconds.
        """
        if not self._open:
            return fail(ControlError("the process is gone"))
        self._last += 1
        number = self._last
        answer: Deferred[Any] = Deferred()
        self._asked[number] = answer
        self._send(Ask(number, what, values or {}))
        answer.addTimeout(patience, self._clock)
        answer.addBoth(self._asked_no_more, number)
        return answer.addErrback(_late, what, patience)

    def tell(self, what: str, values: Mapping[str, Any] | None = None) -> None:
        """Tell the other side something; nothing happens when it is gone."""
        if self._open:
            self._send(Tell(what, values or {}))

    def close(self) -> None:
        """End the channel, when all that was said is out."""
        if self.transport is not None:
            self.transport.loseConnection()

    def lineReceived(self, line: bytes) -> None:
        """Take a message."""
        try:
            message = decode(line)
        except ControlError as error:
            self._log.error("no message on a control channel: {why}", why=str(error))
            self.transport.abortConnection()
            return
        match message:
            case Ask(number, what, values):
                answer = maybeDeferred(self._ears.asked, what, values)
                answer.addCallbacks(
                    lambda value: Answer(number, value), lambda why: self._fault(number, what, why)
                )
                answer.addCallback(self._reply)
                answer.addErrback(lambda why: self._log.failure("an answer failed", why))
            case Answer(number, value, fault):
                self._answered(number, value, fault)
            case Tell(what, values):
                self._hear(what, values)

    def lineLengthExceeded(self, line: bytes) -> None:
        """End the channel: that was no message."""
        self._log.error("a message on a control channel has {n} bytes", n=len(line))
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        """Answer for the other side, which can't any more."""
        self._open = False
        asked, self._asked = self._asked, {}
        for answer in asked.values():
            answer.errback(ControlError("the process is gone"))
        self._ears.lost()

    def _hear(self, what: str, values: Mapping[str, Any]) -> None:
        try:
            self._ears.told(what, values)
        except Exception:  # noqa: BLE001 - the channel has to last
            self._log.failure("{what} failed", what=what)

    def _answered(self, number: int, value: Any, fault: str) -> None:
        answer = self._asked.pop(number, None)
        if answer is None:
            return  # it came too late
        if fault:
            answer.errback(ControlError(fault))
        else:
            answer.callback(value)

    def _asked_no_more(self, result: Any, number: int) -> Any:
        self._asked.pop(number, None)
        return result

    def _fault(self, number: int, what: str, failure: Failure) -> Answer:
        if not failure.check(SmtpMailerError):
            self._log.failure("{what} failed", failure, what=what)
        return Answer(number, fault=str(failure.value) or "it failed")

    def _reply(self, message: Message) -> None:
        if self._open:
            self._send(message)

    def _send(self, message: Message) -> None:
        self.sendLine(encode(message))


def _late(failure: Failure, what: str, patience: float) -> None:
    failure.trap(DeferredTimeoutError)
    raise ControlError(f"no answer to {what!r} within {patience:g} seconds")
