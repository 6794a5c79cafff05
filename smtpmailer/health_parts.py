# SPDX-License-Identifier: MIT
"""The port for machines that watch, where one is asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.application.service import IService

from smtpmailer.core.settings import Settings

__all__ = ["health_services"]


def health_services(
    settings: Settings,
    reactor: Any,
    figures: Callable[[], Awaitable[bytes]],
    why_not_ready: Callable[[], Awaitable[str]],
) -> tuple[IService, ...]:
    """Give the port, if MAILER_METRICS_PORT asks for it."""
    if not settings.mailer_metrics_port:
        return ()
    # What it needs takes megabytes in every process, and most services have no such port.
    from smtpmailer.metrics_parts import health_port  # noqa: PLC0415

    return health_port(settings, reactor, figures, why_not_ready)
