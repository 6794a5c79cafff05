# SPDX-License-Identifier: MIT
"""A queue in memory with everything around it that delivers, for tests of services and runner."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from smtpmailer.core.mime import Stamp
from smtpmailer.core.model import (
    NOT_REACHED,
    DeliveryResult,
    Outcome,
    OutgoingMail,
    RecipientOutcome,
    Route,
)
from smtpmailer.core.queued import StoredMail
from smtpmailer.core.queuestate import FRESH, MailState
from smtpmailer.core.replies import Reply
from smtpmailer.core.requests import Arguments, MailParser
from smtpmailer.core.retry import RetryPolicy
from smtpmailer.core.schemas import Schema
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import NoSuchMailError, StoreError
from smtpmailer.interfaces import ISender
from smtpmailer.schemafiles import load_schema
from smtpmailer.services.courier import Courier
from smtpmailer.services.postman import Postman, PostmanTools
from smtpmailer.services.traffic import Traffic
from smtpmailer.stores.memory import MemoryQueueStore
from smtpmailer.stores.sealed import QueueCipher, SealedDeadLetters, SealedQueueStore
from tests.services.parts import DEFAULTS, Counters, Files, WatchedThreads

__all__ = [
    "KEY",
    "NOW",
    "PARSER",
    "UPDATES",
    "AfterMark",
    "Faulty",
    "QueueCase",
    "Server",
    "mail",
    "outcomes",
]

PARSER = MailParser(load_schema("sendMail"))
UPDATES = Schema(load_schema("updateQueuedMail"))
KEY = bytes(range(16))
NOW = 1_700_000_000.5


def mail(**fields: Any) -> dict[str, Any]:
    """Give a mail object."""
    return {
        "to": ["user@example.test"],
        "ccList": [],
        "bccList": [],
        "subject": "s",
        "body": "b",
        **fields,
    }


def outcomes(outcome: Outcome, *recipients: str, reason: str = "") -> DeliveryResult:
    """Give a result in which all recipients share an outcome."""
    replies = {
        Outcome.DELIVERED: (250, "2.0.0", "2.0.0 fine"),
        Outcome.TEMPORARY: (450, "4.2.0", "4.2.0 later"),
        Outcome.PERMANENT: (550, "5.1.1", "5.1.1 never"),
        Outcome.UNCERTAIN: (0, "", ""),
    }
    code, enhanced, reply = replies[outcome]
    each = (
        RecipientOutcome(
            recipient=recipient, outcome=outcome, code=code, enhanced=enhanced, reply=reply
        )
        for recipient in recipients
    )
    reason = reason or ("" if outcome is Outcome.DELIVERED else f"SMTP Error: {outcome.value}")
    return DeliveryResult(outcomes=tuple(each), reason=reason, server="s:587", seconds=0.5)


@implementer(ISender)
class Server:
    """Answers each mail with the next of ``script``, and then takes everything.

    What is scripted: an outcome for all recipients, outcomes by recipient, a whole result, an
    exception, one ``AfterMark``, ``"unreachable"``, or ``"stuck"`` until ``release``.
    ``sent`` keeps the mails and routes; ``at_mark`` is called once a mail was announced. Whatever
    the script says, the hosts in ``stalling`` are stuck.
    """

    def __init__(self) -> None:
        """Take everything."""
        self.script: list[Any] = []
        self.always: Any = Outcome.DELIVERED
        self.sent: list[tuple[OutgoingMail, Route]] = []
        self.stuck: list[Deferred[Outcome]] = []
        self.at_mark: Callable[[], object] = bool
        self.stalling: set[str] = set()

    @property
    def recipients(self) -> list[tuple[str, ...]]:
        """The recipients of each attempt."""
        return [mail.envelope.recipients for mail, _ in self.sent]

    @property
    def ids(self) -> list[str]:
        """The ids of the mails in the order in which they came."""
        return [mail.mail_id for mail, _ in self.sent]

    def sent_to(self, host: str) -> int:
        """Count the attempts that went to a host."""
        return sum(route.host == host for _, route in self.sent)

    def release(self, outcome: Outcome = Outcome.DELIVERED) -> None:
        """End all that is stuck."""
        stuck, self.stuck = self.stuck, []
        for each in stuck:
            each.callback(outcome)

    @returns_deferred
    async def send(self, mail: OutgoingMail, route: Route) -> DeliveryResult:
        """Do what the script says."""
        self.sent.append((mail, route))
        what = self.script.pop(0) if self.script else self.always
        if route.host in self.stalling:
            what = "stuck"
        if isinstance(what, Exception):
            raise what
        if what == "unreachable":
            everybody = mail.envelope.recipients
            result = outcomes(Outcome.TEMPORARY, *everybody, reason=NOT_REACHED)
            return attrs.evolve(result, untaken=True)
        if what == "stuck":
            self.stuck.append(Deferred())
            what = await self.stuck[-1]
        return await self._converse(mail, what)

    async def _converse(self, mail: OutgoingMail, what: Any) -> DeliveryResult:
        everybody = mail.envelope.recipients
        if mail.before_dot is not None:
            try:
                await mail.before_dot(everybody)
            except (NoSuchMailError, StoreError) as error:
                return outcomes(Outcome.TEMPORARY, *everybody, reason=f"SMTP Error: {error}")
            self.at_mark()
        if isinstance(what, AfterMark):
            raise what.error
        if isinstance(what, DeliveryResult):
            return what
        if isinstance(what, Outcome):
            return outcomes(what, *everybody)
        each = [outcomes(what[recipient], recipient) for recipient in everybody]
        reasons = [result.reason for result in each if result.reason]
        return DeliveryResult(
            outcomes=tuple(result.outcomes[0] for result in each),
            reason=reasons[0] if reasons else "",
            server="s:587",
        )


@attrs.frozen
class AfterMark:
    """In a script: this exception once the mail was announced."""

    error: Exception


class Faulty:
    """Passes calls on to a store; those named in ``faults`` fail, as often as it says."""

    def __init__(self, store: Any) -> None:
        """Break nothing yet."""
        self._store = store
        self.faults: dict[str, list[Exception]] = {}
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        """Give the store's method with the fault in front."""
        method = getattr(self._store, name)

        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            if self.faults.get(name):
                error = self.faults[name].pop(0)

                def broken() -> None:
                    raise error

                return maybeDeferred(broken)
            return method(*arguments)

        return call


