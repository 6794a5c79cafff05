# SPDX-License-Identifier: MIT
"""The subcommand that stands in for /usr/sbin/sendmail: a message in, a queued mail out.

It takes the options that cron, mail(1), PHP's mail() and applications give, and ends with the
statuses of sysexits.h. The service makes a new message of what it is told (sendmail_message).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import attrs
import click

from smtpmailer.cli.options import connection_options, make_client
from smtpmailer.cli.output import CommandFailure, note, reason_of
from smtpmailer.cli.recipients import Recipient
from smtpmailer.cli.sendmail_message import Message, UncarriableError, body_text, read_message
from smtpmailer.cli.sendmail_people import NobodyError, Recipients, addressed, listed
from smtpmailer.cli.sendmail_settings import SiteSettings, read_settings
from smtpmailer.cli.sendmail_spool import Spool, SpoolError
from smtpmailer.cli.sendmail_text import people
from smtpmailer.client import Client
from smtpmailer.errors import ServiceProtocolError, ServiceUnreachableError

__all__ = ["sendmail"]

#: Seconds for which a service that can't be reached is tried again: a restart takes less.
_RETRY_FOR: Final = 30.0
_DIRECTORY: Final = click.Path(file_okay=False, path_type=Path)
_FILE: Final = click.Path(dir_okay=False, path_type=Path)
#: -b: what sendmail does instead of taking a message, and who does it here.
_OTHER_MODES: Final = {
    "d": "the service is a daemon of its own: twistd smtpmailer",
    "D": "the service is a daemon of its own: twistd smtpmailer",
    "h": "there is no host status",
    "H": "there is no host status",
    "i": "aliases are read as they are, nothing has to be built",
    "p": "smtpmailer queue list shows the queue",
    "P": "smtpmailer queue list shows the queue",
    "s": "it speaks no SMTP; programs that do need a mail server, or the service's JSON API",
    "t": "there are no address rules to test",
    "v": "addresses can't be verified",
}
_STATUSES: Final = {
    "connection timed out": os.EX_TEMPFAIL,
    "exception occurred": os.EX_TEMPFAIL,
    "invalid payload": os.EX_DATAERR,
    "queue service is not enabled": os.EX_UNAVAILABLE,
    "service is busy": os.EX_TEMPFAIL,
    "too many connections": os.EX_TEMPFAIL,
    "unauthorized request": os.EX_NOPERM,
}


#: Answers to what may have been queued all the same.
_DOUBTFUL: Final = ("exception occurred", "mail may have been added to queue")
_DOUBT: Final = "The message was already handed over: it may have been queued."


class SendmailFailure(CommandFailure):
    """Ends the command with a status of sysexits.h."""

    def __init__(self, status: int, message: str, *hints: str) -> None:
        super().__init__(message, *hints)
        self.exit_code = status  # type: ignore[misc]  # as in CommandFailure


class _SendmailCommand(click.Command):
    """Ends with EX_USAGE for wrong usage, where the other commands end with 2."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.exit_code = os.EX_USAGE  # type: ignore[misc]  # as in CommandFailure
            raise


def _ignored(*flags: str, **more: Any) -> Callable[[Any], Any]:
    """Make an option that changes nothing here."""
    name = f"ignored_{flags[0].lstrip('-')}_{'value' if 'metavar' in more else 'flag'}"
    return click.option(*flags, name, hidden=True, expose_value=False, **more)


_FLAG: Final[dict[str, Any]] = {"is_flag": True}
_VALUE: Final[dict[str, Any]] = {"metavar": "VALUE", "multiple": True}


