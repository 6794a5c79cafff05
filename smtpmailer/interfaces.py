# SPDX-License-Identifier: MIT
"""Every interface between the parts of smtpmailer.

A Deferred promised here always fires: each implementation bounds its own waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from zope.interface import Interface

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from smtpmailer.core.documents import Document
    from smtpmailer.core.grants import Grant
    from smtpmailer.core.lookup import Wanted
    from smtpmailer.core.model import (
        DeliveryResult,
        FilePart,
        LoadedFile,
        OutgoingMail,
        Route,
    )
    from smtpmailer.core.once import Kept
    from smtpmailer.core.queued import (
        Buried,
        FoundMail,
        MailDocument,
        Page,
        Recovered,
        Settlement,
        StoredMail,
    )
    from smtpmailer.core.queuestate import MailState
    from smtpmailer.core.redisvalues import RedisScript, RedisState, Word
    from smtpmailer.core.replies import Reply
    from smtpmailer.core.requests import Arguments
    from smtpmailer.core.standing import Standing
    from smtpmailer.errors import ClientError

__all__ = [
    "Handler",
    "IAttachments",
    "IAuth",
    "ICounters",
    "IDeadLetters",
    "IDispatcher",
    "IMailSearch",
    "IOnceStore",
    "IQueue",
    "IQueueRun",
    "IQueueStore",
    "IRedis",
    "ISender",
    "ITemplateStore",
    "IThreads",
]

_T = TypeVar("_T")

#: Carries out one request; the Deferred fires with the reply or fails.
Handler = Callable[["Arguments"], "Deferred[Reply]"]


class IThreads(Interface):
    """Runs blocking work away from the reactor thread."""

    def run(work: Callable[[], _T]) -> Deferred[_T]:
        """Call ``work`` in a thread; fire with its result or fail with its exception."""


class IAttachments(Interface):
    """Reads the files that a mail names."""

    def load(parts: tuple[FilePart, ...]) -> Deferred[tuple[LoadedFile, ...]]:
        """Read all parts, in order.

        Fails with AttachmentError for the first one that is missing, unreadable, no regular
        file, outside the allowed directories, or one of the service's own secrets.
        """

    def check(parts: tuple[FilePart, ...]) -> Deferred[int]:
        """Fire with the bytes of all when ``load`` would work now; fails as ``load`` does."""


class IAuth(Interface):
    """Decides whether a request is allowed; used only when authentication is on."""

    def check(password: object, peer: str, standing: Standing) -> Deferred[Grant | None]:
        """Fire with what ``password`` allows, or None when it is none of the right ones.

        ``password`` is whatever JSON value the request carried as ``auth``, or
        ``core.replies.MISSING``; anything but a text is wrong. ``peer`` is the client's address,
        ``standing`` that of its connection, which is kept up to date here.
        None may come late on purpose.
        """

    def known(password: object, peer: str, standing: Standing) -> Grant | None:
        """Give what a password allows that is known to be right; None: it has to be checked."""

    def leave(standing: Standing) -> None:
        """Say that a client has closed its half or is gone: perhaps nobody reads its answers."""

    def admit(grant: Grant, request: str) -> str:
        """Say for the log why a request of this name is refused now; empty when it is not.

        Counts mails against the grant's rate.
        """


class ISender(Interface):
    """Hands a mail to an SMTP server, once."""

    def send(mail: OutgoingMail, route: Route) -> Deferred[DeliveryResult]:
        """Deliver and fire with one outcome per recipient.

        Never fails for what a server or network did: that is a result. Whatever happens it fires,
        at the latest when the whole-delivery limit has passed, of which ``mail.spent`` is gone
        already; nothing is ``untaken`` then. Never retries, except once on a new
        session where the server certainly did not take the mail: when the session was a kept one
        and ended before the mail had begun, or the server fails at PIPELINING or CHUNKING.
        A mail of the queue (not ``urgent``) may come back untried, see ``again_in``.
        """


class ICounters(Interface):
    """The counters of mails sent and mails failed."""

    def add_sent() -> Deferred[None]:
        """Count one mail as sent; fires when counted."""

    def add_failed() -> Deferred[None]:
        """Count one mail as failed; fires when counted."""

    def read() -> Deferred[tuple[int, int]]:
        """Fire with (sent, failed)."""


class IDispatcher(Interface):
    """Answers requests; one for the whole process, no state per connection."""

    def handle(document: Document, peer: str, standing: Standing | None = None) -> Deferred[Reply]:
        """Carry out one whole document that came from ``peer`` (an address, for the log).

        ``standing`` belongs to the connection; without one the request has that of a new one.
        Always fires with a reply, never fails: an unexpected exception is logged and answered
        ``exception occurred``.
        """

    def prompt(request: Mapping[str, Any], peer: str, standing: Standing) -> bytes | None:
        """Give the whole answer to a request for which nothing has to be done, or None.

        What it gives is what ``handle`` would answer, and then the request is carried out; after
        None ``handle`` has to be called. It is for a request beside which there is no other one.
        """

    def reject(fault: ClientError, peer: str) -> Reply:
        """Answer for input that never became a request (malformed, empty, over a limit)."""

    def leave(standing: Standing) -> None:
        """Say that a client has closed its half or is gone; its requests are carried out still."""

    def may_overlap(document: Document) -> bool:
        """Whether this request may run beside others of its connection (see protocol)."""


class IQueueStore(Interface):
    """Keeps the mails that wait; each is durable once ``put`` has fired.

    Names are the store's own; the API shows them as they are. Every Deferred may fail with
    StoreError when the store can't do its work now; nothing was changed then.
    """

    def start() -> Deferred[None]:
        """Make ready what is needed; fires when the store can be used."""

    def stop() -> Deferred[None]:
        """Let go of everything; fires when nothing of the store runs any more."""

    def make_name(due: float, unique: str) -> str:
        """Make the name of a mail that is due at ``due`` (Unix seconds), with an id of its own."""

    def is_name(text: str) -> bool:
        """Whether a text has the form of a name here."""

    def put(name: str, document: MailDocument, state: MailState) -> Deferred[None]:
        """Add a mail; fires when it is durable.

        When it fails the mail is not there, unless with MailGoneOnError or RedisAwayError, where
        ``sent`` is true: nobody knows then.
        """

    def page(limit: int, page: int) -> Deferred[Page]:
        """Fire with a zero-based page of the names of waiting mails, ascending."""

    def get(name: str) -> Deferred[StoredMail]:
        """Fire with a waiting mail; fails with NoSuchMailError."""

    def replace(name: str, new_name: str, document: MailDocument) -> Deferred[None]:
        """Give a waiting mail new content and a new name, in one step; it keeps its history.

        Fails with NoSuchMailError when it is gone, or being delivered.
        """

    def remove(name: str) -> Deferred[None]:
        """Remove a waiting mail; fails with NoSuchMailError when it is gone or being delivered."""

    def clear() -> Deferred[int]:
        """Remove all waiting mails; fires with their number."""

    def watch(changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever a mail may have become the next one due."""


