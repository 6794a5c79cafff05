# SPDX-License-Identifier: MIT
"""The options that say where the service is and how to talk to it.

Each value comes from its option, else from the env file given with ``--env``, else from the
environment variable of the env file's key, else from the default.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from smtpmailer.cli.output import CommandFailure, ExitStatus, note
from smtpmailer.client import DEFAULT_TIMEOUT, Client
from smtpmailer.core import envfile
from smtpmailer.errors import EnvFileError

__all__ = ["connection_options", "make_client", "read_password"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_LOOPBACK: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not bound
_PORTS: Final = range(1, 65536)
_PORT: Final = click.IntRange(_PORTS[0], _PORTS[-1])
_FILE: Final = click.Path(dir_okay=False, path_type=Path)

_OPTIONS: Final = (
    click.option("--host", metavar="HOST", help="The service's address (MAILER_ADDR)."),
    click.option("--port", type=_PORT, metavar="PORT", help="Its port (MAILER_PORT), 1 to 65535."),
    click.option(
        "--tls/--no-tls", default=None, help="Whether it speaks TLS (MAILER_PROTO = ssl)."
    ),
    click.option("--ca-file", type=_FILE, help="PEM file of authorities to trust instead."),
    click.option("--server-name", metavar="NAME", help="The name its certificate carries."),
    click.option("--insecure", is_flag=True, help="Trust any certificate."),
    click.option(
        "--env",
        "env_file",
        type=_FILE,
        envvar="SMTPMAILER_ENV",
        help="Take address, port and TLS from this env file.",
    ),
    click.option(
        "--password-file",
        type=_FILE,
        help="Holds the service's password; else SMTPMAILER_PASSWORD in the environment.",
    ),
    click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=DEFAULT_TIMEOUT,
        show_default=True,
        metavar="SECONDS",
        help="Longest time to wait for an answer.",
    ),
)


def connection_options(command: _Command) -> _Command:
    """Add the options of a connection to a command; they come as keywords for ``make_client``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def make_client(connection: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Client:
    """Make a client from the values of ``connection_options``.

    Raises CommandFailure (usage) for a file that can't be read or a value that makes no sense.
    """
    found = _entries(connection["env_file"], environ)
    host = connection["host"] or str(found.get("MAILER_ADDR") or "")
    tls = connection["tls"]
    if tls is None:
        tls = _uses_tls(found.get("MAILER_PROTO"))
    return Client(
        _LOOPBACK.get(host, host),
        connection["port"] or _port(found.get("MAILER_PORT")),
        tls=_context(connection) if tls else _no_context(connection),
        auth=_password(connection["password_file"], environ),
        timeout=connection["timeout"],
        retry_for=connection.get("retry_for", 0.0),
        server_name=connection["server_name"],
    )


def read_password(path: Path) -> str:
    """Read a password from a file; one line end behind it does not count.

    Raises CommandFailure (usage) when it can't be read or is empty.
    """
    try:
        password = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _usage(f"could not read {path}: {_why(error)}") from error
    password = password.removesuffix("\n").removesuffix("\r")
    if not password:
        raise _usage(f"{path} holds no password")
    return password


def _entries(path: Path | None, environ: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = dict(environ)
    if path is not None:
        try:
            found.update(envfile.parse(path.read_text("utf-8"), environ))
        except (OSError, UnicodeDecodeError, EnvFileError) as error:
            raise _usage(f"could not read {path}: {_why(error)}") from error
    return found


def _uses_tls(proto: Any) -> bool:
    if proto not in (None, "", "tcp", "ssl"):
        raise _usage(f"MAILER_PROTO is {proto!r}; it has to be tcp or ssl")
    return bool(proto == "ssl")


def _port(value: Any) -> int:
    if value in (None, ""):
        return 3000
    try:
        port = int(value)
    except (TypeError, ValueError):
        port = 0
    if port not in _PORTS:
        raise _usage(f"MAILER_PORT is {value!r}; it has to be a number from 1 to 65535")
    return port


def _context(connection: Mapping[str, Any]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=connection["ca_file"])
    except (OSError, ValueError) as error:
        raise _usage(f"could not read {connection['ca_file']}: {_why(error)}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if connection["insecure"]:
        note("Warning: --insecure: anybody on the way can read and change what is sent.")
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _no_context(connection: Mapping[str, Any]) -> bool:
    for option in ("ca_file", "server_name", "insecure"):
        if connection[option]:
            raise _usage(f"--{option.replace('_', '-')} is for TLS: add --tls")
    return False


def _password(path: Path | None, environ: Mapping[str, str]) -> str | None:
    return read_password(path) if path is not None else environ.get("SMTPMAILER_PASSWORD") or None


def _usage(message: str) -> CommandFailure:
    return CommandFailure(message, status=ExitStatus.USAGE)


def _why(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
