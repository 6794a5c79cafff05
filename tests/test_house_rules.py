# SPDX-License-Identifier: MIT
"""Rules of the house that no linter knows."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parent.parent
SOURCES = sorted(
    path
    for folder in ("smtpmailer", "tests", "benchmarks", "scripts", "twisted")
    for path in (ROOT / folder).rglob("*.py")
)


class HouseRulesTests(SynchronousTestCase):
    """Sources keep to what reviewers would otherwise have to look for."""

    def test_no_test_is_a_coroutine(self) -> None:
        """Trial passes an ``async def test_`` in a SynchronousTestCase without running it."""
        for path in SOURCES:
            self.assertIsNone(
                re.search(r"^\s+async def test_", path.read_text("utf-8"), re.MULTILINE), path
            )

    def test_files_stay_short(self) -> None:
        for path in SOURCES:
            lines = path.read_text("utf-8").count("\n")
            self.assertLessEqual(lines, 450, f"{path} has {lines} lines")

    def test_each_file_names_its_licence(self) -> None:
        for path in SOURCES:
            self.assertTrue(
                path.read_text("utf-8").startswith("# SPDX-License-Identifier: MIT\n"), path
            )