class IQueueRun(Interface):
    """The side of a queue store that delivers; one process at a time runs a queue.

    In Redis any number of them do, and ``acquire`` always works.
    """

    def acquire() -> Deferred[bool]:
        """Become the one that runs the queue; fires with whether it worked."""

    def release() -> Deferred[None]:
        """Let another process run the queue."""

    def runner() -> Deferred[str]:
        """Fire with who runs the queue, in words; empty when nobody does."""

    def recover() -> Deferred[Recovered]:
        """Find what a dead process left; after ``acquire``, before ``claim``.

        Its claims stay claimed, and are settled like any other. Fails with StoreError when
        another process runs the queue.
        """

    def claim(now: float, limit: int) -> Deferred[tuple[StoredMail, ...]]:
        """Take at most ``limit`` mails that are due at ``now``, longest due first.

        A claimed mail is in no list, and can't be changed or removed, until it is settled. Where
        several processes run a queue, mails that another one had claimed and left come first
        (``abandoned``): they are to be judged like those that ``recover`` finds.
        """

    def next_due() -> float | None:
        """Give the time (Unix seconds) at which the first waiting mail is due."""

    def hasten(name: str, due: float) -> bool:
        """Let a waiting mail be due at ``due`` (Unix seconds) if it is not before; cheap, no I/O.

        Tells whether it is: not when it is gone, held or claimed, nor where the store can't do
        that. It is not remembered beyond this run.
        """

    def look_around(now: float) -> Deferred[None]:
        """Notice what other programs did to the queue, where the store is not told of that.

        May be called at any time and often: how seldom it looks is the store's own affair.
        """

    def mark(name: str, state: MailState) -> Deferred[None]:
        """Make a claimed mail's state durable; fails with NoSuchMailError when it is none."""

    def settle(name: str, settlement: Settlement) -> Deferred[None]:
        """End a claim; fires when what was decided is durable.

        Fails with StoreError when that can't be done now: the mail stays claimed, settle it again.
        Fails with NoSuchMailError when it is not claimed, or its file is gone: there is nothing
        left to settle.
        """


class IQueue(IQueueStore, IQueueRun):
    """Both sides of a queue in one object, as the stores have them."""


