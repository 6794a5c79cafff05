# SPDX-License-Identifier: MIT
"""The subcommand that fills a template without a service: template preview."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

import attrs
import click

from smtpmailer import configuration
from smtpmailer.cli.output import CommandFailure, ExitStatus, note, reason_of
from smtpmailer.cli.stores import with_redis
from smtpmailer.cli.tables import clean
from smtpmailer.core.mime import MessageOptions, Stamp, compose
from smtpmailer.core.model import Address, Capabilities, MailRequest
from smtpmailer.core.requests import MailParser
from smtpmailer.core.settings import OPTIONS, Settings
from smtpmailer.core.settings_reading import from_values
from smtpmailer.core.templating import fill, render
from smtpmailer.errors import ClientError, OperatorError, RequestInvalidError, SettingsError
from smtpmailer.schemafiles import load_schema
from smtpmailer.template_parts import make_store, open_folder, rules_of
from smtpmailer.threads import InlineThreads

__all__ = ["preview", "read_text"]

#: Stands for a sender or recipient that nobody named; nothing is sent.
_SOMEBODY: Final = "preview@example.com"

_OUT: Final = click.Path(dir_okay=False, writable=True, path_type=Path)


def read_text(file: BinaryIO) -> str:
    """Read a text file, or what is typed; raises CommandFailure (usage) when it is not UTF-8."""
    try:
        return file.read().decode("utf-8")
    except UnicodeDecodeError as error:
        name = getattr(file, "name", "<stdin>").replace("<stdin>", "standard input")
        raise _usage(f"{name} is not UTF-8: byte {error.start}") from error


@click.command()
@click.argument("name", required=False)
@click.option(
    "--file", type=click.File("rb"), help="Take this file as the template; - is standard input."
)
@click.option(
    "--set", "given", multiple=True, metavar="KEY=VALUE", help="Put VALUE in; may be repeated."
)
@click.option(
    "--values",
    "values_file",
    type=click.File("rb"),
    metavar="FILE",
    help="Put the values of this JSON object in; --set goes before them.",
)
@click.option("--strict", is_flag=True, help="Fail as with EMAIL_TEMPLATE_STRICT = true.")
@click.option("--eml", type=_OUT, metavar="FILE", help="Write a whole mail to this file instead.")
@click.option("--subject", default="Preview", show_default=True, help="The mail's subject.")
@click.option(
    "--to", default=_SOMEBODY, show_default=True, metavar="ADDR", help="The mail's recipient."
)
@click.option(
    "--env",
    "env_file",
    metavar="FILE",
    help="The service's env file; else .env when there is one, else the defaults.",
)
@click.option(
    "--basepath", metavar="DIR", help="Where relative paths begin; else the env file's directory."
)
def preview(name: str | None, file: BinaryIO | None, **options: Any) -> None:
    """Print what a template makes of values; NAME is one in EMAIL_TEMPLATE_DIR, or in Redis.

    Reads the template itself and asks no service. Tags without a value and values without a tag
    are told on standard error. With --eml the result is a mail that a mail program can open.
    """
    if (name is None) == (file is None):
        raise click.UsageError("give the NAME of a template, or --file")
    settings = _settings(options["env_file"], options["basepath"])
    request = _request(options, _values(options["given"], options["values_file"]))
    try:
        text = read_text(file) if file is not None else _stored(settings, name or "")
        text = _filled(text, request, settings, strict=options["strict"])
        if options["eml"] is None:
            click.echo(text.encode("utf-8"), nl=False)
            return
        message = _message(request, text, settings)
    except RequestInvalidError as error:
        raise _invalid(error, ExitStatus.FAILED) from error
    except (ClientError, OperatorError) as error:
        raise CommandFailure(str(error)) from error
    try:
        options["eml"].write_bytes(message)
    except OSError as error:
        raise CommandFailure(f"could not write {options['eml']}: {error.strerror}") from error


def _settings(env_file: str | None, basepath: str | None) -> Settings:
    """Read the service's settings; without an env file those about mail and templates only."""
    try:
        if env_file is not None or Path(basepath or ".", configuration.DEFAULT_ENV).exists():
            return configuration.load(env_file, basepath, os.environ)
        found = {key: os.environ[key] for key in OPTIONS.keys() & os.environ.keys()}
        values: dict[str, object] = {
            key: value
            for key, value in found.items()
            if key.startswith(("EMAIL_", "MAIL_", "REDIS_"))
        }
        needed = {"SMTP_HOST": "localhost", "MAILER_QUEUE": False}
        return from_values(values | needed, str(Path(basepath or ".").absolute()))
    except SettingsError as error:
        raise CommandFailure("the configuration is faulty:", *error.faults) from error
    except OperatorError as error:
        raise CommandFailure(str(error)) from error


