# SPDX-License-Identifier: MIT
"""What one client, and all together, may ask of the service, and how a refusal is worded."""

from __future__ import annotations

import attrs

from smtpmailer.errors import LimitError

__all__ = ["ProtocolLimits"]


@attrs.frozen(kw_only=True)
class ProtocolLimits:
    """The limits of the protocol; times in seconds.

    ``max_connections_per_peer`` 0 is no limit. ``request_timeout`` counts from the first byte of
    an incomplete request. ``max_in_flight`` is per connection, ``max_backlog_bytes`` too: so much
    is read ahead of the requests that run. ``max_buffered_bytes`` is for the requests of
    all connections together, unfinished, waiting and running.
    """

    max_request_bytes: int = 32 * 2**20
    max_depth: int = 64
    idle_timeout: float = 300
    request_timeout: float = 60
    max_connections: int = 10_000
    max_connections_per_peer: int = 0
    max_in_flight: int = 100
    max_backlog_bytes: int = 4 * 2**20
    max_buffered_bytes: int = 256 * 2**20

    def too_many(self, connections: int, of_peer: int) -> LimitError | None:
        """Refuse one connection more than ``connections``, ``of_peer`` of them from its address."""
        if connections >= self.max_connections:
            text = f"at most {self.max_connections} connections (MAILER_MAX_CONNECTIONS)"
        elif 0 < self.max_connections_per_peer <= of_peer:
            limit = f"at most {self.max_connections_per_peer} connections per client address"
            text = f"{limit} (MAILER_MAX_CONNECTIONS_PER_PEER)"
        else:
            return None
        return LimitError(text, "too many connections")

    def idle(self) -> LimitError:
        """Word the end of a connection that asks nothing."""
        text = f"no request for {self.idle_timeout:g} seconds (MAILER_IDLE_TIMEOUT)"
        return LimitError(text, "connection timed out")

    def slow(self) -> LimitError:
        """Word the end of a request that does not get complete."""
        text = f"request not complete after {self.request_timeout:g} seconds"
        return LimitError(f"{text} (MAILER_REQUEST_TIMEOUT)", "connection timed out")

    def busy(self) -> LimitError:
        """Word that all clients together hold too much."""
        text = f"requests of all clients exceed {self.max_buffered_bytes} bytes"
        return LimitError(f"{text} (MAILER_MAX_BUFFERED): try again later", "service is busy")
