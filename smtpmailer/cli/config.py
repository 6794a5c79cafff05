# SPDX-License-Identifier: MIT
"""The subcommand that checks a configuration: check-config."""

from __future__ import annotations

import os

import click

from smtpmailer import configuration
from smtpmailer.cli.output import CommandFailure, as_json, note
from smtpmailer.core.settings import Settings
from smtpmailer.core.settings_reading import describe
from smtpmailer.errors import EnvFileError, SettingsError, TlsConfigError

__all__ = ["check_config"]


@click.command("check-config")
@click.option(
    "--env",
    "env_file",
    metavar="FILE",
    help="The env file to check; else .env when there is one.",
)
@click.option(
    "--basepath", metavar="DIR", help="Where relative paths begin; else the env file's directory."
)
@click.option("--json", "json_wanted", is_flag=True, help="Print the settings as JSON.")
def check_config(env_file: str | None, basepath: str | None, json_wanted: bool) -> None:  # noqa: FBT001
    """Check the service's configuration, as the service would at its start.

    Prints the effective settings, secrets masked, or every fault. Environment variables go before
    the env file here as they do in the service.
    """
    settings, faults = _load(env_file, basepath)
    if settings is not None:
        faults = [*configuration.file_faults(settings), *_tls_faults(settings)]
    if settings is None or faults:
        raise _faulty(faults)
    for warning in settings.warnings:
        note(f"{click.style('Warning:', fg='yellow')} {warning}")
    shown = describe(settings)
    if json_wanted:
        click.echo(as_json(dict(shown)))
        return
    width = max(len(key) for key, _ in shown)
    for key, value in shown:
        click.echo(f"{key:<{width}} = {value}".rstrip())


def _load(env_file: str | None, basepath: str | None) -> tuple[Settings | None, list[str]]:
    try:
        return configuration.load(env_file, basepath, os.environ), []
    except SettingsError as error:
        return None, list(error.faults)
    except EnvFileError as error:
        return None, str(error).splitlines()


def _tls_faults(settings: Settings) -> list[str]:
    if settings.mailer_proto != "ssl":
        return []
    # Imported here: it brings OpenSSL and Twisted's TLS, which the other commands don't need.
    from smtpmailer.delivery.tls import server_options  # noqa: PLC0415

    try:
        server_options(settings.mailer_ssl_cert, settings.mailer_ssl_key)
    except TlsConfigError as error:
        return str(error).splitlines()
    return []


def _faulty(faults: list[str]) -> CommandFailure:
    number = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    return CommandFailure(f"the configuration has {number}:", *(f"  {fault}" for fault in faults))
