# SPDX-License-Identifier: MIT
"""The subcommands that ask a running service: ping, status, request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

import click

from smtpmailer.cli.options import connection_options, make_client
from smtpmailer.cli.output import CommandFailure, ExitStatus, as_json, reason_of, unreachable
from smtpmailer.cli.processes import show_status
from smtpmailer.cli.running import find_process, run_directory
from smtpmailer.errors import ServiceAnswerError, ServiceProtocolError, ServiceUnreachableError

__all__ = ["ping", "request", "status"]


@click.command()
@connection_options
def ping(**connection: Any) -> None:
    """Check that the service answers, and tell how fast."""
    with make_client(connection) as client:
        try:
            seconds = client.ping()
        except ServiceAnswerError as error:
            raise _refused(error) from error
        except (ServiceUnreachableError, ServiceProtocolError) as error:
            raise unreachable(error) from error
        click.echo(f"pong from {client.where} in {seconds * 1000:.1f} ms")


@click.command()
@click.option("--json", "json_wanted", is_flag=True, help="Print the service's answer as it is.")
@click.option("--basepath", metavar="DIR", help="Where relative paths of the env file begin.")
@click.option(
    "--run-dir", metavar="DIR", help="Its run directory; else MAILER_RUN_DIR of the env file."
)
@connection_options
def status(
    json_wanted: bool,  # noqa: FBT001
    basepath: str | None,
    run_dir: str | None,
    **connection: Any,
) -> None:
    """Show how the service is.

    Of one that runs on this machine: its processes, and what each of them does. Of one that is
    named by --host or --port, or when none runs from the run directory: how many mails it sent and
    how many failed, as its API tells.
    """
    if not (connection["host"] or connection["port"]):
        env_file = connection["env_file"]
        directory = run_directory(env_file and str(env_file), basepath, run_dir)
        if run_dir or _runs(directory):
            show_status(directory, json_wanted=json_wanted)
            return
    _show_counters(connection, json_wanted=json_wanted)


def _runs(directory: str) -> bool:
    """Whether a service runs from there that we may ask; its API may be open to us all the same."""
    try:
        return find_process(directory) is not None
    except CommandFailure:
        return False


def _show_counters(connection: dict[str, Any], *, json_wanted: bool) -> None:
    with make_client(connection) as client:
        try:
            counters = client.status()
        except ServiceAnswerError as error:
            if json_wanted:
                click.echo(as_json(error.answer))
            raise _refused(error) from error
        except (ServiceUnreachableError, ServiceProtocolError) as error:
            raise unreachable(error) from error
    if json_wanted:
        click.echo(as_json({"status": "success", "data": counters, "message": None}))
        return
    width = max(map(len, counters), default=0)
    for name, value in counters.items():
        click.echo(f"{name:<{width}}  {value if isinstance(value, str) else as_json(value)}")


@click.command()
@click.argument("file", type=click.File("rb"), default="-")
@connection_options
def request(file: BinaryIO, **connection: Any) -> None:
    """Send a JSON request from FILE, or standard input, and print the answer.

    The first key is the request's name: {"ping": null}. Several requests in a row are sent one
    after another, an answer line each.
    """
    failed = False
    documents = list(_documents(file.read()))
    with make_client(connection) as client:
        for document in documents:
            try:
                answer = client.request(document)
            except (ServiceUnreachableError, ServiceProtocolError) as error:
                raise unreachable(error) from error
            click.echo(as_json(answer))
            failed = failed or answer["status"] != "success"
    if failed:
        raise click.exceptions.Exit(ExitStatus.FAILED)


def _documents(raw: bytes) -> Iterator[dict[str, Any]]:
    """Cut JSON objects that follow one another; raises CommandFailure (usage)."""
    try:
        text = raw.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise CommandFailure(
            f"the request is not UTF-8: byte {error.start}", status=ExitStatus.USAGE
        ) from error
    if not text:
        raise CommandFailure("there is no request in the input", status=ExitStatus.USAGE)
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    at = 0
    while at < len(text):
        try:
            document, end = decoder.raw_decode(text, at)
        except ValueError as error:
            raise CommandFailure(f"malformed JSON: {error}", status=ExitStatus.USAGE) from error
        if not isinstance(document, dict):
            raise CommandFailure(
                'a request is a JSON object: {"name": argument}', status=ExitStatus.USAGE
            )
        yield document
        at = end + len(text[end:]) - len(text[end:].lstrip())


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _refused(error: ServiceAnswerError) -> CommandFailure:
    return CommandFailure(f"the service answered: {reason_of(error.answer)}")
