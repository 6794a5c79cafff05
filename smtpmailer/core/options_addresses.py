# SPDX-License-Identifier: MIT
"""The kind of configuration value that names servers with their ports."""

from __future__ import annotations

import re
from typing import Any, Final

import attrs

from smtpmailer.core.options import PORT, Host, Kind

__all__ = ["Addresses"]

#: A host, and a port behind a colon; an IPv6 address stands in brackets.
_ADDRESS: Final = re.compile(r"(\[[^\]]*\]|[^:\[\]]+)(?::([0-9]+))?")


@attrs.frozen
class Addresses(Kind):
    """Host names or IP addresses with their ports, and commas or blanks between."""

    name = "addresses"
    default_port: int

    def read(self, raw: object, base_path: str) -> tuple[tuple[str, int], ...]:
        """Read; see Kind."""
        parts = self._text(raw).replace(",", " ").split()
        return tuple(self._address(part, base_path) for part in parts)

    def show(self, value: Any) -> str:
        """Show; see Kind."""
        return ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in value
        )

    def schema(self) -> dict[str, Any]:
        """Describe; see Kind."""
        return {"type": ["string"], "pattern": r"^[^/@]*$"}

    def _address(self, part: str, base_path: str) -> tuple[str, int]:
        found = _ADDRESS.fullmatch(part)
        try:
            if found is None:
                raise ValueError  # noqa: TRY301 - said below
            host = Host(optional=False).read(found[1], base_path)
            return host, PORT.read(found[2] or self.default_port, base_path)
        except ValueError:
            raise ValueError(
                f"has to hold host:port (an IPv6 address in brackets) with commas between; "
                f"{part} is none"
            ) from None