class IDeadLetters(Interface):
    """Mails that could not be delivered, with their history; kept until somebody decides."""

    def page_failed(limit: int, page: int) -> Deferred[Page]:
        """Fire with a zero-based page of names, ascending."""

    def get_failed(name: str) -> Deferred[Buried]:
        """Fire with a dead letter; fails with NoSuchMailError."""

    def retry_failed(name: str, document: MailDocument) -> Deferred[None]:
        """Put a dead letter back into the queue with this content, due at once.

        Recipients who have the mail stay settled. Fails with NoSuchMailError.
        """

    def remove_failed(name: str) -> Deferred[None]:
        """Remove a dead letter for good; fails with NoSuchMailError."""

    def clear_failed() -> Deferred[int]:
        """Remove all dead letters; fires with their number."""


class IMailSearch(Interface):
    """Finds a mail wherever a queue has it, and changes nothing."""

    def find(wanted: Wanted) -> Deferred[FoundMail]:
        """Fire with a mail that waits, is claimed, is a dead letter, or is in quarantine.

        Fails with NoSuchMailError when it is nowhere, StoreError when that can't be told now.
        """


class IOnceStore(Interface):
    """Remembers requests that are to be carried out once, by the places that their keys give.

    A place is a name of 64 hexadecimal digits. All processes and nodes that share a store see the
    same. Every Deferred may fail with StoreError; what is kept is so for a time that the store was
    told, and then forgotten.
    """

    def claim(place: str, note: Mapping[str, Any]) -> Deferred[Kept | None]:
        """Take a place for a request that begins now.

        Fires with None when it was free and is ours now, durably: nobody else gets it until
        ``release``. Fires with what is kept there when it was not. When it fails nothing is to be
        done for the request.
        """

    def answer(place: str, note: Mapping[str, Any], answer: MailDocument) -> Deferred[None]:
        """Keep the answer beside the note; fires when that is durable. Nobody works on it then.

        Fails, and changes nothing, where the place is another request's by now. When it fails for
        anything else the place stays taken, and ours: leave it.
        """

    def release(place: str) -> Deferred[None]:
        """Let go of a place that is ours: it is free again, as if nothing had been asked.

        When it fails the place stays taken, and ours: leave it.
        """

    def leave(place: str) -> None:
        """Say that nobody works any more on a place that is ours; it stays taken."""

    def stop() -> Deferred[None]:
        """Let go of everything; what has no answer yet is left."""


class IRedis(Interface):
    """A Redis server, the master of those it may have, over connections that come and go.

    Commands that are under way at the same time may be carried out in any order. No command may
    change the state of its connection (MULTI, SELECT, SUBSCRIBE) or wait (BLPOP): scripts do what
    has to be one step. Each Deferred fires with Redis's reply, in which a text is bytes, a number
    int, nothing None, and an array a list of these. It fails, within the limit of an answer, with
    RedisAwayError (``sent`` tells whether the command may have had its effect) or
    RedisRefusedError; while Redis is away it fails at once.
    """

    def call(*words: Word) -> Deferred[Any]:
        """Carry out one command."""

    def run(
        script: RedisScript,
        keys: Sequence[Word],
        words: Sequence[Word] = (),
        *,
        replicated: bool = False,
    ) -> Deferred[Any]:
        """Carry out a script as one step, with all keys that it uses and further words.

        With ``replicated`` it fires once as many replicas have the change as are asked for
        (REDIS_WAIT_REPLICAS); fails with RedisUnreplicatedError when they are too few or too slow,
        and the change is made all the same.
        """

    def state() -> RedisState:
        """Say whether Redis can be used now; cheap, no I/O."""

    def tried() -> Deferred[None]:
        """Fire when the first attempt to connect has ended, well or not."""

    def watch(changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever Redis has become usable, or ceased to be."""


class ITemplateStore(Interface):
    """Keeps the templates, which are texts by name.

    Every method may be given any text as a name; one that is none (see
    ``core.templating.is_template_name``) is never found. Every Deferred may fail with StoreError
    when the store can't do its work now; ``add``, ``update``, ``remove`` and ``clear`` fire when
    the change is durable.
    """

    def page(limit: int, page: int) -> Deferred[Page]:
        """Fire with a zero-based page of the templates' names, ascending."""

    def get(name: str) -> Deferred[str]:
        """Fire with a template's text.

        Fails with NoSuchTemplateError, or BadTemplateError when it is not UTF-8 or too large.
        """

    def add(name: str, text: str) -> Deferred[None]:
        """Add a template; never replaces one.

        Fails with TemplateExistsError when anything has that name, NoSuchTemplateError when
        nothing can have it, BadTemplateError when the text is too large.
        """

    def update(name: str, text: str) -> Deferred[None]:
        """Replace a template's text in one step.

        Fails with NoSuchTemplateError, or BadTemplateError when the text is too large.
        """

    def remove(name: str) -> Deferred[None]:
        """Remove a template; fails with NoSuchTemplateError."""

    def clear() -> Deferred[int]:
        """Remove all templates; fires with their number."""
