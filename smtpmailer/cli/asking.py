# SPDX-License-Identifier: MIT
"""Asking the service, with what goes wrong said as the command says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import click

from smtpmailer.cli.output import CommandFailure, as_json, reason_of, unreachable
from smtpmailer.client import Client
from smtpmailer.errors import ServiceProtocolError, ServiceUnreachableError

__all__ = ["Asker"]

#: What to do about messages that concern a setting.
_HINTS: Final = {
    "queue service is not enabled": "MAILER_QUEUE = true in the service's env file switches it on.",
    "queue service is read-only": (
        "MAILER_QUEUE_API_READ_ONLY = false in the service's env file allows changes."
    ),
    "template service is not enabled": (
        "EMAIL_TEMPLATE = true in the service's env file switches it on."
    ),
    "template service is read-only": (
        "EMAIL_TEMPLATE_API_READ_ONLY = false in the service's env file allows changes."
    ),
    "unauthorized request": "Give the service's password with --password-file.",
}


class Asker:
    """Makes requests; with ``json_wanted`` every answer is printed as it is."""

    def __init__(self, client: Client, *, json_wanted: bool) -> None:
        self._client = client
        self.json_wanted = json_wanted

    def try_ask(self, name: str, argument: Any = None, **more: Any) -> dict[str, Any]:
        """Give the answer, also when it is an error; prints nothing.

        Raises CommandFailure when there is none.
        """
        try:
            return self._client.request({name: argument, **more})
        except (ServiceUnreachableError, ServiceProtocolError) as error:
            raise unreachable(error) from error

    def ask(self, name: str, argument: Any = None, **more: Any) -> dict[str, Any]:
        """Give the answer of a success; raises CommandFailure otherwise."""
        answer = self.try_ask(name, argument, **more)
        self.print_json(answer)
        if answer["status"] != "success":
            raise self.failure(answer)
        return answer

    def print_json(self, answer: Mapping[str, Any]) -> None:
        """Print an answer if that is wanted."""
        if self.json_wanted:
            click.echo(as_json(answer))

    def tell(self, text: str) -> None:
        """Print a line for people, unless answers are printed."""
        if not self.json_wanted:
            click.echo(text)

    @staticmethod
    def failure(answer: Mapping[str, Any], what: str = "the service answered") -> CommandFailure:
        """Give the failure that an error answer is, with a hint when a setting is behind it."""
        hint = _HINTS.get(str(answer.get("message")))
        return CommandFailure(f"{what}: {reason_of(answer)}", *([hint] if hint else []))
