# SPDX-License-Identifier: MIT
"""The subcommand that runs the mail trap."""

from __future__ import annotations

import contextlib
import ipaddress
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from smtpmailer.cli.options import read_password
from smtpmailer.cli.output import CommandFailure, ExitStatus
from smtpmailer.errors import TlsConfigError

if TYPE_CHECKING:
    from twisted.internet.interfaces import IOpenSSLContextFactory

    from smtpmailer.trap import TrapPolicy

__all__ = ["trap"]

_PORT: Final = click.IntRange(0, 65535)
_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option(
    "--listen", default="127.0.0.1", show_default=True, metavar="IP", help="Address to listen on."
)
@click.option("--public", is_flag=True, help="Allow an address that other machines can reach.")
@click.option(
    "--port",
    type=_PORT,
    metavar="PORT",
    default=1025,
    show_default=True,
    help="Port without TLS, which offers STARTTLS when there is a certificate; 0: any free one.",
)
@click.option(
    "--starttls-port", type=_PORT, metavar="PORT", help="Port on which STARTTLS has to come first."
)
@click.option("--tls-port", type=_PORT, metavar="PORT", help="Port with TLS from the first byte.")
@click.option("--cert", type=_FILE, help="PEM file of the certificate; else one is made.")
@click.option("--key", type=_FILE, help="PEM file of its key.")
@click.option("--user", help="Take mail from this user only; else from anybody, with any login.")
@click.option("--password-file", type=_FILE, help="Holds the password of --user.")
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("trap-mail"),
    show_default=True,
    help="Where mails are kept.",
)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="Stop after N mails.")
def trap(listen: str, public: bool, count: int | None, **options: Any) -> None:  # noqa: FBT001
    """Run a development SMTP server that takes every mail and delivers none.

    Each mail is kept as .eml file, exactly as it came, with its envelope in a .json file beside
    it, and a line is printed. Ctrl-C stops it.
    """
    listen = _address(listen, public=public)
    if (options["user"] is None) != (options["password_file"] is None):
        raise click.UsageError("--user and --password-file belong together")
    if (options["cert"] is None) != (options["key"] is None):
        raise click.UsageError("--cert and --key belong together")
    # Imported here: only this command needs a reactor.
    from twisted.internet import reactor  # noqa: PLC0415

    from smtpmailer.trap_server import TrapServer  # noqa: PLC0415

    directory = options["directory"].absolute()
    server = TrapServer(
        reactor,
        directory=directory,
        now=time.time,
        report=_report,
        count=count,
    )
    try:
        for name, port, policy in _ports(listen, directory, options):
            bound = server.listen(listen, port, policy)
            click.echo(f"listening on {bound} ({name})")
    except (OSError, TlsConfigError) as error:
        raise CommandFailure(str(error)) from error
    click.echo(f"mails go to {directory}; Ctrl-C stops")
    server.run()
    click.echo(f"caught {server.caught} mail{'' if server.caught == 1 else 's'}")


def _ports(
    listen: str, directory: Path, options: dict[str, Any]
) -> list[tuple[str, int, TrapPolicy]]:
    """Give name, number and behaviour of each port that is wanted."""
    from smtpmailer.trap import TrapPolicy  # noqa: PLC0415

    tls = _tls(listen, directory, options)
    user = options["user"]
    password = read_password(options["password_file"]) if user is not None else ""
    login: dict[str, Any] = {"user": user, "password": password, "tls": tls}
    plain = "no TLS" if tls is None else "no TLS, STARTTLS on request"
    ports = [(plain, options["port"], TrapPolicy(**login))]
    if options["starttls_port"] is not None:
        policy = TrapPolicy(**login, require_tls=True)
        ports.append(("STARTTLS", options["starttls_port"], policy))
    if options["tls_port"] is not None:
        ports.append(("TLS", options["tls_port"], TrapPolicy(**login, implicit_tls=True)))
    return ports


def _tls(listen: str, directory: Path, options: dict[str, Any]) -> IOpenSSLContextFactory | None:
    from smtpmailer.delivery.tls import server_options  # noqa: PLC0415
    from smtpmailer.trap_certificate import self_made_certificate  # noqa: PLC0415

    if options["cert"] is not None:
        return server_options(str(options["cert"]), str(options["key"]))
    if options["starttls_port"] is None and options["tls_port"] is None:
        return None
    files = self_made_certificate(directory, time.time(), listen)
    click.echo(f"self-made certificate; clients trust it with SMTP_CA_FILE = {files.ca}")
    return server_options(str(files.certificate), str(files.key))


def _address(text: str, *, public: bool) -> str:
    try:
        address = ipaddress.ip_address("127.0.0.1" if text == "localhost" else text)
    except ValueError as error:
        raise click.UsageError(f"--listen takes an IP address, not {text!r}") from error
    if not (address.is_loopback or public):
        raise CommandFailure(
            f"{address} can be reached by other machines, and the trap takes mail from anybody",
            "Add --public when that is what you want.",
            status=ExitStatus.USAGE,
        )
    return str(address)


def _report(line: str) -> None:
    # A reader that went away (a closed pipe) is no reason to refuse a mail.
    with contextlib.suppress(OSError):
        click.echo(line)
