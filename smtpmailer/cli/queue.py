# SPDX-License-Identifier: MIT
"""The subcommands about queued mails: queue list, show, update, remove, clear, retry, failed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

import attrs
import click

from smtpmailer.cli.asking import Asker
from smtpmailer.cli.mailview import mail_view, recipients_of
from smtpmailer.cli.options import connection_options, make_client
from smtpmailer.cli.output import CommandFailure, ExitStatus, note
from smtpmailer.cli.queue_move import move
from smtpmailer.cli.rescue import rescue
from smtpmailer.cli.tables import local_time, table
from smtpmailer.core.names import due_of

__all__ = ["queue"]

#: The API gives no more names at a time.
_MOST: Final = 500

_JSON: Final = click.option(
    "--json", "json_wanted", is_flag=True, help="Print the service's answers as they are."
)
_YES: Final = click.option("--yes", is_flag=True, help="Do not ask first.")
_LONG: Final = click.option(
    "-l", "--long", is_flag=True, help="Ask for each mail, and show subject and recipients."
)
_LIMIT: Final = click.option(
    "--limit",
    type=click.IntRange(1, _MOST),
    default=100,
    show_default=True,
    metavar="N",
    help=f"Show so many, at most {_MOST}.",
)
_PAGE: Final = click.option(
    "--page",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="N",
    help="Of all pages of that length show this one, counted from 0.",
)
_NAMES: Final = click.argument("names", nargs=-1, required=True, metavar="NAME...")


def _list_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a list."""
    for option in (connection_options, _JSON, _LONG, _PAGE, _LIMIT):
        command = option(command)
    return command


@contextmanager
def _asker(connection: Mapping[str, Any], *, json_wanted: bool) -> Iterator[Asker]:
    with make_client(connection) as client:
        yield Asker(client, json_wanted=json_wanted)


@click.group()
def queue() -> None:
    """Look after the mails that wait, and those that could not be delivered."""


@queue.command("list")
@_list_options
def list_waiting(**options: Any) -> None:
    """List the mails that wait, the one due first at the top."""
    _list(_WAITING, **options)


@queue.command()
@click.argument("name")
@_JSON
@connection_options
def show(name: str, json_wanted: bool, **connection: Any) -> None:  # noqa: FBT001
    """Show a waiting mail: its headers, its attempts so far, its text."""
    with _asker(connection, json_wanted=json_wanted) as asker:
        _show(asker, "getQueuedMail", name)


@queue.command()
@click.argument("name")
@click.option(
    "--set",
    "fields",
    multiple=True,
    metavar="FIELD=JSON",
    help="Change a field of the mail object: --set 'to=[\"ada@example.com\"]'; may be repeated.",
)
@click.option("--subject", metavar="TEXT", help="Change the subject.")
@click.option(
    "--schedule",
    metavar="TIME",
    help='Send it at this time: "now", Unix seconds, or 2030-01-31T08:00 (local time, unless a '
    "zone stands behind it).",
)
@_JSON
@connection_options
def update(
    name: str,
    fields: tuple[str, ...],
    subject: str | None,
    schedule: str | None,
    json_wanted: bool,  # noqa: FBT001
    **connection: Any,
) -> None:
    """Change a waiting mail; it gets a new name.

    A held mail, or one that waits for its next attempt, is due again as its schedule says.
    """
    content = dict(map(_field, fields))
    if subject is not None:
        content["subject"] = subject
    if schedule is not None:
        content["scheduleTime"] = _time(schedule)
    if not content:
        raise click.UsageError("say what to change with --set, --subject or --schedule")
    with _asker(connection, json_wanted=json_wanted) as asker:
        answer = asker.ask("updateQueuedMail", name, content=content)
        asker.tell(f"queued mail updated: {answer['message']['updated']}")


@queue.command()
@_NAMES
@_JSON
@connection_options
def remove(names: tuple[str, ...], json_wanted: bool, **connection: Any) -> None:  # noqa: FBT001
    """Remove waiting mails for good."""
    with _asker(connection, json_wanted=json_wanted) as asker:
        _each(asker, names, lambda name: asker.try_ask("removeQueuedMail", name))


