# SPDX-License-Identifier: MIT
"""The subcommand that carries the queue over to Redis or back: queue move."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from smtpmailer.cli.output import CommandFailure, ExitStatus, as_json, note
from smtpmailer.cli.stores import load_settings, refuse_root, settings_options, with_redis
from smtpmailer.cli.tables import clean
from smtpmailer.core.retry import RetryPolicy
from smtpmailer.core.settings import Settings
from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import StoreError

if TYPE_CHECKING:
    from smtpmailer.interfaces import IRedis
    from smtpmailer.stores.carrying import Carried, Place

__all__ = ["move"]


@click.command()
@click.option(
    "--to",
    "target",
    type=click.Choice(["redis", "file"]),
    required=True,
    help="Where they go: to Redis from QUEUE_DIR, or the other way.",
)
@click.option("--json", "json_wanted", is_flag=True, help="Print one JSON object.")
@settings_options
def move(
    target: str,
    json_wanted: bool,  # noqa: FBT001
    env_file: str | None,
    basepath: str | None,
) -> None:
    """Carry all mails over to Redis or to files.

    Those that wait, with their history and the time of their next attempt, the dead letters, and
    what is in quarantine. Works on the stores: stop the service first, and on the way to files all
    services that share the queue in Redis. A mail is removed where it was once it is safe where it
    goes to; after an interruption, give the command again.
    """
    settings = load_settings(env_file, basepath)
    refuse_root(settings.queue_dir, "queue move")
    try:
        carried = with_redis(settings, lambda redis: _carry(settings, redis, target))
    except StoreError as error:
        raise CommandFailure(
            str(error), "Give the command again to go on.", status=ExitStatus.UNREACHABLE
        ) from error
    if json_wanted:
        click.echo(as_json(_as_fields(carried)))
    else:
        _show(carried)
    in_redis = target == "redis"
    if in_redis != settings.redis_store_queue:
        note(f"REDIS_STORE_QUEUE = {str(in_redis).lower()} makes the service use them")
    if carried.left or carried.in_hand:
        raise click.exceptions.Exit(ExitStatus.FAILED)


@returns_deferred
async def _carry(settings: Settings, redis: IRedis, target: str) -> Carried:
    # Imported here: they bring much that the other commands don't need.
    from twisted.internet import reactor  # noqa: PLC0415

    from smtpmailer.queue_stores import file_place, redis_place  # noqa: PLC0415
    from smtpmailer.stores.carrying import Carrier  # noqa: PLC0415

    files, shared = file_place(settings), redis_place(settings, reactor, redis)
    source, goal = (files, shared) if target == "redis" else (shared, files)
    policy = RetryPolicy(
        max_retries=settings.queue_max_failed_retry,
        hold_doubtful=settings.queue_on_doubt == "hold",
    )
    try:
        for place in (source, goal):
            await _acquire(place)
        return await Carrier(source, goal, policy, time.time).carry()
    finally:
        await shared.queue.stop()
        await files.queue.stop()


@returns_deferred
async def _acquire(place: Place) -> None:
    await place.queue.start()
    if not await place.queue.acquire():
        raise CommandFailure(
            f"the queue is in use by {await place.queue.runner()}", "Stop the service first."
        )


def _show(carried: Carried) -> None:
    for name, why in carried.left.items():
        click.echo(f"{clean(name)}: left alone: {clean(why)}")
    click.echo(
        f"moved {carried.mails} mails, {carried.dead} dead letters, "
        f"{carried.quarantined} in quarantine"
    )
    if carried.in_hand:
        note(
            f"{carried.in_hand} mails are in the hands of services that still run, or died less "
            "than QUEUE_LEASE ago: give the command again once those have stopped."
        )


def _as_fields(carried: Carried) -> dict[str, Any]:
    return {
        "mails": carried.mails,
        "deadLetters": carried.dead,
        "quarantined": carried.quarantined,
        "inHand": carried.in_hand,
        "left": carried.left,
    }
