# SPDX-License-Identifier: MIT
"""One mail to each of many recipients, with progress and a summary."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs
import click

from smtpmailer.cli.output import ExitStatus, as_json, note, reason_of
from smtpmailer.cli.recipients import Recipient
from smtpmailer.client import Client
from smtpmailer.errors import ServiceProtocolError, ServiceUnreachableError

__all__ = ["send_each"]

#: What a shell sees of a program that Ctrl-C ended.
_INTERRUPTED: Final = 130


def send_each(
    client: Client, mail: Mapping[str, Any], recipients: Sequence[Recipient], *, json_wanted: bool
) -> None:
    """Send ``mail`` to each recipient alone and print what became of it.

    Goes on after a mail that fails, stops when the service can't be reached or refuses the
    password. Ends the command with status 1 when a mail failed, 3 when the service was lost.
    """
    batch = _Batch(client=client, mail=mail, json_wanted=json_wanted)
    with _progress(recipients) as each:
        for recipient in each:
            batch.send(recipient)
            if batch.stopped:
                break
    batch.summary(recipients)
    if batch.status:
        raise click.exceptions.Exit(batch.status)


@attrs.define(kw_only=True)
class _Batch:
    """A run over recipients and what came of it so far; ``stopped`` is why it ends early."""

    client: Client
    mail: Mapping[str, Any]
    json_wanted: bool
    sent: int = 0
    failed: list[str] = attrs.field(factory=list)
    status: int = ExitStatus.OK
    stopped: str = ""

    def send(self, recipient: Recipient) -> None:
        """Send the mail to one recipient and count it."""
        document = {"sendMail": {**self.mail, "to": [recipient.item]}, "detail": True}
        try:
            answer = self.client.request(document)
        except KeyboardInterrupt:
            self.failed.append(f"{recipient.email}: interrupted; it may have been sent")
            self.status, self.stopped = _INTERRUPTED, "of the interrupt"
        except (ServiceUnreachableError, ServiceProtocolError) as error:
            unsure = isinstance(error, ServiceUnreachableError) and error.maybe_done
            hint = "; it may have been sent" if unsure else ""
            self.failed.append(f"{recipient.email}: {error}{hint}")
            self.status, self.stopped = ExitStatus.UNREACHABLE, "the service was lost"
        else:
            self._count(recipient, answer)

    def summary(self, recipients: Sequence[Recipient]) -> None:
        """Print how many were sent and who was not."""
        click.echo(f"sent {self.sent} of {len(recipients)} mails", err=self.json_wanted)
        if self.failed:
            note("not sent:")
            for line in self.failed:
                note(f"  {line}")
        untried = recipients[self.sent + len(self.failed) :]
        if untried:
            note(f"not tried, because {self.stopped}:")
            for one in untried:
                note(f"  {one.email}")

    def _count(self, recipient: Recipient, answer: dict[str, Any]) -> None:
        if self.json_wanted:
            click.echo(as_json(answer))
        if answer["status"] == "success":
            self.sent += 1
            return
        self.failed.append(f"{recipient.email}: {' '.join(reason_of(answer).split())}")
        self.status = ExitStatus.FAILED
        if answer.get("message") == "unauthorized request":
            self.stopped = "the service refuses the password"


@contextlib.contextmanager
def _progress(recipients: Sequence[Recipient]) -> Iterator[Iterable[Recipient]]:
    """Show a progress bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield recipients
        return
    with click.progressbar(recipients, label="Sending", file=sys.stderr, show_pos=True) as bar:
        yield bar
