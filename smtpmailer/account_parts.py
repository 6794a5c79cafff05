# SPDX-License-Identifier: MIT
"""The accounts that there are now, as everybody sees them who needs them."""

from __future__ import annotations

from smtpmailer.accountsfile import AccountsFile, load_accounts
from smtpmailer.core.accounts import Accounts
from smtpmailer.core.settings import Settings
from smtpmailer.reloading import Reloadable

__all__ = ["AccountsDesk"]


class AccountsDesk:
    """Holds the accounts; others may take their place while the service runs."""

    def __init__(self, settings: Settings, machine_name: str) -> None:
        """Read them; raises SettingsError."""
        self._machine_name = machine_name
        self._file = self.read(settings)

    def current(self) -> Accounts:
        """Give the accounts there are now."""
        return self._file.accounts

    def files(self) -> tuple[str, ...]:
        """Give all files that they were made of."""
        return self._file.files

    def read(self, settings: Settings) -> AccountsFile:
        """Read accounts, without using them yet; raises SettingsError."""
        return load_accounts(settings, self._machine_name)

    def use(self, file: AccountsFile) -> None:
        """Let these count from now on; mails on their way go where they were going."""
        self._file = file

    def reloads(self, settings: Settings) -> tuple[Reloadable, ...]:
        """Give the files to look after, if there are any."""
        if not settings.smtp_accounts_file:
            return ()
        accounts = Reloadable(
            what="SMTP_ACCOUNTS_FILE",
            files=(settings.smtp_accounts_file,),
            more=self.files,
            apply=lambda: self.use(self.read(settings)),
        )
        return (accounts,)
