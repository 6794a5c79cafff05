# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.services.templates: every answer of the requests about templates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.replies import Reply
from smtpmailer.core.requests import Arguments
from smtpmailer.errors import StoreError
from smtpmailer.services.templates import TemplateService
from smtpmailer.stores.memory_templates import MemoryTemplateStore
from smtpmailer.stores.template_folder import TemplateFolder
from smtpmailer.stores.templates import FileTemplateStore
from smtpmailer.threads import InlineThreads
from tests.stores.template_contract import NO_NAMES

_NOT_TEXTS = (None, 5, True, 1.5, ["a"], {"a": "b"})


class TemplateServiceTests(SynchronousTestCase):
    """The answers are those of the predecessor."""

    def setUp(self) -> None:
        self.store = MemoryTemplateStore(limit_bytes=100)
        self.service = TemplateService(self.store)

    def ask(self, handler: Callable[[Arguments], Deferred[Reply]], *value: Any) -> tuple[Any, ...]:
        """Make a request: its argument, and its content if any."""
        content = value[1] if len(value) > 1 else None
        arguments = Arguments(
            value=value[0], content=content, has_content=len(value) > 1, peer="192.0.2.1"
        )
        reply = self.successResultOf(handler(arguments))
        return reply.status, reply.data, reply.message

    def add(self, *names: str) -> None:
        for name in names:
            self.successResultOf(self.store.add(name, f"text of {name}"))

    def test_a_template_is_added_read_updated_and_removed(self) -> None:
        service, name = self.service, "t1.html"
        for asked, answer in (
            (self.ask(service.add, name, "{{A}}"), (name, "template added")),
            (self.ask(service.get, name), ("{{A}}", "template found")),
            (self.ask(service.update, name, "é"), (name, "template updated")),
            (self.ask(service.get, name), ("é", "template found")),
            (self.ask(service.remove, name), (name, "template removed")),
        ):
            self.assertEqual(asked, ("success", *answer))

    def test_the_list_tells_names_and_number(self) -> None:
        asked = self.ask(self.service.get_list, None)
        self.assertEqual(asked, ("success", {"items": [], "total": 0}, "template list is empty"))
        self.add("b", "a", "c")
        data = {"items": ["a", "b", "c"], "total": 3}
        asked = self.ask(self.service.get_list, None)
        self.assertEqual(asked, ("success", data, "found 3 templates"))
        asked = self.ask(self.service.get_list, {"limit": 2, "page": 1})
        data = {"items": ["c"], "total": 3}
        self.assertEqual(asked, ("success", data, "found 3 templates"))

    def test_clearing_tells_how_many_there_were(self) -> None:
        self.assertEqual(self.ask(self.service.clear, None), ("success", [], "no template found"))
        self.add("a", "b")
        asked = self.ask(self.service.clear, None)
        self.assertEqual(asked, ("success", {"removed": 2}, "removed 2 templates"))
        other = TemplateService(self.store, lists_when_empty=False)
        asked = self.ask(other.clear, None)
        self.assertEqual(asked, ("success", {"removed": 0}, "removed 0 templates"))

    def test_a_name_that_is_no_text_is_told_so(self) -> None:
        for value in _NOT_TEXTS:
            for handler in (self.service.get, self.service.remove):
                answer = ("error", "invalid file path string", "invalid payload")
                self.assertEqual(self.ask(handler, value), answer)
            for handler in (self.service.add, self.service.update):
                answer = (
                    "error",
                    "invalid file path string or missing content",
                    "invalid payload",
                )
                self.assertEqual(self.ask(handler, value, "text"), answer)
                self.assertEqual(self.ask(handler, "name", value), answer)
                self.assertEqual(self.ask(handler, "name"), answer)

    def test_a_template_that_exists_is_not_added_again(self) -> None:
        self.add("a")
        asked = self.ask(self.service.add, "a", "new")
        self.assertEqual(asked, ("error", "file already exists", "unable to add template"))

    def test_what_is_not_there_or_no_name_tells_nothing(self) -> None:
        service = self.service
        for name in (*NO_NAMES, "mail_0000000000000000001.1_a.json"):
            self.assertEqual(self.ask(service.get, name), ("error", None, "unable to get template"))
            asked = self.ask(service.update, name, "x")
            self.assertEqual(asked, ("error", None, "unable to update template"))
            asked = self.ask(service.remove, name)
            self.assertEqual(asked, ("error", None, "unable to remove template"))
        for name in NO_NAMES:
            asked = self.ask(service.add, name, "x")
            self.assertEqual(asked, ("error", None, "unable to add template"))

    def test_what_is_too_large_is_refused_and_logged(self) -> None:
        with capturedLogs() as events:
            asked = self.ask(self.service.add, "a", "x" * 101)
        self.assertEqual(asked, ("error", None, "unable to add template"))
        self.assertIn("larger than 100 bytes", events[0]["why"])

    def test_changes_are_logged_with_who_made_them_and_without_the_text(self) -> None:
        with capturedLogs() as events:
            self.ask(self.service.add, "a", "text")
            self.ask(self.service.update, "a", "text")
            self.ask(self.service.remove, "a")
            self.ask(self.service.remove, "a")
            self.add("b")
            self.ask(self.service.clear, None)
        said = [event["log_format"].format(**event) for event in events]
        changes = [f"template a {done} by 192.0.2.1" for done in ("added", "updated", "removed")]
        self.assertEqual(said, [*changes, "1 templates cleared by 192.0.2.1"])

    def test_a_store_that_is_broken_is_told_and_logged(self) -> None:
        directory = Path(self.mktemp())
        directory.write_text("no directory")
        folder = TemplateFolder(str(directory), limit_bytes=100)
        service = TemplateService(FileTemplateStore(folder, InlineThreads()))
        for asked, message in (
            (self.ask(service.get_list, None), "unable to get template list"),
            (self.ask(service.add, "a", "x"), "unable to add template"),
            (self.ask(service.clear, None), "unable to read template dir"),
        ):
            self.assertEqual(asked, ("error", None, message))
        self.assertEqual(len(self.flushLoggedErrors(StoreError)), 3)
