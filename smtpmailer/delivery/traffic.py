# SPDX-License-Identifier: MIT
"""What a session needs of whoever uses it."""

from __future__ import annotations

from typing import Protocol

from smtpmailer.errors import RemoteError

__all__ = ["Traffic"]


class Traffic(Protocol):
    """What uses a session that is ready."""

    @property
    def stage(self) -> str:
        """What is waited for, in words."""

    def received(self, data: bytes) -> None:
        """Take bytes that the server sent."""

    def lost(self, error: RemoteError) -> None:
        """Hear that the session has ended; nothing can be written any more."""