@queue.command()
@_YES
@_JSON
@connection_options
def clear(yes: bool, json_wanted: bool, **connection: Any) -> None:  # noqa: FBT001
    """Remove all waiting mails for good."""
    with _asker(connection, json_wanted=json_wanted) as asker:
        _clear(asker, ("getQueueList", "clearQueue"), "waiting mails", yes=yes)


@queue.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "every", is_flag=True, help="Try all dead letters again.")
@_JSON
@connection_options
def retry(
    names: tuple[str, ...],
    every: bool,  # noqa: FBT001
    json_wanted: bool,  # noqa: FBT001
    **connection: Any,
) -> None:
    """Try mails again now: dead letters, or mails that wait for their next attempt or are held.

    Recipients who have the mail already get no second copy.
    """
    if bool(names) == every:
        raise click.UsageError("give names, or --all for all dead letters")
    with _asker(connection, json_wanted=json_wanted) as asker:
        _each(asker, _all_failed(asker) if every else names, lambda name: _retry(asker, name))


@queue.group()
def failed() -> None:
    """Look after dead letters: mails that could not be delivered."""


@failed.command("list")
@_list_options
def list_failed(**options: Any) -> None:
    """List the dead letters."""
    _list(_FAILED, **options)


@failed.command("show")
@click.argument("name")
@_JSON
@connection_options
def show_failed(name: str, json_wanted: bool, **connection: Any) -> None:  # noqa: FBT001
    """Show a dead letter: why it failed, its headers, its attempts, its text."""
    with _asker(connection, json_wanted=json_wanted) as asker:
        _show(asker, "getFailedMail", name)


@failed.command("remove")
@_NAMES
@_JSON
@connection_options
def remove_failed(names: tuple[str, ...], json_wanted: bool, **connection: Any) -> None:  # noqa: FBT001
    """Remove dead letters for good."""
    with _asker(connection, json_wanted=json_wanted) as asker:
        _each(asker, names, lambda name: asker.try_ask("removeFailedMail", name))


@failed.command("clear")
@_YES
@_JSON
@connection_options
def clear_failed(yes: bool, json_wanted: bool, **connection: Any) -> None:  # noqa: FBT001
    """Remove all dead letters for good."""
    with _asker(connection, json_wanted=json_wanted) as asker:
        _clear(asker, ("getFailedList", "clearFailed"), "dead letters", yes=yes)


failed.add_command(retry)
queue.add_command(move)
queue.add_command(rescue)


@attrs.frozen(kw_only=True)
class _Listing:
    """A list: the request that gives its names, and its columns; more of them when it is long."""

    request: str
    heads: tuple[str, ...]
    row: Callable[[str], tuple[Any, ...]]
    long_heads: tuple[str, ...]
    long_row: Callable[[Asker, str], tuple[Any, ...]]


def _list(
    listing: _Listing, *, limit: int, page: int, long: bool, json_wanted: bool, **connection: Any
) -> None:
    """Print a page of a list."""
    with _asker(connection, json_wanted=json_wanted) as asker:
        answer = asker.ask(listing.request, {"limit": limit, "page": page})
        if json_wanted:
            return
        names = answer["data"]["items"]
        if long and names:
            lines = table(listing.long_heads, [listing.long_row(asker, name) for name in names])
        else:
            lines = table(listing.heads, [listing.row(name) for name in names])
        _print_page(lines, len(names), page * limit, answer["data"]["total"])


def _show(asker: Asker, request: str, name: str) -> None:
    answer = asker.ask(request, name, detail=True)
    asker.tell(mail_view(name, answer["data"], answer.get("detail") or {}))


def _each(asker: Asker, names: tuple[str, ...], ask: Callable[[str], dict[str, Any]]) -> None:
    """Ask for each name, whatever became of the others; raises when one failed."""
    failures = 0
    for name in names:
        answer = ask(name)
        asker.print_json(answer)
        if answer["status"] == "success":
            asker.tell(f"{name}: {_said(answer)}")
        else:
            failures += 1
            asker.failure(answer, name).show()
    if failures:
        raise click.exceptions.Exit(ExitStatus.FAILED)


