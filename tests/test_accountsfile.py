# SPDX-License-Identifier: MIT
"""Tests of accountsfile and account_parts: who has the file may send as everybody in it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer import configuration
from smtpmailer.account_parts import AccountsDesk
from smtpmailer.accountsfile import default_route, load_accounts
from smtpmailer.core.settings import Settings
from smtpmailer.core.settings_reading import from_values
from smtpmailer.errors import SettingsError
from smtpmailer.reloading import Reloader


class AccountsFileCase(SynchronousTestCase):
    """A file of accounts, and settings that name it."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.path = self.folder / "accounts.json"
        self.write({"name": "shop", "host": "smtp.test"})

    def write(self, *accounts: dict[str, Any], mode: int = 0o600) -> None:
        self.path.write_text(json.dumps(accounts), "utf-8")
        self.path.chmod(mode)

    def settings(self, **more: object) -> Settings:
        values: dict[str, object] = {
            "SMTP_HOST": "main.test",
            "MAILER_QUEUE": False,
            "EMAIL_TEMPLATE": False,
            "SMTP_ACCOUNTS_FILE": str(self.path),
        }
        return from_values(values | more, str(self.folder))


class LoadTests(AccountsFileCase):
    """All accounts, or every fault."""

    def fault(self, **more: object) -> str:
        """Give the only fault, which check-config tells too."""
        settings = self.settings(**more)
        error = self.assertRaises(SettingsError, load_accounts, settings)
        (fault,) = error.faults
        self.assertEqual(configuration.file_faults(settings), [fault])
        return str(fault).removeprefix(f"SMTP_ACCOUNTS_FILE = {self.path}: ")

    def test_without_a_file_there_are_none(self) -> None:
        loaded = load_accounts(self.settings(SMTP_ACCOUNTS_FILE=""))
        self.assertEqual((loaded.accounts.names, loaded.files), ((), ()))

    def test_accounts_get_what_they_leave_out_from_the_settings(self) -> None:
        loaded = load_accounts(self.settings(MAILER_TIMEOUT=7), "me.test")
        (account,) = loaded.accounts
        route = account.route
        self.assertEqual((route.host, route.ehlo_name, route.timeout), ("smtp.test", "me.test", 7))

    def test_others_must_not_be_able_to_use_it(self) -> None:
        for mode in (0o640, 0o604, 0o666):
            self.path.chmod(mode)
            self.assertIn(f"(mode {mode:04o}); chmod 600 it", self.fault())

    def test_a_faulty_account_names_its_place(self) -> None:
        self.write({"name": "shop", "host": "smtp.test", "rate": "fast"})
        self.assertIn("0->rate: has to be mails in a time", self.fault())
        self.path.write_text("[{]", "utf-8")
        self.assertIn("malformed JSON at line 1, column 3", self.fault())
        self.path.unlink()
        self.assertIn("cannot be read: No such file", self.fault())

    def test_an_authority_has_to_be_there(self) -> None:
        self.write({"name": "shop", "host": "smtp.test", "caFile": "ca.pem"})
        self.assertIn(f"0->caFile: {self.folder}/ca.pem cannot be read", self.fault())

    def test_a_fail_over_of_the_default_account_names_accounts(self) -> None:
        load_accounts(self.settings(SMTP_FAILOVER="shop"))
        fault = self.fault(SMTP_FAILOVER="shp")
        self.assertEqual(fault, "SMTP_FAILOVER: 'shp' is no account; the nearest is shop")
        fault = self.fault(SMTP_FAILOVER="default")
        self.assertEqual(fault, "SMTP_FAILOVER: 'default' is the account itself")
        fault = self.fault(SMTP_FAILOVER="shop", SMTP_ACCOUNTS_FILE="")
        self.assertEqual(fault, "SMTP_FAILOVER: 'shop' is no account")

    def test_a_password_file_is_read_without_its_line_end(self) -> None:
        (self.folder / "password").write_bytes(b"secret\r\n")
        entry = {"name": "shop", "host": "smtp.test", "user": "u", "passwordFile": "password"}
        self.write(entry)
        loaded = load_accounts(self.settings())
        (account,) = loaded.accounts
        self.assertEqual(account.route.password, "secret")
        self.assertEqual(loaded.files, (str(self.path), f"{self.folder}/password"))
        (self.folder / "password").write_bytes(b"\xff")
        self.assertIn("password is not UTF-8 at byte 0", self.fault())
        (self.folder / "password").write_bytes(b"x" * 70_000)
        self.assertIn("password is larger than 65536 bytes", self.fault())
        (self.folder / "password").unlink()
        os.mkfifo(self.folder / "password")
        self.assertIn("password is no file", self.fault())

    def test_no_mail_may_carry_what_holds_secrets(self) -> None:
        self.assertIn(str(self.path), self.settings().secret_files)
        source = {"tokenFile": "token"}
        entry = {"name": "shop", "host": "smtp.test", "user": "u", "oauth2": source}
        self.write(entry)
        self.assertIn(f"{self.folder}/token", load_accounts(self.settings()).files)

    def test_the_default_account_is_that_of_the_settings(self) -> None:
        settings = self.settings(SMTP_USER="u", SMTP_OAUTH2_TOKEN_FILE="token")
        route = default_route(settings, "me.test")
        self.assertEqual((route.host, route.user, route.account), ("main.test", "u", ""))
        assert route.oauth2 is not None
        self.assertEqual(route.oauth2.token_file, f"{self.folder}/token")


class ReloadTests(AccountsFileCase):
    """The file is read again while the service runs."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.desk = AccountsDesk(self.settings(), "me.test")
        self.reloader = Reloader(self.clock, self.desk.reloads(self.settings()), 5)
        self.reloader.startService()
        self.addCleanup(self.reloader.stopService)

    def look(self) -> list[str]:
        """Let the reloader look; give what it logs."""
        with capturedLogs() as logs:
            self.clock.advance(5)
        return [str(formatEvent(event)) for event in logs]

    def test_what_changed_counts(self) -> None:
        self.write({"name": "other", "host": "other.test"})
        self.assertEqual(self.look(), ["SMTP_ACCOUNTS_FILE read again"])
        self.assertEqual(self.desk.current().names, ("other",))
        self.assertEqual(self.look(), [])

    def test_a_faulty_file_leaves_the_old_accounts_and_says_why(self) -> None:
        self.write({"name": "other"})
        (line,) = self.look()
        self.assertIn("SMTP_ACCOUNTS_FILE can't be used, what was read before stays", line)
        self.assertIn("0: The required properties (host) are missing", line)
        self.assertEqual(self.desk.current().names, ("shop",))

    def test_the_files_that_it_names_are_looked_after_too(self) -> None:
        password = self.folder / "password"
        password.write_text("old", "utf-8")
        entry = {"name": "shop", "host": "smtp.test", "user": "u", "passwordFile": "password"}
        self.write(entry)
        self.look()
        password.write_text("newer", "utf-8")
        self.assertEqual(self.look(), ["SMTP_ACCOUNTS_FILE read again"])
        (account,) = self.desk.current()
        self.assertEqual(account.route.password, "newer")
        self.assertEqual(self.look(), [])
