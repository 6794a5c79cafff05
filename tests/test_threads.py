# SPDX-License-Identifier: MIT
"""One contract for both ways of running blocking work, and what only real threads do."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from smtpmailer.errors import ThreadsStoppedError
from smtpmailer.interfaces import IThreads
from smtpmailer.threads import InlineThreads, Threads


@implementer(IReactorFromThreads)
class QueueReactor:
    """The part of a reactor that takes calls from threads, run by hand."""

    def __init__(self) -> None:
        self._calls: queue.Queue[Callable[[], object]] = queue.Queue()

    def callFromThread(
        self,
        callable: Callable[..., Any],  # noqa: A002
        *args: object,
        **kwargs: object,
    ) -> None:
        self._calls.put(lambda: callable(*args, **kwargs))

    def turn(self) -> None:
        """Wait for the next call, at most 10 s, and make it."""
        self._calls.get(timeout=10)()


class ThreadsContract:
    """What every IThreads does; mix into a SynchronousTestCase."""

    threads: Threads | InlineThreads

    def wait_for(self, result: Deferred[Any]) -> None:
        """Return when ``result`` has fired."""
        raise NotImplementedError

    def test_it_provides_its_interface(self: Any) -> None:
        verifyObject(IThreads, self.threads)

    def test_run_fires_with_the_result(self: Any) -> None:
        result = self.threads.run(lambda: 42)
        self.wait_for(result)
        self.assertEqual(self.successResultOf(result), 42)

    def test_run_fails_with_the_exception(self: Any) -> None:
        result = self.threads.run(lambda: "".index("x"))
        self.wait_for(result)
        self.failureResultOf(result, ValueError)

    def test_after_stop_nothing_is_taken(self: Any) -> None:
        self.successResultOf(self.threads.stop())
        self.failureResultOf(self.threads.run(lambda: 42), ThreadsStoppedError)

    def test_stop_may_be_called_twice(self: Any) -> None:
        self.successResultOf(self.threads.stop())
        self.successResultOf(self.threads.stop())

    def test_it_may_be_started_again(self: Any) -> None:
        self.successResultOf(self.threads.stop())
        self.threads.start()
        self.test_run_fires_with_the_result()


class InlineThreadsTests(ThreadsContract, SynchronousTestCase):
    """The inline version, for tests."""

    def setUp(self) -> None:
        self.threads = InlineThreads()
        self.threads.start()

    def wait_for(self, result: Deferred[Any]) -> None:
        self.assertTrue(result.called)

    def test_it_needs_no_start(self) -> None:
        self.assertEqual(self.successResultOf(InlineThreads().run(lambda: 1)), 1)

    def test_work_runs_where_it_is_called(self) -> None:
        here = self.successResultOf(self.threads.run(threading.current_thread))
        self.assertIs(here, threading.current_thread())


class ThreadsTests(ThreadsContract, SynchronousTestCase):
    """Real threads."""

    def setUp(self) -> None:
        self.reactor = QueueReactor()
        self.threads: Threads = Threads(self.reactor, name="test-threads", size=2)
        self.threads.start()
        self.addCleanup(self.finish)

    def finish(self) -> None:
        stopped = self.threads.stop()
        self.wait_for(stopped)

    def wait_for(self, result: Deferred[Any]) -> None:
        while not result.called:
            self.reactor.turn()

    def test_before_start_nothing_is_taken(self) -> None:
        threads = Threads(self.reactor, name="idle", size=1)
        self.failureResultOf(threads.run(lambda: 1), ThreadsStoppedError)
        self.successResultOf(threads.stop())

    def test_work_runs_in_a_named_thread_and_fires_in_the_reactor_s(self) -> None:
        fired_in: list[threading.Thread] = []

        def fired(worker: threading.Thread) -> threading.Thread:
            fired_in.append(threading.current_thread())
            return worker

        result = self.threads.run(threading.current_thread).addCallback(fired)
        self.wait_for(result)
        worker = self.successResultOf(result)
        self.assertIn("test-threads", worker.name)
        self.assertEqual(fired_in, [threading.current_thread()])

    def test_no_more_than_size_run_at_once(self) -> None:
        gate = threading.Event()
        begun: queue.Queue[int] = queue.Queue()

        def work(number: int) -> bool:
            begun.put(number)
            return gate.wait(10)

        results = [self.threads.run(lambda n=n: work(n)) for n in range(3)]  # type: ignore[misc]
        self.assertEqual({begun.get(timeout=10), begun.get(timeout=10)}, {0, 1})
        self.assertTrue(begun.empty())
        gate.set()
        for result in results:
            self.wait_for(result)
            self.assertTrue(self.successResultOf(result))

    def test_stop_waits_for_work_and_comes_after_its_result(self) -> None:
        gate = threading.Event()
        order: list[str] = []
        result = self.threads.run(lambda: gate.wait(10))
        result.addCallback(lambda _: order.append("result"))
        stops = [self.threads.stop(), self.threads.stop()]
        for stopped in stops:
            self.assertNoResult(stopped)
            stopped.addCallback(lambda _: order.append("stopped"))
        self.failureResultOf(self.threads.run(lambda: 1), ThreadsStoppedError)
        gate.set()
        self.wait_for(stops[1])
        self.assertEqual(order, ["result", "stopped", "stopped"])

    def test_an_idle_thread_holds_nothing_of_its_work(self) -> None:
        class Large:
            """What can be referred to weakly."""

        given, made = Large(), Large()
        gone = [threading.Event(), threading.Event()]
        weakref.finalize(given, gone[0].set)
        weakref.finalize(made, gone[1].set)
        result = self.threads.run(partial(lambda _, made: made, given, made))
        del given, made
        self.wait_for(result)
        del result
        # The thread may be about to lay its work down.
        self.assertEqual([each.wait(10) for each in gone], [True, True])

    def test_stop_leaves_no_thread_behind(self) -> None:
        self.wait_for(self.threads.run(lambda: None))
        self.successResultOf(self.threads.stop())
        left = [t.name for t in threading.enumerate() if "test-threads" in t.name]
        self.assertEqual(left, [])