def _said(answer: Mapping[str, Any]) -> str:
    message = answer["message"]
    return f"waits as {message['updated']} now" if isinstance(message, dict) else str(message)


def _retry(asker: Asker, name: str) -> dict[str, Any]:
    """Revive a dead letter; a mail that is none but waits is due now."""
    answer = asker.try_ask("retryFailedMail", name)
    if answer["message"] != "unable to retry failed mail":
        return answer
    waiting = asker.try_ask("updateQueuedMail", name, content={"scheduleTime": int(time.time())})
    return waiting if waiting["status"] == "success" else answer


def _clear(asker: Asker, requests: tuple[str, str], what: str, *, yes: bool) -> None:
    listing, clearing = requests
    if not yes:
        answer = asker.try_ask(listing, {"limit": 1})
        if answer["status"] != "success":
            raise asker.failure(answer)
        click.confirm(f"Remove {answer['data']['total']} {what} for good?", abort=True, err=True)
    asker.tell(asker.ask(clearing)["message"])


def _all_failed(asker: Asker) -> tuple[str, ...]:
    """Give the names of all dead letters, before the first of them moves."""
    names: list[str] = []
    page: list[str] = []
    number = 0
    while number == 0 or len(page) == _MOST:
        answer = asker.try_ask("getFailedList", {"limit": _MOST, "page": number})
        if answer["status"] != "success":
            raise asker.failure(answer)
        page = answer["data"]["items"]
        names += page
        number += 1
    return tuple(names)


def _waiting_row(asker: Asker, name: str) -> tuple[Any, ...]:
    answer = asker.try_ask("getQueuedMail", name, detail=True)
    if answer["status"] != "success":
        return name, local_time(due_of(name)), "", "", "(it can't be read, or is being sent)"
    mail, detail = answer["data"], answer.get("detail") or {}
    when = "held" if detail.get("held") else local_time(detail.get("nextAttempt"))
    return name, when, detail.get("attemptCount"), _people(mail), mail.get("subject")


def _failed_row(asker: Asker, name: str) -> tuple[Any, ...]:
    answer = asker.try_ask("getFailedMail", name, detail=True)
    if answer["status"] != "success":
        return name, "", "", "", "(it can't be read)"
    mail, detail = answer["data"], answer.get("detail") or {}
    when = local_time(detail.get("failedAt"))
    return name, when, _people(mail), mail.get("subject"), detail.get("why")


_WAITING: Final = _Listing(
    request="getQueueList",
    heads=("NAME", "DUE"),
    row=lambda name: (name, local_time(due_of(name))),
    long_heads=("NAME", "NEXT ATTEMPT", "TRIES", "RECIPIENTS", "SUBJECT"),
    long_row=_waiting_row,
)
_FAILED: Final = _Listing(
    request="getFailedList",
    heads=("NAME",),
    row=lambda name: (name,),
    long_heads=("NAME", "FAILED", "RECIPIENTS", "SUBJECT", "REASON"),
    long_row=_failed_row,
)


def _people(mail: Mapping[str, Any]) -> str:
    first, *others = recipients_of(mail) or [""]
    return f"{first} +{len(others)}" if others else first


def _print_page(lines: list[str], count: int, start: int, total: int) -> None:
    """Print a table, and on standard error what of the whole it is."""
    if count:
        click.echo("\n".join(lines))
    if not count:
        note(f"none here; {total} in all")
    elif count < total:
        note(f"{start + 1} to {start + count} of {total}; --page shows others")


def _field(text: str) -> tuple[str, Any]:
    field, equals, value = text.partition("=")
    if not (field and equals):
        raise click.UsageError(f"--set takes FIELD=JSON, not {text!r}")
    try:
        return field, json.loads(value)
    except ValueError as error:
        raise click.UsageError(
            f"--set {field}: {value!r} is not JSON ({error}); a text stands in double quotes"
        ) from error


def _time(text: str) -> int:
    if text == "now":
        return int(time.time())
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError) as error:
        raise CommandFailure(
            f'--schedule takes "now", Unix seconds or a time like 2030-01-31T08:00, not {text!r}',
            status=ExitStatus.USAGE,
        ) from error
