# SPDX-License-Identifier: MIT
"""The subcommand that tells what became of a mail so far: explain."""

from __future__ import annotations

from typing import Any, Final

import click

from smtpmailer.cli.asking import Asker
from smtpmailer.cli.mailview import history_view
from smtpmailer.cli.options import connection_options, make_client
from smtpmailer.core.lookup import read_wanted

__all__ = ["explain"]

#: The message of the answer about a mail that can't be shown.
_REFUSED: Final = "unable to get mail history"


@click.command()
@click.argument("mail_id", metavar="ID")
@click.option("--json", "json_wanted", is_flag=True, help="Print the service's answer as it is.")
@connection_options
def explain(mail_id: str, json_wanted: bool, **connection: Any) -> None:  # noqa: FBT001
    """Tell what became of a mail so far, what it waits for, and when it is tried again.

    ID is the mail's id, as log lines and its Message-ID have it, or its name in the queue. Each
    attempt is shown with what was said to the server and what it answered; no password and no text
    of the mail is in that. Of very many attempts the first and the newest are kept. Finds mails
    that wait or are being sent, dead letters, and what is in quarantine. What became of a mail that
    is gone is in the log.
    """
    wanted = read_wanted(mail_id)
    if wanted is None:
        raise click.BadParameter(
            "a mail id is 16 letters and digits; the name of a mail in the queue will do, too",
            param_hint="ID",
        )
    with make_client(connection) as client:
        asker = Asker(client, json_wanted=json_wanted)
        answer = asker.try_ask("getMailHistory", mail_id)
        asker.print_json(answer)
        if answer["status"] == "success":
            asker.tell(history_view(answer["data"]))
            return
        failure = asker.failure(answer, mail_id)
        if answer["message"] == _REFUSED and answer["data"]:
            failure.hints = (
                "It was sent or removed, or could not be sent and not be kept; the log tells:",
                f"  grep {wanted.unique} FILE",
                f"  journalctl -u smtpmailer -g {wanted.unique}",
            )
        raise failure
