# SPDX-License-Identifier: MIT
"""What the file queue itself costs: accepting, claiming and settling, starting with many mails.

Run it as ``python benchmarks/bench_queue_store.py [DIRECTORY]``; the directory (default: the
current one) decides on which disk. Each put is a 10 KB mail, durable when it is answered.
"""

from __future__ import annotations

import os
import random
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.epollreactor import EPollReactor

from smtpmailer.core.names import make_file_name
from smtpmailer.core.queued import Settlement
from smtpmailer.core.queuestate import FRESH
from smtpmailer.coroutines import returns_deferred
from smtpmailer.stores.filequeue import FileQueue, QueueDirectories, make_file_queue
from smtpmailer.stores.watch import DirectoryWatch
from smtpmailer.threads import Threads

CALLERS = 50
PUTS = 10_000
NOW = 1.7e9
MAIL = {
    "to": ["user@example.org"],
    "ccList": [],
    "bccList": [],
    "subject": "Your invoice",
    "body": "<p>A line of an invoice, with a <b>number</b> or two in it.</p>\n" * 160,
    "failToDelivered": 0,
}


def some_name(due: float) -> str:
    """Make a name as the service does."""
    return make_file_name(due, f"{random.getrandbits(64):016x}")


class Stopwatch:
    """Measures from when it is made: the time that passes, and the processor's."""

    def __init__(self) -> None:
        """Begin."""
        self._start = time.perf_counter()
        self._cpu = time.process_time()

    def report(self, what: str, count: int) -> None:
        """Print a line of results."""
        seconds = time.perf_counter() - self._start
        cpu = (time.process_time() - self._cpu) / count * 1e6
        print(f"{what:<28} {count / seconds:>9,.0f}/s {seconds:8.3f} s {cpu:8.1f} us of CPU each")


@returns_deferred
async def accept(queue: FileQueue) -> None:
    """Put mails from many callers at once."""

    @returns_deferred
    async def caller() -> None:
        for _ in range(PUTS // CALLERS):
            await queue.store.put(some_name(NOW), MAIL, FRESH)

    watch = Stopwatch()
    await gatherResults([caller() for _ in range(CALLERS)])
    watch.report(f"put, 10 KB, {CALLERS} callers", PUTS)


@returns_deferred
async def drain(queue: FileQueue) -> None:
    """Claim, mark and settle them all, as the runner does."""
    assert await queue.store.acquire()
    await queue.store.recover()
    settlement = Settlement(at=NOW, state=FRESH, done=True)

    @returns_deferred
    async def deliver(name: str) -> None:
        await queue.store.mark(name, FRESH)
        await queue.store.settle(name, settlement)

    watch = Stopwatch()
    count = 0
    while mails := await queue.store.claim(NOW + 1, CALLERS):
        await gatherResults([deliver(mail.name) for mail in mails])
        count += len(mails)
    watch.report("claim, mark, settle", count)


def fill(directory: Path, count: int) -> None:
    """Write many scheduled mails, as another program would."""
    content = orjson.dumps({**MAIL, "body": "x"})
    directory.mkdir(parents=True)
    for number in range(count):
        (directory / some_name(NOW + number)).write_bytes(content)


@returns_deferred
async def begin(queue: FileQueue, count: int) -> None:
    """Start with many mails waiting, and list them."""
    before = resident_mb()
    watch = Stopwatch()
    await queue.store.start()
    watch.report(f"start with {count:,} mails", count)
    watch = Stopwatch()
    for page in range(100):
        await queue.store.page(500, page)
    watch.report("page of 500 names", 100)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"memory: {resident_mb() - before:.0f} MB more, {peak:.0f} MB at most in all")


def resident_mb() -> float:
    """Give how much memory this process has."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def run(reactor: Any, work: Deferred[Any]) -> None:
    """Run the reactor until ``work`` has fired."""
    work.addErrback(lambda failure: failure.printTraceback())
    if not work.called:
        work.addBoth(lambda _: reactor.crash())
        reactor.run(installSignalHandlers=False)


def main() -> None:
    """Measure everything, each in a directory of its own."""
    reactor = EPollReactor()
    threads = Threads(reactor, name="queue", size=6)
    threads.start()

    def make(root: Path) -> FileQueue:
        places = [str(root / name) for name in ("mail", "temp", "failed")]
        directories = QueueDirectories(waiting=places[0], claimed=places[1], failed=places[2])
        return make_file_queue(
            directories, threads, lambda *told: DirectoryWatch(reactor, *told), durable=True
        )

    where = sys.argv[1] if len(sys.argv) > 1 else "."
    with tempfile.TemporaryDirectory(dir=where) as root:
        queue = make(Path(root))
        for work in (queue.store.start, lambda: accept(queue), lambda: drain(queue)):
            run(reactor, work())
        run(reactor, queue.store.stop())
    for count in (100_000, *([1_000_000] if "--million" in sys.argv else [])):
        with tempfile.TemporaryDirectory(dir=where) as root:
            fill(Path(root, "mail"), count)
            queue = make(Path(root))
            run(reactor, begin(queue, count))
            run(reactor, queue.store.stop())
    run(reactor, threads.stop())


if __name__ == "__main__":
    main()
