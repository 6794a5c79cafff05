# SPDX-License-Identifier: MIT
"""What became of a mail that was taken to one account after another."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from smtpmailer.core.dialogue import bounded, happened
from smtpmailer.core.model import DeliveryResult

__all__ = ["result_of_all"]

_PREFIX = "SMTP Error: "


def result_of_all(results: Sequence[DeliveryResult]) -> DeliveryResult:
    """Give the last result, the only one where an account may have the mail, and why it came to it.

    All of them but the last are ``untaken``; there is at least one.
    """
    *earlier, last = results
    if not earlier:
        return last
    seconds = sum(result.seconds for result in results)
    if not last.reason:
        return attrs.evolve(last, seconds=seconds)
    waits = [result.again_in for result in results if result.again_in is not None]
    reasons = dict.fromkeys(result.reason.removeprefix(_PREFIX) for result in results)
    said: list[str] = []
    for result in results:
        said += (happened(f"to {result.server}"), *result.dialogue)
    return attrs.evolve(
        last,
        reason=_PREFIX + "; ".join(reasons),
        seconds=seconds,
        dialogue=bounded(said),
        # One that was tried makes it an attempt.
        again_in=min(waits) if len(waits) == len(results) else None,
    )
