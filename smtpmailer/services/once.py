# SPDX-License-Identifier: MIT
"""Carries out a request once, however often it is made: its key (``once``) tells that.

What is certain comes first: a place is taken, durably, before anything is done for a request, and
nothing takes it from a request of which a mail may have come, for as long as keys are kept. So
there is no second mail; where an answer was lost with its process, or could not be kept, and
nothing tells what came of the request, the answer says just that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from smtpmailer.core.lookup import Wanted
from smtpmailer.core.mime import Stamp
from smtpmailer.core.once import Kept, Note, answer_to_json, marks_of, place_of, reply_of_answer
from smtpmailer.core.queued import FoundMail, MailPlace
from smtpmailer.core.replies import Effect, Reply, error, success
from smtpmailer.core.requests import Arguments
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import ClientError, NoSuchMailError, RequestInvalidError, StoreError
from smtpmailer.interfaces import Handler, IMailSearch, IOnceStore
from smtpmailer.services.replies import waiting_detail

__all__ = ["PATIENCE", "Once", "OnceTools"]

#: Seconds for which a repeated request waits for the first one's answer.
PATIENCE: Final = 30.0
#: Seconds between two looks at what another process works on; they grow to the second.
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0

_DIFFERENT: Final = (
    "This key came with another request: repeat that one unchanged, or use a new key"
)
_UNDER_WAY: Final = error(
    "the first request with this key has no answer yet: ask again", "request is under way"
)
_NOT_KEPT: Final = error(
    "nothing was done, as its key can't be remembered now: try again", "request can't be remembered"
)


@attrs.frozen(kw_only=True)
class OnceTools:
    """What it takes to carry out a request once.

    ``stamp`` gives a mail its identity. ``search`` finds a mail in the queue, if there is one.
    ``secrets`` make the marks of requests, see ``core.once.marks_of``.
    """

    store: IOnceStore
    stamp: Callable[[], Stamp]
    clock: IReactorTime
    search: IMailSearch | None = None
    secrets: Sequence[bytes] = attrs.field(default=(), repr=False)


@attrs.frozen(kw_only=True)
class _Asked:
    """A request with a key: its place, and what tells it from others; the first mark counts."""

    name: str
    arguments: Arguments
    place: str
    marks: tuple[str, ...]


@attrs.define(eq=False)
class _Running:
    """A request that is under way in this process, and who waits for its answer besides."""

    mark: str
    waiting: set[Deferred[Reply]] = attrs.field(factory=set)

    def wait(self) -> Deferred[Reply]:
        """Fire with its answer, or fail as it does; who cancels it waits no more."""
        waiting: Deferred[Reply] = Deferred(self.waiting.discard)
        self.waiting.add(waiting)
        return waiting

    def end(self, result: Reply | Failure) -> None:
        """Tell all who wait."""
        for waiting in tuple(self.waiting):
            waiting.callback(result)


class Once:
    """Stands before the handlers of requests that make a mail."""

    _log = Logger()

    def __init__(self, tools: OnceTools) -> None:
        """Nothing is asked of the store before a request has a key."""
        self._tools = tools
        self._running: dict[str, _Running] = {}

    def wrap(self, name: str, handler: Handler) -> Handler:
        """Make a handler of the request ``name`` that minds keys; without one it is as before."""

        def handle(arguments: Arguments) -> Deferred[Reply]:
            if not arguments.once:
                return handler(arguments)
            return self._carry_out(name, arguments, handler)

        return handle

    @returns_deferred
    async def _carry_out(self, name: str, arguments: Arguments, handler: Handler) -> Reply:
        """Answer, as the handler does or did; fails as the handler does.

        Fails with RequestInvalidError when the key came with another request, or with no mail.
        """
        asked = _Asked(
            name=name,
            arguments=arguments,
            place=place_of(arguments.grant.name, arguments.once),
            marks=marks_of(name, arguments.value, self._tools.secrets),
        )
        running = self._running.get(asked.place)
        if running is not None:
            return await self._wait(running, asked)
        running = self._running[asked.place] = _Running(asked.marks[0])
        try:
            reply = await self._first(asked, handler)
        except BaseException:
            del self._running[asked.place]
            running.end(Failure())
            raise
        del self._running[asked.place]
        running.end(attrs.evolve(reply, repeated=True))
        return reply

    async def _wait(self, running: _Running, asked: _Asked) -> Reply:
        """Give the answer to the same request, which is under way here."""
        if running.mark != asked.marks[0]:
            raise _different()
        try:
            return await running.wait().addTimeout(PATIENCE, self._tools.clock)
        except DeferredTimeoutError:
            return attrs.evolve(_UNDER_WAY, repeated=True)

    async def _first(self, asked: _Asked, handler: Handler) -> Reply:
        """Take the place and do it, or find out what came of the request that has it."""
        tools, stamp = self._tools, self._tools.stamp()
        note = Note(mark=asked.marks[0], mail_id=stamp.unique, at=stamp.epoch_seconds)
        deadline = tools.clock.seconds() + PATIENCE
        pause = _FIRST_PAUSE
        while True:
            try:
                kept = await tools.store.claim(asked.place, note.to_json())
            except StoreError:
                self._log.failure("the key of request {n} is not kept", n=asked.arguments.request)
                return attrs.evolve(_NOT_KEPT, repeated=False)
            if kept is None:
                asked = attrs.evolve(asked, arguments=attrs.evolve(asked.arguments, stamp=stamp))
                return attrs.evolve(await self._do(asked, note, handler), repeated=False)
            if kept.answer is not None or not kept.alive:
                return attrs.evolve(await self._repeat(asked, kept), repeated=True)
            _check(kept, asked)
            if tools.clock.seconds() + pause > deadline:
                return attrs.evolve(_UNDER_WAY, repeated=True)
            await deferLater(tools.clock, pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _do(self, asked: _Asked, note: Note, handler: Handler) -> Reply:
        """Carry out a request whose place is ours; keep its answer before it is given."""
        store = self._tools.store
        try:
            reply = await handler(asked.arguments)
        except ClientError:
            await self._kept(asked, store.release)
            raise
        except BaseException:
            # Nobody knows how far it came.
            store.leave(asked.place)
            raise
        if reply.effect is Effect.NONE:
            await self._kept(asked, store.release)
        elif reply.effect is Effect.UNKNOWN:
            store.leave(asked.place)
        else:
            answer = answer_to_json(reply)
            await self._kept(asked, lambda place: store.answer(place, note.to_json(), answer))
        return reply

    async def _kept(self, asked: _Asked, change: Callable[[str], Deferred[None]]) -> None:
        """Change what is kept; where that can't be, a repeated request finds out what it can."""
        try:
            await change(asked.place)
        except StoreError:
            self._tools.store.leave(asked.place)
            text = "what came of request {n} is not kept"
            self._log.failure(text, n=asked.arguments.request)

    async def _repeat(self, asked: _Asked, kept: Kept) -> Reply:
        """Answer a request that was made before, and on which nobody works any more."""
        _check(kept, asked)
        note = Note.from_json(kept.note)
        reply = reply_of_answer(kept.answer) if isinstance(kept.answer, dict) else None
        if reply is None and kept.answer is None and note is not None:
            reply = await self._look_up(asked, note)
        self._log.info(
            "request {request} from {peer} repeats an earlier one, of mail {mail_id}: {message}",
            request=asked.arguments.request,
            peer=asked.arguments.peer,
            mail_id=note.mail_id if note else "?",
            message=reply.message if reply else _doubt("").message,
        )
        return reply or _doubt(note.mail_id if note else "")

    async def _look_up(self, asked: _Asked, note: Note) -> Reply | None:
        """Find out what came of a request whose answer was never made, or could not be kept.

        A mail that is in the queue, or lies among the dead letters, did come of it. One that is
        nowhere was perhaps never made, and perhaps sent since.
        """
        try:
            found = await self._find(note.mail_id)
        except NoSuchMailError:
            return None
        except StoreError:
            text = "mail {mail_id} can't be looked for"
            self._log.failure(text, mail_id=note.mail_id)
            return None
        reply = _found_out(asked.name, found)
        try:
            await self._tools.store.answer(asked.place, note.to_json(), answer_to_json(reply))
        except StoreError:
            # The next one will look for the mail as well.
            self._log.failure("what became of mail {mail_id} is not kept", mail_id=note.mail_id)
        return reply

    async def _find(self, mail_id: str) -> FoundMail:
        if self._tools.search is None:
            raise NoSuchMailError(mail_id)
        return await self._tools.search.find(Wanted(mail_id))


