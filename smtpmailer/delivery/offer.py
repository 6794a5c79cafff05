# SPDX-License-Identifier: MIT
"""What a server offers, as far as it changes how mails are handed to it."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from smtpmailer.core.model import Capabilities

__all__ = ["Offer"]


@attrs.frozen(kw_only=True)
class Offer:
    """What of a server's EHLO reply concerns mails.

    ``pipelining`` is RFC 2920, ``chunking`` RFC 3030, ``size`` RFC 1870 with the largest message
    in ``limit`` (bytes, 0: not told).
    """

    pipelining: bool = False
    chunking: bool = False
    size: bool = False
    limit: int = 0
    capabilities: Capabilities = attrs.field(factory=Capabilities)

    @classmethod
    def read(cls, extensions: Mapping[str, str]) -> Offer:
        """Read the extensions of an EHLO reply, keyword to parameters."""
        limit = extensions.get("SIZE", "")
        return cls(
            pipelining="PIPELINING" in extensions,
            chunking="CHUNKING" in extensions,
            size="SIZE" in extensions,
            limit=int(limit) if limit.isdecimal() else 0,
            capabilities=Capabilities(
                eight_bit="8BITMIME" in extensions, smtputf8="SMTPUTF8" in extensions
            ),
        )

    def in_lock_step(self) -> Offer:
        """Give the same without what a server may offer and not master."""
        return attrs.evolve(self, pipelining=False, chunking=False)
