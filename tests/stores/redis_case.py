# SPDX-License-Identifier: MIT
"""Synchronous tests on a real Redis: a reactor of the test's own runs while it waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.selectreactor import SelectReactor
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.stores.redis_connection import Limits, Login
from smtpmailer.stores.redis_link import LinkPlan, RedisLink
from smtpmailer.stores.redis_servers import FixedServer, Network, Place
from tests.redis_server import DEADLINE, RedisServer

__all__ = ["PREFIX", "RedisTestCase"]

#: What the stores under test put in front of every key.
PREFIX: Final = "SMTP_MAILER_TEST:"


class RedisTestCase(SynchronousTestCase):
    """Has a server and a link to it; asking for a Deferred's result waits for it."""

    def setUp(self) -> None:
        """Make the reactor; tests that need them start a server and a link."""
        self.reactor: Any = SelectReactor()
        self.reactor.startRunning(installSignalHandlers=False)
        self.addCleanup(self._stop_reactor)

    def start_server(self, **settings: object) -> RedisServer:
        """Start a server with these settings of redis.conf (``_`` stands for ``-``)."""
        server = RedisServer({key.replace("_", "-"): value for key, value in settings.items()})
        self.addCleanup(server.clean_up)
        return server

    def start_link(self, place: RedisServer | Place, **more: Any) -> RedisLink:
        """Start a link and wait for its first attempt; ``more`` as for ``make_link``."""
        link = self.make_link(place, **more)
        link.start()
        self.addCleanup(lambda: self.wait(link.stop()))
        self.wait(link.tried())
        return link

    def make_link(
        self, place: RedisServer | Place, network: Network | None = None, **plan: Any
    ) -> RedisLink:
        """Make a link that connects again after some milliseconds; ``plan`` as for LinkPlan."""
        if isinstance(place, RedisServer):
            place = FixedServer(("127.0.0.1", place.port))
        values: dict[str, Any] = {
            "login": Login(),
            "limits": Limits(answer=5.0),
            "pause": 0.01,
            "now": time.time,
            "jitter": lambda: 0.5,
            "connections": 2,
        }
        return RedisLink(place, network or self.network(), LinkPlan(**(values | plan)))

    def network(self, **more: Any) -> Network:
        """Give the way to servers."""
        return Network(reactor=self.reactor, connect_limit=2.0, **more)

    def wait(self, deferred: Deferred[Any]) -> Any:
        """Run the reactor until a Deferred has fired; give its result or raise its failure."""
        return self.successResultOf(deferred)

    def until(self, what: str, probe: Callable[[], object]) -> None:
        """Run the reactor until ``probe`` gives something true."""
        end = time.monotonic() + DEADLINE
        while not probe():
            assert time.monotonic() < end, f"{what}: not so after {DEADLINE:g} s"
            self.reactor.iterate(0.01)

    def successResultOf(self, deferred: Any) -> Any:
        """Give the result, when it has come."""
        self._await(deferred)
        return super().successResultOf(deferred)

    def failureResultOf(self, deferred: Any, *expected: Any) -> Any:
        """Give the failure, when it has come."""
        self._await(deferred)
        return super().failureResultOf(deferred, *expected)

    def results_of(self, deferreds: Sequence[Deferred[Any]]) -> list[Any]:
        """Give the results of all, when all have come."""
        return [self.successResultOf(deferred) for deferred in deferreds]

    def _await(self, deferred: Any) -> None:
        over = False

        def note(result: Any) -> Any:
            nonlocal over
            over = True
            return result  # the base class wants it as well

        deferred.addBoth(note)
        end = time.monotonic() + DEADLINE
        while not over and time.monotonic() < end:
            self.reactor.iterate(0.01)

    def _stop_reactor(self) -> None:
        self.reactor.stop()
        self.reactor.iterate(0)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.reactor.removeAll(), [])
        for waker in tuple(self.reactor._internalReaders):
            waker.connectionLost(None)
