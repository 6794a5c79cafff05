# SPDX-License-Identifier: MIT
"""Tests for guessing media types from names."""

from __future__ import annotations

import mimetypes
import re

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core import mediatypes
from smtpmailer.core.mediatypes import DEFAULT_TYPE, guess_type


class GuessTests(SynchronousTestCase):
    """A name's ending tells the type."""

    def test_common_endings_agree_with_the_standard_library(self) -> None:
        for ending in (
            "pdf",
            "png",
            "jpg",
            "gif",
            "txt",
            "html",
            "csv",
            "zip",
            "doc",
            "mp4",
            "json",
        ):
            expected, _ = mimetypes.guess_type(f"x.{ending}")
            self.assertEqual(guess_type(f"x.{ending}"), expected)

    def test_case_and_further_dots_do_not_matter(self) -> None:
        self.assertEqual(guess_type("REPORT.2024.PDF"), "application/pdf")
        self.assertEqual(guess_type("x.tar.gz"), "application/gzip")

    def test_names_that_tell_nothing_are_octet_streams(self) -> None:
        for name in ("", "pdf", "x.", "x.unknown", "x.p\u00f6f", "a.pdf/b"):
            self.assertEqual(guess_type(name), DEFAULT_TYPE)

    def test_the_first_name_that_tells_counts(self) -> None:
        self.assertEqual(guess_type("invoice", "inv.pdf"), "application/pdf")
        self.assertEqual(guess_type("a.png", "b.pdf"), "image/png")

    def test_every_type_is_written_rightly_and_none_forbids_base64(self) -> None:
        for ending, kind in mediatypes._TYPES.items():
            self.assertRegex(kind, re.compile(r"[a-z]+/[A-Za-z0-9.+-]+\Z"), ending)
            self.assertNotRegex(kind, "^(message|multipart)/")
