# SPDX-License-Identifier: MIT
"""The JSON protocol on one connection: framing in, answers out in order, limits kept.

A client writes JSON objects, with anything or nothing between them, and gets one line of JSON for
each, in the same order (docs/reference/protocol.md is the client's view). On this side:

Starting. What the framer completes waits in a backlog. ``ping``, ``status``, ``sendMail`` and
``queueMail`` run beside each other, up to ``max_in_flight`` unanswered ones. Any other request
is a barrier: it waits for all before it, and nothing behind it starts until it is done, so that
``addTemplate`` and ``sendMail`` in one segment do what they say.

Losing. A lost connection cancels nothing: running requests run on, and those in the backlog are
carried out too; only the answers are dropped. A client may write many requests and close without
reading. An answer then provokes a reset, and what the client's kernel had not sent yet is lost;
ours gives what it has, if we read before we write. So answers to a client that pipelines are held
back until it pauses: at first for some milliseconds, later for a turn of the reactor.

Slowing down. Reading stops while the backlog is long or the client does not take its answers;
nothing is started then that would make more of them. Of a client whose refused requests wait for
their answers less is read ahead, and nothing is started once these are a few.

Ending. After an error only our half is closed at first and what still comes is thrown away for a
moment: closing outright would reset the connection and could take the answer with it. A
half-closed client gets all its answers. Every wait has a limit.
"""

from __future__ import annotations

from typing import Any, Final, Protocol, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IHalfCloseableDescriptor,
    IHalfCloseableProtocol,
    IPushProducer,
    IReactorTime,
    ISSLTransport,
    ITCPTransport,
)
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from smtpmailer.alarm import Alarm
from smtpmailer.core.documents import broken
from smtpmailer.core.framing import Framer, received
from smtpmailer.core.limits import ProtocolLimits
from smtpmailer.errors import ClientError, FramingError, LimitError
from smtpmailer.interfaces import IDispatcher
from smtpmailer.outlet import Outlet
from smtpmailer.pipeline import Load, Pipeline

__all__ = ["JsonProtocol"]

#: A read of this size may have left more behind: a TLS record's largest content.
_FULL_READ: Final = 16384
#: A client that writes several requests must pause so long for its first answers (seconds).
_QUIET: Final = 0.01
#: Of a client whose refused requests wait for their answers no more is read ahead than this.
_HELD_BACKLOG: Final = 64 * 1024
#: After a last error, wait so long for the client to read it and close (seconds).
_LINGER: Final = 2.0
#: Seconds that a client has to take its last answers and to agree to the end of TLS.
_TLS_CLOSE: Final = 5
#: What a client begins with that wants TLS: a record of the type handshake (RFC 8446 section 5.1).
_TLS: Final = b"\x16"


class Owner(Protocol):
    """What a connection knows of the factory that made it."""

    dispatcher: IDispatcher
    clock: IReactorTime
    limits: ProtocolLimits
    load: Load

    def opened(self, connection: JsonProtocol) -> None:
        """Count a connection."""

    def closed(self, connection: JsonProtocol) -> None:
        """Count a connection no longer."""

    def progressed(self) -> None:
        """Look whether somebody waits for what has just become so."""

    def warn(self, text: str, **fields: object) -> None:
        """Log what clients can cause at will."""


