# SPDX-License-Identifier: MIT
"""Write the man pages: of the command, from its own help, and of the env file, from its keys.

make_man.py DIRECTORY
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

from smtpmailer import __version__
from smtpmailer.cli.main import main as command
from smtpmailer.core.options import Option
from smtpmailer.core.settings import OPTIONS

__all__: list[str] = []

_FILES = (
    ("/etc/smtpmailer/env", "The service's settings; see smtpmailer-env(5)."),
    ("/etc/default/smtpmailer", "Options of twistd for the service."),
    ("/var/lib/smtpmailer", "Its queue, templates and attachments."),
)
_SERVICE = (
    "The service itself is a plugin of twistd: twistd --nodaemon smtpmailer --env FILE. Where the "
    "package of the system installed it, systemd runs it as smtpmailer.service."
)
_READING = """\
The service reads one file in INI form. A key's value is that of the environment variable of the
same name, else the content of the file that KEY_FILE names, else that of the file, else the
default.

Bare true, on, yes, false, off, no, none, null and whole numbers are typed; what stands in quotes is
a text. A semicolon begins a comment outside quotes; section names mean nothing; a later key wins.
An unknown key is an error.
"""


def main() -> int:
    """Write all pages into the directory named on the command line."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    context = click.Context(command, info_name="smtpmailer")
    pages = {"smtpmailer-env.5": _env_page(), "smtpmailer.1": _command_page(context)}
    for name, sub in _subcommands(context):
        pages[f"smtpmailer-{name}.1"] = _command_page(sub)
    for name, lines in pages.items():
        (directory / name).write_text("\n".join(lines) + "\n", "utf-8")
    return 0


def _command_page(context: click.Context) -> list[str]:
    """Give the page of a command, with what stands below it but has no page of its own."""
    title = context.command_path.replace(" ", "-")
    lines = [
        *_head(title, 1, "User commands"),
        *_name(title, context.command.get_short_help_str(100).rstrip(".")),
        ".SH SYNOPSIS",
        *_synopsis(context),
        ".SH DESCRIPTION",
        *_paragraphs(context.command.help or ""),
    ]
    if context.parent is None:
        lines += [*_paragraph(_SERVICE), *_options(context, ".SH OPTIONS"), ".SH COMMANDS"]
        for name, sub in _subcommands(context):
            lines += [".TP", f".BR smtpmailer\\-{_escape(name)} (1)"]
            lines.append(_escape(sub.command.get_short_help_str(200)))
        lines.append(".SH FILES")
        for path, meaning in _FILES:
            lines += [".TP", f".I {_escape(path)}", _escape(meaning)]
    else:
        lines += _options(context, ".SH OPTIONS")
        for _, sub in _subcommands(context):
            lines += _below(sub)
    if context.command.epilog:
        lines += [".SH EXIT STATUS", *_paragraph(context.command.epilog)]
    return lines + _see_also(context)


def _below(context: click.Context) -> list[str]:
    lines = [f'.SH "{_escape(context.command_path).upper()}"']
    lines += [*_synopsis(context), *_paragraphs(context.command.help or "")]
    lines += _options(context, ".SS Options")
    for _, sub in _subcommands(context):
        lines += _below(sub)
    return lines


def _env_page() -> list[str]:
    lines = [
        *_head("smtpmailer-env", 5, "File formats"),
        *_name("smtpmailer-env", "settings of the smtpmailer service"),
        ".SH DESCRIPTION",
    ]
    lines += _paragraphs(_READING)
    group = ""
    for key, option in OPTIONS.items():
        if option.group != group:
            group = option.group
            lines.append(f'.SH "{_escape(group).upper()}"')
        lines += [".TP", f".B {_escape(key)}", *_setting(option)]
    lines += [".SH FILES", ".I /etc/smtpmailer/env", ".SH SEE ALSO"]
    return [*lines, ".BR smtpmailer (1),", ".BR smtpmailer\\-check\\-config (1)"]


def _setting(option: Option) -> Iterator[str]:
    yield _escape(option.help)
    if option.unit:
        yield _escape(f"Unit: {option.unit}.")
    default = option.default
    if default not in (None, ""):
        shown = str(default).lower() if isinstance(default, bool) else str(default)
        yield _escape(f"Default: {shown}.")


def _head(title: str, section: int, of: str) -> list[str]:
    """Begin a page; it is of the day of the source, so that pages are reproducible."""
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    day = time.strftime("%Y-%m-%d", time.gmtime(seconds))
    words = (title.upper(), str(section), day, f"smtpmailer {__version__}", of)
    return [".TH " + " ".join(f'"{_escape(word)}"' for word in words), ".ad l", ".nh"]


def _name(title: str, text: str) -> list[str]:
    return [".SH NAME", f"{_escape(title)} \\- {_escape(text[:1].lower() + text[1:])}"]


def _synopsis(context: click.Context) -> list[str]:
    pieces = " ".join(context.command.collect_usage_pieces(context))
    return [f".B {_escape(context.command_path)}", _escape(pieces)]


def _paragraphs(text: str) -> list[str]:
    parts = text.replace("\f", "").replace("\b", "").split("\n\n")
    return [line for part in parts for line in _paragraph(part)]


def _options(context: click.Context, heading: str) -> list[str]:
    records = [
        record
        for parameter in context.command.get_params(context)
        if (record := parameter.get_help_record(context)) is not None
    ]
    lines = [heading] if records else []
    for names, meaning in records:
        lines += [".TP", f".B {_escape(names)}", _escape(meaning)]
    return lines


def _subcommands(context: click.Context) -> Iterator[tuple[str, click.Context]]:
    group = context.command
    if not isinstance(group, click.Group):
        return
    for name in group.list_commands(context):
        sub = group.get_command(context, name)
        if sub is not None and not sub.hidden:
            yield name, click.Context(sub, info_name=name, parent=context)


def _see_also(context: click.Context) -> list[str]:
    others = [".BR smtpmailer\\-env (5)"]
    if context.parent is not None:
        others.insert(0, ".BR smtpmailer (1),")
    return [".SH SEE ALSO", *others]


def _paragraph(text: str) -> list[str]:
    return [".PP", _escape(" ".join(text.split()))]


def _escape(text: str) -> str:
    """Make text of roff: backslashes, hyphens, and no line that begins like a request."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq").replace("'", "\\(aq")
    return f"\\&{text}" if text.startswith(".") else text


if __name__ == "__main__":
    sys.exit(main())