def _stored(settings: Settings, name: str) -> str:
    """Read a template from where the service would."""
    if not (settings.redis_enable and settings.redis_store_template):
        return open_folder(settings).read(name)
    return with_redis(
        settings, lambda redis: make_store(settings, InlineThreads(), redis).get(name)
    )


def _values(given: tuple[str, ...], values_file: BinaryIO | None) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if values_file is not None:
        try:
            values = json.loads(values_file.read())
        except ValueError as error:
            raise _usage(f"{values_file.name} is no JSON: {error}") from error
        if not isinstance(values, dict):
            raise _usage(f'{values_file.name} has to hold a JSON object: {{"KEY": "VALUE"}}')
    return values | dict(_pairs(given))


def _pairs(given: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"--set takes KEY=VALUE, not {text!r}")
        yield key, value


def _request(options: Mapping[str, Any], values: Mapping[str, Any]) -> MailRequest:
    """Give the mail as the service would understand it."""
    document = {
        "to": [options["to"]],
        "ccList": [],
        "bccList": [],
        "subject": options["subject"],
        "useTemplate": "preview",
        "replaceContent": values,
    }
    try:
        return MailParser(load_schema("sendMail")).parse(document)
    except RequestInvalidError as error:
        raise _invalid(error, ExitStatus.USAGE) from error


def _filled(text: str, request: MailRequest, settings: Settings, *, strict: bool) -> str:
    """Fill the template, saying what does not fit."""
    rules = rules_of(settings)
    rules = attrs.evolve(rules, strict=strict or rules.strict)
    made = render(text, request.replace_content, rules)
    told = fill(text, request.replace_content, rules)
    for what, names in (("tags without a value", told.missing), ("no tag for", told.unused)):
        if names:
            _warn(f"{what}: {clean(', '.join(names))}")
    if not made:
        _warn("the text is empty: no such mail is sent")
    return made


def _message(request: MailRequest, text: str, settings: Settings) -> bytes:
    """Give the bytes of a mail as it would be received."""
    mail = compose(
        attrs.evolve(request, body=text, template=None, replace_content={}),
        body=text,
        sender=Address(email=settings.mail_from_addr or _SOMEBODY, name=settings.mail_from_name),
        files=(),
        stamp=Stamp(unique=secrets.token_hex(8), epoch_seconds=time.time()),
        options=MessageOptions(
            html=settings.mail_html, charset=settings.mail_charset, encoding=settings.mail_encoding
        ),
    )
    return mail.wire(Capabilities(eight_bit=True, smtputf8=True)).plain()


def _invalid(error: RequestInvalidError, status: ExitStatus) -> CommandFailure:
    answer = {"message": "the values don't fit:", "data": error.errors}
    return CommandFailure(reason_of(answer), status=status)


def _warn(text: str) -> None:
    note(f"{click.style('Warning:', fg='yellow')} {text}")


def _usage(message: str) -> CommandFailure:
    return CommandFailure(message, status=ExitStatus.USAGE)
