# SPDX-License-Identifier: MIT
"""Tests for reading attachments: what is read, what is refused, and that no trick gets around."""

from __future__ import annotations

import errno
import io
import os
import socket
import sys
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from smtpmailer.core.model import FilePart
from smtpmailer.errors import AttachmentError
from smtpmailer.interfaces import IAttachments
from smtpmailer.stores import attachments
from smtpmailer.stores.attachments import Attachments
from smtpmailer.threads import InlineThreads

#: What two files of HALF bytes make in base64: 6 lines of 78 bytes and one of 26, twice.
LIMIT = 988
HALF = 360


class AttachmentsCase(SynchronousTestCase):
    """A directory from which files may be attached, and one from which they may not."""

    def setUp(self) -> None:
        root = Path(os.path.realpath(self.mktemp()))
        self.allowed = root / "allowed"
        self.outside = root / "outside"
        self.allowed.mkdir(parents=True)
        self.outside.mkdir()
        (self.allowed / "a.txt").write_bytes(b"content")
        (self.outside / "secret").write_bytes(b"secret")
        self.store = self.make((str(self.allowed),))

    def make(
        self,
        directories: tuple[str, ...] | None,
        forbidden: tuple[str, ...] = (),
        limit_bytes: int = LIMIT,
    ) -> Attachments:
        return Attachments(
            InlineThreads(),
            directories=directories,
            forbidden=lambda: forbidden,
            limit_bytes=limit_bytes,
        )

    def assert_loads(
        self, path: Path | str, content: bytes, store: Attachments | None = None
    ) -> None:
        part = FilePart(path=str(path), name="x")
        (file,) = self.successResultOf((store or self.store).load((part,)))
        self.assertEqual((file.part, file.content), (part, content))
        self.successResultOf((store or self.store).check((part,)))

    def assert_refused(self, path: Path | str, why: str, store: Attachments | None = None) -> None:
        parts = (FilePart(path=str(path), name="x"),)
        for result in ((store or self.store).load(parts), (store or self.store).check(parts)):
            error = self.failureResultOf(result, AttachmentError).value
            self.assertEqual(error.path, str(path))
            self.assertIn(why, error.why)


class LoadTests(AttachmentsCase):
    """What is read."""

    def test_it_provides_its_interface(self) -> None:
        verifyObject(IAttachments, self.store)

    def test_parts_are_read_whole_and_in_order(self) -> None:
        (self.allowed / "empty").write_bytes(b"")
        parts = tuple(
            FilePart(path=str(self.allowed / name), name=f"{n}", content_id="c" if n else None)
            for n, name in enumerate(("a.txt", "empty", "a.txt"))
        )
        files = self.successResultOf(self.store.load(parts))
        self.assertEqual(tuple(file.part for file in files), parts)
        self.assertEqual([file.content for file in files], [b"content", b"", b"content"])

    def test_no_parts_are_no_files(self) -> None:
        self.assertEqual(self.successResultOf(self.store.load(())), ())
        self.assertEqual(self.successResultOf(self.store.check(())), 0)

    def test_a_relative_path_starts_at_the_first_directory(self) -> None:
        store = self.make((str(self.allowed), str(self.outside)))
        self.assert_loads("a.txt", b"content", store)
        self.assert_refused("secret", "no such file", store)

    def test_without_directories_a_relative_path_starts_at_the_working_directory(self) -> None:
        store = self.make(None)
        self.assert_loads(os.path.relpath(self.allowed / "a.txt"), b"content", store)

    def test_without_directories_any_file_is_read(self) -> None:
        self.assert_loads(self.outside / "secret", b"secret", self.make(None))

    def test_links_are_followed_while_they_stay_inside(self) -> None:
        (self.allowed / "sub").mkdir()
        (self.allowed / "link").symlink_to(self.allowed / "a.txt")
        (self.allowed / "sub" / "up").symlink_to("..")
        self.assert_loads(self.allowed / "link", b"content")
        self.assert_loads(self.allowed / "sub" / "up" / "sub" / ".." / "a.txt", b"content")

    def test_an_allowed_directory_may_be_a_link(self) -> None:
        link = self.outside / "to-allowed"
        link.symlink_to(self.allowed)
        self.assert_loads(link / "a.txt", b"content", self.make((str(link),)))

    def test_a_name_outside_ascii_works(self) -> None:
        (self.allowed / "\u00fc \U0001f389.txt").write_bytes(b"u")
        self.assert_loads("\u00fc \U0001f389.txt", b"u")


