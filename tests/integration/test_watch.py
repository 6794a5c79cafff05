# SPDX-License-Identifier: MIT
"""Real inotify: what other programs do to a directory is noticed."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from twisted.internet.epollreactor import EPollReactor
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.stores.watch import DirectoryWatch


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


class DirectoryWatchTests(SynchronousTestCase):
    """A watch in a reactor of its own, turned by hand."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name, "mail")
        self.path.mkdir()
        self.reactor = EPollReactor()
        self.now = 0.0
        self.patch(self.reactor, "seconds", lambda: self.now)
        self.told: list[str] = []
        self.watch = DirectoryWatch(self.reactor, self.tell, lambda: self.told.append("?"))
        self.addCleanup(self.watch.stop)
        self.assertTrue(self.watch.start(str(self.path)))

    def tell(self, name: str, came: bool) -> None:  # noqa: FBT001 - as the watch calls it
        """Note a name; in front of one whose file went stands a minus."""
        self.told.append(name if came else f"-{name}")

    def turn(self, later: float = 1.0) -> list[str]:
        """Let the reactor read what there is a while later; gives what was told."""
        self.now += later
        self.reactor.iterate(0)
        told = list(self.told)
        self.told.clear()
        return told

    def test_what_happens_is_gathered_for_a_little_while(self) -> None:
        (self.path / "a").write_bytes(b"")
        self.assertEqual(self.turn(0), ["a"])
        for name in ("b", "c"):
            (self.path / name).write_bytes(b"")
            self.assertEqual(self.turn(0.009), [])
        self.assertEqual(self.turn(0.003), ["b", "c"])

    def test_it_can_be_stopped_while_it_gathers(self) -> None:
        (self.path / "a").write_bytes(b"")
        self.turn(0)
        self.watch.stop()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertTrue(self.watch.start(str(self.path)))
        (self.path / "b").write_bytes(b"")
        self.assertEqual(self.turn(0), ["b"])
        self.watch.stop()
        self.assertNotIn(self.watch, self.reactor.getReaders())

    def test_of_very_much_nothing_is_left_to_gather_more(self) -> None:
        """The kernel keeps some thousand events; those beyond would be lost."""
        path, other = self.path / ("a" * 200), self.path / ("b" * 200)
        path.write_bytes(b"")
        for _ in range(1000):
            path.rename(other)
            other.rename(path)
        self.assertGreater(len(self.turn(0)), 500)
        self.assertGreater(len(self.turn(0)), 500)

    def test_a_written_file_counts_once_it_is_closed(self) -> None:
        with (self.path / "a").open("wb") as file:
            file.write(b"x")
            file.flush()
            self.assertEqual(self.turn(), [])
        self.assertEqual(self.turn(), ["a"])

    def test_files_renamed_in_and_out_and_removed_are_told(self) -> None:
        outside = self.path.parent / "b"
        outside.write_bytes(b"")
        outside.rename(self.path / "b")
        self.assertEqual(self.turn(), ["b"])
        (self.path / "b").rename(self.path / "c")
        self.assertEqual(self.turn(), ["-b", "c"])
        (self.path / "c").rename(outside)
        self.assertEqual(self.turn(), ["-c"])
        outside.rename(self.path / "b")
        (self.path / "b").unlink()
        self.assertEqual(self.turn(), ["b", "-b"])

    def test_names_of_any_bytes_are_told(self) -> None:
        name = b"\xff\xfe-long" + b"x" * 200
        Path(os.fsdecode(bytes(self.path) + b"/" + name)).write_bytes(b"")
        self.assertEqual(self.turn(), [os.fsdecode(name)])

    def test_more_events_than_the_kernel_keeps_are_told_as_lost(self) -> None:
        limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text("ascii"))
        path = self.path / "a"
        other = self.path / "b"
        path.write_bytes(b"")
        for _ in range(limit // 4 + 10):
            path.rename(other)
            other.rename(path)
        told: list[str] = []
        while more := self.turn():
            told += more
        self.assertEqual(told[-1], "?")

    def test_a_directory_that_goes_away_is_watched_no_longer(self) -> None:
        for leave in (
            lambda: shutil.rmtree(self.path),
            lambda: self.path.rename(self.path.parent / "moved"),
        ):
            self.path.mkdir(exist_ok=True)
            self.assertTrue(self.watch.start(str(self.path)))
            leave()
            self.assertEqual(self.turn(), ["?"])
            self.assertFalse(self.watch.watching)
        self.path.mkdir()
        self.assertTrue(self.watch.start(str(self.path)))
        (self.path / "a").write_bytes(b"")
        self.assertEqual(self.turn(), ["a"])

    def test_what_is_no_directory_can_t_be_watched(self) -> None:
        before = open_files()
        self.watch.stop()
        self.assertFalse(self.watch.start(str(self.path / "none")))
        self.assertFalse(self.watch.watching)
        self.assertEqual(open_files(), before - 1)

    def test_stop_is_silent_and_may_be_called_again(self) -> None:
        self.watch.stop()
        self.watch.stop()
        (self.path / "a").write_bytes(b"")
        self.assertEqual(self.turn(), [])

    def test_a_reactor_that_gives_it_up_is_told(self) -> None:
        self.watch.connectionLost(Failure(OSError("gone")))
        self.assertFalse(self.watch.watching)
        self.assertEqual(self.turn(), ["?"])
