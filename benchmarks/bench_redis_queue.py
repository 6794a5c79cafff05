# SPDX-License-Identifier: MIT
"""What the queue in Redis costs: accepting, three nodes that deliver, lists of many mails.

Starts a redis-server of its own (``--aof`` makes it write each change to disk first). Round trips
are counted where the stores hand their steps to the link. Redis's share is the processor time that
it says it used. Beside accepting stand the predecessor's own two steps (SET, then ZADD), one
after another, as one of its workers makes them.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.epollreactor import EPollReactor
from zope.interface import implementer

from smtpmailer.core.names import make_name
from smtpmailer.core.queued import Settlement
from smtpmailer.core.queuestate import FRESH, MailState
from smtpmailer.core.redisvalues import RedisScript, RedisState, Word
from smtpmailer.coroutines import returns_deferred
from smtpmailer.interfaces import IRedis
from smtpmailer.stores.redis_connection import Limits, Login
from smtpmailer.stores.redis_keys import Node, QueueKeys, member
from smtpmailer.stores.redis_leases import LeasePlan
from smtpmailer.stores.redis_link import LinkPlan, RedisLink
from smtpmailer.stores.redis_servers import FixedServer, Network
from smtpmailer.stores.redisqueue import RedisQueue, SharedQueue, make_redis_queue
from tests.redis_server import RedisServer

NODES = 3
CALLERS = 50
MAILS = 10_000
WAITING = 100_000
BATCH = 20
NOW = 1.7e9
PREFIX = "{BENCH}:"
KEYS = QueueKeys(PREFIX)
MAIL = {
    "to": ["user@example.org"],
    "ccList": [],
    "bccList": [],
    "subject": "Your invoice",
    "body": "<p>A line of an invoice, with a <b>number</b> or two in it.</p>\n" * 160,
    "failToDelivered": 0,
}
DOUBT = MailState(in_doubt=("user@example.org",), in_doubt_since=NOW)


def some_name(due: float = NOW) -> str:
    """Make a name as the service does."""
    return make_name(int(due), random.getrandbits(26), f"{random.getrandbits(64):016x}")


@implementer(IRedis)
class CountingRedis:
    """A link that counts how often Redis is asked."""

    def __init__(self, link: RedisLink) -> None:
        self.link = link
        self.asked = 0

    def call(self, *words: Word) -> Deferred[Any]:
        """Count a command."""
        self.asked += 1
        return self.link.call(*words)

    def run(self, script: RedisScript, *words: Any, **more: Any) -> Deferred[Any]:
        """Count a script."""
        self.asked += 1
        return self.link.run(script, *words, **more)

    def state(self) -> RedisState:
        """Ask the link."""
        return self.link.state()

    def tried(self) -> Deferred[None]:
        """Ask the link."""
        return self.link.tried()

    def watch(self, changed: Callable[[], None]) -> None:
        """Ask the link."""
        self.link.watch(changed)


class Bench:
    """A server, and the nodes on it."""

    def __init__(self, reactor: Any, server: RedisServer) -> None:
        """Make the nodes."""
        self.server = server
        self.links = [self._make_link(reactor) for _ in range(NODES)]
        self.nodes = [
            self._make_node(reactor, number, link) for number, link in enumerate(self.links)
        ]

    def _make_link(self, reactor: Any) -> CountingRedis:
        plan = LinkPlan(
            login=Login(),
            limits=Limits(answer=30),
            pause=0.1,
            now=time.time,
            jitter=random.random,
        )
        network = Network(reactor=reactor, connect_limit=5)
        place = FixedServer(("127.0.0.1", self.server.port))
        return CountingRedis(RedisLink(place, network, plan))

    def _make_node(self, reactor: Any, number: int, link: IRedis) -> RedisQueue:
        shared = SharedQueue(
            prefix=PREFIX,
            node=Node("bench", number, "x"),
            leases=LeasePlan(seconds=600.0),
        )
        return make_redis_queue(link, shared, clock=reactor, now=time.time)

    @returns_deferred
    async def measure(self) -> None:
        """Measure everything."""
        for link in self.links:
            link.link.start()
            await link.tried()
        await self.accept_like_the_predecessor()
        await self.accept()
        await self.deliver()
        await self.list_many()
        for node in self.nodes:
            await node.store.stop()
        for link in self.links:
            await link.link.stop()

    @returns_deferred
    async def accept(self) -> None:
        """Put mails from many callers at once, all through one node."""

        @returns_deferred
        async def caller() -> None:
            for _ in range(MAILS // CALLERS):
                await self.nodes[0].store.put(some_name(), MAIL, FRESH)

        watch = Stopwatch(self)
        await gatherResults([caller() for _ in range(CALLERS)])
        watch.report(f"put, 10 KB, {CALLERS} callers", MAILS)

    @returns_deferred
    async def accept_like_the_predecessor(self) -> None:
        """Make its two steps for as many mails; they are removed afterwards."""
        redis = self.links[0]
        content = orjson.dumps(MAIL)
        watch = Stopwatch(self)
        for name in (some_name() for _ in range(MAILS)):
            await redis.call("SET", KEYS.queue(name), content)
            await redis.call("ZADD", KEYS.index, 0, member(name))
        watch.report("the predecessor's two steps", MAILS)
        self.server.call("FLUSHALL")

    @returns_deferred
    async def deliver(self) -> None:
        """Claim, mark and settle them all, as three runners do."""
        for node in self.nodes:
            assert await node.store.acquire()
            await node.store.recover()
        settlement = Settlement(at=NOW, state=FRESH, done=True)
        shares = [0] * NODES

        @returns_deferred
        async def settle(node: RedisQueue, name: str) -> None:
            await node.store.mark(name, DOUBT)
            await node.store.settle(name, settlement)

        @returns_deferred
        async def run(number: int) -> None:
            node = self.nodes[number]
            while mails := await node.store.claim(NOW + 1, BATCH):
                await gatherResults([settle(node, mail.name) for mail in mails])
                shares[number] += len(mails)

        watch = Stopwatch(self)
        await gatherResults([run(number) for number in range(NODES)])
        watch.report(f"{NODES} nodes: claim, mark, settle", sum(shares))
        print(f"{'':<32} shares: {', '.join(map(str, shares))}")

    @returns_deferred
    async def list_many(self) -> None:
        """List a queue of many mails."""
        store = self.nodes[0].store
        for start in range(0, WAITING, 1000):
            names = [some_name(NOW + start) for _ in range(1000)]
            await gatherResults([store.put(name, {"subject": "x"}, FRESH) for name in names])
        times = []
        for page in range(0, WAITING // 500, 2):
            began = time.perf_counter()
            found = await store.page(500, page)
            times.append((time.perf_counter() - began) * 1000)
            assert (found.total, len(found.names)) == (WAITING, 500)
        times.sort()
        print(
            f"page of 500 names of {WAITING:,}:   median {times[len(times) // 2]:.2f} ms, "
            f"worst {times[-1]:.2f} ms"
        )
        watch = Stopwatch(self)
        assert await store.clear() == WAITING
        watch.report("clear", WAITING)


class Stopwatch:
    """Measures from when it is made: time, this process's share, Redis's, and round trips."""

    def __init__(self, bench: Bench) -> None:
        """Begin."""
        self._bench = bench
        self._asked = self._sum_asked()
        self._busy = self._redis_busy()
        self._cpu = time.process_time()
        self._start = time.perf_counter()

    def report(self, what: str, count: int) -> None:
        """Print a line of results."""
        seconds = time.perf_counter() - self._start
        cpu = (time.process_time() - self._cpu) / count * 1e6
        busy = (self._redis_busy() - self._busy) / count
        asked = (self._sum_asked() - self._asked) / count
        print(
            f"{what:<32} {count / seconds:>8,.0f}/s {asked:7.3f} round trips, "
            f"{cpu:6.1f} us of CPU, {busy:5.1f} us of Redis each"
        )

    def _sum_asked(self) -> int:
        return sum(link.asked for link in self._bench.links)

    def _redis_busy(self) -> float:
        """Give the microseconds of processor time that Redis has used."""
        text = self._bench.server.call("INFO", "cpu").decode("ascii")
        stats = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        return 1e6 * (float(stats["used_cpu_sys"]) + float(stats["used_cpu_user"]))


def main() -> None:
    """Run it."""
    settings = {"appendonly": "yes", "appendfsync": "always"} if "--aof" in sys.argv else {}
    server = RedisServer(settings)
    try:
        reactor: Any = EPollReactor()
        work = Bench(reactor, server).measure()
        work.addErrback(lambda failure: failure.printTraceback())
        work.addBoth(lambda _: reactor.crash())
        reactor.run(installSignalHandlers=False)
    finally:
        server.clean_up()


if __name__ == "__main__":
    main()
