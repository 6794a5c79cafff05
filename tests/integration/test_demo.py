# SPDX-License-Identifier: MIT
"""The demo does what README's first screen promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parent.parent.parent
LIMIT = 90.0


class DemoTests(SynchronousTestCase):
    """It runs anywhere, twice, whatever the environment configures."""

    def test_it_delivers_and_ends_with_status_0(self) -> None:
        for _ in range(2):
            ended = subprocess.run(
                [sys.executable, str(ROOT / "scripts/demo.py")],
                cwd="/",
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "SMTP_HOST": "elsewhere.test"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=LIMIT,
                check=False,
            )
            printed = ended.stdout.decode("utf-8")
            self.assertEqual(ended.returncode, 0, printed)
            self.assertIn("mail sent successfully", printed)
            self.assertIn("multipart/related", printed)
