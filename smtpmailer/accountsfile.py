# SPDX-License-Identifier: MIT
"""Reads the accounts of SMTP_ACCOUNTS_FILE, and the files that they name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs

from smtpmailer.core.accounts import NO_ACCOUNTS, Accounts
from smtpmailer.core.accounts_reading import (
    AccountsPlace,
    failover_fault,
    failover_names,
    read_accounts,
)
from smtpmailer.core.model import Route
from smtpmailer.core.schemas import Schema
from smtpmailer.core.settings import Settings
from smtpmailer.errors import SettingsError
from smtpmailer.keysfile import read_private_json
from smtpmailer.schemafiles import load_schema
from smtpmailer.smallfiles import read_small_text

__all__ = ["AccountsFile", "default_route", "load_accounts"]


@attrs.frozen(kw_only=True)
class AccountsFile:
    """What SMTP_ACCOUNTS_FILE holds; ``files`` are it and all that its accounts name."""

    accounts: Accounts = NO_ACCOUNTS
    files: tuple[str, ...] = ()


def default_route(settings: Settings, machine_name: str) -> Route:
    """Give the route of the ``SMTP_*`` settings; ``machine_name`` is for an empty EHLO name."""
    return Route(
        host=settings.smtp_host,
        port=settings.smtp_port,
        encryption=settings.smtp_encryption,
        user=settings.smtp_user,
        password=settings.smtp_password,
        oauth2=settings.smtp_oauth2,
        ehlo_name=settings.smtp_ehlo_name or machine_name,
        verify=settings.smtp_tls_verify,
        ca_file=settings.smtp_ca_file,
        timeout=settings.mailer_timeout,
    )


def load_accounts(settings: Settings, machine_name: str = "localhost") -> AccountsFile:
    """Give all accounts but the default one; none without SMTP_ACCOUNTS_FILE.

    Raises SettingsError with every fault of SMTP_ACCOUNTS_FILE and SMTP_FAILOVER, also when the
    file's mode lets others than its owner do anything with it.
    """
    path = settings.smtp_accounts_file
    failover = failover_names(settings.smtp_failover)
    if not path:
        _check_failover(failover, NO_ACCOUNTS)
        return AccountsFile()
    files: list[str] = [path]

    def read(name: str) -> str:
        files.append(name)
        return read_small_text(name)

    place = AccountsPlace(
        default=default_route(settings, machine_name),
        failover=failover,
        base_path=settings.base_path,
        read=read,
    )
    try:
        accounts = read_accounts(read_private_json(path), Schema(load_schema("accounts")), place)
        faults = list(_trust_faults(accounts))
    except OSError as error:
        faults = [f"cannot be read: {error.strerror}"]
    except ValueError as error:
        faults = [str(error)]
    except SettingsError as error:
        faults = list(error.faults)
    if faults:
        raise SettingsError([f"SMTP_ACCOUNTS_FILE = {path}: {fault}" for fault in faults])
    _check_failover(failover, accounts)
    return AccountsFile(accounts=accounts, files=(*files, *_token_files(accounts)))


def _check_failover(failover: tuple[str, ...], accounts: Accounts) -> None:
    _, fault = failover_fault("default", failover, accounts.names)
    if fault:
        raise SettingsError([f"SMTP_FAILOVER: {fault}"])


def _trust_faults(accounts: Accounts) -> Iterator[str]:
    for index, account in enumerate(accounts):
        try:
            if account.route.ca_file:
                Path(account.route.ca_file).open("rb").close()
        except OSError as error:
            yield f"{index}->caFile: {account.route.ca_file} cannot be read: {error.strerror}"


def _token_files(accounts: Accounts) -> Iterator[str]:
    for account in accounts:
        if account.route.oauth2 and account.route.oauth2.token_file:
            yield account.route.oauth2.token_file
