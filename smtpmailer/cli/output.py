# SPDX-License-Identifier: MIT
"""How the console command speaks: exit statuses, errors, answers."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from enum import IntEnum
from typing import IO, Any

import click

from smtpmailer.errors import ServiceProtocolError, ServiceUnreachableError

__all__ = ["CommandFailure", "ExitStatus", "as_json", "note", "reason_of", "unreachable"]


class ExitStatus(IntEnum):
    """What the command's exit status says."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3


class CommandFailure(click.ClickException):
    """Ends the command: an error line, hints below it, an exit status."""

    def __init__(self, message: str, *hints: str, status: ExitStatus = ExitStatus.FAILED) -> None:
        super().__init__(message)
        self.hints = hints
        self.exit_code = status  # type: ignore[misc]  # click's own subclasses do the same

    def show(self, file: IO[Any] | None = None) -> None:
        """Print to standard error."""
        stream = file or sys.stderr
        click.echo(f"{click.style('Error:', fg='red', bold=True)} {self.message}", file=stream)
        for hint in self.hints:
            note(hint)


def note(text: str) -> None:
    """Print a line to standard error."""
    click.echo(text, err=True)


def as_json(value: Any) -> str:
    """Give a value as the service would write it: one line, Unicode as it is."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def unreachable(error: ServiceUnreachableError | ServiceProtocolError) -> CommandFailure:
    """Give the failure for a service that could not be asked, with what to do about it."""
    if isinstance(error, ServiceProtocolError):
        return CommandFailure(str(error), status=ExitStatus.UNREACHABLE)
    hints = []
    if error.maybe_done:
        hints.append("The request was already written: it may have been carried out.")
    elif "certificate" in error.why:
        hints.append("Trust its authority with --ca-file, or name it with --server-name.")
    else:
        hints.append("Is the service running there? Set its address with --host and --port,")
        hints.append("--env FILE, or MAILER_ADDR and MAILER_PORT in the environment.")
    return CommandFailure(
        f"could not reach the service at {error}", *hints, status=ExitStatus.UNREACHABLE
    )


def reason_of(answer: Mapping[str, Any]) -> str:
    """Give an error answer as text for people: its message, then its data, a line each."""
    lines = [_text(answer.get("message"))]
    data = answer.get("data")
    if isinstance(data, Mapping):
        for path, messages in data.items():
            texts = messages if isinstance(messages, list) else [messages]
            lines.extend(f"  {path}: {_text(one)}" for one in texts)
    elif data is not None:
        lines.append(f"  {_text(data)}")
    return "\n".join(lines)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else as_json(value)