@click.command(
    cls=_SendmailCommand,
    context_settings={"help_option_names": ["--help"]},
    epilog="Exit status, as in sysexits.h: 0 queued, 64 wrong usage, 65 the message can't be sent, "
    "67 a recipient has no address, 69 the service does not do this, 73 the spool can't be "
    "written, 75 not now, later it may work, 77 wrong password, 78 faulty settings.",
)
@click.option("-t", "from_header", is_flag=True, help="Take recipients from To, Cc and Bcc.")
@click.option("-i", "dots_are_text", is_flag=True, help='A line "." does not end the message.')
@click.option("-f", "-r", "sender", metavar="ADDR", help="The sender, when From does not say.")
@click.option("-F", "sender_name", metavar="NAME", help="The sender's name, likewise.")
@click.option("-o", "settings", metavar="X", multiple=True, help="-oi is -i; others are ignored.")
@click.option("-b", "mode", metavar="X", default="m", help="-bm is the default; no others.")
@click.option("-v", "verbose", count=True, help="Tell what became of the message.")
@click.option("-n", "no_aliases", is_flag=True, help="No aliases.")
@click.option("-q", "run_queue", is_flag=False, flag_value="", default=None, hidden=True)
@click.option("-C", "configuration", metavar="FILE", hidden=True)
@click.option("-I", "build_aliases", is_flag=True, hidden=True)
@_ignored("-m", **_FLAG)
@_ignored("-G", **_FLAG)
@_ignored("-U", **_FLAG)
@_ignored("-A", **_VALUE)
@_ignored("-B", **_VALUE)
@_ignored("-L", **_VALUE)
@_ignored("-N", **_VALUE)
@_ignored("-O", **_VALUE)
@_ignored("-R", **_VALUE)
@_ignored("-V", **_VALUE)
@_ignored("-X", **_VALUE)
@_ignored("-e", **_VALUE)
@_ignored("-h", **_VALUE)
@_ignored("-p", **_VALUE)
@click.option(
    "--html/--plain",
    default=None,
    help="What the service makes of bodies (its MAIL_HTML): HTML, or plain text.",
)
@click.option("--domain", help="Domain of recipients without one (SMTPMAILER_DOMAIN).")
@click.option("--aliases", type=_FILE, help="aliases(5) (SMTPMAILER_ALIASES, /etc/aliases).")
@click.option("--spool", type=_DIRECTORY, help="Where attachments are put (SMTPMAILER_SPOOL).")
@click.option("--strict", is_flag=True, help="Refuse a message of which something is left out.")
@click.option(
    "--retry-for",
    type=click.FloatRange(min=0),
    default=_RETRY_FOR,
    show_default=True,
    metavar="SECONDS",
    help="How long a service that can't be reached is tried again.",
)
@connection_options
@click.argument("recipients", nargs=-1, type=click.UNPROCESSED)
def sendmail(recipients: tuple[str, ...], **options: Any) -> None:
    """Queue the message on standard input, as /usr/sbin/sendmail would.

    RECIPIENTS get it; with -t those whom To, Cc and Bcc name. Settings that options don't give come
    from the env file, which is /etc/smtpmailer/sendmail.env unless named.
    """
    _refuse_other_work(options)
    named = [person for each in recipients for person in people(each)]
    if not named and not (options["from_header"] or "t" in options["settings"]):
        raise SendmailFailure(
            os.EX_USAGE, "nobody to send to: name recipients, or take those of the header with -t"
        )
    settings = _configured(lambda: read_settings(options))
    client = _configured(lambda: make_client(settings.connection))
    dots_are_text = options["dots_are_text"] or "i" in options["settings"]
    try:
        message = read_message(read_input(sys.stdin.buffer, dots_are_text=dots_are_text))
        handover = _Handover(options=options, settings=settings, message=message, named=named)
        with client:
            handover.queue(client)
    except (UncarriableError, NobodyError, SpoolError) as error:
        raise _failure(error) from error


def read_input(stream: BinaryIO, *, dots_are_text: bool) -> bytes:
    """Read a message, up to a line that holds a dot alone unless ``dots_are_text``."""
    if dots_are_text:
        return stream.read()
    lines = []
    for line in stream:
        if line.rstrip(b"\r\n") == b".":
            break
        lines.append(line)
    return b"".join(lines)


