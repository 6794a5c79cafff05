# SPDX-License-Identifier: MIT
"""What is different between two settings, and what of it counts without a restart."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import attrs

from smtpmailer.core.settings import OPTIONS, Settings

__all__ = ["FIXED_ALONE", "FIXED_ALWAYS", "LIVE", "Changes", "compare"]

#: What the process that opened them keeps until its end: its ports and its run directory.
FIXED_ALWAYS: Final = frozenset(
    {
        "MAILER_ADDR",
        "MAILER_PORT",
        "MAILER_METRICS_ADDR",
        "MAILER_METRICS_PORT",
        "MAILER_RUN_DIR",
    }
)
#: What counts at once in a service of one process, too. All else of it stays: how many processes it
#: is, where it keeps mails, how it reaches Redis, what runs the queue.
LIVE: Final = frozenset(
    {
        "ATTACHMENT_DIRS",
        "EMAIL_TEMPLATE",
        "EMAIL_TEMPLATE_API_READ_ONLY",
        "EMAIL_TEMPLATE_DIR",
        "EMAIL_TEMPLATE_ESCAPE",
        "EMAIL_TEMPLATE_STRICT",
        "EMAIL_TEMPLATE_STRING_TAG_CLOSE",
        "EMAIL_TEMPLATE_STRING_TAG_OPEN",
        "MAILER_AUTH",
        "MAILER_AUTH_HASH",
        "MAILER_AUTH_HASH_METHOD",
        "MAILER_IDLE_TIMEOUT",
        "MAILER_KEYS_FILE",
        "MAILER_LOG",
        "MAILER_LOG_FORMAT",
        "MAILER_LOG_LEVEL",
        "MAILER_LOG_OUTPUT",
        "MAILER_MAX_BUFFERED",
        "MAILER_MAX_CONNECTIONS",
        "MAILER_MAX_CONNECTIONS_PER_PEER",
        "MAILER_MAX_DEPTH",
        "MAILER_MAX_IN_FLIGHT",
        "MAILER_MAX_REQUEST_SIZE",
        "MAILER_QUEUE_API_READ_ONLY",
        "MAILER_REQUEST_TIMEOUT",
        "MAILER_SSL_CERT",
        "MAILER_SSL_CLIENT_CA",
        "MAILER_SSL_KEY",
        "MAILER_STOP_TIMEOUT",
        "MAILER_TIMEOUT",
        "MAIL_CHARSET",
        "MAIL_ENCODING",
        "MAIL_FROM_ADDR",
        "MAIL_FROM_NAME",
        "MAIL_HTML",
        "MAIL_MAX_MEMORY",
        "MAIL_MAX_RECIPIENTS",
        "MAIL_MAX_SIZE",
        "QUEUE_MAX_AGE",
        "QUEUE_MAX_FAILED_RETRY",
        "QUEUE_ON_DOUBT",
        "QUEUE_RETRY_DELAY",
        "QUEUE_RETRY_FACTOR",
        "QUEUE_RETRY_MAX_DELAY",
        "QUEUE_SNAPSHOT_TEMPLATE",
        "SMTP_ACCOUNTS_FILE",
        "SMTP_CA_FILE",
        "SMTP_EHLO_NAME",
        "SMTP_ENCRYPTION",
        "SMTP_FAILOVER",
        "SMTP_HOST",
        "SMTP_OAUTH2_CLIENT_ID",
        "SMTP_OAUTH2_CLIENT_SECRET",
        "SMTP_OAUTH2_REFRESH_TOKEN",
        "SMTP_OAUTH2_SCOPE",
        "SMTP_OAUTH2_TOKEN_COMMAND",
        "SMTP_OAUTH2_TOKEN_ENDPOINT",
        "SMTP_OAUTH2_TOKEN_FILE",
        "SMTP_PASSWORD",
        "SMTP_PORT",
        "SMTP_RATE_LIMIT",
        "SMTP_TLS_VERIFY",
        "SMTP_USER",
    }
)
FIXED_ALONE: Final = frozenset(OPTIONS) - LIVE


@attrs.frozen(kw_only=True)
class Changes:
    """Keys that are different: those that count from now on, and those that need a restart."""

    settings: Settings
    applied: tuple[str, ...]
    waiting: tuple[str, ...]


def compare(old: Settings, new: Settings, fixed: Collection[str]) -> Changes:
    """Give ``new`` with the old values of ``fixed`` keys, and which keys are different."""
    changed = [key for key in OPTIONS if _value(old, key) != _value(new, key)]
    waiting = tuple(key for key in changed if key in fixed)
    kept: dict[str, Any] = {key.lower(): _value(old, key) for key in waiting}
    return Changes(
        settings=attrs.evolve(new, **kept),
        applied=tuple(key for key in changed if key not in fixed),
        waiting=waiting,
    )


def _value(settings: Settings, key: str) -> object:
    return getattr(settings, key.lower())
