# SPDX-License-Identifier: MIT
"""The requests of one connection: started as their order allows, answered in that order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from smtpmailer.core.documents import Document
from smtpmailer.core.replies import Reply, error
from smtpmailer.core.standing import Standing
from smtpmailer.interfaces import IDispatcher

__all__ = ["Load", "Pipeline"]

#: So many requests of one client are started in a turn of the reactor; others want theirs.
_BATCH: Final = 100
#: Answers are held back for no more than so many reads, however long a client goes on writing.
_HOLD_READS: Final = 100
#: What a request costs besides its text and values, roughly: the objects that stand for it.
_DOCUMENT_BYTES: Final = 400
_EXCEPTION: Final = error(None, "exception occurred").encode()


@attrs.define
class Load:
    """What all connections hold together.

    ``buffered_bytes`` is the size of all requests, unfinished, waiting and running;
    ``requests_in_flight`` counts those received and not yet answered, ``requests_answered`` all
    those that were.
    """

    buffered_bytes: int = 0
    requests_in_flight: int = 0
    requests_answered: int = 0


class _Slot:
    """The place of one answer in the order of the requests; None until it is known.

    The request takes ``size_bytes`` of memory until then.
    """

    __slots__ = ("answer", "size_bytes")

    def __init__(self, size_bytes: int) -> None:
        self.answer: bytes | None = None
        self.size_bytes = size_bytes


def _nobody(*_: object) -> None:
    """Tell nobody."""


@attrs.define(kw_only=True, eq=False)
class Pipeline:
    """Runs documents through the dispatcher.

    ``write`` takes answers, ``progressed`` is called after every change. At most
    ``max_in_flight`` requests are unanswered; those that may not overlap run alone.
    """

    _log = Logger()

    dispatcher: IDispatcher
    clock: IReactorTime
    peer: str
    max_in_flight: int
    load: Load
    write: Callable[[bytes], object]
    progressed: Callable[[], None]
    #: Nothing is started while this is set.
    blocked: bool = False
    #: What waits to be started holds so much.
    backlog_bytes: int = 0
    #: Counts what the client wrote, in pieces; the owner adds to it.
    reads: int = 0
    #: Counts the requests that were answered.
    answered: int = attrs.field(default=0, init=False)
    #: Nothing is started either while refused requests hold the connection.
    standing: Standing = attrs.field(factory=Standing, init=False)
    _backlog: deque[Document] = attrs.field(factory=deque, init=False)
    _slots: deque[_Slot] = attrs.field(factory=deque, init=False)
    _running: int = attrs.field(default=0, init=False)
    _exclusive: bool = attrs.field(default=False, init=False)
    _pumping: bool = attrs.field(default=False, init=False)
    # The count of reads at which answers go out; None while they are not held back.
    _held_until: int | None = attrs.field(default=None, init=False)

    @property
    def open_requests(self) -> int:
        """How many requests wait, run, or have an answer that was not written yet."""
        return len(self._backlog) + len(self._slots)

    def prompt(self, request: Mapping[str, Any]) -> bool:
        """Answer a lone request at once if nothing has to be done for it; else leave it to accept.

        Of other requests none may wait for their answers, and nothing may be in the way.
        """
        # While answers are held back, or refusals hold the connection, some have their slots.
        if self._slots or self._backlog or self.blocked:
            return False
        answer = self.dispatcher.prompt(request, self.peer, self.standing)
        if answer is None:
            return False
        self.answered += 1
        self.load.requests_answered += 1
        self.write(answer)
        return True

    def accept(self, document: Document) -> None:
        """Queue a document; call ``pump`` afterwards."""
        self._backlog.append(document)
        size = document.size_bytes + _DOCUMENT_BYTES
        self.backlog_bytes += size
        self.load.buffered_bytes += size
        self.load.requests_in_flight += 1

    def pump(self) -> None:
        """Start what may start and write what may be written."""
        if self._pumping:
            return
        self._pumping = True
        self._flush()
        if self._backlog:
            self._start_some()
        self._pumping = False
        self.progressed()

    def _start_some(self) -> None:
        """Start what may start, up to what is fair to other clients."""
        for _ in range(_BATCH):
            if not self._may_start():
                break
            self._start(self._backlog.popleft())
            if len(self._slots) >= self.max_in_flight:
                self._flush()
        else:
            self.clock.callLater(0, self.pump)
        self._flush()

    def hold(self, quiet: float) -> None:
        """Keep answers back until nothing was read in a turn of the reactor and ``quiet`` seconds.

        They are not kept back for ever, however long the client goes on writing.
        """
        if self._held_until is None:
            self._held_until = self.reads + _HOLD_READS
            self.clock.callLater(0, self._settle, -1, quiet)

    def release(self) -> None:
        """Hold answers back no longer; call ``pump`` afterwards."""
        self._held_until = None

    def end(self) -> None:
        """Let go of the connection, which is gone; only when no request is open.

        So both end at once, and need not wait for the garbage collector to find the circle.
        """
        self.write = self.progressed = _nobody

    def _settle(self, reads: int, quiet: float) -> None:
        if self._held_until is None:
            return
        if reads != self.reads and self.reads < self._held_until:
            self.clock.callLater(quiet, self._settle, self.reads, quiet)
            return
        self.release()
        self.pump()

    def _may_start(self) -> bool:
        if not self._backlog or self.blocked or len(self._slots) >= self.max_in_flight:
            return False
        if self.standing.held:
            return False
        if not self._running:
            return True
        return not self._exclusive and self.dispatcher.may_overlap(self._backlog[0])

    def _start(self, document: Document) -> None:
        size = document.size_bytes + _DOCUMENT_BYTES
        self.backlog_bytes -= size
        slot = _Slot(size)
        self._slots.append(slot)
        self._running += 1
        self._exclusive = not self.dispatcher.may_overlap(document)
        reply = self.dispatcher.handle(document, self.peer, self.standing)
        reply.addBoth(self._answered, slot)

    def _encoded(self, reply: Reply | Failure) -> bytes:
        """Give an answer's bytes, whatever happened: the client must not wait for ever."""
        try:
            if isinstance(reply, Failure):
                reply.raiseException()
            return reply.encode()
        except Exception:  # noqa: BLE001 - also a reply that is no JSON
            self._log.failure("answer for {peer} failed", peer=self.peer)
            return _EXCEPTION

    def _answered(self, reply: Reply | Failure, slot: _Slot) -> None:
        slot.answer = self._encoded(reply)
        self._running -= 1
        self._exclusive = False
        self.answered += 1
        self.load.requests_answered += 1
        self.load.requests_in_flight -= 1
        self.load.buffered_bytes -= slot.size_bytes
        self.pump()

    def _flush(self) -> None:
        """Write the answers whose turn it is."""
        if self._held_until is not None or not self._slots:
            return
        ready = []
        while self._slots and self._slots[0].answer is not None:
            ready.append(self._slots.popleft().answer or b"")
        if ready:
            self.write(b"".join(ready))
