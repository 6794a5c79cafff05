# SPDX-License-Identifier: MIT
"""The page on the queue's guarantees names its proofs; they are there."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.python.reflect import namedAny
from twisted.trial.unittest import SynchronousTestCase

PAGE = Path(__file__).parent.parent / "docs/explanation/guarantees.md"


class GuaranteesTests(SynchronousTestCase):
    """A promise without a test is a wish."""

    def test_every_guarantee_names_tests_that_exist(self) -> None:
        promises = re.split(r"^## (?=G[1-7]:)", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]
        self.assertEqual([each[:2] for each in promises], [f"G{n}" for n in range(1, 8)])
        for promise in promises:
            names = re.findall(r"`(tests\.[\w.]+)`", promise)
            self.assertGreater(len(names), 2, promise[:2])
            for name in names:
                self.assertTrue(callable(namedAny(name)), name)
