# SPDX-License-Identifier: MIT
"""Tables of a running service: its processes, its connections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import click

from smtpmailer.cli.output import as_json
from smtpmailer.cli.running import ask, run_directory, running_options
from smtpmailer.cli.tables import ago, table

__all__ = ["connections", "show_status"]

_HEADS: Final = (
    "PROCESS",
    "PID",
    "STATE",
    "UPTIME",
    "MEMORY",
    "CONNECTIONS",
    "REQUESTS",
    "OPEN",
    "SENT",
    "FAILED",
    "SENDING",
)
_COUNTS: Final = ("connections", "requests", "open", "sent", "failed", "deliveries")
_MIB: Final = 2**20


def show_status(directory: str, *, json_wanted: bool) -> None:
    """Print the state of a service's processes; raises CommandFailure."""
    found = ask(directory, "status")
    if json_wanted:
        click.echo(as_json(found))
        return
    for line in _status_lines(found):
        click.echo(line)


@click.command()
@click.option("--json", "json_wanted", is_flag=True, help="Print one JSON object.")
@running_options
def connections(
    json_wanted: bool,  # noqa: FBT001
    env_file: str | None,
    basepath: str | None,
    run_dir: str | None,
) -> None:
    """Show who is connected to the service on this machine.

    Ages and quiet times are those of the connection: how long it has been open, and without
    anything to do.
    """
    found = ask(run_directory(env_file, basepath, run_dir), "connections")
    if json_wanted:
        click.echo(as_json({"connections": found}))
        return
    if not found:
        click.echo("no connections")
        return
    heads = ("PEER", "PROCESS", "AGE", "QUIET", "REQUESTS", "OPEN", "TLS")
    order = sorted(found, key=lambda each: (each["peer"], each["port"] or 0))
    for line in table(heads, map(_connection, order)):
        click.echo(line)


def _status_lines(found: Mapping[str, Any]) -> Iterable[str]:
    totals = found["totals"]
    rows = [
        [
            process["name"],
            process["pid"],
            process["state"],
            ago(process["age"]),
            _megabytes(process["memory"]),
            *(process[name] for name in _COUNTS),
        ]
        for process in found["processes"]
    ]
    if len(rows) > 1:
        sums = (totals[name] for name in _COUNTS)
        rows.append(["all", None, None, None, _megabytes(totals["memory"]), *sums])
    yield from table(_HEADS, rows)
    if totals["queued"] is not None:
        yield f"mails waiting in the queue: {totals['queued']}"
    if totals["restarts"]:
        yield f"processes that died and were replaced: {totals['restarts']}"


def _connection(found: Mapping[str, Any]) -> list[Any]:
    port = "" if found["port"] is None else f" port {found['port']}"
    return [
        f"{found['peer']}{port}",
        found["process"],
        ago(found["age"]),
        ago(found["quiet"]),
        found["requests"],
        found["open"],
        "yes" if found["tls"] else "no",
    ]


def _megabytes(count: int | None) -> str | None:
    return None if count is None else f"{count / _MIB:.0f} MB"
