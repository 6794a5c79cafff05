# SPDX-License-Identifier: MIT
"""Tests of sender_parts: what a command that gives tokens gets to know."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.sender_parts import command_environment


class EnvironmentTests(SynchronousTestCase):
    """A command has what it needs, and nothing of ours."""

    def test_settings_are_left_out(self) -> None:
        environ = {
            "PATH": "/bin",
            "HOME": "/home/mailer",
            "SMTP_PASSWORD": "secret",
            "SECRET_KEY_FILE": "/run/secrets/key",
        }
        self.assertEqual(command_environment(environ), {"PATH": "/bin", "HOME": "/home/mailer"})
