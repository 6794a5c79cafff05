# SPDX-License-Identifier: MIT
"""Small steps on a disk."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.errors import StoreError
from smtpmailer.stores import atomic
from tests.children import in_child
from tests.stores.queues import make_place

APART = OSError(errno.EXDEV, os.strerror(errno.EXDEV))


class DirectoryCase(SynchronousTestCase):
    """A test with a directory."""

    def setUp(self) -> None:
        self.root = make_place(self).root

    def path(self, name: str, content: bytes | None = None) -> str:
        if content is not None:
            (self.root / name).write_bytes(content)
        return str(self.root / name)


class MakeAndReadTests(DirectoryCase):
    """Directories and files."""

    def test_directories_are_for_their_owner_alone_at_every_depth(self) -> None:
        old = os.umask(0o022)
        self.addCleanup(os.umask, old)
        atomic.make_directory(self.path("a/b/c"))
        for name in ("a", "a/b", "a/b/c"):
            self.assertEqual(stat.S_IMODE((self.root / name).stat().st_mode), 0o700, name)

    def test_a_directory_that_exists_stays_as_it_is(self) -> None:
        (self.root / "a").mkdir(mode=0o755)
        atomic.make_directory(self.path("a/"))
        self.assertEqual(stat.S_IMODE((self.root / "a").stat().st_mode), 0o755)

    def test_a_directory_is_durable_in_the_one_above(self) -> None:
        with mock.patch.object(atomic, "sync_directory") as sync:
            atomic.make_directory(self.path("a/b"))
        self.assertEqual([c.args[0] for c in sync.mock_calls], [str(self.root), self.path("a")])

    def test_a_file_in_a_directory_s_place_is_an_error(self) -> None:
        with self.assertRaises(OSError):
            atomic.make_directory(self.path("a", b"") + "/b")

    def test_a_directory_made_by_another_process_meanwhile_is_fine(self) -> None:
        real = os.mkdir

        def both(path: str, mode: int) -> None:
            real(path, mode)
            real(path, mode)

        with mock.patch("os.mkdir", both):
            atomic.make_directory(self.path("a"))

    def test_new_files_are_new_and_for_their_owner_alone(self) -> None:
        os.close(atomic.open_new(self.path("a")))
        self.assertEqual(stat.S_IMODE((self.root / "a").stat().st_mode), 0o600)
        self.assertRaises(FileExistsError, atomic.open_new, self.path("a"))
        (self.root / "link").symlink_to(self.root / "elsewhere")
        self.assertRaises(OSError, atomic.open_new, self.path("link"))

    def test_only_regular_files_are_read(self) -> None:
        self.assertEqual(atomic.read_regular(self.path("a", b"content")), b"content")
        (self.root / "link").symlink_to(self.root / "a")
        os.mkfifo(self.root / "pipe")
        (self.root / "directory").mkdir()
        for name in ("link", "pipe", "directory"):
            self.assertRaises(StoreError, atomic.read_regular, self.path(name))
        self.assertRaises(FileNotFoundError, atomic.read_regular, self.path("none"))

    def test_a_pipe_that_holds_something_is_no_file_either(self) -> None:
        os.mkfifo(self.root / "pipe")
        handle = os.open(self.root / "pipe", os.O_RDWR)
        self.addCleanup(os.close, handle)
        os.write(handle, b"{}")
        self.assertRaises(StoreError, atomic.read_regular, self.path("pipe"))
        self.assertRaises(StoreError, atomic.read_regular, "/dev/zero")
        self.assertRaises(StoreError, atomic.read_regular, "/dev/null")

    def test_a_read_that_gives_less_is_not_the_end(self) -> None:
        """As the kernel's does before a page that it can't read: the next one tells the error."""
        path = self.path("a", b"content")
        real = os.read
        with mock.patch("os.read", lambda handle, size: real(handle, min(size, 3))):
            self.assertEqual(atomic.read_regular(path), b"content")

    def test_a_file_that_grows_or_shrinks_meanwhile_is_read_to_its_end(self) -> None:
        path = self.path("a", b"content")
        real = os.fstat
        for size in (0, 3, 7, 9):
            found = list(real(0))
            found[stat.ST_MODE], found[stat.ST_SIZE] = stat.S_IFREG, size
            with mock.patch("os.fstat", return_value=os.stat_result(found)):
                self.assertEqual(atomic.read_regular(path), b"content", size)

    def test_who_keeps_the_descriptor_has_it_open_unless_nothing_was_read(self) -> None:
        before = len(os.listdir("/proc/self/fd"))
        kept: list[tuple[str, int]] = []
        path = self.path("a", b"content")
        atomic.read_regular(path, lambda *each: kept.append(each))
        self.assertEqual((kept[0][0], os.pread(kept[0][1], 9, 0)), (path, b"content"))
        os.close(kept[0][1])
        (self.root / "directory").mkdir()
        with self.assertRaises(StoreError):
            atomic.read_regular(self.path("directory"), lambda *each: kept.append(each))
        self.assertEqual((len(kept), len(os.listdir("/proc/self/fd"))), (1, before))

    def test_a_file_far_too_large_is_not_read(self) -> None:
        with open(self.path("a"), "wb") as file:
            file.truncate(atomic.MAX_FILE_BYTES + 1)
        self.assertRaises(StoreError, atomic.read_regular, self.path("a"))

    def test_unlink_tells_whether_there_was_a_file(self) -> None:
        self.assertTrue(atomic.unlink(self.path("a", b"")))
        self.assertFalse(atomic.unlink(self.path("a")))
        (self.root / "directory").mkdir()
        self.assertRaises(OSError, atomic.unlink, self.path("directory"))


class SyncTests(DirectoryCase):
    """Few files are synced one by one, many by one call."""

    def handles(self, count: int) -> list[int]:
        handles = [atomic.open_new(self.path(str(n))) for n in range(count)]
        for handle in handles:
            self.addCleanup(os.close, handle)
        return handles

    def test_few_files_one_by_one_and_many_at_once(self) -> None:
        for count, calls in ((0, 0), (3, 3), (4, 0)):
            root, self.root = self.root, self.root / f"d{count}"
            self.root.mkdir()
            with mock.patch("os.fsync") as fsync:
                atomic.sync_files(self.handles(count))
            self.assertEqual(fsync.call_count, calls, count)
            self.root = root

    def test_files_on_several_disks_are_synced_one_by_one(self) -> None:
        here = Path("/proc/self/status").open("rb")  # noqa: SIM115
        self.addCleanup(here.close)
        with mock.patch("os.fsync") as fsync:
            atomic.sync_files([*self.handles(4), here])
        self.assertEqual(fsync.call_count, 5)

    def test_a_sync_that_fails_is_an_error(self) -> None:
        handles = self.handles(4)
        with mock.patch.object(atomic, "_libc") as libc:
            libc.syncfs.return_value = -1
            self.assertRaises(OSError, atomic.sync_files, handles)


class MoveTests(DirectoryCase):
    """Files go from one place to another, wholly or not at all."""

    def apart(self, source: str, target: str) -> Any:
        """Let a rename fail as between two file systems."""
        real = os.rename

        def rename(old: str, new: str) -> None:
            if (old, new) == (source, target):
                raise APART
            real(old, new)

        return mock.patch("os.rename", rename)

    def test_a_rename_where_it_can_be(self) -> None:
        atomic.move(self.path("a", b"x"), self.path("b", b"old"))
        self.assertEqual(os.listdir(self.root), ["b"])
        self.assertEqual((self.root / "b").read_bytes(), b"x")

    def test_between_file_systems_a_synced_copy(self) -> None:
        source, target = self.path("mail_a", b"x" * 100_000), self.path("mail_b")
        self.path(".mail_b.tmp", b"left by a crash")
        with self.apart(source, target):
            atomic.move(source, target)
        self.assertEqual(os.listdir(self.root), ["mail_b"])
        self.assertEqual((self.root / "mail_b").read_bytes(), b"x" * 100_000)
        self.assertEqual(stat.S_IMODE((self.root / "mail_b").stat().st_mode), 0o600)

    def test_a_copy_that_fails_leaves_the_source_alone(self) -> None:
        source, target = self.path("a", b"x"), self.path("b")
        for call in ("os.fsync", "os.write"):
            full = OSError(errno.ENOSPC, "full")
            with self.apart(source, target), mock.patch(call, side_effect=full):
                self.assertRaises(OSError, atomic.move, source, target)
            self.assertEqual(os.listdir(self.root), ["a"])

    def test_killed_at_each_step_of_a_copy_something_whole_is_left(self) -> None:
        source, target = self.path("a"), self.path("b")
        calls = ("open", "write", "fsync", "rename", "unlink")
        for step in range(1, 20):
            self.path("a", b"x" * 1000)
            with self.apart(source, target):
                status = in_child(lambda: self.die_at(step, calls, source, target))  # noqa: B023
            whole = [n for n in ("a", "b") if (self.root / n).exists()]
            self.assertNotEqual(whole, [], step)
            for name in whole:
                self.assertEqual((self.root / name).read_bytes(), b"x" * 1000, step)
            for name in os.listdir(self.root):
                os.unlink(self.root / name)
            if status == 0:
                self.assertEqual(whole, ["b"])
                return
        self.fail("never ended")

    def die_at(self, step: int, calls: tuple[str, ...], source: str, target: str) -> None:
        count = 0

        def wrap(real: Any) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                nonlocal count
                count += 1
                if count == step:
                    os.kill(os.getpid(), 9)
                return real(*args, **kwargs)

            return call

        for name in calls:
            setattr(os, name, wrap(getattr(os, name)))
        atomic.move(source, target)


class FileLockTests(DirectoryCase):
    """One holder at a time, however the last one ended."""

    def test_between_two_processes_one_has_it_and_death_frees_it(self) -> None:
        lock = atomic.FileLock(self.path("lock"))
        go, done = os.pipe(), os.pipe()

        def other() -> None:
            assert atomic.FileLock(self.path("lock")).try_acquire("the other")
            os.write(done[1], b"x")
            os.read(go[0], 1)

        def check() -> None:
            os.read(done[0], 1)
            self.assertFalse(lock.try_acquire("me"))
            self.assertFalse(lock.is_held)
            self.assertEqual(lock.holder(), "the other")

        self.assertEqual(in_child(other, check), -9)
        self.assertEqual(lock.holder(), "")
        self.assertTrue(lock.try_acquire("me"))
        self.assertTrue(lock.try_acquire("me again"))
        self.assertEqual(atomic.FileLock(self.path("lock")).holder(), "me")
        lock.release()
        lock.release()
        self.assertFalse(lock.is_held)
        for handle in (*go, *done):
            os.close(handle)

    def test_nobody_holds_a_lock_that_was_never_made(self) -> None:
        self.assertEqual(atomic.FileLock(self.path("lock")).holder(), "")

    def test_a_full_disk_takes_the_note_but_not_the_lock(self) -> None:
        lock = atomic.FileLock(self.path("lock"))
        with mock.patch("os.pwrite", side_effect=OSError(errno.ENOSPC, "full")):
            self.assertTrue(lock.try_acquire("me"))
        self.assertEqual(lock.holder(), "another process")
        lock.release()

    def test_a_lock_that_can_t_be_taken_is_an_error_and_leaves_nothing_open(self) -> None:
        lock = atomic.FileLock(self.path("lock"))
        before = len(os.listdir("/proc/self/fd"))
        with mock.patch("fcntl.flock", side_effect=OSError(errno.ENOLCK, "none")):
            self.assertRaises(OSError, lock.try_acquire, "me")
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_held_waits_for_its_turn_and_lets_go(self) -> None:
        lock, other = (atomic.FileLock(self.path("lock")) for _ in range(2))
        with lock.held():
            self.assertFalse(other.try_acquire(""))
        self.assertTrue(other.try_acquire(""))
        other.release()


class RenameNewTests(DirectoryCase):
    """A name is given to a file, and never taken away from another."""

    def setUp(self) -> None:
        super().setUp()
        self.source, self.target = self.path("a", b"mine"), self.path("b")

    def refused(self) -> None:
        self.path("b", b"another's")
        with self.assertRaises(FileExistsError) as caught:
            atomic.rename_new(self.source, self.target)
        self.assertEqual(caught.exception.filename2, self.target)
        self.assertEqual((self.root / "b").read_bytes(), b"another's")
        self.assertEqual((self.root / "a").read_bytes(), b"mine")

    def taken(self) -> None:
        atomic.rename_new(self.source, self.target)
        self.assertEqual(os.listdir(self.root), ["b"])
        self.assertEqual((self.root / "b").read_bytes(), b"mine")

    def test_a_free_name_is_taken(self) -> None:
        self.taken()

    def test_a_name_that_is_taken_stays_so_even_for_an_instant(self) -> None:
        with mock.patch("os.path.lexists", return_value=False), mock.patch("os.rename"):
            self.refused()

    def test_a_link_to_nothing_has_a_name_as_well(self) -> None:
        os.symlink("nowhere", self.target)
        self.assertRaises(FileExistsError, atomic.rename_new, self.source, self.target)

    def test_other_faults_are_told(self) -> None:
        with self.assertRaises(FileNotFoundError) as caught:
            atomic.rename_new(self.path("none"), self.target)
        self.assertEqual(caught.exception.filename, self.path("none"))

    def without(self, code: int) -> Any:
        """Be on a file system that lacks this."""

        def renameat2(*_: object) -> int:
            ctypes.set_errno(code)
            return -1

        return mock.patch.object(atomic._libc, "renameat2", renameat2)

    def test_a_file_system_that_lacks_the_call_does_it_in_two_steps(self) -> None:
        for code in (errno.EINVAL, errno.ENOSYS):
            with self.without(code):
                self.taken()
            os.rename(self.target, self.source)
            with self.without(code):
                self.refused()
            os.unlink(self.target)

    def test_a_library_that_lacks_the_call_does_it_in_two_steps(self) -> None:
        with mock.patch.object(atomic, "_libc", object()):
            self.refused()
            os.unlink(self.target)
            self.taken()
