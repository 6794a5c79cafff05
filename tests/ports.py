# SPDX-License-Identifier: MIT
"""Ports for the servers that tests start."""

from __future__ import annotations

import contextlib
import secrets
import socket

__all__ = ["free_port"]


def free_port() -> int:
    """Find a port on loopback that nobody listens on.

    It is none of those that connections get: who asks again and again whether a server listens
    there by now would be given that very port some day, and be connected to himself.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
