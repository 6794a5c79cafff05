# SPDX-License-Identifier: MIT
"""The kind of configuration value that is a command line."""

from __future__ import annotations

import shlex
from typing import Any

import attrs

from smtpmailer.core.options import Kind

__all__ = ["Command"]


@attrs.frozen
class Command(Kind):
    """A program and its arguments, quoted as for a shell; no shell runs it."""

    name = "command"

    def read(self, raw: object, base_path: str) -> tuple[str, ...]:  # noqa: ARG002
        """Read; see Kind."""
        try:
            return tuple(shlex.split(self._text(raw)))
        except ValueError as error:
            raise ValueError(f"has to be a command line: {error}") from None

    def show(self, value: Any) -> str:
        """Show; see Kind."""
        return shlex.join(value)