class RefusalTests(AttachmentsCase):
    """What is refused, and why."""

    def test_missing_files(self) -> None:
        for path in (self.allowed / "missing", self.allowed / "a.txt" / "x", ""):
            self.assert_refused(path, "no such file")

    def test_no_file_is_read_when_one_is_refused(self) -> None:
        parts = tuple(FilePart(path=p, name="") for p in ("a.txt", "missing"))
        error = self.failureResultOf(self.store.load(parts), AttachmentError).value
        self.assertEqual(str(error), "could not attach missing: no such file")

    def test_paths_that_no_file_can_have(self) -> None:
        for path in ("a\0b", "\ud800"):
            self.assert_refused(path, "is no path")
        self.assert_refused("x" * 300, "its name is too long")

    def test_directories_fifos_and_sockets(self) -> None:
        os.mkfifo(self.allowed / "fifo")
        (self.allowed / "link").symlink_to("fifo")
        self.assert_refused(self.allowed, "is a directory")
        self.assert_refused(self.allowed / "fifo", "is not a regular file")
        self.assert_refused(self.allowed / "link", "is not a regular file")
        self.assert_refused("/", "is a directory", self.make(None))
        with socket.socket(socket.AF_UNIX) as listener:
            here = Path.cwd()
            os.chdir(self.allowed)
            self.addCleanup(os.chdir, here)
            listener.bind("socket")
            self.assert_refused("socket", "is not a regular file")

    def test_the_system_s_files_even_when_any_file_is_allowed(self) -> None:
        link = self.allowed / "link"
        link.symlink_to("/proc/self/environ")
        for path in ("/proc/self/environ", "/dev/null", "/dev/stdin", "/sys/kernel", str(link)):
            self.assert_refused(path, "", self.make(None))
        self.assert_refused("/proc/self/environ", "system's own", self.make(("/",)))

    def test_circles_of_links(self) -> None:
        (self.allowed / "a").symlink_to("b")
        (self.allowed / "b").symlink_to("a")
        self.assert_refused("a", "")
        self.assert_refused("a/x", "")

    def test_unreadable_files(self) -> None:
        """Whoever runs this may be root, to whom everything is readable."""
        refuse = mock.patch.object(os, "open", side_effect=PermissionError(errno.EACCES, "no"))
        with refuse:
            self.assert_refused("a.txt", "permission denied")

    def test_errors_of_reading(self) -> None:
        class Broken(io.FileIO):
            def read(self, _size: int | None = -1, /) -> bytes:
                raise OSError(errno.EIO, "Input/output error")

        part = FilePart(path="a.txt", name="")
        with mock.patch.object(os, "fdopen", Broken):
            error = self.failureResultOf(self.store.load((part,)), AttachmentError).value
        self.assertEqual(error.why, "Input/output error")


