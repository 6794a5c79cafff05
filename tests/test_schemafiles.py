# SPDX-License-Identifier: MIT
"""Tests of schemafiles: our schemas are found and read."""

from __future__ import annotations

import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.errors import OperatorError
from smtpmailer.schemafiles import load_schema, schema_directories


class SchemaFileTests(SynchronousTestCase):
    """The first file found is read."""

    def _directory(self, **files: str) -> Path:
        directory = Path(self.mktemp())
        directory.mkdir(parents=True)
        for name, content in files.items():
            (directory / f"{name}.json").write_text(content, "utf-8")
        return directory

    def test_the_checkout_comes_before_the_installed_tree(self) -> None:
        beside, installed = schema_directories()
        self.assertTrue((beside / "sendMail.json").is_file())
        self.assertEqual(installed, Path(sys.prefix, "share", "smtpmailer", "schema"))
        self.assertEqual(load_schema("sendMail")["title"], "A mail")

    def test_the_first_directory_that_has_the_file_counts(self) -> None:
        empty, one, two = (self._directory(**files) for files in ({}, {"x": "{}"}, {"x": "[]"}))
        self.assertEqual(load_schema("x", [empty, one, two]), {})

    def test_a_missing_file_is_an_error_that_says_where_it_was_looked_for(self) -> None:
        empty = self._directory()
        error = self.assertRaises(OperatorError, load_schema, "x", [empty])
        self.assertIn(f"x.json not found in {empty}", str(error))

    def test_a_file_that_is_no_json_object_is_an_error(self) -> None:
        for content in ("{", "[]"):
            directory = self._directory(x=content)
            error = self.assertRaises(OperatorError, load_schema, "x", [directory])
            self.assertIn(str(directory / "x.json"), str(error))
