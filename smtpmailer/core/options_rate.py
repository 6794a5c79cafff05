# SPDX-License-Identifier: MIT
"""The kind of configuration value that says how many mails may go out in a time."""

from __future__ import annotations

from typing import Any

import attrs

from smtpmailer.core.options import Kind
from smtpmailer.core.rates import Rate

__all__ = ["MailRate"]


@attrs.frozen
class MailRate(Kind):
    """So many mails in a second, a minute, an hour or a day; empty: as many as there are."""

    name = "rate"

    def read(self, raw: object, base_path: str) -> Rate | None:  # noqa: ARG002
        """Read; see Kind."""
        text = self._text(raw)
        return Rate.parse(text) if text else None

    def show(self, value: Any) -> str:
        """Show; see Kind."""
        return "" if value is None else str(value)

    def schema(self) -> dict[str, Any]:
        """Describe; see Kind."""
        return {"type": ["string"], "pattern": "^([1-9][0-9]{0,8}/[smhd])?$"}
