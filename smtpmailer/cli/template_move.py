# SPDX-License-Identifier: MIT
"""The subcommand that carries templates over to Redis or back: template move."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import click
from twisted.internet.defer import Deferred

from smtpmailer.cli.output import CommandFailure, ExitStatus, as_json, note
from smtpmailer.cli.stores import load_settings, refuse_root, settings_options, with_redis
from smtpmailer.cli.tables import clean
from smtpmailer.errors import StoreError
from smtpmailer.interfaces import IRedis
from smtpmailer.services.moving_templates import Carried, carry_templates
from smtpmailer.template_parts import make_store
from smtpmailer.threads import InlineThreads

__all__ = ["move"]

_WORDS = {
    Carried.MOVED: "moved",
    Carried.COPIED: "copied",
    Carried.SAME: "is there already",
    Carried.CONFLICT: "left alone: there is another text of that name",
    Carried.UNFIT: "left alone",
    Carried.CHANGED: "copied, but changed meanwhile where it was: the new text is only there",
}
#: What somebody has to look at.
_OPEN = (Carried.CONFLICT, Carried.UNFIT, Carried.CHANGED)


class _Told:
    """Keeps what became of each template, and prints it unless JSON is wanted."""

    def __init__(self, *, quiet: bool) -> None:
        self.by_outcome: defaultdict[Carried, list[str]] = defaultdict(list)
        self._why: dict[str, str] = {}
        self._quiet = quiet

    def __call__(self, name: str, outcome: Carried, why: str) -> None:
        self.by_outcome[outcome].append(name)
        if why:
            self._why[name] = why
        if not self._quiet:
            click.echo(f"{clean(name)}: {_WORDS[outcome]}{why and f': {clean(why)}'}")

    def as_fields(self) -> dict[str, Any]:
        """Give the names by what became of them, and why where that is not plain."""
        return {**{outcome: self.by_outcome[outcome] for outcome in Carried}, "why": self._why}


@click.command()
@click.option(
    "--to",
    "target",
    type=click.Choice(["redis", "file"]),
    required=True,
    help="Where they go: to Redis from EMAIL_TEMPLATE_DIR, or the other way.",
)
@click.option("--keep", is_flag=True, help="Leave them where they are as well.")
@click.option("--json", "json_wanted", is_flag=True, help="Print one JSON object.")
@settings_options
def move(
    target: str,
    keep: bool,  # noqa: FBT001
    json_wanted: bool,  # noqa: FBT001
    env_file: str | None,
    basepath: str | None,
) -> None:
    """Carry all templates over to Redis or to files.

    A template is removed where it was once it is safe where it goes to. A text that is there
    already is never replaced: if it is another one, both are left alone, and the exit status is
    1. After an interruption, give the command again. Works on the stores, whether the service runs
    or not; it uses the others once REDIS_STORE_TEMPLATE says so.
    """
    settings = load_settings(env_file, basepath)
    if target == "file":
        refuse_root(settings.email_template_dir, "template move")
    told = _Told(quiet=json_wanted)

    def carry(redis: IRedis) -> Deferred[None]:
        files = make_store(settings, InlineThreads(), None)
        in_redis = make_store(settings, InlineThreads(), redis)
        source, goal = (files, in_redis) if target == "redis" else (in_redis, files)
        return carry_templates(source, goal, told, keep=keep)

    try:
        with_redis(settings, carry)
    except StoreError as error:
        raise CommandFailure(
            str(error), "Give the command again to go on.", status=ExitStatus.UNREACHABLE
        ) from error
    finally:
        if json_wanted:
            click.echo(as_json(told.as_fields()))
    _sum_up(told, in_redis=target == "redis", enabled=settings.redis_store_template)


def _sum_up(told: _Told, *, in_redis: bool, enabled: bool) -> None:
    if not told.by_outcome:
        note("there are no templates to move")
    if in_redis != enabled:
        note(f"REDIS_STORE_TEMPLATE = {str(in_redis).lower()} makes the service use them")
    if any(told.by_outcome[outcome] for outcome in _OPEN):
        raise click.exceptions.Exit(ExitStatus.FAILED)