class QueueCase(SynchronousTestCase):
    """A sealed queue in memory, a scripted server, a clock for wall time and timers."""

    policy = RetryPolicy(max_retries=3)

    def setUp(self) -> None:
        """Put it together."""
        self.clock = Clock()
        self.clock.rightNow = NOW
        self.memory = MemoryQueueStore()
        self.faulty = Faulty(self.memory)
        nonces = (bytes([number % 256]) * 24 for number in itertools.count())
        self.cipher = QueueCipher(
            method="AES128", keys=(KEY,), whole=False, make_nonce=lambda size: next(nonces)[:size]
        )
        self.store = SealedQueueStore(self.faulty, self.cipher)  # type: ignore[arg-type]
        self.letters = SealedDeadLetters(self.memory, self.cipher)
        self.server, self.files, self.counters = Server(), Files(), Counters()
        self.courier = Courier(
            DEFAULTS, attachments=self.files, sender=self.server, threads=WatchedThreads()
        )
        self.jitter = 0.5
        self.numbers = itertools.count(1)

    def watch_log(self) -> list[dict[str, Any]]:
        """Give a list that every event of the log is added to."""
        events: list[dict[str, Any]] = []
        observer: Any = events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        return events

    def now(self) -> float:
        """Give the wall time."""
        return float(self.clock.seconds())

    def stamp(self) -> Stamp:
        """Give a new mail its identity."""
        return Stamp(unique=f"{next(self.numbers):016x}", epoch_seconds=self.now())

    def postman(
        self,
        policy: RetryPolicy | None = None,
        *,
        concurrency: int = 20,
        hidden: frozenset[str] = frozenset(),
    ) -> Postman:
        """Make a postman for the queue."""
        tools = PostmanTools(
            parser=PARSER,
            courier=self.courier,
            counters=self.counters,
            policy=policy or self.policy,
            now=self.now,
            jitter=lambda: self.jitter,
            hidden=hidden,
        )
        traffic = Traffic(self.store, concurrency, clock=self.clock, now=self.now)
        return Postman(self.store, tools, traffic)

    def put(
        self, state: MailState = FRESH, *, due: float | None = None, name: str = "", **fields: Any
    ) -> str:
        """Let a mail wait; gives its name."""
        name = name or self.store.make_name(self.now() if due is None else due, self.stamp().unique)
        self.successResultOf(self.store.put(name, mail(**fields), state))
        return name

    def own(self) -> None:
        """Run the queue."""
        self.assertTrue(self.successResultOf(self.store.acquire()))
        self.successResultOf(self.store.recover())

    def claim(self) -> StoredMail:
        """Claim the one mail that is due."""
        (claimed,) = self.successResultOf(self.store.claim(self.now(), 10))
        return claimed

    def names(self) -> list[str]:
        """Give the names of all waiting mails."""
        return list(self.successResultOf(self.store.page(500, 0)).names)

    def ask(self, handler: Callable[[Arguments], Deferred[Reply]], *value: Any) -> tuple[Any, ...]:
        """Make a request: its argument, and its content if any; gives the answer's three parts."""
        reply = self.reply(handler, *value)
        return reply.status, reply.data, reply.message

    def reply(self, handler: Callable[[Arguments], Deferred[Reply]], *value: Any) -> Reply:
        """Make a request; gives the reply."""
        content = value[1] if len(value) > 1 else None
        arguments = Arguments(
            value=value[0], content=content, has_content=len(value) > 1, peer="192.0.2.1"
        )
        return self.successResultOf(handler(arguments))
