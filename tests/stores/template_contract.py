# SPDX-License-Identifier: MIT
"""What every template store does, whatever it keeps the templates in."""

from __future__ import annotations

from typing import Any

from zope.interface.verify import verifyObject

from smtpmailer.errors import BadTemplateError, NoSuchTemplateError, TemplateExistsError
from smtpmailer.interfaces import ITemplateStore

__all__ = ["LIMIT", "NO_NAMES", "TemplateContract"]

#: Bytes of the largest template of the stores under test.
LIMIT = 1000

#: What no store takes as a name.
NO_NAMES = (
    *("", ".", "..", ".hidden", "../a.html", "a/b", "/etc/hostname", "a\\b", "a..b", "a\0b"),
    *("a\n", "\x7f", "\x85", "x" * 256, "é" * 128, "\ud800", "../../../../../../etc/hostname"),
)


class TemplateContract:
    """Mix into a SynchronousTestCase that sets ``store`` in ``setUp``."""

    store: ITemplateStore

    def add(self: Any, name: str, text: str = "text") -> None:
        """Add a template."""
        self.assertIsNone(self.successResultOf(self.store.add(name, text)))

    def text(self: Any, name: str) -> str:
        """Read a template."""
        text: str = self.successResultOf(self.store.get(name))
        return text

    def names(self: Any) -> list[str]:
        """List the templates."""
        return list(self.successResultOf(self.store.page(500, 0)).names)

    def test_it_provides_its_interface(self: Any) -> None:
        verifyObject(ITemplateStore, self.store)

    def test_it_begins_empty(self: Any) -> None:
        page = self.successResultOf(self.store.page(500, 0))
        self.assertEqual((page.names, page.total), ((), 0))
        self.assertEqual(self.successResultOf(self.store.clear()), 0)

    def test_what_was_added_is_read_back(self: Any) -> None:
        for number, text in enumerate(("", "{{A}}", "Grüße 😀\r\nb\n", "\ufeffx", "x" * LIMIT)):
            self.add(f"t{number}", text)
            self.assertEqual(self.text(f"t{number}"), text)

    def test_any_plain_file_name_will_do(self: Any) -> None:
        names = ["-rf", "Grüße 1.html", "t1.html", "x" * 255, "é" * 127]
        for name in names:
            self.add(name, name)
        self.assertEqual(self.names(), sorted(names))
        for name in names:
            self.assertEqual(self.text(name), name)

    def test_what_is_no_name_is_never_found(self: Any) -> None:
        for name in NO_NAMES:
            for asked in (
                self.store.get(name),
                self.store.add(name, "x"),
                self.store.update(name, "x"),
                self.store.remove(name),
            ):
                self.failureResultOf(asked, NoSuchTemplateError)
        self.assertEqual(self.names(), [])

    def test_a_template_that_is_not_there_is_never_found(self: Any) -> None:
        self.add("there")
        for asked in (
            self.store.get("gone"),
            self.store.update("gone", "x"),
            self.store.remove("gone"),
        ):
            failure = self.failureResultOf(asked, NoSuchTemplateError)
            self.assertEqual(str(failure.value), "template not found: gone")
        self.assertEqual(self.names(), ["there"])

    def test_adding_never_replaces(self: Any) -> None:
        self.add("a", "first")
        failure = self.failureResultOf(self.store.add("a", "second"), TemplateExistsError)
        self.assertEqual(str(failure.value), "file already exists")
        self.assertEqual(self.text("a"), "first")

    def test_an_update_replaces_the_whole_text(self: Any) -> None:
        self.add("a", "a long text")
        self.assertIsNone(self.successResultOf(self.store.update("a", "short")))
        self.assertEqual((self.text("a"), self.names()), ("short", ["a"]))

    def test_what_is_too_large_changes_nothing(self: Any) -> None:
        self.add("a", "first")
        large = "é" * (LIMIT // 2 + 1)
        for asked in (self.store.add("b", large), self.store.update("a", large)):
            failure = self.failureResultOf(asked, BadTemplateError)
            self.assertIn(f"larger than {LIMIT} bytes", str(failure.value))
        self.assertEqual((self.names(), self.text("a")), (["a"], "first"))

    def test_what_is_no_text_changes_nothing(self: Any) -> None:
        self.add("a", "first")
        for asked in (self.store.add("b", "\ud800"), self.store.update("a", "\ud800")):
            self.failureResultOf(asked, BadTemplateError)
        self.assertEqual((self.names(), self.text("a")), (["a"], "first"))

    def test_a_removed_template_is_gone_and_can_be_added_again(self: Any) -> None:
        self.add("a")
        self.add("b")
        self.assertIsNone(self.successResultOf(self.store.remove("a")))
        self.assertEqual(self.names(), ["b"])
        self.failureResultOf(self.store.get("a"), NoSuchTemplateError)
        self.add("a", "again")
        self.assertEqual(self.text("a"), "again")

    def test_clearing_removes_all_and_tells_how_many(self: Any) -> None:
        for name in ("a", "b", "c"):
            self.add(name)
        self.assertEqual(self.successResultOf(self.store.clear()), 3)
        self.assertEqual(self.names(), [])

    def test_pages_are_in_ascending_order(self: Any) -> None:
        for name in ("c", "a", "é", "b", "B"):
            self.add(name)
        page = self.successResultOf(self.store.page(2, 1))
        self.assertEqual((page.names, page.total), (("b", "c"), 5))
        self.assertEqual(self.successResultOf(self.store.page(2, 2)).names, ("é",))
        self.assertEqual(self.successResultOf(self.store.page(2, 3)).names, ())