def _different() -> RequestInvalidError:
    return RequestInvalidError({"once": [_DIFFERENT]})


def _check(kept: Kept, asked: _Asked) -> None:
    """Raise RequestInvalidError when it is known that another request has the place."""
    note = Note.from_json(kept.note)
    if note is not None and note.mark not in asked.marks:
        raise _different()


def _found_out(name: str, found: FoundMail) -> Reply:
    """Answer for a request whose mail was found."""
    mail, waits = found.mail, found.place in (MailPlace.WAITING, MailPlace.SENDING)
    detail = waiting_detail(mail.name, mail.state) if waits else {"queueName": mail.name}
    if name == "queueMail":
        return success(mail.name, "mail added to queue", detail)
    # A mail that was to be sent at once is in the queue only when that failed.
    if waits:
        return error("it is in the queue since its first attempt", "failed to send mail", detail)
    if found.place is MailPlace.DEAD:
        return error("it is a dead letter since its last attempt", "failed to send mail", detail)
    return error("it is in quarantine, as it could not be read", "failed to send mail", detail)


def _doubt(mail_id: str) -> Reply:
    return error(
        "no answer to the first request with this key is known, as the service ended before it or "
        "could not keep it: its mail may have been made and sent, or not; see the log",
        "request is in doubt",
        {"mailId": mail_id or None},
    )
