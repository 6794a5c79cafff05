# SPDX-License-Identifier: MIT
"""The ``smtpmailer`` command: its subcommands and what they have in common."""

from __future__ import annotations

import os

import click

from smtpmailer import __version__
from smtpmailer.cli.config import check_config
from smtpmailer.cli.control import reload, restart, start, stop
from smtpmailer.cli.explain import explain
from smtpmailer.cli.keys import generate_key, hash_password
from smtpmailer.cli.processes import connections
from smtpmailer.cli.queue import queue
from smtpmailer.cli.send import send
from smtpmailer.cli.sendmail import sendmail
from smtpmailer.cli.service import ping, request, status
from smtpmailer.cli.template import template
from smtpmailer.cli.trap import trap

__all__ = ["main"]


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 done, 1 the service answered an error or a check failed, "
    "2 wrong usage, 3 the service could not be reached.",
)
@click.version_option(__version__, prog_name="smtpmailer")
@click.pass_context
def main(context: click.Context) -> None:
    """Send mail through a running smtpmailer service, and help to set one up."""
    if os.environ.get("NO_COLOR"):
        context.color = False


for _command in (
    send,
    sendmail,
    ping,
    status,
    connections,
    request,
    queue,
    explain,
    template,
    trap,
    start,
    stop,
    restart,
    reload,
    check_config,
    generate_key,
    hash_password,
):
    main.add_command(_command)
