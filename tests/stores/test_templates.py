# SPDX-License-Identifier: MIT
"""Tests for the template stores: the contract, and what files are and are not to the file store."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.errors import (
    BadTemplateError,
    NoSuchTemplateError,
    StoreError,
    TemplateExistsError,
)
from smtpmailer.interfaces import ITemplateStore, IThreads
from smtpmailer.stores.memory_templates import MemoryTemplateStore
from smtpmailer.stores.template_folder import TemplateFolder
from smtpmailer.stores.templates import FileTemplateStore
from smtpmailer.threads import InlineThreads
from tests.stores.queues import HeldThreads
from tests.stores.template_contract import LIMIT, NO_NAMES, TemplateContract


class MemoryTests(TemplateContract, SynchronousTestCase):
    """The store in memory."""

    def setUp(self) -> None:
        self.store: ITemplateStore = MemoryTemplateStore(limit_bytes=LIMIT)


class FolderCase(SynchronousTestCase):
    """A directory of templates beside one that is none of their business."""

    def setUp(self) -> None:
        root = Path(os.path.realpath(self.mktemp()))
        self.root = root
        self.inside = root / "templates"
        self.outside = root / "outside"
        self.outside.mkdir(parents=True)
        (self.outside / "secret").write_text("secret")
        self.store: ITemplateStore = self.make()

    def make(self, threads: IThreads | None = None) -> FileTemplateStore:
        """Make a store on the directory."""
        folder = TemplateFolder(str(self.inside), limit_bytes=LIMIT)
        return FileTemplateStore(folder, threads or InlineThreads())

    def files(self) -> list[str]:
        """List all that lies in the directory."""
        return sorted(path.name for path in self.inside.iterdir())

    def names(self) -> list[str]:
        """List the templates."""
        return list(self.successResultOf(self.store.page(500, 0)).names)

    def text(self, name: str) -> str:
        """Read a template."""
        return self.successResultOf(self.store.get(name))

    def snapshot(self) -> dict[str, Any]:
        """Tell what lies outside the directory."""
        seen: dict[str, Any] = {"outside": sorted(self.root.iterdir())}
        for path in self.outside.iterdir():
            seen[path.name] = path.lstat(), path.is_file() and path.read_bytes()
        return seen


class FileTests(TemplateContract, FolderCase):
    """The file store, on a directory that is made when the first template comes."""

    def test_nothing_is_made_before_the_first_template(self) -> None:
        self.names()
        self.failureResultOf(self.store.get("a"), NoSuchTemplateError)
        self.failureResultOf(self.store.update("a", "x"), NoSuchTemplateError)
        self.assertFalse(self.inside.exists())
        self.add("a")
        self.assertEqual(stat.S_IMODE(self.inside.stat().st_mode), 0o700)

    def test_a_template_is_a_file_with_its_bytes(self) -> None:
        self.add("a.html", "Grüße\r\n")
        self.assertEqual((self.inside / "a.html").read_bytes(), "Grüße\r\n".encode())
        self.assertEqual(self.files(), ["a.html"])
        self.assertEqual(stat.S_IMODE((self.inside / "a.html").stat().st_mode), 0o600)

    def test_what_others_put_there_counts_at_once(self) -> None:
        self.add("a")
        (self.inside / "b").write_text("other")
        self.assertEqual((self.names(), self.text("b")), (["a", "b"], "other"))
        (self.inside / "a").unlink()
        self.assertEqual(self.names(), ["b"])

    def test_an_update_keeps_the_mode(self) -> None:
        self.add("a")
        (self.inside / "a").chmod(0o644)
        self.successResultOf(self.store.update("a", "b"))
        self.assertEqual(stat.S_IMODE((self.inside / "a").stat().st_mode), 0o644)

    def test_what_is_not_utf_8_is_an_error_that_says_where(self) -> None:
        self.add("a")
        (self.inside / "a").write_bytes(b"ab\xff")
        failure = self.failureResultOf(self.store.get("a"), BadTemplateError)
        self.assertEqual(str(failure.value), "template a: it is not UTF-8 at byte 2")
        self.assertEqual(self.names(), ["a"])
        self.successResultOf(self.store.update("a", "mended"))
        self.assertEqual(self.text("a"), "mended")

    def test_what_has_grown_too_large_is_an_error(self) -> None:
        self.add("a")
        (self.inside / "a").write_bytes(b"x" * (LIMIT + 1))
        self.failureResultOf(self.store.get("a"), BadTemplateError)
        sparse = self.inside / "b"
        with sparse.open("wb") as file:
            file.truncate(1 << 40)
        self.failureResultOf(self.store.get("b"), BadTemplateError)

    def test_hidden_files_and_what_has_no_template_name_are_not_listed(self) -> None:
        self.add("a")
        for name in (".env", "a..b", "back\\slash", "new\nline", "\udcff.html"):
            (self.inside / name).write_text("x")
        self.assertEqual(self.names(), ["a"])
        self.assertEqual(self.successResultOf(self.store.clear()), 1)
        self.assertEqual(len(self.files()), 5)

    def test_a_directory_that_can_not_be_used_is_a_store_error(self) -> None:
        self.inside.write_text("no directory")
        for asked in (self.store.page(1, 0), self.store.add("a", "x"), self.store.clear()):
            failure = self.failureResultOf(asked, StoreError)
            self.assertIn(str(self.inside), str(failure.value))
        self.failureResultOf(self.store.get("a"), NoSuchTemplateError)

    def test_changes_happen_one_after_another(self) -> None:
        threads = HeldThreads()
        store = self.make(threads)
        results = [store.add("a", "1"), store.update("a", "2"), store.remove("a")]
        results.append(store.add("a", "3"))
        self.assertEqual(len(threads._work), 1)
        threads.go()
        for result in results:
            self.successResultOf(result)
        self.assertEqual(self.text("a"), "3")

    def test_a_change_that_fails_holds_up_no_other(self) -> None:
        self.failureResultOf(self.store.remove("gone"), NoSuchTemplateError)
        self.add("a")


class TraversalTests(FolderCase):
    """Nothing outside the directory is read, written or removed, whatever lies in it."""

    def setUp(self) -> None:
        super().setUp()
        self.inside.mkdir()
        for name in ("good", "other"):
            (self.inside / name).write_text(name)
        self.before = self.snapshot()

    def assert_unreachable(self, name: str) -> None:
        """Check that there is something of this name which is no template."""
        self.assertEqual(self.names(), ["good", "other"])
        for asked in (
            self.store.get(name),
            self.store.update(name, "x"),
            self.store.remove(name),
        ):
            self.failureResultOf(asked, NoSuchTemplateError)
        self.failureResultOf(self.store.add(name, "x"), TemplateExistsError)
        self.assertEqual(self.successResultOf(self.store.clear()), 2)
        self.assertEqual(self.files(), [name])
        self.assertEqual(self.snapshot(), self.before)

    def test_links_that_lead_outside_are_not_followed(self) -> None:
        for target in ("../outside/secret", str(self.outside / "secret"), "/etc/hostname"):
            (self.inside / "good").write_text("good")
            (self.inside / "other").write_text("other")
            (self.inside / "link").symlink_to(target)
            self.assert_unreachable("link")
            (self.inside / "link").unlink()

    def test_links_that_lead_outside_on_a_detour_are_not_followed(self) -> None:
        (self.inside / ".way").symlink_to(self.outside)
        (self.inside / "link").symlink_to(".way/secret")
        self.assertEqual(self.names(), ["good", "other"])
        self.failureResultOf(self.store.get("link"), NoSuchTemplateError)

    def test_a_neighbour_with_a_longer_name_is_outside(self) -> None:
        neighbour = self.root / "templates2"
        neighbour.mkdir()
        (neighbour / "secret").write_text("secret")
        (self.inside / "link").symlink_to("../templates2/secret")
        self.before = self.snapshot()
        self.assert_unreachable("link")

    def test_links_to_nothing_to_themselves_and_to_directories_are_no_templates(self) -> None:
        for target in ("gone", "link", ".", "..", "/", "/dev/zero", "/dev/null"):
            (self.inside / "good").write_text("good")
            (self.inside / "other").write_text("other")
            (self.inside / "link").symlink_to(target)
            self.assert_unreachable("link")
            (self.inside / "link").unlink()

    def test_a_directory_is_no_template(self) -> None:
        (self.inside / "special").mkdir()
        self.assert_unreachable("special")

    def test_a_pipe_is_no_template_and_is_not_waited_for(self) -> None:
        os.mkfifo(self.inside / "special")
        self.assert_unreachable("special")

    def test_a_socket_is_no_template(self) -> None:
        here = os.open(".", os.O_RDONLY)
        self.addCleanup(os.close, here)
        with socket.socket(socket.AF_UNIX) as listening:
            os.chdir(self.inside)  # a socket's path is short
            try:
                listening.bind("special")
            finally:
                os.fchdir(here)
        self.assert_unreachable("special")

    def test_a_device_is_not_even_opened(self) -> None:
        device = Path("/dev/null").stat()
        real = os.stat

        def stat_device(path: Any, *args: Any, **more: Any) -> os.stat_result:
            return device if path == "good" else real(path, *args, **more)

        opened = mock.Mock(wraps=os.open)
        with mock.patch.object(os, "stat", stat_device), mock.patch.object(os, "open", opened):
            self.failureResultOf(self.store.get("good"), NoSuchTemplateError)
        self.assertNotIn("good", [call.args[0] for call in opened.call_args_list])

    def test_links_that_stay_inside_are_followed(self) -> None:
        """As where templates are mounted from a Kubernetes config map."""
        version = self.inside / "..2024_01_01"
        version.mkdir()
        (version / "mounted.html").write_text("mounted")
        (self.inside / "..data").symlink_to("..2024_01_01")
        (self.inside / "mounted.html").symlink_to("..data/mounted.html")
        self.assertEqual(self.names(), ["good", "mounted.html", "other"])
        self.assertEqual(self.text("mounted.html"), "mounted")

    def test_a_link_that_is_updated_becomes_a_file_and_its_target_stays(self) -> None:
        (self.inside / "link").symlink_to("good")
        self.successResultOf(self.store.update("link", "new"))
        self.assertFalse((self.inside / "link").is_symlink())
        self.assertEqual((self.text("link"), self.text("good")), ("new", "good"))

    def test_a_link_that_is_removed_leaves_its_target(self) -> None:
        (self.inside / "link").symlink_to("good")
        self.successResultOf(self.store.remove("link"))
        self.assertEqual(self.names(), ["good", "other"])

    def test_the_directory_itself_may_be_a_link(self) -> None:
        (self.root / "current").symlink_to(self.inside)
        folder = TemplateFolder(str(self.root / "current"), limit_bytes=LIMIT)
        self.store = FileTemplateStore(folder, InlineThreads())
        self.assertEqual(self.text("good"), "good")
        self.successResultOf(self.store.add("new", "new"))
        self.assertEqual((self.inside / "new").read_text(), "new")

    def test_a_link_put_in_the_way_meanwhile_is_not_followed(self) -> None:
        """The path is checked, then walked: what changes in between must not matter."""
        (self.inside / ".sub").mkdir()
        (self.inside / ".sub" / "secret").write_text("harmless")
        (self.inside / "link").symlink_to(".sub/secret")
        self.assertEqual(self.text("link"), "harmless")
        resolve = os.path.realpath

        def then_swap(path: str) -> str:
            resolved = resolve(path)
            if path.endswith("link"):
                (self.inside / ".sub").rename(self.root / "away")
                (self.inside / ".sub").symlink_to(self.outside)
            return resolved

        with mock.patch.object(os.path, "realpath", then_swap):
            self.failureResultOf(self.store.get("link"), NoSuchTemplateError)

    def test_no_name_reaches_outside(self) -> None:
        for name in (*NO_NAMES, "../outside/secret", str(self.outside / "secret")):
            self.failureResultOf(self.store.get(name), NoSuchTemplateError)
            self.failureResultOf(self.store.add(name, "x"), NoSuchTemplateError)
            self.failureResultOf(self.store.update(name, "x"), NoSuchTemplateError)
            self.failureResultOf(self.store.remove(name), NoSuchTemplateError)
        self.assertEqual((self.files(), self.snapshot()), (["good", "other"], self.before))


class DurabilityTests(FolderCase):
    """A change happens wholly and durably, or not at all."""

    def setUp(self) -> None:
        super().setUp()
        self.inside.mkdir()
        (self.inside / "old").write_text("old")
        self.steps: list[str] = []

    def record(self, name: str) -> Any:
        """Note each call of a function of os, and whether it was about the directory."""
        real = getattr(os, name)

        def call(*args: Any, **more: Any) -> Any:
            what = name
            if name == "fsync":
                is_directory = stat.S_ISDIR(os.fstat(args[0]).st_mode)
                what = "sync directory" if is_directory else "sync file"
            self.steps.append(what)
            return real(*args, **more)

        return mock.patch.object(os, name, call)

    def watched(self, work: Any) -> list[str]:
        """Do something; give the steps that count."""
        with self.record("fsync"), self.record("link"), self.record("rename"):
            self.successResultOf(work())
        return self.steps

    def test_a_new_template_is_durable_before_it_has_its_name_and_then_its_name(self) -> None:
        steps = self.watched(lambda: self.store.add("new", "x"))
        self.assertEqual(steps, ["sync file", "link", "sync directory"])

    def test_an_update_is_durable_before_it_takes_effect_and_then_its_name(self) -> None:
        steps = self.watched(lambda: self.store.update("old", "x"))
        self.assertEqual(steps, ["sync file", "rename", "sync directory"])

    def test_removing_and_clearing_are_durable(self) -> None:
        steps = self.watched(lambda: self.store.remove("old"))
        self.assertEqual(steps, ["sync directory"])
        (self.inside / "old").write_text("old")
        self.assertEqual(self.watched(self.store.clear), ["sync directory"] * 2)

    def test_a_disk_that_fails_leaves_everything_as_it_was(self) -> None:
        for step in ("write", "fchmod", "fsync", "link", "rename"):
            fault = OSError(errno.ENOSPC, "No space left on device")
            with mock.patch.object(os, step, side_effect=fault):
                if step != "rename":
                    self.failureResultOf(self.store.add("new", "x"), StoreError)
                if step != "link":
                    self.failureResultOf(self.store.update("old", "x"), StoreError)
            self.assertEqual((self.files(), self.text("old")), (["old"], "old"), step)

    def test_a_template_whose_name_can_not_be_made_durable_is_not_added(self) -> None:
        real = os.fsync

        def fail(handle: int) -> None:
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                raise OSError(errno.EIO, "Input/output error")
            real(handle)

        with mock.patch.object(os, "fsync", fail):
            self.failureResultOf(self.store.add("new", "x"), StoreError)
        self.assertEqual(self.files(), ["old"])

    def test_adding_works_where_there_are_no_hard_links(self) -> None:
        fault = OSError(errno.EPERM, "Operation not permitted")
        with mock.patch.object(os, "link", side_effect=fault):
            self.successResultOf(self.store.add("new", "x"))
            self.failureResultOf(self.store.add("old", "x"), TemplateExistsError)
        self.assertEqual((self.files(), self.text("new")), (["new", "old"], "x"))
        self.assertEqual(self.text("old"), "old")

    def test_what_a_crash_left_is_removed_once_it_is_old_and_nothing_else(self) -> None:
        left, fresh = ".tmp-0123456789abcdef", ".tmp-fedcba9876543210"
        for name in (left, fresh, ".tmp-x", ".env"):
            (self.inside / name).write_text("x")
        for name in (left, ".tmp-x", ".env", "old"):
            os.utime(self.inside / name, (1_000_000_000, 1_000_000_000))
        self.successResultOf(self.store.add("new", "x"))
        self.assertEqual(self.files(), sorted([".env", fresh, ".tmp-x", "new", "old"]))
