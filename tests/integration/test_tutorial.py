# SPDX-License-Identifier: MIT
"""The tutorial works, step by step, and each command prints what it says."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.tutorial import ROOT, Terminal, alike, steps

DOCUMENT = ROOT / "docs/tutorial/first-mail.md"


class TutorialTests(SynchronousTestCase):
    """Somebody does what it says."""

    def test_every_step_shows_what_the_tutorial_says(self) -> None:
        terminal = Terminal()
        self.addCleanup(terminal.clean_up)
        commands = 0
        for step in steps(DOCUMENT.read_text("utf-8")):
            if step.file:
                terminal.write(step.file, step.printed)
            elif step.event == "Ctrl-C":
                terminal.end_trap()
            elif not step.event:
                what = step.command or "the trap"
                self.assertEqual(alike(terminal.shows(step)), alike(step.printed), what)
                commands += 1
        self.assertGreater(commands, 20)
