# SPDX-License-Identifier: MIT
"""Write what the table of configuration keys says: JSON Schema, example env file, reference page.

Run it after a change of smtpmailer/core/settings.py.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from smtpmailer.core.options import Choice, Number, Option  # noqa: E402 - the path comes first
from smtpmailer.core.settings import OPTIONS  # noqa: E402

_EXAMPLE_HEAD = """\
; Configuration of smtpmailer: copy it to .env, chmod 600 it, and set at least SMTP_HOST and
; SECRET_KEY. Then `smtpmailer check-config` says what is wrong with it.
; Texts stand in quotes; ; begins a comment; relative paths begin at this file's directory.
"""

_REFERENCE_HEAD = """\
# Configuration reference

The service reads one file in INI form (`--env`, `.env` by default). `etc/smtpmailer.env.example`
is one to begin with; `smtpmailer check-config` says every fault of yours, or shows what is in
effect.

- A key's value is that of the environment variable of the same name; else the content of the file
  that `KEY_FILE` names (for container secrets: `SMTP_PASSWORD_FILE = /run/secrets/smtp`); else
  that of the file; else the default.
- Bare `true`, `on`, `yes`, `false`, `off`, `no`, `none`, `null` and whole numbers are typed; what
  stands in quotes is a text. `${NAME}` outside single quotes is the environment variable NAME.
  `;` begins a comment outside quotes; section names mean nothing; a later key wins.
- Relative paths begin at `--basepath`, else at the directory of the file.
- An unknown key is an error. So is any wrong value: all of them are reported at once, and the
  service does not start.
- Crontab times have five fields (minute, hour, day of month, month, day of week), or six with the
  seconds in front, and follow the machine's time zone.

`schema/env.json` says the same as JSON Schema.
"""


def render_schema() -> str:
    """Give schema/env.json: the mapping of keys to values as an env file holds them."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "smtpmailer configuration",
        "description": "Keys and values of an env file. Which keys need each other is beyond it.",
        "type": "object",
        "additionalProperties": False,
        "required": [key for key, option in OPTIONS.items() if option.required],
        "properties": {key: _property(option) for key, option in OPTIONS.items()},
    }
    return json.dumps(schema, indent=2) + "\n"


def _property(option: Option) -> dict[str, Any]:
    about: dict[str, Any] = {"description": _help(option)}
    if option.default is not None:
        about["default"] = option.default
    if option.secret:
        about["writeOnly"] = True
    rules = option.kind.schema()
    # A null is an absent key.
    for rule in ("type", "enum"):
        if rule in rules:
            rules[rule] = [*rules[rule], "null" if rule == "type" else None]
    return about | rules


def render_example() -> str:
    """Give etc/smtpmailer.env.example: every key with a line that explains it."""
    return _EXAMPLE_HEAD + "".join(
        f"\n[{group}]\n" + "".join(map(_example_entry, options)) for group, options in _groups()
    )


def _example_entry(option: Option) -> str:
    value = option.default if option.example is None else option.example
    return f"; {_help(option)}\n{option.key} = {json.dumps(value, ensure_ascii=False)}\n"


def render_reference() -> str:
    """Give docs/reference/configuration.md."""
    return _REFERENCE_HEAD + "".join(map("".join, map(_section, _groups())))


def _section(group: tuple[str, list[Option]]) -> Iterator[str]:
    name, options = group
    yield f"\n## {name}\n\n| key | type | default | unit | effect |\n"
    yield "| --- | --- | --- | --- | --- |\n"
    for option in options:
        secret = " Secret." if option.secret else ""
        yield (
            f"| `{option.key}` | {_type(option)} | {_default(option)} | {option.unit} "
            f"| {option.help}{secret} |\n"
        )


def _type(option: Option) -> str:
    """Say the kind with its bounds or words."""
    kind = option.kind
    if isinstance(kind, Choice):
        return ", ".join(f"`{word}`" for word in kind.words)
    return f"{kind.name} {kind.bounds}" if isinstance(kind, Number) else kind.name


def _default(option: Option) -> str:
    if option.required:
        return "(required)"
    if option.default is None:
        return "(not set)"
    return f"`{json.dumps(option.default)}`"


def _help(option: Option) -> str:
    """Give the help text in one line, with unit and words where there are some."""
    more = [f"Unit: {option.unit}."] if option.unit else []
    if isinstance(option.kind, Choice):
        more.append(f"One of {', '.join(option.kind.words)}.")
    return " ".join([option.help, *more])


def _groups() -> Iterator[tuple[str, list[Option]]]:
    for group, options in itertools.groupby(OPTIONS.values(), lambda option: option.group):
        yield group, list(options)


FILES = {
    "schema/env.json": render_schema,
    "etc/smtpmailer.env.example": render_example,
    "docs/reference/configuration.md": render_reference,
}


def main() -> int:
    """Write all files."""
    for name, render in FILES.items():
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render(), "utf-8")
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
