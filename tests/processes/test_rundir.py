# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.processes.rundir."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.errors import ControlError
from smtpmailer.processes.rundir import RunDirectory, call


class RunDirectoryTests(SynchronousTestCase):
    """One service for a directory."""

    def setUp(self) -> None:
        # Trial's own directories have longer names than the address of a socket may have.
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name, "run")

    def directory(self) -> RunDirectory:
        made = RunDirectory(str(self.path))
        self.addCleanup(made.leave)
        return made

    def called(self) -> tuple[socket.socket, int]:
        """Call; somebody listens."""
        found = call(str(self.path), 5)
        assert found is not None
        return found

    def listen(self, address: str) -> socket.socket:
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        listening.bind(address)
        listening.listen()
        return listening

    def test_it_is_made_for_us_alone_with_our_number(self) -> None:
        self.directory().claim()
        pid_file = self.path / "smtpmailer.pid"
        self.assertEqual(pid_file.read_text("ascii"), f"{os.getpid()}\n")
        modes = [oct(path.stat().st_mode & 0o777) for path in (self.path, pid_file)]
        self.assertEqual(modes, ["0o700", "0o600"])

    def test_a_second_service_can_not_have_it(self) -> None:
        first = self.directory()
        first.claim()
        self.assertRaises(ControlError, self.directory().claim)
        first.leave()
        self.directory().claim()

    def test_what_a_dead_process_left_is_in_nobodys_way(self) -> None:
        self.path.mkdir()
        (self.path / "smtpmailer.pid").write_text("1\n1234567890", "ascii")
        self.listen(str(self.path / "control")).close()
        self.listen(self.directory().claim())
        content = (self.path / "smtpmailer.pid").read_text("ascii")
        self.assertEqual(content, f"{os.getpid()}\n")

    def test_with_the_service_its_files_are_gone(self) -> None:
        directory = self.directory()
        self.listen(directory.claim())
        directory.leave()
        directory.leave()
        self.assertEqual(list(self.path.iterdir()), [])

    def test_who_never_claimed_it_removes_nothing(self) -> None:
        self.directory().claim()
        self.directory().leave()
        self.assertEqual([path.name for path in self.path.iterdir()], ["smtpmailer.pid"])

    def test_a_path_may_be_longer_than_an_address(self) -> None:
        for name in ("a" * 60, "b" * 60):
            self.path /= name
        listening = self.listen(self.directory().claim())
        calling, process = self.called()
        calling.close()
        self.assertEqual(process, os.getpid())
        listening.close()

    def test_who_calls_learns_which_process_listens(self) -> None:
        listening = self.listen(self.directory().claim())
        calling, process = self.called()
        self.addCleanup(calling.close)
        self.assertEqual((process, calling.gettimeout()), (os.getpid(), 5))
        listening.accept()[0].close()

    def test_where_nobody_listens_nobody_runs(self) -> None:
        self.assertIsNone(call(str(self.path), 5))
        self.listen(self.directory().claim()).close()
        self.assertIsNone(call(str(self.path), 5))
        file = Path(self.mktemp())
        file.touch()
        self.assertIsNone(call(str(file), 5))

    def test_one_that_can_not_be_asked_is_a_fault(self) -> None:
        self.listen(self.directory().claim())
        for _ in range(200):
            try:
                found = call(str(self.path), 0.01)
            except ControlError as fault:
                self.assertIn("can't be asked", str(fault))
                return
            assert found is not None
            self.addCleanup(found[0].close)
        self.fail("so many callers are never let in")

    def test_a_link_in_the_place_of_the_number_is_not_followed(self) -> None:
        self.path.mkdir()
        target = Path(self.mktemp()).absolute()
        (self.path / "smtpmailer.pid").symlink_to(target)
        self.assertRaises(OSError, self.directory().claim)
        self.assertFalse(target.exists())