@implementer(IHalfCloseableProtocol, IPushProducer)
class JsonProtocol(LineReceiver):
    """One client's connection."""

    _log = Logger()

    transport: Any  # TCP, TLS or a test's: what each offers is asked for at run time

    def __init__(self, factory: Owner, peer: str, refusal: LimitError | None = None) -> None:
        """``refusal`` is why this connection is only told so and closed."""
        self.peer = peer
        self.refusal = refusal
        self._factory = factory
        self._limits = factory.limits
        self._clock = factory.clock
        self._load = factory.load
        self._is_tls = False
        self._framer = Framer(self._limits.max_request_bytes, self._limits.max_depth)
        self._pipeline = Pipeline(
            dispatcher=factory.dispatcher,
            clock=factory.clock,
            peer=peer,
            max_in_flight=self._limits.max_in_flight,
            load=factory.load,
            write=self._write,
            progressed=self._progressed,
        )
        # How far the connection has come towards its end.
        self._input_over = False
        self._at_eof = False
        self._failed = False
        self._lost = False
        # Times in the clock's seconds; None while it is not so.
        self._active_at = 0.0
        self._partial_since: float | None = None
        self._backed_up_since: float | None = None
        self._closing_since: float | None = None
        self._pending_bytes = 0
        self._paused = False
        self._written = False
        self._outlet: Outlet | None = None
        idle = self._limits.idle_timeout
        self._alarm = Alarm(factory.clock, self._deadline, self._expire, idle)

    def connectionMade(self) -> None:
        """Prepare the transport; tell a refused client why."""
        self.setRawMode()
        self._is_tls = ISSLTransport.providedBy(self.transport)
        self._active_at = self._clock.seconds()
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self._outlet = Outlet(self.transport)
        self.transport.registerProducer(self, True)
        self._factory.opened(self)
        if self.refusal is None:
            self._alarm.arm()
        else:
            self._end_input(self.refusal)
            self._pipeline.pump()

    def rawDataReceived(self, data: bytes) -> None:
        """Take what the client wrote."""
        if self._input_over:
            return
        if not self._pipeline.reads and data.startswith(_TLS) and not self._is_tls:
            self._refuse_tls()
            return
        whole = self._framer.whole(data)
        if whole is None:
            documents = self._framer.cut(data)
        elif len(data) < _FULL_READ and self._pipeline.prompt(whole):
            # All the rest concerns requests that wait, run or are not whole.
            self._pipeline.reads += 1
            return
        else:
            documents = [received(data, whole)]
        for document in documents:
            self._pipeline.accept(document)
        self._active_at = self._clock.seconds()
        if self._framer.error is not None:
            self._end_input(self._framer.error)
        else:
            self._keep_count(completed=bool(documents))
        self._pipeline.reads += 1
        if documents:
            self._hold_answers(
                pipelined=len(documents) > 1 or self._pending_bytes > 0,
                full=len(data) >= _FULL_READ,
            )
        self._pipeline.pump()

    # There are no lines to cut it into first.
    dataReceived = rawDataReceived  # noqa: N815 - Twisted's name

    def _refuse_tls(self) -> None:
        """End a connection whose client speaks TLS; it can't read an answer, nor wait for one."""
        self._factory.warn("{peer} speaks TLS, and MAILER_PROTO is tcp{more}", peer=self.peer)
        self._end_input(FramingError("this port does not speak TLS (MAILER_PROTO = tcp)"))
        self._failed = False
        self._pipeline.pump()

    def readConnectionLost(self) -> None:
        """Answer everything to a client that half-closed, then close."""
        self._at_eof = True
        if self._is_idle() and self._outlet is not None and self._outlet.is_empty:
            # Most connections end like this, and loseConnection would take a turn of the reactor.
            self.transport.connectionLost(connectionDone)
            return
        self._factory.dispatcher.leave(self._pipeline.standing)
        if self._closing_since is not None:
            self.transport.loseConnection()
        elif not self._input_over:
            self._end_input(self._unfinished())
        self._pipeline.release()
        self._pipeline.pump()

    def writeConnectionLost(self) -> None:
        """Do nothing: our half is closed, the client's is still read."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Carry out what was received all the same, now that the connection is gone."""
        if reason is not connectionDone and not reason.check(ConnectionDone):
            self._log.debug("connection from {peer} lost: {why}", peer=self.peer, why=reason.value)
        self._lost = True
        self._input_over = True
        self._forget_pending()
        self._alarm.cancel()
        self._factory.closed(self)
        self._factory.dispatcher.leave(self._pipeline.standing)
        self._pipeline.blocked = False
        self._pipeline.release()
        if self._pipeline.open_requests:
            self._pipeline.pump()
        else:
            self._pipeline.end()
            self._factory.progressed()

    def pauseProducing(self) -> None:
        """Start nothing more for a client that does not take its answers."""
        self._backed_up_since = self._clock.seconds()
        self._pipeline.blocked = True
        self._progressed()

    def resumeProducing(self) -> None:
        """Go on, as the client has taken its answers."""
        self._backed_up_since = None
        self._pipeline.blocked = False
        self._pipeline.pump()

    def stopProducing(self) -> None:
        """Do nothing: ``connectionLost`` follows."""

    def stop_reading(self) -> None:
        """Take no more requests; close once the present ones are answered."""
        if not self._input_over:
            self._end_input(None)
            self._pipeline.pump()

    def _hold_answers(self, *, pipelined: bool, full: bool) -> None:
        """Read before answering while the client seems to have more to say."""
        if pipelined and not self._written:
            self._pipeline.hold(_QUIET)
        elif pipelined or full:
            self._pipeline.hold(0)

    def _write(self, answers: bytes) -> None:
        if not self._lost and self._outlet is not None:
            self._written = True
            self._active_at = self._clock.seconds()
            self._outlet.write(answers)

    def _progressed(self) -> None:
        if not self._lost:
            self._throttle()
            if self._input_over and not self._pipeline.open_requests:
                self._close()
            self._alarm.arm()
        elif not self._pipeline.open_requests:
            self._pipeline.end()
        self._factory.progressed()

    def _throttle(self) -> None:
        """Read on, or don't."""
        if self._input_over:
            return
        full = self._load.buffered_bytes > self._limits.max_buffered_bytes
        crowded = full and self._pipeline.open_requests > 0
        most = self._limits.max_backlog_bytes
        if self._pipeline.standing.held:
            most = min(most, _HELD_BACKLOG)
        long = self._pipeline.backlog_bytes > most
        wanted = self._backed_up_since is not None or long or crowded
        if wanted and not self._paused:
            self._paused = True
            self.transport.pauseProducing()
        elif self._paused and not wanted:
            self._resume_reading()

    def _resume_reading(self) -> None:
        """Read again; the client could not go on writing, so its time begins anew."""
        self._paused = False
        self._active_at = self._clock.seconds()
        if self._partial_since is not None:
            self._partial_since = self._active_at
        self.transport.resumeProducing()

    def _keep_count(self, *, completed: bool) -> None:
        """Account for the unfinished request."""
        pending = self._framer.pending
        self._load.buffered_bytes += pending - self._pending_bytes
        self._pending_bytes = pending
        if not pending:
            self._partial_since = None
            return
        if completed or self._partial_since is None:
            self._partial_since = self._active_at
        if self._load.buffered_bytes > self._limits.max_buffered_bytes:
            self._end_input(self._limits.busy())

    def _unfinished(self) -> FramingError | None:
        """Give up the unfinished request; the fault says where it breaks off."""
        try:
            self._framer.finish()
        except FramingError as fault:
            return fault
        return None

    def _is_idle(self) -> bool:
        """Whether it has nothing to answer, to read on or to end."""
        open_requests = self._pipeline.open_requests
        return not (open_requests or self._framer.pending or self._input_over)

    def _forget_pending(self) -> None:
        self._unfinished()
        self._partial_since = None
        self._load.buffered_bytes -= self._pending_bytes
        self._pending_bytes = 0

    def _end_input(self, fault: ClientError | None) -> None:
        """Read no more requests; answer ``fault`` behind those already here."""
        self._input_over = True
        self._forget_pending()
        if fault is not None:
            self._failed = True
            self._pipeline.accept(broken(fault))
        if self._paused and not self._at_eof:
            self._resume_reading()

    def _close(self) -> None:
        """End the connection, all being answered."""
        if self._closing_since is not None:
            return
        self._closing_since = self._clock.seconds()
        self.transport.unregisterProducer()
        if self._failed and not self._at_eof and _can_half_close(self.transport):
            self.transport.loseWriteConnection()
        else:
            self._failed = False
            self.transport.loseConnection()

    def _deadline(self) -> float | None:
        """Tell when something has to happen at last; None while requests run."""
        idle = self._limits.idle_timeout
        if self._closing_since is not None:
            return self._closing_since + self._closing_time()
        if self._backed_up_since is not None:
            return self._backed_up_since + idle
        if self._partial_since is not None and not self._paused:
            return min(self._partial_since + self._limits.request_timeout, self._active_at + idle)
        return None if self._pipeline.open_requests else self._active_at + idle

    def _closing_time(self) -> float:
        """Tell how long a connection may take to close.

        Under TLS it ends with the client's close_notify, which some never send.
        """
        idle = self._limits.idle_timeout
        if self._failed:
            return _LINGER
        return min(idle, _TLS_CLOSE) if self._is_tls else idle

    def _expire(self) -> None:
        """End the patience with this client."""
        if self._closing_since is not None and self._failed:
            self._failed = False
            self._closing_since = self._clock.seconds()
            self.transport.loseConnection()
        elif self._closing_since is not None or self._backed_up_since is not None:
            self._log.info("{peer} does not take its answers: connection dropped", peer=self.peer)
            self._closing_since = self._clock.seconds()
            self.transport.abortConnection()
        else:
            self._end_input(self._why_late())
            self._pipeline.pump()

    def _why_late(self) -> ClientError:
        if self._partial_since is None:
            return self._limits.idle()
        if self._clock.seconds() - self._partial_since >= self._limits.request_timeout:
            return self._limits.slow()
        return cast(FramingError, self._unfinished())


def _can_half_close(transport: object) -> bool:
    """TLS has no half-close."""
    half_closeable = IHalfCloseableDescriptor.providedBy(transport)
    return half_closeable and not ISSLTransport.providedBy(transport)
