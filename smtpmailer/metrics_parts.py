# SPDX-License-Identifier: MIT
"""The figures of one process, put together; and the port that shows those of all."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

import attrs
from twisted.application.service import IService

from smtpmailer.core.settings import Settings
from smtpmailer.errors import StoreError
from smtpmailer.health import HealthPort, make_site
from smtpmailer.interfaces import IRedis
from smtpmailer.metrics import Figure, Metrics
from smtpmailer.metrics_sending import sending_figures
from smtpmailer.protocol import JsonFactory
from smtpmailer.queue_parts import QueueGround, RunnerPart

if TYPE_CHECKING:
    from smtpmailer.delivery.sender import Sender

__all__ = ["Watched", "figures_of", "health_port"]


@attrs.frozen(kw_only=True)
class Watched:
    """The parts of a process that keep figures; None is a part that it does not have."""

    factory: JsonFactory
    sender: Sender
    queue: QueueGround | None
    runner: RunnerPart | None
    redis: IRedis | None


async def figures_of(metrics: Metrics, watched: Watched) -> bytes:
    """Give the text of all figures, as they are now."""
    counts = await _counts(watched.queue)
    own = Metrics.of([*_figures(watched), *counts])
    return metrics.render() + own


async def _counts(queue: QueueGround | None) -> list[Figure]:
    """Give what the queue has to be asked for; nothing while it can't be."""
    if queue is None:
        return []
    try:
        waiting = (await queue.store.page(1, 0)).total
        dead = (await queue.letters.page_failed(1, 0)).total
    except StoreError:
        return []
    due = queue.store.next_due()
    age = 0.0 if due is None else max(0.0, time.time() - due)
    return [
        Figure("smtpmailer_queue_waiting", "Mails in the queue", lambda: waiting),
        Figure("smtpmailer_dead_letters", "Mails that could not be delivered", lambda: dead),
        Figure(
            "smtpmailer_queue_oldest_due_seconds",
            "Seconds for which the mail that is due longest has been due",
            lambda: age,
        ),
    ]


def _figures(watched: Watched) -> Iterable[Figure]:
    load = watched.factory.load
    yield Figure("smtpmailer_connections", "Open connections", lambda: watched.factory.connections)
    yield Figure(
        "smtpmailer_requests_in_flight",
        "Requests received and not yet answered",
        lambda: load.requests_in_flight,
    )
    yield Figure(
        "smtpmailer_buffered_bytes", "Size of all these requests", lambda: load.buffered_bytes
    )
    yield Figure(
        "smtpmailer_smtp_sessions", "Open sessions with servers", lambda: watched.sender.sessions
    )
    yield from sending_figures(watched.sender.paces, watched.sender.reach)
    runner, redis = watched.runner, watched.redis
    if runner is not None:
        yield Figure(
            "smtpmailer_queue_running",
            "1 where this process runs the queue",
            lambda: float(runner.runner.owner),
        )
        yield Figure(
            "smtpmailer_queue_claimed",
            "Mails of the queue that are being delivered or settled, or are next",
            lambda: runner.runner.in_flight,
        )
    if redis is not None:
        yield Figure(
            "smtpmailer_redis_up", "1 while Redis can be used", lambda: float(redis.state().up)
        )


def health_port(
    settings: Settings,
    reactor: Any,
    figures: Callable[[], Awaitable[bytes]],
    why_not_ready: Callable[[], Awaitable[str]],
) -> tuple[IService, ...]:
    """Give the port for machines that watch, if MAILER_METRICS_PORT asks for it."""
    if not settings.mailer_metrics_port:
        return ()
    site = make_site(figures, why_not_ready)
    address, port = settings.mailer_metrics_addr, settings.mailer_metrics_port
    return (HealthPort(reactor, address, port, site),)
