# SPDX-License-Identifier: MIT
"""Counting mails; a counter that can't be reached changes nothing about a mail."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from smtpmailer.core.model import DeliveryResult
from smtpmailer.interfaces import ICounters

__all__ = ["count_failure", "count_result"]

_log = Logger()


def count_result(counters: ICounters, result: DeliveryResult) -> Deferred[None]:
    """Count an attempt by its result; fires when that is done or given up."""
    return _count(counters.add_sent if result.delivered else counters.add_failed)


def count_failure(counters: ICounters) -> Deferred[None]:
    """Count a mail that could not be built; fires when that is done or given up."""
    return _count(counters.add_failed)


def _count(add: Callable[[], Deferred[None]]) -> Deferred[None]:
    try:
        counting = add()
    except Exception:  # noqa: BLE001 - whatever a counter store may raise
        counting = fail()
    return counting.addErrback(_not_counted)


def _not_counted(failure: Failure) -> None:
    _log.failure("a mail could not be counted", failure)
