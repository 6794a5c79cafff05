# SPDX-License-Identifier: MIT
"""What the drivers in Python have in common."""

from __future__ import annotations

import json
import sys
from typing import Any

import attrs

from smtpmailer.errors import (
    ServiceAnswerError,
    ServiceProtocolError,
    ServiceUnreachableError,
    SmtpMailerError,
)

__all__ = ["Job", "failure", "jobs", "tell"]

_METHODS = {"sendMail": "send_mail", "queueMail": "queue_mail"}
_OPTIONS = {"caFile": "ca_file", "serverName": "server_name"}


@attrs.frozen(kw_only=True)
class Job:
    """The client's options, its method, and the method's argument."""

    options: dict[str, Any]
    method: str
    argument: Any


def jobs() -> dict[str, Job]:
    """Read what there is to do, by name."""
    return {
        name: Job(
            options={_OPTIONS.get(key, key): value for key, value in each["client"].items()},
            method=_METHODS.get(each["call"], each["call"]),
            argument=each["argument"],
        )
        for name, each in json.load(sys.stdin).items()
    }


def failure(error: SmtpMailerError) -> dict[str, Any]:
    """Give what to print about an error; raises it when it is none that clients raise."""
    if isinstance(error, ServiceAnswerError):
        return {"refused": error.answer, "text": str(error)}
    if isinstance(error, ServiceUnreachableError):
        return {"unreachable": str(error), "maybeDone": error.maybe_done}
    if isinstance(error, ServiceProtocolError):
        return {"unreachable": str(error), "maybeDone": True}
    raise error


def tell(results: dict[str, dict[str, Any]]) -> None:
    """Print what came of each job."""
    json.dump(results, sys.stdout)
