# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.template_parts: the settings are those that were made."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.assembly import Assembly, Place
from smtpmailer.core.settings import Settings
from smtpmailer.core.settings_reading import from_values
from smtpmailer.core.templating import MAX_CHARACTERS, TemplateRules
from smtpmailer.dispatcher import REQUESTS, Gate
from smtpmailer.errors import BadTemplateError
from smtpmailer.interfaces import IRedis
from smtpmailer.processes.sharing import alone
from smtpmailer.stores.redis_templates import RedisTemplateStore
from smtpmailer.stores.templates import FileTemplateStore
from smtpmailer.template_parts import build_templates, open_folder, rules_of
from smtpmailer.threads import InlineThreads


class TemplatePartsTests(SynchronousTestCase):
    """The parts do what the settings say."""

    def settings(self, **values: object) -> Settings:
        return from_values({"SMTP_HOST": "h", "MAILER_QUEUE": False} | values, self.mktemp())

    def test_every_request_about_templates_has_a_handler(self) -> None:
        parts = build_templates(self.settings(), InlineThreads())
        asked = {name for name, rule in REQUESTS.items() if rule.gate is Gate.TEMPLATE}
        self.assertEqual(set(parts.handlers), asked)

    def test_without_settings_templates_are_filled_as_the_predecessor_did(self) -> None:
        rules = rules_of(self.settings())
        self.assertEqual(rules, TemplateRules(limit=64 * 1024 * 1024))
        self.assertFalse(build_templates(self.settings(), InlineThreads()).templates.snapshot)

    def test_the_settings_are_kept(self) -> None:
        settings = self.settings(
            EMAIL_TEMPLATE_STRING_TAG_OPEN="<%",
            EMAIL_TEMPLATE_STRING_TAG_CLOSE="%>",
            EMAIL_TEMPLATE_ESCAPE="html",
            EMAIL_TEMPLATE_STRICT=True,
            QUEUE_SNAPSHOT_TEMPLATE=True,
            MAIL_MAX_SIZE=5000,
        )
        expected = TemplateRules(
            opening="<%", closing="%>", escape_html=True, strict=True, limit=5000
        )
        templates = build_templates(settings, InlineThreads()).templates
        self.assertEqual((templates.rules, templates.snapshot), (expected, True))
        with self.assertRaises(BadTemplateError):
            open_folder(settings).add("a", "x" * 5001)

    def test_values_in_plain_mails_are_never_escaped(self) -> None:
        settings = self.settings(EMAIL_TEMPLATE_ESCAPE="html", MAIL_HTML=False)
        self.assertFalse(rules_of(settings).escape_html)

    def test_without_a_limit_of_mails_there_is_one_for_texts(self) -> None:
        self.assertEqual(rules_of(self.settings(MAIL_MAX_SIZE=0)).limit, MAX_CHARACTERS)

    def test_the_directory_is_that_of_the_settings_and_nothing_is_made_of_it_yet(self) -> None:
        settings = self.settings(EMAIL_TEMPLATE_DIR="here")
        folder = open_folder(settings)
        self.assertEqual(Path(folder.directory), Path(settings.base_path, "here"))
        self.assertFalse(Path(folder.directory).exists())

    def test_the_service_is_built_with_them(self) -> None:
        shared = alone()
        place = Place(shared=shared, seat=shared.board.seat(0))
        Assembly(self.settings(), MemoryReactorClock(), place)

    def test_the_store_is_chosen_once(self) -> None:
        redis = cast(IRedis, object())
        for values, given, kind in (
            ({}, redis, FileTemplateStore),
            ({"REDIS_STORE_TEMPLATE": True}, redis, RedisTemplateStore),
            ({"REDIS_STORE_TEMPLATE": True}, None, FileTemplateStore),
        ):
            parts = build_templates(self.settings(**values), InlineThreads(), given)
            self.assertIsInstance(parts.templates.store, kind)
