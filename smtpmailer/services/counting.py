# SPDX-License-Identifier: MIT
"""Counting mails; a counter that can't be reached changes nothing about a mail."""

from __future__ import annotations

from twisted.logger import Logger

from smtpmailer.core.model import DeliveryResult
from smtpmailer.interfaces import ICounters

__all__ = ["count_failure", "count_result"]

_log = Logger()


async def count_result(counters: ICounters, result: DeliveryResult) -> None:
    """Count an attempt by its result; returns when that is done or given up."""
    await _count(counters, sent=result.delivered)


async def count_failure(counters: ICounters) -> None:
    """Count a mail that could not be built."""
    await _count(counters, sent=False)


async def _count(counters: ICounters, *, sent: bool) -> None:
    try:
        await (counters.add_sent() if sent else counters.add_failed())
    except Exception:  # noqa: BLE001 - whatever a counter store may raise
        _log.failure("a mail could not be counted")
