# SPDX-License-Identifier: MIT
"""Files that are removed now and given back to the disk later."""

from __future__ import annotations

import os
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.stores import disposal as module
from smtpmailer.stores.disposal import Disposal
from smtpmailer.threads import InlineThreads
from tests.stores.queues import HeldThreads, make_place


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


class DisposalTests(SynchronousTestCase):
    """The name goes at once; descriptors never pile up."""

    def setUp(self) -> None:
        self.root = make_place(self).root
        self.threads = HeldThreads()
        self.disposal = Disposal(self.threads)
        self.addCleanup(self.disposal.close)
        self.before = open_files()

    def remove(self, count: int) -> None:
        for number in range(count):
            path = self.root / str(number)
            path.write_bytes(b"x")
            self.assertTrue(self.disposal.unlink(str(path)))
            self.assertFalse(path.exists())

    def test_a_name_goes_at_once_and_its_file_with_dispose(self) -> None:
        self.remove(5)
        self.assertEqual(open_files(), self.before + 5)
        self.disposal.dispose()
        self.disposal.dispose()
        self.assertEqual(len(self.threads._work), 1)
        self.threads.go()
        self.assertEqual(open_files(), self.before)
        self.remove(1)
        self.disposal.dispose()
        self.threads.go()
        self.assertEqual(open_files(), self.before)

    def test_many_are_closed_by_several_threads(self) -> None:
        self.remove(110)
        self.disposal.dispose()
        self.disposal.dispose()
        self.assertEqual(len(self.threads._work), 3)
        self.threads.go()
        self.assertEqual(open_files(), self.before)

    def test_a_few_wait_for_more_while_more_come(self) -> None:
        self.remove(31)
        self.disposal.dispose(True)
        self.assertEqual(len(self.threads._work), 0)
        self.remove(1)
        self.disposal.dispose(True)
        self.assertEqual(len(self.threads._work), 1)
        self.threads.go()
        self.assertEqual(open_files(), self.before)

    def test_no_descriptor_between_those_of_removed_files_is_closed(self) -> None:
        others = []
        for _ in range(5):
            self.remove(2)
            others.append(os.open(self.root, os.O_RDONLY))
        with mock.patch("os.closerange", wraps=os.closerange) as closerange:
            self.disposal.close()
        self.assertLess(closerange.call_count, 10)
        self.assertEqual(open_files(), self.before + 5)
        for other in others:
            os.close(other)

    def keep(self, name: str) -> str:
        """Leave the descriptor of a new file."""
        path = self.root / name
        path.write_bytes(b"x")
        self.disposal.keep(str(path), os.open(path, os.O_RDONLY))
        return str(path)

    def test_a_file_whose_descriptor_is_kept_is_not_opened_again(self) -> None:
        path = self.keep("a")
        with mock.patch("os.open", side_effect=AssertionError("opened")):
            self.assertTrue(self.disposal.unlink(path))
        self.assertEqual(open_files(), self.before + 1)
        self.disposal.close()
        self.assertEqual(open_files(), self.before)

    def test_what_is_kept_goes_with_its_path(self) -> None:
        path = self.keep("a")
        self.disposal.keep(path, os.open(path, os.O_RDONLY))
        self.assertEqual(open_files(), self.before + 1)
        self.disposal.let_go(path)
        self.disposal.let_go(path)
        self.assertEqual(open_files(), self.before)
        self.keep("b")
        self.remove(1)
        self.disposal.end()
        self.assertEqual(open_files(), self.before)

    def test_a_kept_file_that_is_gone_was_not_there(self) -> None:
        path = self.keep("a")
        os.unlink(path)
        self.assertFalse(self.disposal.unlink(path))
        self.disposal.close()
        self.assertEqual(open_files(), self.before)

    def test_what_is_kept_is_limited(self) -> None:
        with mock.patch.object(module, "_MAX_KEPT", 2):
            for name in "abc":
                self.keep(name)
        self.assertEqual(open_files(), self.before + 2)
        self.disposal.end()

    def test_descriptors_are_limited(self) -> None:
        with mock.patch.object(module, "_MAX_OPEN", 3):
            self.remove(5)
        self.assertEqual(open_files(), self.before + 3)

    def test_a_missing_file_was_not_there(self) -> None:
        self.assertFalse(self.disposal.unlink(str(self.root / "none")))

    def test_a_file_that_can_t_be_removed_is_an_error_and_not_kept_open(self) -> None:
        path = str(self.root)
        self.assertRaises(OSError, self.disposal.unlink, path)
        self.assertEqual(open_files(), self.before)

    def test_without_a_descriptor_to_spare_it_removes_all_the_same(self) -> None:
        (self.root / "a").write_bytes(b"")
        with mock.patch("os.open", side_effect=OSError(24, "too many")):
            self.assertTrue(self.disposal.unlink(str(self.root / "a")))

    def test_threads_that_have_stopped_are_no_failure(self) -> None:
        threads = InlineThreads()
        self.disposal = Disposal(threads)
        self.successResultOf(threads.stop())
        self.remove(2)
        self.disposal.dispose()
        self.disposal.close()
        self.assertEqual(open_files(), self.before)
