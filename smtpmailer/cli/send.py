# SPDX-License-Identifier: MIT
"""The subcommand that sends mail: to some recipients at once, or one mail to each of a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import click

from smtpmailer.cli.batch import send_each
from smtpmailer.cli.options import connection_options, make_client
from smtpmailer.cli.output import CommandFailure, ExitStatus, as_json, note, reason_of, unreachable
from smtpmailer.cli.recipients import RecipientFileError, parse_recipient, read_recipients
from smtpmailer.client import Client
from smtpmailer.errors import ServiceProtocolError, ServiceUnreachableError

__all__ = ["send"]

_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
#: Not looked for here: it is the service that reads it.
_SENT_FILE: Final = click.Path(path_type=Path)
_MANY: Final[dict[str, Any]] = {"multiple": True, "metavar": "ADDR"}


@click.command()
@click.option("--to", **_MANY, help='Recipient: an address or "Name <addr>"; may be repeated.')
@click.option("--cc", **_MANY, help="Recipient of a copy, as --to.")
@click.option("--bcc", **_MANY, help="Recipient the others do not see, as --to.")
@click.option("--reply-to", **_MANY, help="Where answers go, as --to.")
@click.option(
    "--recipients",
    type=click.File("r", encoding="utf-8"),
    help="One mail to each recipient in this file: an address a line, or CSV: address, name.",
)
@click.option("--subject", required=True, help="The subject.")
@click.option("--body", metavar="TEXT", help="The body; else standard input is read.")
@click.option("--html", type=_FILE, help="Take the body from this HTML file (UTF-8).")
@click.option("--attach", type=_SENT_FILE, multiple=True, help="Attach this file; may be repeated.")
@click.option(
    "--embed",
    metavar="FILE:CID",
    multiple=True,
    help="Put in an image that the HTML names as cid:CID; may be repeated.",
)
@click.option("--from-email", metavar="ADDR", help="The sender's address (MAIL_FROM_ADDR).")
@click.option("--from-name", metavar="NAME", help="The sender's name (MAIL_FROM_NAME).")
@click.option(
    "--once",
    metavar="KEY",
    help="Send no second mail when the command is given again with this key: 1 to 64 characters.",
)
@click.option("--json", "json_wanted", is_flag=True, help="Print the service's answer as it is.")
@connection_options
def send(json_wanted: bool, recipients: Any, **options: Any) -> None:  # noqa: FBT001
    """Send a mail now.

    The body is --body, --html or standard input. Files are read by the service, so they have to
    lie on its machine, where its ATTACHMENT_DIRS allows. Whether the body is HTML or plain text is
    the service's setting MAIL_HTML.
    """
    listed = _listed(recipients, options)
    mail = _mail(options)
    with make_client(options) as client:
        if listed is not None:
            send_each(client, mail, listed, json_wanted=json_wanted)
        else:
            key = {} if options["once"] is None else {"once": options["once"]}
            _send_one(client, {"sendMail": mail, "detail": True, **key}, json_wanted=json_wanted)


def _send_one(client: Client, request: dict[str, Any], *, json_wanted: bool) -> None:
    try:
        answer = client.request(request)
    except (ServiceUnreachableError, ServiceProtocolError) as error:
        raise unreachable(error) from error
    if json_wanted:
        click.echo(as_json(answer))
    if answer["status"] != "success":
        raise CommandFailure(f"not sent: {reason_of(answer)}")
    if not json_wanted:
        click.echo(answer.get("message"))


def _listed(recipients: Any, options: dict[str, Any]) -> Any:
    """Read the recipients file, if any."""
    if recipients is None:
        if not (options["to"] or options["cc"] or options["bcc"]):
            raise click.UsageError("name a recipient with --to, --cc, --bcc or --recipients")
        return None
    if options["to"] or options["cc"] or options["bcc"]:
        raise click.UsageError("--recipients can't be combined with --to, --cc or --bcc")
    if options["once"] is not None:
        raise click.UsageError("--once is for one mail, and can't be combined with --recipients")
    try:
        return read_recipients(recipients.read())
    except (RecipientFileError, UnicodeDecodeError) as error:
        raise CommandFailure(f"{recipients.name}: {error}", status=ExitStatus.USAGE) from error


def _mail(options: dict[str, Any]) -> dict[str, Any]:
    """Give the API's mail object."""
    mail: dict[str, Any] = {
        "to": [parse_recipient(one).item for one in options["to"]],
        "ccList": [parse_recipient(one).item for one in options["cc"]],
        "bccList": [parse_recipient(one).item for one in options["bcc"]],
        "subject": options["subject"],
        "body": _body(options["body"], options["html"]),
    }
    optional = {
        "replyTo": [parse_recipient(one).item for one in options["reply_to"]],
        "attachments": [[str(path.absolute()), path.name] for path in options["attach"]],
        "embedded": [_embedded(one) for one in options["embed"]],
        "fromEmail": options["from_email"],
        "fromName": options["from_name"],
    }
    return mail | {key: value for key, value in optional.items() if value}


def _body(text: str | None, html: Path | None) -> str:
    if text is not None and html is not None:
        raise click.UsageError("--body and --html exclude each other")
    if text is not None:
        return text
    if html is not None:
        return _decoded(html.read_bytes(), str(html))
    if sys.stdin.isatty():
        note("Type the body; end it with Ctrl-D on a line of its own.")
    return _decoded(sys.stdin.buffer.read(), "standard input")


def _decoded(raw: bytes, source: str) -> str:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CommandFailure(
            f"the body from {source} is not UTF-8: byte {error.start}", status=ExitStatus.USAGE
        ) from error
    if not text.strip():
        raise CommandFailure(f"the body from {source} is empty", status=ExitStatus.USAGE)
    return text


def _embedded(text: str) -> list[str]:
    path, colon, content_id = text.rpartition(":")
    if not (path and colon and content_id):
        raise click.UsageError(f"--embed takes FILE:CID, not {text!r}")
    return [str(Path(path).absolute()), content_id, Path(path).name]
