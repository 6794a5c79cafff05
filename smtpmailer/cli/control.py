# SPDX-License-Identifier: MIT
"""The subcommands that start and stop the service on this machine: start, stop, restart, reload."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from smtpmailer.cli.output import CommandFailure, note
from smtpmailer.cli.running import (
    ask,
    find_process,
    none_runs,
    run_directory,
    running_options,
)
from smtpmailer.cli.stores import load_settings, settings_options
from smtpmailer.core.settings import Settings

__all__ = ["reload", "restart", "start", "stop"]

_TWISTD: Final = (sys.executable, "-m", "smtpmailer.twistd", "--pidfile=")
#: Seconds within which a daemon has to serve.
_START_LIMIT: Final = 60.0
_LOOK: Final = 0.05
#: Lines of the log that tell why a daemon did not start.
_SHOWN: Final = 5
_DAEMON: Final = click.option(
    "-d", "--daemon", is_flag=True, help="Run in the background; else until Ctrl-C."
)
_LOG_FILE: Final = click.option(
    "--log-file",
    metavar="FILE",
    help="The daemon's log; else smtpmailer.log in the run directory.",
)
_GRACEFUL: Final = click.option(
    "--graceful",
    is_flag=True,
    help="Let everything that runs finish, however long it takes; else MAILER_STOP_TIMEOUT.",
)


@click.command()
@_DAEMON
@_LOG_FILE
@settings_options
def start(
    daemon: bool,  # noqa: FBT001
    log_file: str | None,
    env_file: str | None,
    basepath: str | None,
) -> None:
    """Start the service.

    That is `twistd smtpmailer` with the same env file and base path. As a daemon it is started
    when all its processes serve.
    """
    _start(_Start(env_file, basepath, log_file), daemon=daemon)


@click.command()
@_GRACEFUL
@running_options
def stop(
    graceful: bool,  # noqa: FBT001
    env_file: str | None,
    basepath: str | None,
    run_dir: str | None,
) -> None:
    """Stop the service, and wait until it has stopped.

    It takes no more connections, and ends requests and deliveries that run; what it has claimed of
    the queue and not delivered goes back.
    """
    directory = run_directory(env_file, basepath, run_dir)
    process = find_process(directory)
    if process is None:
        raise none_runs(directory)
    _stop(directory, process, graceful=graceful)
    click.echo(f"smtpmailer has stopped (process {process})")


@click.command()
@_DAEMON
@_LOG_FILE
@_GRACEFUL
@settings_options
def restart(
    daemon: bool,  # noqa: FBT001
    log_file: str | None,
    graceful: bool,  # noqa: FBT001
    env_file: str | None,
    basepath: str | None,
) -> None:
    """Stop the service if it runs, and start it.

    Meanwhile connections are refused; `smtpmailer reload` lets most settings count without that.
    """
    plan = _Start(env_file, basepath, log_file)
    # A configuration that is faulty now must not stop what runs.
    process = find_process(plan.settings.mailer_run_dir)
    if process is not None:
        _stop(plan.settings.mailer_run_dir, process, graceful=graceful)
    _start(plan, daemon=daemon)


@click.command()
@running_options
def reload(env_file: str | None, basepath: str | None, run_dir: str | None) -> None:
    """Have the service read its settings, certificates and keys again.

    No connection is dropped. Faulty settings change nothing.
    """
    found = ask(run_directory(env_file, basepath, run_dir), "reload", patience=None)
    click.echo(f"settings read again; changed: {', '.join(found['applied']) or 'nothing'}")
    if found["waiting"]:
        note(f"changed at the next start only: {', '.join(found['waiting'])}")


class _Start:
    """What is to be started; raises CommandFailure for faulty settings."""

    def __init__(self, env_file: str | None, basepath: str | None, log_file: str | None) -> None:
        self.settings: Settings = load_settings(env_file, basepath)
        named = (("--env", env_file), ("--basepath", basepath))
        self.options = [f"{name}={Path(path).absolute()}" for name, path in named if path]
        self.log = Path(log_file or Path(self.settings.mailer_run_dir, "smtpmailer.log")).absolute()


def _start(plan: _Start, *, daemon: bool) -> None:
    directory = plan.settings.mailer_run_dir
    process = find_process(directory)
    if process is not None:
        raise CommandFailure(f"smtpmailer runs already: process {process}, from {directory}")
    if daemon:
        _start_daemon(plan, directory)
    else:
        _become([*_TWISTD, "--nodaemon", "smtpmailer", *plan.options])


def _become(command: list[str]) -> NoReturn:
    sys.stdout.flush()
    os.execv(command[0], command)  # noqa: S606 - no shell on purpose


def _start_daemon(plan: _Start, directory: str) -> None:
    plan.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    begins_at = plan.log.stat().st_size if plan.log.exists() else 0
    command = [*_TWISTD, f"--logfile={plan.log}", "smtpmailer", *plan.options]
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True)  # noqa: S603
    if done.returncode:
        said = _tail(plan.log, begins_at) or done.stderr.decode("utf-8", "replace").splitlines()
        raise CommandFailure("smtpmailer did not start", *said[-_SHOWN:])
    process = _await_service(directory)
    if process is None:
        hints = _tail(plan.log, begins_at)[-_SHOWN:]
        raise CommandFailure(f"smtpmailer does not serve after {_START_LIMIT:g} s", *hints)
    click.echo(f"smtpmailer runs (process {process}); its log is {plan.log}")


def _await_service(directory: str) -> int | None:
    """Wait until all processes serve; gives the process to stop, None when it takes too long."""
    end = time.monotonic() + _START_LIMIT
    while time.monotonic() < end:
        if find_process(directory) is not None:
            found = ask(directory, "status")["processes"]
            serving = {each["name"] for each in found if each["state"] == "running"}
            if serving.issuperset(each["name"] for each in found):
                process: int = found[0]["pid"]
                return process
        time.sleep(_LOOK)
    return None


def _tail(log: Path, begins_at: int) -> list[str]:
    """Give the lines that were added to a log."""
    try:
        with log.open("rb") as file:
            file.seek(begins_at)
            return file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []


def _stop(directory: str, process: int, *, graceful: bool) -> None:
    """Stop a process and wait for its end."""
    waiting: Any = os.pidfd_open(process)
    try:
        try:
            ask(directory, "stop", {"patient": graceful})
        except CommandFailure:
            # It turns no more, or ends already; a signal gets through.
            signal.pidfd_send_signal(waiting, signal.SIGTERM)
        select.select([waiting], [], [])
    except ProcessLookupError:
        pass
    finally:
        os.close(waiting)
