# SPDX-License-Identifier: MIT
"""Files in writing."""

from __future__ import annotations

import errno
import os
from unittest import mock

from smtpmailer.stores.atomic import close_all
from smtpmailer.stores.commit import Batch
from smtpmailer.stores.scratch import Scratch
from tests.children import in_child
from tests.stores.test_atomic import DirectoryCase


class ScratchTests(DirectoryCase):
    """Unfinished files, and those of the dead."""

    def made(self) -> Scratch:
        scratch = Scratch(self.path("tmp"))
        scratch.prepare()
        self.addCleanup(scratch.close)
        return scratch

    def test_a_draft_without_a_name_goes_and_one_with_a_name_stays(self) -> None:
        scratch, batch = self.made(), Batch()
        kept, dropped = scratch.draft(batch, b"kept"), scratch.draft(batch, b"dropped")
        self.assertEqual(len(batch.drafts), 2)
        kept.publish(self.path("kept"))
        before = len(os.listdir("/proc/self/fd"))
        kept.close()
        dropped.close()
        close_all(batch.over)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before - 2)
        self.assertEqual((self.root / "kept").read_bytes(), b"kept")
        self.assertFalse(os.path.exists(dropped.path))

    def test_a_draft_that_can_t_be_written_leaves_nothing(self) -> None:
        scratch, batch = self.made(), Batch()
        before = len(os.listdir("/proc/self/fd"))
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with mock.patch("os.write", side_effect=full), self.assertRaises(OSError):
            scratch.draft(batch, b"content")
        # At once: what it took of a full disk is there for the next one.
        self.assertEqual((os.listdir(scratch._own), batch.drafts, batch.over), ([], [], []))
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_what_a_dead_process_left_is_swept_and_a_living_one_s_is_not(self) -> None:
        living, mine = Scratch(self.path("tmp")), Scratch(self.path("tmp"))
        living.prepare()
        status = in_child(self.leave)
        self.assertEqual(status, -9)
        self.assertEqual(len(os.listdir(self.root / "tmp")), 2)
        mine.prepare()
        mine.prepare()
        mine.sweep()
        self.assertEqual(len(os.listdir(self.root / "tmp")), 2)
        living.close()
        mine.close()
        mine.close()
        self.assertEqual(os.listdir(self.root / "tmp"), [])

    def leave(self) -> None:
        scratch = Scratch(self.path("tmp"))
        scratch.prepare()
        self.path(f"tmp/{os.path.basename(scratch._own)}/1", b"half")
        os.kill(os.getpid(), 9)

    def test_a_sweep_that_comes_between_is_survived(self) -> None:
        mine, other = Scratch(self.path("tmp")), Scratch(self.path("tmp"))
        real = os.mkdir
        swept: list[str] = []

        def mkdir(path: str, mode: int) -> None:
            real(path, mode)
            if "/tmp/" in path[len(str(self.root)) :] and not swept:
                swept.append(path)
                other.sweep()

        with mock.patch("os.mkdir", mkdir):
            mine.prepare()
        self.assertEqual(len(swept), 1)
        self.assertTrue((self.root / "tmp" / mine._own).is_dir())
        mine.close()

    def test_where_nothing_can_be_locked_it_gives_up_and_leaves_nothing(self) -> None:
        full = OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        scratch = Scratch(self.path("tmp"))
        with mock.patch("fcntl.flock", side_effect=[full, AssertionError]):
            self.assertRaises(OSError, scratch.prepare)
        self.assertEqual(os.listdir(self.root / "tmp"), [])
        scratch.prepare()
        scratch.close()

    def test_a_sweep_passes_over_what_can_t_be_locked(self) -> None:
        mine = self.made()
        (self.root / "tmp" / "file").write_bytes(b"no directory")
        dead = self.root / "tmp" / "zz"
        dead.mkdir()
        mine.sweep()
        self.assertEqual(sorted(os.listdir(self.root / "tmp")), sorted([mine.name, "file"]))

    def test_who_lives_is_told_by_the_name_until_it_ends(self) -> None:
        living, mine = self.made(), self.made()
        self.assertTrue(mine.lives(living.name))
        self.assertEqual(in_child(self.leave), -9)
        (dead,) = set(os.listdir(self.root / "tmp")) - {living.name, mine.name}
        self.assertFalse(mine.lives(dead))
        mine.sweep()
        self.assertFalse(mine.lives(dead))
        before = len(os.listdir("/proc/self/fd"))
        self.assertTrue(mine.lives(living.name))
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_ids_are_never_used_twice(self) -> None:
        ids = set()
        for _ in range(3):
            scratch = Scratch(self.path("tmp"))
            scratch.prepare()
            ids |= {scratch.fresh_id() for _ in range(5)}
            scratch.close()
        self.assertEqual(len(ids), 15)
