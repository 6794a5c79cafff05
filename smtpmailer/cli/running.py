# SPDX-License-Identifier: MIT
"""How the commands find the service that runs on this machine, and ask it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click

from smtpmailer import configuration
from smtpmailer.cli.output import CommandFailure, ExitStatus
from smtpmailer.cli.stores import settings_options
from smtpmailer.core.control import Answer, Ask, decode, encode
from smtpmailer.errors import ControlError, EnvFileError, SettingsError
from smtpmailer.processes.rundir import call

__all__ = ["ask", "find_process", "none_runs", "run_directory", "running_options"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

#: Seconds that the service has to answer.
_PATIENCE: Final = 15.0


def running_options(command: _Command) -> _Command:
    """Add the options that say which service is meant."""
    option = click.option(
        "--run-dir", metavar="DIR", help="Its run directory; else MAILER_RUN_DIR of the env file."
    )
    return settings_options(option(command))


def run_directory(env_file: str | None, basepath: str | None, run_dir: str | None) -> str:
    """Give the run directory, also of a service whose settings have become faulty since.

    Raises CommandFailure (usage).
    """
    if run_dir:
        return run_dir
    try:
        found: str = configuration.gather(env_file, basepath, os.environ).value("MAILER_RUN_DIR")
    except (EnvFileError, SettingsError) as error:
        raise CommandFailure(
            str(error), "--run-dir says where the service runs", status=ExitStatus.USAGE
        ) from error
    return found


def find_process(directory: str) -> int | None:
    """Give the process id of the service that runs from a directory, or None.

    Raises CommandFailure (unreachable) for one that can't be asked.
    """
    called = _call(directory)
    if called is None:
        return None
    called[0].close()
    return called[1]


def ask(
    directory: str,
    what: str,
    values: Mapping[str, Any] | None = None,
    *,
    patience: float | None = _PATIENCE,
) -> Any:
    """Ask the service and give its answer; ``patience`` None is to wait for as long as it takes.

    Raises CommandFailure: unreachable when there is none or it gives no answer, failed when it
    refuses.
    """
    called = _call(directory)
    if called is None:
        raise none_runs(directory)
    connection, process = called
    connection.settimeout(patience)
    with connection, connection.makefile("rb") as lines:
        try:
            connection.sendall(encode(Ask(1, what, values or {})) + b"\n")
            answer = decode(lines.readline())
        except (OSError, ControlError) as error:
            raise CommandFailure(
                f"the service (process {process}) gave no answer", status=ExitStatus.UNREACHABLE
            ) from error
    assert isinstance(answer, Answer), "nothing else was asked for"
    if answer.fault:
        raise CommandFailure(answer.fault)
    return answer.value


def none_runs(directory: str) -> CommandFailure:
    """Give the failure for a directory from which no service runs."""
    return CommandFailure(f"no service runs from {directory}", status=ExitStatus.UNREACHABLE)


def _call(directory: str) -> tuple[socket.socket, int] | None:
    try:
        return call(directory, _PATIENCE)
    except ControlError as error:
        raise CommandFailure(str(error), status=ExitStatus.UNREACHABLE) from error
