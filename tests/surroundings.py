# SPDX-License-Identifier: MIT
"""What a service finds when it starts, for tests that put one together."""

from __future__ import annotations

import json
from typing import Any

from twisted.logger import ILogObserver, LogPublisher

from smtpmailer.configuration import Gathered
from smtpmailer.core.settings import Settings
from smtpmailer.core.settings_reading import from_values
from smtpmailer.processes.notify import Notifier
from smtpmailer.root import Log
from smtpmailer.signals import Ending
from smtpmailer.surroundings import Surroundings

__all__ = ["gathered", "settings", "surroundings"]

_VALUES = {
    "SMTP_HOST": "smtp.example.org",
    "MAILER_QUEUE": False,
    "EMAIL_TEMPLATE": False,
    "ATTACHMENT_DIRS": "files",
}
_BASE = "/srv/mailer"


def settings(**changes: object) -> Settings:
    """Make settings of these keys over a few that are needed."""
    return from_values(_VALUES | changes, _BASE)


def gathered(**changes: object) -> Gathered:
    """Give the same as a service reads it."""
    fields = {
        "base_path": _BASE,
        "values": _VALUES | changes,
        "sources": {},
        "secret_files": [],
    }
    return Gathered.from_bytes(json.dumps(fields).encode())


def surroundings(
    made: Settings, reactor: Any, observer: ILogObserver | None = None, **later: object
) -> Surroundings:
    """Give what a service finds; ``later`` are the keys that it reads when it reads them again."""
    return Surroundings(
        twistd=(),
        read=lambda: gathered(**later),
        notifier=Notifier(),
        listening=None,
        log=Log(lambda _: observer or LogPublisher(), made),
        ending=Ending(reactor),
        refused=lambda _: None,
    )
