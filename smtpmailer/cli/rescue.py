# SPDX-License-Identifier: MIT
"""The subcommand that takes stranded mails into the queue: queue rescue."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from smtpmailer.cli.mailview import recipient_count
from smtpmailer.cli.output import CommandFailure, ExitStatus, as_json, note
from smtpmailer.cli.stores import load_settings, refuse_root, settings_options, with_redis
from smtpmailer.cli.tables import ago, table
from smtpmailer.core.settings import Settings
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import NoSuchMailError, StoreError

if TYPE_CHECKING:
    from smtpmailer.interfaces import IRedis
    from smtpmailer.stores.redis_rescue import RedisRescuer
    from smtpmailer.stores.rescue import Found, Rescuer

    #: What was found, and by path why it was not taken in; empty when it was.
    _Outcome: TypeAlias = tuple[list[Found], Mapping[str, str]]

__all__ = ["rescue"]


@click.command()
@settings_options
@click.option("--quarantine", is_flag=True, help="Look at mails in quarantine instead.")
@click.option("--apply", is_flag=True, help="Do it; without this nothing is changed.")
@click.option("--json", "json_wanted", is_flag=True, help="Print one JSON object.")
def rescue(
    env_file: str | None,
    basepath: str | None,
    quarantine: bool,  # noqa: FBT001
    apply: bool,  # noqa: FBT001
    json_wanted: bool,  # noqa: FBT001
) -> None:
    """Find mails that another program stranded, and take them into the queue.

    That is: mails that lie in QUEUE_PROCESS_DIR though no service of ours is sending them, that
    lie beside the queue's directories, or that are named after a negative time. In Redis: those
    under temp:, those that the index does not name, and those named after a negative time. Without
    --apply they are only shown. Nobody knows of them whether they were sent. With --quarantine:
    what could not be read or decrypted, once it can.

    Works on the directories, on the service's own machine, or on Redis, whether the service runs or
    not. Stop the other program first.
    """
    settings = load_settings(env_file, basepath)
    if settings.redis_enable and settings.redis_store_queue:
        found, results = _in_redis(settings, quarantine=quarantine, apply=apply)
    else:
        found, results = _in_files(settings, quarantine=quarantine, apply=apply)
    if json_wanted:
        mails = [_as_fields(each, results) for each in found]
        click.echo(as_json({"applied": apply, "mails": mails}))
    else:
        _show(found, results, apply=apply)
    if any(results.values()):
        raise click.exceptions.Exit(ExitStatus.FAILED)


def _in_files(settings: Settings, *, quarantine: bool, apply: bool) -> _Outcome:
    rescuer = _rescuer(settings)
    try:
        found = rescuer.find_quarantined() if quarantine else rescuer.find()
        if apply and found:
            refuse_root(settings.queue_dir, "queue rescue")
        results = {each.path: _take(rescuer, each) for each in found} if apply else {}
    except OSError as error:
        raise CommandFailure(f"{error.filename or settings.queue_dir}: {error.strerror}") from error
    finally:
        rescuer.close()
    return found, results


def _in_redis(settings: Settings, *, quarantine: bool, apply: bool) -> _Outcome:
    from twisted.internet import reactor  # noqa: PLC0415

    from smtpmailer.queue_stores import cipher_of, open_redis_queue  # noqa: PLC0415
    from smtpmailer.stores.redis_keys import QueueKeys  # noqa: PLC0415
    from smtpmailer.stores.redis_rescue import RedisRescuer  # noqa: PLC0415

    @returns_deferred
    async def rescue_all(redis: IRedis) -> _Outcome:
        rescuer = RedisRescuer(
            redis,
            QueueKeys(settings.redis_key_prefix),
            open_redis_queue(settings, reactor, redis).quarantine,
            open_document=cipher_of(settings).open,
            judge=_judge(),
            now=time.time,
        )
        found = await (rescuer.find_quarantined() if quarantine else rescuer.find())
        results: dict[str, str] = {}
        for each in found if apply else ():
            results[each.path] = _unfit(each) or await _take_shared(rescuer, each)
        return found, results

    try:
        return with_redis(settings, rescue_all)
    except StoreError as error:
        raise CommandFailure(str(error), status=ExitStatus.UNREACHABLE) from error


def _rescuer(settings: Settings) -> Rescuer:
    # Imported here: they bring Twisted and more, which the other commands don't need.
    from smtpmailer.queue_stores import cipher_of, directories_of  # noqa: PLC0415
    from smtpmailer.stores.rescue import Rescuer  # noqa: PLC0415

    return Rescuer(
        directories_of(settings),
        cipher_of(settings).open,
        _judge(),
        durable=settings.queue_fsync,
    )


def _judge() -> Callable[[Mapping[str, Any]], None]:
    """Give what raises for a mail object that can't be sent."""
    from smtpmailer.core.requests import MailParser  # noqa: PLC0415
    from smtpmailer.schemafiles import load_schema  # noqa: PLC0415

    parser = MailParser(load_schema("sendMail"))

    def judge(mail: Mapping[str, Any]) -> None:
        # The time that counts is the one in the name.
        parser.parse({key: value for key, value in mail.items() if key != "scheduleTime"})

    return judge


def _take(rescuer: Rescuer, found: Found) -> str:
    """Take one in; gives why it was not, empty when it was."""
    if fault := _unfit(found):
        return fault
    try:
        rescuer.take(found)
    except (NoSuchMailError, StoreError) as error:
        return _why_left(error)
    return ""


async def _take_shared(rescuer: RedisRescuer, found: Found) -> str:
    try:
        await rescuer.take(found)
    except (NoSuchMailError, StoreError) as error:
        return _why_left(error)
    return ""


def _unfit(found: Found) -> str:
    """Give why a mail is not even tried to be taken in."""
    return f"left where it is: {found.fault}" if found.quarantined and found.fault else ""


def _why_left(error: NoSuchMailError | StoreError) -> str:
    return "gone meanwhile" if isinstance(error, NoSuchMailError) else f"left where it is: {error}"


def _show(found: list[Found], results: Mapping[str, str], *, apply: bool) -> None:
    if not found:
        click.echo("nothing to rescue")
        return
    now = time.time()
    rows = [(each.path, each.why, *_content(each), ago(now - each.written_at)) for each in found]
    for line in table(("FILE", "WHY", "SUBJECT", "RECIPIENTS", "AGE"), rows):
        click.echo(line)
    if not apply:
        note(f"{len(found)} found; --apply takes them into the queue, where they are due at once")
    for each in found if apply else ():
        fault = results[each.path]
        click.echo(f"{each.path}: {fault or f'waits as {each.name} now'}")


def _content(found: Found) -> tuple[Any, Any]:
    if found.mail is None:
        return f"(unreadable: {found.fault})", None
    subject = str(found.mail.get("subject", ""))
    if found.fault:
        subject += f" (can't be sent: {found.fault})"
    return subject, recipient_count(found.mail)


def _as_fields(found: Found, results: Mapping[str, str]) -> dict[str, Any]:
    subject = None if found.mail is None else found.mail.get("subject")
    fields = {
        "path": found.path,
        "why": found.why,
        "name": found.name,
        "writtenAt": found.written_at,
        "subject": subject,
        "recipients": None if found.mail is None else recipient_count(found.mail),
        "fault": found.fault or None,
    }
    if found.path not in results:
        return fields
    return {**fields, "queued": not results[found.path], "error": results[found.path] or None}