@attrs.frozen(kw_only=True)
class _Handover:
    """A message, and what is to be done with it."""

    options: Mapping[str, Any]
    settings: SiteSettings
    message: Message
    named: Sequence[Recipient]

    def queue(self, client: Client) -> None:
        """Queue the mail; raises SendmailFailure, UncarriableError, NobodyError, SpoolError."""
        recipients = self._recipients()
        mail = self._mail(recipients)
        self._tell_left_out(recipients)
        spool = Spool(self.settings.spool)
        try:
            answer = client.request({"queueMail": {**mail, **spool.put(self.message.files)}})
        except ServiceUnreachableError as error:
            if not error.maybe_done:
                spool.discard()
            raise _unreachable(error) from error
        except ServiceProtocolError as error:
            raise SendmailFailure(os.EX_UNAVAILABLE, str(error)) from error
        except BaseException:
            spool.discard()
            raise
        if answer["status"] != "success":
            if answer.get("message") not in _DOUBTFUL:
                spool.discard()
            raise _refused(answer)
        if self.options["verbose"]:
            note(f"queued as {answer['data']}")

    def _recipients(self) -> Recipients:
        sort = addressed
        if self.options["from_header"] or "t" in self.options["settings"]:
            sort = listed
        found = sort(self.message, self.named, self.settings.directory)
        if not (found.to or found.cc or found.bcc):
            raise UncarriableError("nobody to send to: it has no To, Cc or Bcc")
        return found

    def _mail(self, recipients: Recipients) -> dict[str, Any]:
        message = self.message
        mail: dict[str, Any] = {
            "to": [each.item for each in recipients.to],
            "ccList": [each.item for each in recipients.cc],
            "bccList": [each.email for each in recipients.bcc],
            "subject": message.subject,
            "body": body_text(message.bodies, html=self.settings.html),
        }
        answerable = map(self.settings.answerable, message.reply_to)
        reply_to = [each.item for each in answerable if each.email]
        sender = self.settings.sender(message.sender, self.options["sender"])
        name = sender.name or self.options["sender_name"]
        optional = {"replyTo": reply_to, "fromEmail": sender.email, "fromName": name}
        return mail | {key: value for key, value in optional.items() if value}

    def _tell_left_out(self, recipients: Recipients) -> None:
        hidden = [f"{each} in To or Cc, who gets no copy" for each in recipients.hidden]
        missed = [*self.message.missed, *hidden]
        if self.options["strict"] and missed:
            raise UncarriableError(f"these would be left out (--strict): {', '.join(missed)}")
        left_out = [*self.message.left_out, *hidden]
        if self.options["verbose"] and left_out:
            note(f"left out: {', '.join(left_out)}")


def _refuse_other_work(options: Mapping[str, Any]) -> None:
    """Refuse what is not about taking a message; doing nothing would look like success."""
    if options["mode"] != "m":
        why = _OTHER_MODES.get(options["mode"], "there is no such mode")
        raise SendmailFailure(os.EX_USAGE, f"-b{options['mode']}: {why}")
    if options["run_queue"] is not None:
        raise SendmailFailure(os.EX_USAGE, "-q: the service runs its queue by itself")
    if options["build_aliases"]:
        raise SendmailFailure(os.EX_USAGE, f"-I: {_OTHER_MODES['i']}")
    if options["configuration"] is not None:
        raise SendmailFailure(os.EX_USAGE, "-C: settings are in an env file, see --env")


def _configured(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except CommandFailure as error:
        raise SendmailFailure(os.EX_CONFIG, error.message, *error.hints) from error


def _failure(error: UncarriableError | NobodyError | SpoolError) -> SendmailFailure:
    if isinstance(error, UncarriableError):
        return SendmailFailure(os.EX_DATAERR, f"the message can't be sent: {error}")
    status = os.EX_NOUSER if isinstance(error, NobodyError) else error.status
    return SendmailFailure(status, str(error))


def _unreachable(error: ServiceUnreachableError) -> SendmailFailure:
    doubt = (_DOUBT,) if error.maybe_done else ()
    return SendmailFailure(os.EX_TEMPFAIL, f"could not reach the service at {error}", *doubt)


def _refused(answer: Mapping[str, Any]) -> SendmailFailure:
    """Give the failure that an error answer is."""
    message = str(answer.get("message"))
    # The service names what is wrong with a mail, but not what is wrong with its queue.
    otherwise = os.EX_TEMPFAIL if answer.get("data") is None else os.EX_DATAERR
    status = _STATUSES.get(message, otherwise)
    doubt = (_DOUBT,) if message in _DOUBTFUL else ()
    return SendmailFailure(status, f"the service answered: {reason_of(answer)}", *doubt)


if __name__ == "__main__":
    sendmail(prog_name="sendmail")
