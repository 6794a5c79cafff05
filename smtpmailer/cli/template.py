# SPDX-License-Identifier: MIT
"""The subcommands about templates: template list, show, add, update, remove, preview, move."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, Final

import click

from smtpmailer.cli.asking import Asker
from smtpmailer.cli.options import connection_options, make_client
from smtpmailer.cli.output import ExitStatus, note
from smtpmailer.cli.preview import preview, read_text
from smtpmailer.cli.tables import clean, clean_lines
from smtpmailer.cli.template_move import move

__all__ = ["template"]

#: The API gives no more names at a time.
_MOST: Final = 500

_JSON: Final = click.option(
    "--json", "json_wanted", is_flag=True, help="Print the service's answers as they are."
)
_FILE: Final = click.argument("file", type=click.File("rb"), default="-")


@contextmanager
def _asker(connection: Mapping[str, Any], *, json_wanted: bool) -> Iterator[Asker]:
    with make_client(connection) as client:
        yield Asker(client, json_wanted=json_wanted)


@click.group()
def template() -> None:
    """Look after the service's templates, and see what they make of values."""


@template.command("list")
@_JSON
@connection_options
def list_templates(json_wanted: bool, **connection: Any) -> None:  # noqa: FBT001
    """List the names of all templates."""
    with _asker(connection, json_wanted=json_wanted) as asker:
        number, names = 0, [""] * _MOST
        while len(names) == _MOST:
            data = asker.ask("getTemplateList", {"limit": _MOST, "page": number})["data"]
            names = data["items"]
            for name in names:
                asker.tell(clean(name))
            number += 1
        if not data["total"] and not json_wanted:
            note("there are no templates")


@template.command()
@click.argument("name")
@_JSON
@connection_options
def show(name: str, json_wanted: bool, **connection: Any) -> None:  # noqa: FBT001
    """Print a template, byte for byte unless it goes to a terminal."""
    with _asker(connection, json_wanted=json_wanted) as asker:
        text = asker.ask("getTemplate", name)["data"]
    if json_wanted:
        return
    if sys.stdout.isatty():
        click.echo(clean_lines(text))
    else:
        click.echo(text.encode("utf-8"), nl=False)


@template.command()
@click.argument("name")
@_FILE
@_JSON
@connection_options
def add(name: str, file: BinaryIO, json_wanted: bool, **connection: Any) -> None:  # noqa: FBT001
    """Add a template from FILE, or standard input; one that exists is left alone."""
    _write("addTemplate", name, file, connection, json_wanted=json_wanted)


@template.command()
@click.argument("name")
@_FILE
@_JSON
@connection_options
def update(name: str, file: BinaryIO, json_wanted: bool, **connection: Any) -> None:  # noqa: FBT001
    """Replace a template by FILE, or standard input."""
    _write("updateTemplate", name, file, connection, json_wanted=json_wanted)


@template.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@_JSON
@connection_options
def remove(names: tuple[str, ...], json_wanted: bool, **connection: Any) -> None:  # noqa: FBT001
    """Remove templates for good."""
    failures = 0
    with _asker(connection, json_wanted=json_wanted) as asker:
        for name in names:
            answer = asker.try_ask("removeTemplate", name)
            asker.print_json(answer)
            if answer["status"] == "success":
                asker.tell(f"{clean(name)}: {answer['message']}")
            else:
                failures += 1
                asker.failure(answer, clean(name)).show()
    if failures:
        raise click.exceptions.Exit(ExitStatus.FAILED)


template.add_command(preview)
template.add_command(move)


def _write(
    request: str, name: str, file: BinaryIO, connection: Mapping[str, Any], *, json_wanted: bool
) -> None:
    if file.isatty():
        note("Type the template; end it with Ctrl-D on a line of its own.")
    text = read_text(file)
    with _asker(connection, json_wanted=json_wanted) as asker:
        asker.tell(f"{clean(name)}: {asker.ask(request, name, content=text)['message']}")
