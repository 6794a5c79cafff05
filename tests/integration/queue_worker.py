# SPDX-License-Identifier: MIT
"""A worker that uses a file queue, is killed, and leaves a ledger of what it was promised."""

from __future__ import annotations

import collections
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.epollreactor import EPollReactor
from twisted.python.failure import Failure

from smtpmailer.core.model import Outcome
from smtpmailer.core.queued import Settlement, StoredMail
from smtpmailer.core.queuestate import FRESH, MailState
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import NoSuchMailError
from smtpmailer.stores import atomic, journal
from smtpmailer.stores.filequeue import FileQueue, QueueDirectories, make_file_queue
from smtpmailer.stores.watch import DirectoryWatch
from smtpmailer.threads import Threads
from tests.stores.queues import NOW, HeldThreads, Place, document, name_at, outcome

#: Everybody a mail goes to.
RECIPIENTS = ("a@example.test", "b@example.test")

LATER = NOW + 1e6


class Ledger:
    """Lines that outlast a killed process: what was answered, what was sent, what is in doubt."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        # The real one: faults are not for the ledger.
        self._write = os.write

    def close(self) -> None:
        os.close(self._handle)

    def note(self, what: str, mail: str) -> None:
        self._write(self._handle, f"{what} {mail}\n".encode())

    def counts(self) -> dict[str, collections.Counter[str]]:
        """Count the lines by what they say."""
        counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        for line in self._path.read_text("ascii").splitlines():
            what, mail = line.split()
            counts[what][mail] += 1
        return counts


class Fault:
    """Kills the process at the Nth step on the disk; ``torn``: in the middle, if it is a write."""

    _STEPS = ("open", "mkdir", "rename", "unlink", "rmdir", "fsync", "write", "pwrite")

    def __init__(self, at: int, *, torn: bool = False) -> None:
        self._at = at
        self._torn = torn
        self.steps: list[str] = []

    def install(self) -> None:
        """Count every step of this process from now on."""
        for name in self._STEPS:
            setattr(os, name, self._wrap(name, getattr(os, name)))
        for name in ("syncfs", "renameat2"):
            setattr(atomic._libc, name, self._wrap(name, getattr(atomic._libc, name)))

    def _wrap(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            self.steps.append(name)
            if len(self.steps) == self._at:
                if self._torn and name in ("write", "pwrite"):
                    handle, data, *rest = args
                    call(handle, bytes(data)[: len(data) // 2], *rest)
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return step


def mail_id(mail: StoredMail) -> str:
    """Give what a mail is known by in the ledger; its name may change."""
    assert isinstance(mail.document, dict), mail
    return str(mail.document["subject"])


@attrs.define
class Worker:
    """One process: a client and the runner in one."""

    queue: FileQueue
    ledger: Ledger
    number: int = 0

    @returns_deferred
    async def put(self, mail: str, state: MailState = FRESH, due: float = NOW) -> str:
        self.number += 1
        name = name_at(due, random.getrandbits(64))
        await self.queue.store.put(name, document(mail), state)
        self.ledger.note("accepted", mail)
        return name

    @returns_deferred
    async def update(self, name: str, mail: str) -> None:
        new_name = name_at(NOW + 1, random.getrandbits(64))
        await self.queue.store.replace(name, new_name, document(mail, updated=True))

    @returns_deferred
    async def remove(self, name: str, mail: str) -> None:
        self.ledger.note("removing", mail)
        await self.queue.store.remove(name)
        self.ledger.note("removed", mail)

    @returns_deferred
    async def begin(self) -> None:
        """Become the runner, and deal with what a dead one left."""
        assert await self.queue.store.acquire()
        recovered = await self.queue.store.recover()
        assert not recovered.leftovers, recovered.leftovers
        for mail in recovered.claims:
            for recipient in mail.state.in_doubt:
                self.ledger.note("doubt", f"{mail_id(mail)}:{recipient}")
            await self.deliver(mail, RECIPIENTS)

    @returns_deferred
    async def deliver(self, mail: StoredMail, reachable: tuple[str, ...], dead: str = "") -> None:
        """Send to those who can be reached, and settle."""
        left = [r for r in RECIPIENTS if r not in mail.state.settled_addresses()]
        now = [r for r in left if r in reachable]
        marked = attrs.evolve(mail.state, in_doubt=tuple(now), in_doubt_since=NOW)
        await self.queue.store.mark(mail.name, marked)
        for recipient in now:
            self.ledger.note("sent", f"{mail_id(mail)}:{recipient}")
        settled = (*mail.state.settled, *(outcome(r, Outcome.DELIVERED) for r in now))
        state = MailState(settled=settled, next_at=NOW + 5)
        if dead:
            what: dict[str, Any] = {"dead": dead, "document": document(mail_id(mail), failed=1)}
        elif len(now) == len(left):
            what = {"done": True}
        else:
            what = {"document": document(mail_id(mail), failToDelivered=1)}
        await self.queue.store.settle(mail.name, Settlement(at=NOW, state=state, **what))
        if dead:
            self.ledger.note("dead", mail_id(mail))

    @returns_deferred
    async def drain(self) -> None:
        """Deliver until nothing is due."""
        while mails := await self.queue.store.claim(LATER, 7):
            for mail in mails:
                await self.deliver(mail, RECIPIENTS)


def all_steps(place: Place, ledger: Ledger, fault: Fault) -> None:
    """Do everything once, with several operations to a commit; ends, or is killed."""
    threads = HeldThreads()
    journal.MIN_REWRITE_BYTES = 2000  # type: ignore[misc]
    queue, _ = place.make_queue(threads)
    worker = Worker(queue, ledger)
    random.seed(1)

    def together(*work: Deferred[Any]) -> list[Any]:
        threads.go()
        results = DeferredList(work, fireOnOneErrback=True, consumeErrors=True).result
        assert isinstance(results, list), results
        return [value for _, value in results]

    fault.install()
    together(queue.store.start())
    state = MailState(settled=(outcome("a@example.test"),), next_at=NOW)
    ledger.note("sent", "noted:a@example.test")
    names = together(*(worker.put(f"first{n}") for n in range(6)), worker.put("noted", state))
    together(worker.update(names[0], "first0"), worker.remove(names[1], "first1"))
    together(worker.begin())
    (mails,) = together(queue.store.claim(LATER, 3))
    together(
        *(worker.deliver(mail, reach) for mail, reach in zip(mails, _REACHES, strict=True)),
        worker.put("between"),
    )
    (mails,) = together(queue.store.claim(NOW, 1))
    together(*(worker.deliver(mail, RECIPIENTS[:1], dead="given up") for mail in mails))
    (page,) = together(queue.dead.page_failed(9, 0))
    for name in page.names:
        (buried,) = together(queue.dead.get_failed(name))
        mail = mail_id(buried.mail)
        together(queue.dead.retry_failed(name, document(mail)))
        ledger.note("revived", mail)
    together(worker.update(worker_first(queue, together), "noted"))
    together(worker.drain())
    together(queue.store.stop())


_REACHES = (RECIPIENTS, RECIPIENTS[:1], ())


def worker_first(queue: FileQueue, together: Callable[..., list[Any]]) -> str:
    """Give the name under which the mail with the history waits now."""
    (page,) = together(queue.store.page(500, 0))
    for name in page.names:
        (mail,) = together(queue.store.get(name))
        if mail_id(mail) == "noted":
            return str(name)
    raise AssertionError(page)


@attrs.define
class Load:
    """A worker in a reactor with real threads, busy until it is killed."""

    worker: Worker
    seed: int
    chance: random.Random

    @returns_deferred
    async def client(self, number: int) -> None:
        """Put mails; change some, remove some."""
        for turn in range(10**6):
            mail = f"m{self.seed}-{number}-{turn}"
            name = await self.worker.put(mail)
            try:
                if self.chance.random() < 0.2:
                    await self.worker.update(name, mail)
                elif self.chance.random() < 0.2:
                    await self.worker.remove(name, mail)
            except NoSuchMailError:
                # The runner was faster.
                continue

    @returns_deferred
    async def runner(self) -> None:
        """Deliver, now and then to some only, now and then to nobody for good."""
        store = self.worker.queue.store
        await self.worker.begin()
        while True:
            reach = self.chance.choice((*_REACHES, *[RECIPIENTS] * 5))
            dead = "given up" if self.chance.random() < 0.1 else ""
            mails = await store.claim(LATER, 7)
            await gatherResults([self.worker.deliver(mail, reach, dead) for mail in mails])
            if not mails:
                await store.rescan()

    @returns_deferred
    async def everything(self) -> None:
        """Start, say so, and run."""
        await self.worker.queue.store.start()
        self.worker.ledger.note("begun", str(self.seed))
        clients = [self.client(number) for number in range(5)]
        await gatherResults([self.runner(), *clients])

    def failed(self, failure: Failure) -> None:
        """Let the test know."""
        self.worker.ledger.note("failed", repr(failure.value).replace(" ", "_"))
        failure.printTraceback()


def under_load(place: Place, ledger: Ledger, seed: int) -> None:
    """Put, change, remove and deliver mails until killed."""
    reactor = EPollReactor()
    threads = Threads(reactor, name="queue", size=6)
    threads.start()
    directories = QueueDirectories(
        waiting=str(place.waiting), claimed=str(place.claimed), failed=str(place.failed)
    )
    queue = make_file_queue(
        directories, threads, lambda *told: DirectoryWatch(reactor, *told), durable=True
    )
    chance = random.Random(seed)  # noqa: S311
    load = Load(Worker(queue, ledger), seed, chance)
    reactor.callWhenRunning(lambda: load.everything().addErrback(load.failed))
    reactor.run(installSignalHandlers=False)
