# SPDX-License-Identifier: MIT
"""The subcommand that takes stranded mails into the queue: queue rescue."""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from smtpmailer import configuration
from smtpmailer.cli.mailview import recipient_count
from smtpmailer.cli.output import CommandFailure, ExitStatus, as_json, note
from smtpmailer.cli.tables import ago, table
from smtpmailer.core.settings import Settings
from smtpmailer.errors import EnvFileError, NoSuchMailError, SettingsError, StoreError

if TYPE_CHECKING:
    from smtpmailer.stores.rescue import Found, Rescuer

__all__ = ["rescue"]


@click.command()
@click.option(
    "--env",
    "env_file",
    metavar="FILE",
    envvar="SMTPMAILER_ENV",
    help="The service's env file; else .env when there is one.",
)
@click.option(
    "--basepath", metavar="DIR", help="Where relative paths begin; else the env file's directory."
)
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
    lie beside the queue's directories, or that are named after a negative time. Without --apply
    they are only shown. Nobody knows of them whether they were sent. With --quarantine: what could
    not be read or decrypted, once it can.

    Works on the directories, on the service's own machine, whether the service runs or not. Stop
    the other program first.
    """
    settings = _settings(env_file, basepath)
    rescuer = _rescuer(settings)
    try:
        found = rescuer.find_quarantined() if quarantine else rescuer.find()
        if apply and found:
            _refuse_root(settings.queue_dir)
        results = {each.path: _take(rescuer, each) for each in found} if apply else {}
    except OSError as error:
        raise CommandFailure(f"{error.filename or settings.queue_dir}: {error.strerror}") from error
    finally:
        rescuer.close()
    if json_wanted:
        mails = [_as_fields(each, results) for each in found]
        click.echo(as_json({"applied": apply, "mails": mails}))
    else:
        _show(found, results, apply=apply)
    if any(results.values()):
        raise click.exceptions.Exit(ExitStatus.FAILED)


def _settings(env_file: str | None, basepath: str | None) -> Settings:
    try:
        return configuration.load(env_file, basepath, os.environ)
    except (EnvFileError, SettingsError) as error:
        lines = str(error).splitlines()
        raise CommandFailure(
            "the configuration is faulty:",
            *(f"  {line}" for line in lines),
            status=ExitStatus.USAGE,
        ) from error


def _rescuer(settings: Settings) -> Rescuer:
    # Imported here: they bring Twisted and more, which the other commands don't need.
    from smtpmailer.core.requests import MailParser  # noqa: PLC0415
    from smtpmailer.schemafiles import load_schema  # noqa: PLC0415
    from smtpmailer.stores.filequeue import QueueDirectories  # noqa: PLC0415
    from smtpmailer.stores.rescue import Rescuer  # noqa: PLC0415
    from smtpmailer.stores.sealed import QueueCipher  # noqa: PLC0415

    keys = tuple(key for key in (settings.secret_key, *settings.secret_key_old) if key)
    cipher = QueueCipher(
        method=settings.queue_encrypt_method,
        keys=keys,
        whole=settings.queue_full_encrypt,
        make_nonce=os.urandom,
    )
    directories = QueueDirectories(
        waiting=settings.queue_dir,
        claimed=settings.queue_process_dir,
        failed=settings.queue_failed_dir,
    )
    parser = MailParser(load_schema("sendMail"))

    def judge(mail: Mapping[str, Any]) -> None:
        # The time that counts is the one in the name.
        parser.parse({key: value for key, value in mail.items() if key != "scheduleTime"})

    return Rescuer(directories, cipher.open, judge, durable=settings.queue_fsync)


def _refuse_root(directory: str) -> None:
    """Refuse to leave files that the service could not read."""
    owner = Path(directory).stat().st_uid
    if os.geteuid() != 0 or owner == 0:
        return
    try:
        name = pwd.getpwuid(owner).pw_name
    except KeyError:
        name = f"#{owner}"
    raise CommandFailure(
        f"{directory} belongs to {name}, who could not read what root writes there",
        f"sudo -u '{name}' smtpmailer queue rescue ...",
        status=ExitStatus.USAGE,
    )


def _take(rescuer: Rescuer, found: Found) -> str:
    """Take one in; gives why it was not, empty when it was."""
    if found.quarantined and found.fault:
        return f"left where it is: {found.fault}"
    try:
        rescuer.take(found)
    except NoSuchMailError:
        return "gone meanwhile"
    except StoreError as error:
        return f"left where it is: {error}"
    return ""


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
