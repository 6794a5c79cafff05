# SPDX-License-Identifier: MIT
"""Settings for access tokens: one source, whole, and under TLS."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.oauth import OAuth2
from smtpmailer.core.settings import Settings
from smtpmailer.core.settings_reading import from_values
from smtpmailer.errors import SettingsError


def _make(**values: Any) -> Settings:
    least = {"SMTP_HOST": "mx.example.com", "MAILER_QUEUE": False}
    return from_values(least | values, "/base")


class TokenTests(SynchronousTestCase):
    """Access tokens in a password's place."""

    server: ClassVar[dict[str, object]] = {
        "SMTP_USER": "me@example.com",
        "SMTP_OAUTH2_TOKEN_ENDPOINT": "https://login.example.com/token",
        "SMTP_OAUTH2_CLIENT_ID": "id",
        "SMTP_OAUTH2_CLIENT_SECRET": "client secret",
    }

    def fault(self, **values: Any) -> str:
        """Give the only fault."""
        error = self.assertRaises(SettingsError, _make, **values)
        (fault,) = error.faults
        return str(fault)

    def test_without_a_source_there_are_none(self) -> None:
        self.assertIsNone(_make(SMTP_CA_FILE="ca.pem").smtp_oauth2)

    def test_a_source_is_taken_from_the_keys(self) -> None:
        more = {"SMTP_OAUTH2_REFRESH_TOKEN": "r", "SMTP_OAUTH2_SCOPE": "a b"}
        expected = OAuth2(
            token_endpoint="https://login.example.com/token",
            client_id="id",
            client_secret="client secret",
            scope="a b",
            refresh_token="r",
            ca_file="/base/ca.pem",
        )
        self.assertEqual(_make(**self.server, **more, SMTP_CA_FILE="ca.pem").smtp_oauth2, expected)
        made = _make(SMTP_USER="u", SMTP_OAUTH2_TOKEN_COMMAND="get-token 'a b' c")
        self.assertEqual(made.smtp_oauth2, OAuth2(token_command=("get-token", "a b", "c")))
        made = _make(SMTP_USER="u", SMTP_OAUTH2_TOKEN_FILE="t")
        self.assertEqual(made.smtp_oauth2, OAuth2(token_file="/base/t"))
        self.assertIn("/base/t", made.secret_files)

    def test_a_source_has_to_be_whole(self) -> None:
        fault = self.fault(SMTP_USER="u", SMTP_OAUTH2_CLIENT_ID="id")
        self.assertIn("SMTP_OAUTH2_TOKEN_ENDPOINT has to be set: tokens come from one of", fault)
        fault = self.fault(SMTP_USER="u", SMTP_OAUTH2_TOKEN_COMMAND="it's")
        self.assertIn('SMTP_OAUTH2_TOKEN_COMMAND = "it\'s" has to be a command line', fault)

    def test_a_token_takes_the_passwords_place_under_tls(self) -> None:
        fault = self.fault(**self.server, SMTP_PASSWORD="p")
        self.assertIn("SMTP_PASSWORD can't be set beside SMTP_OAUTH2_*", fault)
        fault = self.fault(**self.server, SMTP_ENCRYPTION="none")
        self.assertIn("SMTP_ENCRYPTION can't be none with SMTP_OAUTH2_*", fault)
        fault = self.fault(**(self.server | {"SMTP_USER": ""}))
        self.assertIn("SMTP_USER has to be set with SMTP_OAUTH2_*", fault)
