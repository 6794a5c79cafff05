# SPDX-License-Identifier: MIT
"""What carries out requests once, however often they are made: a part of the composition root."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.application.service import IService

from smtpmailer.core.mime import Stamp
from smtpmailer.core.settings import Settings
from smtpmailer.interfaces import IRedis, IThreads
from smtpmailer.queue_parts import QueueGround
from smtpmailer.queue_stores import cipher_of, open_once_store
from smtpmailer.services.once import Once, OnceTools
from smtpmailer.stores.sealed_once import SealedOnceStore

__all__ = ["OnceParts", "build_once"]


@attrs.frozen(kw_only=True)
class OnceParts:
    """It stays while settings change; ``services`` start before requests are taken."""

    once: Once
    services: tuple[IService, ...]


def build_once(
    settings: Settings,
    reactor: Any,
    queue: QueueGround | None,
    redis: IRedis | None,
    threads: IThreads,
    stamp: Callable[[], Stamp],
) -> OnceParts:
    """Put it together; touches nothing before a request has a key."""
    stores = open_once_store(settings, reactor, redis, threads)
    cipher = cipher_of(settings)
    tools = OnceTools(
        store=SealedOnceStore(stores.store, cipher),
        stamp=stamp,
        clock=reactor,
        search=queue.search if queue else None,
        secrets=cipher.keys,
    )
    return OnceParts(once=Once(tools), services=stores.services)
