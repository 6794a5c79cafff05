# SPDX-License-Identifier: MIT
"""Mails over one session that is ready: what goes out together, and whose each answer is."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from smtpmailer.delivery.body import CHUNK, BodyWriter
from smtpmailer.delivery.commands import write_commands
from smtpmailer.delivery.dispatching import Dispatcher
from smtpmailer.delivery.errand import Errand
from smtpmailer.delivery.fate import Again, fate_of_answered, fate_of_lost
from smtpmailer.delivery.limits import PoolLimits
from smtpmailer.delivery.offer import Offer
from smtpmailer.delivery.outcome import Verdict, verdict_of_error
from smtpmailer.delivery.patience import Patience
from smtpmailer.delivery.replies import LineBuffer, SmtpReply
from smtpmailer.delivery.session import Session
from smtpmailer.delivery.transaction import Transaction
from smtpmailer.errors import (
    ClientError,
    NoSuchMailError,
    RemoteError,
    SmtpLostError,
    SmtpProtocolError,
    SmtpRefusedError,
    StoreError,
)

__all__ = ["Carrier"]

_REFUSED = 400
#: What a plain yes begins with, and nothing else.
_YES = b"250 "


class Carrier:
    """Carries mails over a session, several at a time where the server offers that.

    Answers come in the order of what was asked, so the mail in front is always the one they are
    about; what a piece of answers leads to goes out in one write. ``carried`` counts the mails that
    it has begun with; ``over`` says that it carries none and takes none any more.
    """

    def __init__(
        self, session: Session, clock: IReactorTime, limits: PoolLimits, dispatcher: Dispatcher
    ) -> None:
        """Take over a session that is ready; begin with ``kick``."""
        self._session = session
        self._transport = session.transport
        self._outlet = session.outlet
        self._limits = limits
        self._dispatcher = dispatcher
        self._offer = Offer.read(session.extensions)
        self._plain_offer = self._offer.in_lock_step()
        self._parser = session.parser
        self._lines = LineBuffer()
        self.carried = 0
        self._flying: deque[Transaction] = deque()
        self._out: list[bytes] = []
        # Answers due to what was written, and to what is about to be.
        self._due = self._due_soon = 0
        self._large: tuple[Transaction, bytes, bytes] | None = None
        self._body: BodyWriter | None = None
        self._left_open = False
        self.over = False
        self._busy = self._resting = self._heard = False
        self._news: deque[Callable[[], None]] = deque()
        self._patience = Patience(clock, self._too_late)
        session.hand_over(self)

    # What the dispatcher calls.

    @property
    def has_room(self) -> bool:
        """Whether another mail could be begun with now."""
        flying = self._flying
        if self.over or self.carried >= self._limits.mails_per_connection:
            return False
        if not flying:
            return True
        return (
            len(flying) < self._limits.depth
            and flying[-1].complete
            and flying[-1].grouped
            and self._large is None
            and self._body is None
            and not self._dispatcher.lock_step
        )

    @property
    def spent(self) -> bool:
        """Whether it has carried as many mails as it may."""
        return self.carried >= self._limits.mails_per_connection

    @property
    def in_flight(self) -> int:
        """How many mails it carries now."""
        return len(self._flying)

    def kick(self) -> None:
        """Take as many mails as there is room for."""
        if not self._busy and not self.over:
            self._resting = False
            self._move_on()

    def rest(self, seconds: float) -> None:
        """Stay connected without a mail, so long at most."""
        self._patience.rest(seconds)

    def leave(self) -> None:
        """End the session in peace; only when nothing is in flight."""
        self.over = True
        self._patience.end()
        self._session.leave()

    def give_up(self, errand: Errand, error: RemoteError) -> None:
        """End a mail's delivery now; its session ends with it unless it carries others."""
        self._report()  # What is known already comes first.
        if errand.holder is not None and errand.holder is not self:
            errand.holder.give_up(errand, error)
            return
        errand.given_up = True
        for transaction in self._flying:
            if transaction.errand is errand:
                self._end(transaction, fate_of_lost(transaction, error))
                transaction.abandoned = True
        if self._flying and all(transaction.abandoned for transaction in self._flying):
            self._session.fail(error)
        self._report()

    # What the session calls.

    @property
    def stage(self) -> str:
        """What is waited for, in words."""
        return self._flying[0].stage if self._flying else "idle"

    def received(self, data: bytes) -> None:
        """Take bytes that the server sent."""
        if self.over:
            return
        self._busy = True
        try:
            self._read(self._lines.split(data))
        except RemoteError as error:
            self._session.fail(error)
        finally:
            self._busy = False
        if self._heard:
            self._patience.heard()
        if not self._resting:
            self._move_on()

    def lost(self, error: RemoteError) -> None:
        """Hear that the session has ended, and judge what it carried."""
        self.over = True
        self._patience.end()
        if self._body is not None:
            self._body.abandon()
        # Session and carrier wait for the garbage collector, which a message must not.
        self._body = self._large = None
        flying, self._flying = self._flying, deque()
        for transaction in flying:
            self._end(transaction, fate_of_lost(transaction, error))
        self._report()

    # Answers

    def _read(self, lines: list[bytes]) -> None:
        """Go through whole lines."""
        at, end = 0, len(lines)
        while at < end:
            group = self._flying[0].unheard if self._flying else 0
            if group and at + group <= end and self._pass(lines[at : at + group]):
                at += group
            else:
                reply = self._parser.feed(lines[at])
                at += 1
                if reply is not None:
                    self._answered(reply)
            if self.over:
                return
        if self._lines.rest and not self._due and (self._due_soon or self._large is not None):
            raise self._out_of_turn()

    def _pass(self, lines: list[bytes]) -> bool:
        """Take all answers to a group at once, where all say yes.

        False where each has to be looked at.
        """
        for line in lines:
            if line[:4] != _YES:
                return False
        if self._parser.within:
            return False
        self._due -= len(lines)
        self._heard = True
        transaction = self._flying[0]
        transaction.accept_all(lines, self._parser)
        if transaction.go_ahead or transaction.needs_mark:
            self._advance(transaction)
        return True

    def _answered(self, reply: SmtpReply) -> None:
        if not self._due:
            raise self._unasked(reply)
        self._due -= 1
        self._heard = True
        transaction = self._flying[0]
        line = transaction.answered(reply)
        if line:
            self._out.append(line)
            self._due_soon += 1
        if transaction.over:
            self._land(transaction)
        elif transaction.go_ahead or transaction.needs_mark:
            self._advance(transaction)

    def _unasked(self, reply: SmtpReply) -> RemoteError:
        """Say what is wrong with an answer to nothing."""
        if self._due_soon or self._large is not None:
            return self._out_of_turn()
        if reply.code >= _REFUSED:
            stage = "session" if self._body is None else "data"
            return SmtpRefusedError(stage, reply.text, code=reply.code, enhanced=reply.enhanced)
        return SmtpProtocolError(f"unexpected reply: {reply.code} {reply.text}")

    def _out_of_turn(self) -> SmtpProtocolError:
        """Refuse to go on when bytes came that nothing was asked for: they would be believed."""
        return SmtpProtocolError(f"the server spoke out of turn (before {self.stage})")

    def _land(self, transaction: Transaction) -> None:
        """End a mail whose last answer has come."""
        self._flying.popleft()
        self._left_open = transaction.left_open
        self._end(transaction, fate_of_answered(transaction))
        if transaction.closing:
            # Answers come in order: what follows was not looked at (RFC 5321 section 3.8).
            while self._flying:
                self._end(self._flying.popleft(), Again())
            self.leave()

    def _advance(self, transaction: Transaction) -> None:
        """Mark a mail and write its message, when it is time for either."""
        if transaction.may_mark and not transaction.abandoned:
            self._mark(transaction, transaction.accepted)
        if transaction.may_stop:
            why = transaction.unmarkable or "given up before the message"
            self._session.fail(SmtpLostError(why))
        elif transaction.may_send:
            self._send(transaction)

    def _mark_early(self) -> None:
        """Mark the mail whose opening is written, so that the server and the mark work together.

        Only the last can be one: behind it there is no room before it is marked.
        """
        if self._flying and self._flying[-1].marks_early:
            last = self._flying[-1]
            self._mark(last, last.errand.mail.envelope.recipients)

    def _mark(self, transaction: Transaction, recipients: tuple[str, ...]) -> None:
        """Say that a mail may be delivered from now on; if nobody takes note, don't send it."""
        transaction.needs_mark = False
        before_dot = transaction.errand.mail.before_dot
        assert before_dot is not None
        # No coroutine: there is a mark for each mail of the queue.
        try:
            marking = before_dot(recipients)
        except Exception:  # noqa: BLE001 - as one that comes later
            marking = fail()
        if not isinstance(marking, Deferred):
            marking = Deferred.fromCoroutine(_awaited(marking))
        told = (transaction,)
        marking.addCallbacks(self._marked, self._not_marked, told, errbackArgs=told)

    def _marked(self, _: None, transaction: Transaction) -> None:
        transaction.marked = True
        if not self._busy and not self.over:
            self._advance(transaction)
            self._move_on()

    def _not_marked(self, failure: Failure, transaction: Transaction) -> None:
        why = "a fault of our own"
        if failure.check(NoSuchMailError, StoreError):
            why = str(failure.value)
        else:
            transaction.fault = failure  # It goes to whoever sent the mail.
        self._stop(transaction, f"given up before the message: {why}")

    def _stop(self, transaction: Transaction, why: str) -> None:
        """Don't send a mail that could not be marked.

        A server that waits for a message learns only from the connection's end that there is none.
        While another mail is in front that would put this one in doubt, so it has to wait.
        """
        flying = self._flying
        if transaction in flying:
            transaction.errand.given_up = True
            transaction.unmarkable = why
            if flying[0] is transaction:
                self._session.fail(SmtpLostError(why))

    # Writing

    def _move_on(self) -> None:
        """Begin with mails, write all that is to be written, and tell what there is to tell."""
        while self.has_room:
            errand = self._dispatcher.take(self)
            if errand is None:
                break
            self._begin(errand)
        self._flush()
        self._mark_early()
        self._report()

    def _begin(self, errand: Errand) -> None:
        plain = errand.lock_step or self._dispatcher.lock_step
        offer = self._plain_offer if plain else self._offer
        try:
            commands = write_commands(errand.mail, offer)
        except (ClientError, RemoteError) as error:
            commands = verdict_of_error(error, in_transaction=True, past_dot=False)
        except Exception:  # noqa: BLE001 - it goes to whoever sent the mail
            self._news.append(partial(self._dispatcher.broke, errand, Failure()))
            return
        if isinstance(commands, Verdict):
            self._news.append(partial(self._dispatcher.ended, errand, commands, {}))
            return
        behind = bool(self._flying)
        transaction = Transaction(
            errand,
            commands,
            grouped=offer.pipelining,
            # Behind a chunk that may yet be refused nobody knows whether its mail is closed.
            reset=offer.chunking if behind else self._left_open,
            # The server has answered just now, or is about to: it is no session gone stale.
            trusted=behind or self._heard,
        )
        transaction.reused = self.carried > 0
        errand.holder = self
        self.carried += 1
        self._flying.append(transaction)
        parts, answers = transaction.opening()
        self._out += parts
        self._due_soon += answers

    def _send(self, transaction: Transaction) -> None:
        """Write a message, in one piece or as the transport takes it."""
        head, message, end = transaction.message()
        self._out.append(head)
        if len(message) <= CHUNK:
            self._out += message, end
            self._due_soon += 1
        else:
            self._large = transaction, message, end

    def _flush(self) -> None:
        """Write what has come together, and wait for the answers to it."""
        if self.over:
            return
        if self._out:
            if self._large is None:
                for transaction in self._flying:
                    transaction.end_written = transaction.complete
            self._outlet.write(b"".join(self._out))
            self._out.clear()
            self._due += self._due_soon
            self._due_soon = 0
            self._heard = True
        if self._heard:
            self._heard = False
            self._wait()
        if self._large is not None:
            self._stream(*self._large)

    def _stream(self, transaction: Transaction, message: bytes, end: bytes) -> None:
        self._large = None
        self._outlet.leave()

        def last() -> None:
            transaction.end_written = True

        def done() -> None:
            self._body = None
            self._due += 1
            self._move_on()

        self._body = BodyWriter(
            message, end, self._transport, progress=self._wait, last=last, done=done
        )
        self._body.start()

    def _wait(self) -> None:
        """Begin to wait for the server, if it has anything to do."""
        if self._due or self._body is not None:
            self._patience.wait(self._flying[0].errand.route.timeout)
        elif self._flying:
            self._patience.pause()  # A mail is being marked.

    def _too_late(self) -> None:
        if self._flying:
            why = f"no answer within {self._patience.seconds:g} s ({self.stage})"
            self._session.fail(SmtpLostError(why))
        else:
            self.leave()

    # Ends

    def _end(self, transaction: Transaction, fate: Verdict | Again) -> None:
        """Note what is to be told of a mail, or that it goes back."""
        errand, dispatcher = transaction.errand, self._dispatcher
        if transaction.abandoned:
            return
        if transaction.fault is not None:
            self._news.append(partial(dispatcher.broke, errand, transaction.fault))
        elif isinstance(fate, Again):
            errand.comes_back(fate.dialogue, lock_step=fate.lock_step)
            self._news.append(partial(dispatcher.returned, errand))
        else:
            self._news.append(partial(dispatcher.ended, errand, fate, transaction.refused))

    def _report(self) -> None:
        """Tell what has come about; what is told may lead back here."""
        if not self.over and not self._flying and not self._resting:
            self._resting = True
            self._dispatcher.rests(self)
        while self._news:
            self._news.popleft()()


async def _awaited(mark: Awaitable[None]) -> None:
    await mark