class ConfinementTests(AttachmentsCase):
    """Nothing outside the allowed directories, and never the service's own files."""

    def test_files_outside(self) -> None:
        (self.allowed / "link").symlink_to(self.outside / "secret")
        (self.allowed / "dir").symlink_to(self.outside)
        for path in (
            self.outside / "secret",
            "/etc/passwd",
            "../outside/secret",
            self.allowed / ".." / "outside" / "secret",
            "link",
            "dir/secret",
        ):
            self.assert_refused(path, "lies outside ATTACHMENT_DIRS")

    def test_it_does_not_tell_whether_a_file_outside_exists(self) -> None:
        self.assert_refused(self.outside / "missing", "lies outside ATTACHMENT_DIRS")
        self.assert_refused(self.outside, "lies outside ATTACHMENT_DIRS")

    def test_a_sibling_whose_name_begins_the_same_is_outside(self) -> None:
        sibling = self.allowed.with_name("allowed-not")
        sibling.mkdir()
        (sibling / "x").write_bytes(b"x")
        self.assert_refused(sibling / "x", "lies outside")

    def test_no_directories_at_all_allow_nothing(self) -> None:
        self.assert_refused(self.allowed / "a.txt", "lies outside", self.make(()))

    def test_the_service_s_own_files_and_directories(self) -> None:
        queue = self.allowed / "queue"
        queue.mkdir()
        (queue / "mail.json").write_bytes(b"{}")
        (self.allowed / "link").symlink_to(queue / "mail.json")
        (self.outside / "hard").hardlink_to(self.outside / "secret")
        forbidden = (str(self.outside / "secret"), str(queue), str(self.outside / "missing"))
        store = self.make(None, forbidden)
        for path in (
            self.outside / "secret",
            self.outside / "hard",
            queue / "mail.json",
            queue / ".." / "queue" / "mail.json",
            self.allowed / "link",
        ):
            self.assert_refused(path, "is one of the service's own files", store)
        self.assert_loads(self.allowed / "a.txt", b"content", store)

    def test_a_link_put_in_place_after_the_check_is_not_followed(self) -> None:
        (self.allowed / "sub").mkdir()
        (self.allowed / "sub" / "secret").write_bytes(b"harmless")
        original = attachments._open_without_links

        def swap_file(path: str, real: str) -> int:
            (self.allowed / "a.txt").unlink()
            (self.allowed / "a.txt").symlink_to(self.outside / "secret")
            return original(path, real)

        def swap_directory(path: str, real: str) -> int:
            (self.allowed / "sub").rename(self.allowed / "moved")
            (self.allowed / "sub").symlink_to(self.outside)
            return original(path, real)

        for path, swap in (("a.txt", swap_file), ("sub/secret", swap_directory)):
            self.patch(attachments, "_open_without_links", swap)
            part = FilePart(path=path, name="")
            self.failureResultOf(self.store.load((part,)), AttachmentError)

    def test_a_link_put_in_place_after_the_look_is_not_followed(self) -> None:
        original = attachments._check_regular

        def swap(path: str, status: os.stat_result) -> None:
            original(path, status)
            (self.allowed / "a.txt").unlink(missing_ok=True)
            (self.allowed / "a.txt").symlink_to(self.outside / "secret")

        self.patch(attachments, "_check_regular", swap)
        part = FilePart(path="a.txt", name="")
        error = self.failureResultOf(self.store.load((part,)), AttachmentError).value
        self.assertIn("links", error.why)


class LimitTests(AttachmentsCase):
    """The size of all files together is limited."""

    def test_all_files_together_may_reach_the_limit(self) -> None:
        (self.allowed / "half").write_bytes(b"x" * HALF)
        part = FilePart(path="half", name="")
        self.assertEqual(len(self.successResultOf(self.store.load((part, part)))), 2)
        self.successResultOf(self.store.check((part, part)))

    def test_one_byte_more_is_refused_and_names_the_limit(self) -> None:
        (self.allowed / "half").write_bytes(b"x" * HALF)
        (self.allowed / "rest").write_bytes(b"x" * (HALF + 1))
        parts = tuple(FilePart(path=p, name="") for p in ("half", "rest"))
        for result in (self.store.load(parts), self.store.check(parts)):
            error = self.failureResultOf(result, AttachmentError).value
            self.assertEqual(error.path, "rest")
            self.assertIn(f"MAIL_MAX_SIZE ({LIMIT} bytes)", error.why)

    def test_without_a_limit_any_file_may_go(self) -> None:
        store = self.make((str(self.allowed),), limit_bytes=sys.maxsize)
        (file,) = self.successResultOf(store.load((FilePart(path="a.txt", name=""),)))
        self.assertEqual(file.content, b"content")

    def test_a_file_that_grows_meanwhile_is_refused(self) -> None:
        original = Attachments._inspect

        def grow(store: Attachments, path: str, status: os.stat_result, left: int) -> None:
            original(store, path, status, left)
            (self.allowed / "a.txt").write_bytes(b"x" * (LIMIT + 1))

        self.patch(Attachments, "_inspect", grow)
        part = FilePart(path="a.txt", name="")
        error = self.failureResultOf(self.store.load((part,)), AttachmentError).value
        self.assertIn("MAIL_MAX_SIZE", error.why)

    def test_no_descriptor_is_left_open(self) -> None:
        def still_open() -> set[str]:
            """Give what is open under this test's own directory; others may close theirs."""
            names = (os.readlink(f"/proc/self/fd/{fd}") for fd in _descriptors())
            return {name for name in names if name.startswith(str(self.allowed.parent))}

        before = still_open()
        for path in ("a.txt", "missing", "../outside/secret", ".", "a.txt/x", "/dev/null"):
            store = self.make((str(self.allowed),), limit_bytes=3)
            self.failureResultOf(store.load((FilePart(path=path, name=""),)), AttachmentError)
        self.assertEqual(still_open(), before)


def _descriptors() -> list[str]:
    """Give the open descriptors, without that of this very listing."""
    found = os.listdir("/proc/self/fd")
    return [fd for fd in found if os.path.lexists(f"/proc/self/fd/{fd}")]
