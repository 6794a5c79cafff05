# SPDX-License-Identifier: MIT
"""What commands need that work on the service's stores instead of asking the service."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from smtpmailer import configuration
from smtpmailer.cli.output import CommandFailure, ExitStatus
from smtpmailer.core.settings import Settings
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import EnvFileError, RedisAwayError, SettingsError, TlsConfigError
from smtpmailer.interfaces import IRedis

__all__ = ["load_settings", "refuse_root", "settings_options", "with_redis"]

_T = TypeVar("_T")
_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS: Final = (
    click.option(
        "--env",
        "env_file",
        metavar="FILE",
        envvar="SMTPMAILER_ENV",
        help="The service's env file; else .env when there is one.",
    ),
    click.option(
        "--basepath",
        metavar="DIR",
        help="Where relative paths begin; else the env file's directory.",
    ),
)


def settings_options(command: _Command) -> _Command:
    """Add the options that say where the service's settings are."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def load_settings(env_file: str | None, basepath: str | None) -> Settings:
    """Read the service's settings; raises CommandFailure (usage) with all faults."""
    try:
        return configuration.load(env_file, basepath, os.environ)
    except (EnvFileError, SettingsError) as error:
        lines = str(error).splitlines()
        raise CommandFailure(
            "the configuration is faulty:",
            *(f"  {line}" for line in lines),
            status=ExitStatus.USAGE,
        ) from error


def refuse_root(directory: str, command: str) -> None:
    """Refuse to leave files in a directory whose owner could not read them.

    Raises CommandFailure (usage), with ``command`` as the owner would give it.
    """
    path = Path(directory)
    owner = path.stat().st_uid if path.exists() else os.geteuid()
    if os.geteuid() != 0 or owner == 0:
        return
    try:
        name = pwd.getpwuid(owner).pw_name
    except KeyError:
        name = f"#{owner}"
    raise CommandFailure(
        f"{directory} belongs to {name}, who could not read what root writes there",
        f"sudo -u '{name}' smtpmailer {command} ...",
        status=ExitStatus.USAGE,
    )


def with_redis(settings: Settings, work: Callable[[IRedis], Deferred[_T]]) -> _T:
    """Carry out ``work`` on the Redis of the settings; runs the reactor, so once in a process.

    Raises what ``work`` fails with, and CommandFailure when Redis is away from the start.
    """
    # Imported here: only commands on Redis need a reactor.
    from twisted.internet import reactor  # noqa: PLC0415

    from smtpmailer.redis_parts import build_link  # noqa: PLC0415

    try:
        link = build_link(settings, reactor)
    except TlsConfigError as error:
        raise CommandFailure(str(error), status=ExitStatus.USAGE) from error
    results: list[_T | Failure] = []

    @returns_deferred
    async def carry_out() -> _T:
        link.start()
        try:
            await link.tried()
            if not link.state().up:
                raise RedisAwayError(f"Redis is away: {link.state().reason}", sent=False)
            return await work(link)
        finally:
            await link.stop()

    def run() -> None:
        carry_out().addBoth(results.append).addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(run)
    reactor.run()
    if not results:
        raise click.Abort  # Ctrl-C stopped the reactor
    (result,) = results
    if isinstance(result, Failure):
        result.raiseException()
    return result
