# SPDX-License-Identifier: MIT
"""How a configuration key becomes a field of the settings."""

from __future__ import annotations

from typing import Any, Final

import attrs

from smtpmailer.core.envfile import Scalar
from smtpmailer.core.options import Kind, Option

__all__ = ["OPTION", "setting"]

_GROUPS: Final = {
    "mailer": "Service",
    "limit": "Limits of the API",
    "auth": "Authentication",
    "redis": "Redis",
    "queue": "Queue",
    "smtp": "SMTP server",
    "mail": "Mail",
    "template": "Templates",
}
#: Where a field keeps its Option.
OPTION: Final = "option"


def setting(group: str, kind: Kind, default: Scalar, text: str, **more: Any) -> Any:
    """Make the attrs field of a key; ``more`` goes to Option."""
    option = Option(key="", kind=kind, default=default, group=_GROUPS[group], help=text, **more)
    return attrs.field(
        default=None if default is None else kind.read(default, ""),
        repr=not option.secret,
        metadata={OPTION: option},
    )
